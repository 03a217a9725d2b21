/* SPDX-License-Identifier: MIT */
/*
 * Check and repair inside: what their files share. They read the image by themselves and use nothing of the engine's
 * caches, so that they can find the engine's mistakes too.
 */
#ifndef CORRAL_QCOW2_CHECK_H
#define CORRAL_QCOW2_CHECK_H

#include "base/attr.h"
#include "base/math.h"
#include "base/mutant.h"
#include "qcow2/qcow2.h"

#define CHECK_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define CHECK_COPIED (UINT64_C(1) << 63)
#define CHECK_COMPRESSED (UINT64_C(1) << 62)
#define CHECK_ZERO UINT64_C(1)
#define CHECK_REFTABLE_RESERVED UINT64_C(0x1ff)
#define CHECK_ALL_SUBCLUSTERS UINT64_C(0xffffffff)

/* What a host cluster is used for. A cluster may serve many times, but only as one thing. */
enum qcow2_role {
	QCOW2_ROLE_NONE,
	QCOW2_ROLE_HEADER,
	QCOW2_ROLE_L1,
	QCOW2_ROLE_L2,
	QCOW2_ROLE_DATA,
	QCOW2_ROLE_COMPRESSED,
	QCOW2_ROLE_REFCOUNTS,
	QCOW2_ROLE_OTHER, /* snapshot table, bitmaps, encryption header */
};

/* What is known of a host cluster. */
struct qcow2_cell {
	uint32_t number;     /* of references */
	uint8_t role, other; /* what it was met as first, and what else */
	bool copied, plain;  /* active pointers to it were met that have the COPIED flag, and ones that haven't */
};

/* References counted per host cluster. Memory comes in leaves, as clusters are met: what a sparse file only claims costs
 * nothing. */
struct qcow2_leaf;
struct qcow2_counts {
	struct qcow2_leaf **leaves;
	uint64_t leaf_entries; /* of the array above */
	uint64_t clusters;     /* one more than the highest that is in the file or was met */
	uint64_t bytes;        /* of leaves */
	uint64_t refcount_max; /* what a refcount of this image can say */
};

enum { QCOW2_TOO_LOW = 1 << 0, QCOW2_TOO_HIGH = 1 << 1 };

struct qcow2_refcounts { /* those that the image has on disk */
	be64 *table;
	uint64_t entries;
	uint64_t per_block;
	unsigned char *blocks; /* a direct-mapped cache */
	uint64_t *cached;      /* which block lies in a slot, + 1 */
	uint64_t slots;
	uint8_t *wrong; /* per block, QCOW2_TOO_*: refcounts in it disagree with the counts */
};

struct qcow2_repairer;

struct qcow2_checker {
	struct node *file;
	struct qcow2_header header;
	uint64_t cluster_bytes;
	struct qcow2_counts counts;
	struct qcow2_refcounts refcounts;
	const struct qcow2_check_how *how;
	struct qcow2_check *out;
	bool silent;

	uint64_t done, all; /* of the progress, in clusters */

	/* what repair wants to know */
	bool incomplete;               /* something couldn't be read or followed: not all references are counted */
	bool unsure;                   /* a table's address is damaged: what looks leaked may belong to it */
	bool rebuild;                  /* the refcount structures are damaged themselves */
	bool copied_wrong;             /* some COPIED flag disagrees with the refcount */
	uint64_t low, high;            /* refcounts that disagree */
	uint64_t mixed;                /* clusters with two roles */
	uint64_t fixable_entries;      /* L2 entries that can be put right where they lie */
	uint32_t bad_snapshots;        /* records of the snapshot table that lack fields */
	uint64_t dangling;             /* the lowest host address beyond the file that something refers to */
	struct qcow2_repairer *repair; /* who asked, or NULL */
	uint8_t sector[QCOW2_HEADER_SECTOR]; /* for writing the header; a stack is small */
};

/* One line told; *total, if there is one, goes up. */
void qcow2_check_found(struct qcow2_checker *c, uint64_t *total, const char *format, ...) ATTR_PRINTF(3, 4);
/* So many clusters more have been looked at. -ECANCELED: nobody wants to know. */
int qcow2_check_step(struct qcow2_checker *c, uint64_t clusters) ATTR_MUST_USE;

/* What repair and check begin and end with. The header has been loaded. */
int qcow2_checker_init(struct qcow2_checker *c, struct err *err) ATTR_MUST_USE;
void qcow2_checker_fini(struct qcow2_checker *c);
/* Counts every reference, then holds the counts against the refcounts. */
int qcow2_check_count_all(struct co *co, struct qcow2_checker *c) ATTR_MUST_USE;

static inline bool qcow2_check_is_extended(const struct qcow2_checker *c)
{
	return c->header.incompatible & QCOW2_INCOMPAT_EXTENDED_L2;
}
static inline bool qcow2_check_has_data_file(const struct qcow2_checker *c)
{
	return c->header.incompatible & QCOW2_INCOMPAT_DATA_FILE;
}
static inline uint64_t qcow2_check_table_entries(const struct qcow2_checker *c)
{
	return c->cluster_bytes / (qcow2_check_is_extended(c) ? 16 : 8);
}

/* ---- check_read.c ---- */

/* Reads what there is of [off, off + len); zeros past the end of the file. */
int qcow2_check_read(struct co *co, struct qcow2_checker *c, uint64_t off, void *to, size_t len) ATTR_MUST_USE;

#define QCOW2_PIECES 32

struct qcow2_piece {                 /* a cluster of metadata */
	uint64_t host, index, entry; /* where it lies; for whoever asked */
	void *bytes;
	int result;
};

struct qcow2_fetch { /* clusters that are read side by side; those that adjoin, by one read */
	struct qcow2_checker *c;
	struct qcow2_piece v[QCOW2_PIECES];
	unsigned n, room;
	char *memory;
	struct fetch_run {
		struct qcow2_fetch *fetch;
		unsigned first, n;
	} runs[QCOW2_PIECES];
	struct co_group group;
};
/* Room for `most` clusters at once, or as many as are worth it: thousands of small tables cost no memory each. */
int qcow2_fetch_init(struct qcow2_fetch *f, struct qcow2_checker *c, uint64_t most) ATTR_MUST_USE;
void qcow2_fetch_fini(struct qcow2_fetch *f);
void qcow2_fetch_add(struct qcow2_fetch *f, uint64_t host, uint64_t index, uint64_t entry);
static inline bool qcow2_fetch_full(const struct qcow2_fetch *f) { return f->n == f->room; }
/* Begins to read them; nothing may be added until the wait is over. */
void qcow2_fetch_start(struct co *co, struct qcow2_fetch *f);
void qcow2_fetch_wait(struct co *co, struct qcow2_fetch *f);

/* ---- check_counts.c ---- */

enum {                             /* of a reference */
	QCOW2_REF_COPIED = 1 << 0, /* from an active table, with the flag */
	QCOW2_REF_PLAIN = 1 << 1,  /* without */
};

int qcow2_counts_init(struct qcow2_checker *c, struct err *err) ATTR_MUST_USE;
void qcow2_counts_fini(struct qcow2_checker *c);
/* Host bytes [off, off + bytes) are used once (more). What lies outside the file is a corruption, told here. */
int qcow2_counts_add(struct qcow2_checker *c, uint64_t off, uint64_t bytes, enum qcow2_role role, unsigned flags)
	ATTR_MUST_USE;
struct qcow2_cell qcow2_counts_get(const struct qcow2_checker *c, uint64_t cluster);
/* The refcount that such a cluster is to have: all references, or as many as it can say. */
static inline uint64_t qcow2_counts_refcount(const struct qcow2_checker *c, struct qcow2_cell cell)
{
	return MIN((uint64_t)cell.number, c->counts.refcount_max);
}
/* Whether there may be anything at all in the run of clusters that begins here, and where that run ends. */
bool qcow2_counts_any(const struct qcow2_checker *c, uint64_t cluster, uint64_t *end);
/* Whether all of [off, off + bytes) is used for this, and nothing of worth would be lost by writing there. */
bool qcow2_counts_table(const struct qcow2_checker *c, uint64_t off, uint64_t bytes, enum qcow2_role role);

/* ---- check_refcounts.c ---- */

int qcow2_check_refcounts_init(struct qcow2_checker *c, struct err *err) ATTR_MUST_USE;
void qcow2_check_refcounts_fini(struct qcow2_checker *c);
/* Reads and counts the refcount table; then its blocks. */
int qcow2_check_reftable(struct co *co, struct qcow2_checker *c) ATTR_MUST_USE;
int qcow2_check_blocks(struct qcow2_checker *c) ATTR_MUST_USE;
/* Where the block lies, 0: there is none, or none that can be used. */
uint64_t qcow2_check_block(const struct qcow2_checker *c, uint64_t index);
/* The refcount that the image has for it. -EIO: there is no telling. */
int qcow2_check_refcount(struct co *co, struct qcow2_checker *c, uint64_t cluster, uint64_t *out) ATTR_MUST_USE;
uint64_t qcow2_check_refcount_at(const void *block, uint64_t index, unsigned order);
/* Forgets what was read of refcounts. */
void qcow2_check_refcounts_forget(struct qcow2_checker *c);
/* Counts against refcounts, for every cluster. */
int qcow2_check_compare(struct co *co, struct qcow2_checker *c) ATTR_MUST_USE;

/* ---- check_tables.c ---- */

/* fn for each L2 table of an L1 table, in order, with the table's bytes; unreadable ones are told of and left out. */
typedef int qcow2_table_fn(struct co *co, struct qcow2_checker *c, const struct qcow2_piece *table);
int qcow2_check_tables(struct co *co, struct qcow2_checker *c, struct host l1, uint32_t entries, qcow2_table_fn *fn)
	ATTR_MUST_USE;

/* The same for every tree: the active one, and those of the snapshots that have one. */
int qcow2_check_trees(struct co *co, struct qcow2_checker *c, qcow2_table_fn *fn) ATTR_MUST_USE;

enum qcow2_entry_kind {
	QCOW2_ENTRY_UNALLOCATED,
	QCOW2_ENTRY_ZEROS,
	QCOW2_ENTRY_ALLOCATED, /* has a host cluster, whatever reads from it */
	QCOW2_ENTRY_INFLATABLE,
};
struct qcow2_check_entry {
	enum qcow2_entry_kind kind;
	uint64_t index; /* in its table */
	uint64_t raw;
	uint64_t host;        /* of ALLOCATED */
	uint64_t subclusters; /* the bitmap of an extended entry */
};
struct qcow2_check_entry qcow2_check_entry_get(const struct qcow2_checker *c, const void *table, uint64_t index);
bool qcow2_check_entry_has_data(const struct qcow2_checker *c, const struct qcow2_check_entry *e);

/* Counts what an L1 table refers to, itself included. active: the one the guest sees, which tells of fragmentation. */
int qcow2_check_l1(struct co *co, struct qcow2_checker *c, struct host l1, uint32_t entries, bool active) ATTR_MUST_USE;
/* Whether the COPIED flags of the active tables agree with the refcounts on disk. */
int qcow2_check_copied(struct co *co, struct qcow2_checker *c) ATTR_MUST_USE;

/* ---- check_extras.c: snapshots, bitmaps, the encryption header ---- */

int qcow2_check_snapshots(struct co *co, struct qcow2_checker *c) ATTR_MUST_USE;
int qcow2_check_bitmaps(struct co *co, struct qcow2_checker *c) ATTR_MUST_USE;

#endif
