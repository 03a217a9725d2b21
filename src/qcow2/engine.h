/* SPDX-License-Identifier: MIT */
/*
 * The qcow2 engine inside: what its files share. Nothing outside qcow2/ includes this.
 *
 * Life of the metadata in memory
 *   L1 table, refcount table   whole, in host order, with a dirty bit per unit on disk
 *   L2 tables, refcount blocks in slices of at most 4 KiB, cached (cache.c)
 * A pointer to a slice is good until the caller's next yield, never longer: look it up again after anything that takes co.
 *
 * A "unit" is what one metadata write is made of: a 512-byte sector, or what the file's alignment makes of it.
 *
 * Order of writes (commit.c draws it). In-memory refcounts go up when a cluster is allocated, and down only when the
 * unmapping is durable and nobody can still be using the cluster (reclaim.c): so every refcount in memory is at least what
 * any pointer on disk or in memory needs, and a dirty refcount unit may be written at any time.
 *
 * Locks, in this order; none is needed by a commit, so that whoever holds one may wait for a commit:
 *   q->snapshots (snapshot_ops.c) -> range lock of the node (held by the caller) -> q->bitmaps->editing -> q->rewriting
 *   -> q->encoders (encode.c) -> q->pack (pack.c) -> l1 entry being made (l2.c) -> q->grow_refcounts (refblock.c)
 *   -> q->grow_file
 */
#ifndef CORRAL_QCOW2_ENGINE_H
#define CORRAL_QCOW2_ENGINE_H

#include "base/endian.h"
#include "base/list.h"
#include "base/math.h"
#include "base/mutant.h"
#include "qcow2/compress.h"
#include "qcow2/guard.h"
#include "qcow2/qcow2.h"

#define QCOW2_SECTOR 512u
#define QCOW2_SLICE_BYTES 4096u
#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define QCOW2_COPIED (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED (UINT64_C(1) << 62)
#define QCOW2_ZERO UINT64_C(1)
#define QCOW2_L1_RESERVED UINT64_C(0x7f000000000001ff)
#define QCOW2_L2_RESERVED UINT64_C(0x3f000000000001fe)
#define QCOW2_SUBCLUSTERS 32u         /* of a cluster with an extended L2 entry */
#define QCOW2_UNPUBLISHED UINT64_C(1) /* in the refcount table in memory: see refblock.c */

#define QCOW2_DEFAULT_L2_CACHE (UINT64_C(32) << 20)
#define QCOW2_LEAST_CACHE (UINT64_C(1) << 20) /* where the image is small: it may grow */
#define QCOW2_DEFAULT_REFCOUNT_CACHE (UINT64_C(4) << 20)
#define QCOW2_DEFAULT_COMMIT_NS (UINT64_C(5) * 1000 * 1000 * 1000)
#define QCOW2_MIN_QUARANTINE 64                    /* clusters freed in memory before a commit is started for them, */
#define QCOW2_MAX_QUARANTINE (UINT64_C(256) << 20) /* and bytes at most; in between a quarter of the file */
#define QCOW2_EPOCH_POLL_NS (UINT64_C(2) * 1000 * 1000) /* how often to look whether an epoch has passed */
#define QCOW2_COMMIT_WRITES 32                          /* metadata writes of one commit in flight at once */
#define QCOW2_DECODED 16                                /* clusters that are kept decompressed, at most, */
#define QCOW2_LEAST_DECODED 4                           /* at least, */
#define QCOW2_DECODED_BYTES (UINT64_C(4) << 20)         /* and in between so many bytes of them */
#define QCOW2_ENCODERS 8                                /* clusters that are being compressed at once */
#define QCOW2_WALKERS 4u                                /* L2 tables that work on a whole tree takes on at once */
#define QCOW2_PREFETCH 8u                               /* slices of one table that are loaded side by side */

struct qcow2;
struct qcow2_freeze;

/* ---- cache.c: slices of metadata ---- */

struct qcow2_slice {
	struct qcow2_slice *hash_next;
	struct list dirty_link;   /* in cache->dirty while dirty != 0 */
	struct list writing_link; /* in cache->writing while writing != 0 */
	uint64_t host;            /* where it lies; free entries have 0 */
	void *data;
	uint32_t dirty, writing; /* a bit per unit: differs from the disk; captured by the commit that runs */
	bool loading, used;      /* used: for the clock */
	struct co_queue loaded;
};

struct qcow2_cache {
	struct qcow2 *q;
	enum node_event load_event, update_event;
	uint32_t slice_bytes;
	unsigned entries, buckets, hand;
	struct qcow2_slice *slices;
	struct qcow2_slice **hash;
	void *memory;
	struct list dirty, writing;
	struct co_queue room; /* for those who found no entry to evict */
	uint64_t hits, misses;
};

int qcow2_cache_init(struct qcow2_cache *c, struct qcow2 *q, uint64_t bytes) ATTR_MUST_USE;
void qcow2_cache_fini(struct qcow2_cache *c);
/* The slice at host (a multiple of slice_bytes), loaded. Only those who want this slice wait for its load. */
int qcow2_cache_get(struct co *co, struct qcow2_cache *c, uint64_t host, struct qcow2_slice **out) ATTR_MUST_USE;
/* The same, but the slice isn't read: it is new and all zeros (nothing of it may be cached). */
int qcow2_cache_get_zero(struct co *co, struct qcow2_cache *c, uint64_t host, struct qcow2_slice **out) ATTR_MUST_USE;
void qcow2_cache_dirty(struct qcow2_cache *c, struct qcow2_slice *s, uint32_t at, uint32_t bytes);
/* Loads what is missing of [host, host + bytes), side by side. A hint: an error shows when the slice is asked for. */
void qcow2_cache_prefetch(struct co *co, struct qcow2_cache *c, uint64_t host, uint64_t bytes);
/* Before many slices are made dirty: waits where much of the cache must stay already, so that readers find room. */
int qcow2_cache_relieve(struct co *co, struct qcow2_cache *c) ATTR_MUST_USE;
/* Whether any of [host, host + bytes) is dirty, loading or being written: then it isn't free, whatever its refcount says. */
bool qcow2_cache_needs(struct qcow2_cache *c, uint64_t host, uint64_t bytes) ATTR_MUST_USE;
/* Drops what is cached of [host, host + bytes): it has been freed. None of it is dirty, loading or being written. */
void qcow2_cache_forget(struct qcow2_cache *c, uint64_t host, uint64_t bytes);

/* ---- decode.c: compressed clusters ---- */

struct qcow2_decoded {        /* one of them, decompressed */
	uint64_t host, bytes; /* where it lies compressed; bytes is 0: nothing */
	uint64_t used;        /* when it was wanted last, by the count of all that were wanted */
	bool busy;            /* it is being read and decompressed */
	void *memory;         /* of a cluster, and behind it what it is made of; NULL until it is needed */
	struct co_queue done;
};

#define QCOW2_CODECS (QCOW2_DECODED + QCOW2_ENCODERS)

struct qcow2_codecs { /* that nobody uses, or somebody does now */
	struct qcow2_codec v[QCOW2_CODECS];
	bool busy[QCOW2_CODECS];
};

struct qcow2_decoder {
	struct qcow2_decoded slots[QCOW2_DECODED];
	unsigned n;
	uint64_t wanted;
	struct co_sem idle; /* slots that aren't busy */
};

/* ---- the image ---- */

struct qcow2_freed { /* clusters that lost one reference in memory */
	uint64_t host, bytes;
	uint64_t epoch;
};

struct qcow2_freed_list {
	struct qcow2_freed *v; /* v[first .. first + n), oldest first */
	size_t first, n, room;
	uint64_t bytes;
};

struct qcow2_write { /* one metadata write of a commit: bytes at `at` of its arena */
	enum node_event event;
	uint64_t host;
	size_t at, bytes;
};

struct qcow2_batch { /* the metadata writes of one phase; memory is kept from commit to commit */
	struct qcow2_write *v;
	size_t n, room;
	unsigned char *arena;
	size_t used, size;
};

struct qcow2_table {       /* a table that is whole in memory: the L1 table, the refcount table */
	uint64_t *entries; /* host order; up to a whole unit, the rest zero */
	uint64_t n;
	uint32_t *dirty;   /* bitmaps, a bit per unit: differs from the disk; */
	uint32_t *writing; /* captured by the commit that runs */
};

struct qcow2 {
	struct node node; /* first */
	struct qcow2_header header;
	uint8_t sector[QCOW2_HEADER_SECTOR];         /* the first sector as it should be on disk */
	uint8_t durable_sector[QCOW2_HEADER_SECTOR]; /* and as the last commit that succeeded has left it there */
	struct qcow2_options options;
	struct qcow2_stats stats;
	bool corrupt; /* it was found out since the image was opened */
	struct qcow2_guard guard;

	uint32_t cluster_bytes, cluster_bits;
	uint32_t unit_bytes;
	uint32_t l2_entries; /* of one L2 table */
	uint32_t l2_entry_bytes;
	uint32_t subclusters;      /* of one cluster: 32 with extended L2 entries, else 1; node.subcluster bytes each */
	uint64_t block_refcounts;  /* refcounts in one block */
	bool encrypted;            /* node.data encrypts: zeros in the file aren't zeros of the guest */
	struct crypto_cipher *aes; /* crypt_method AES; NULL: there is no key */
	struct co_mutex aes_lock;  /* of its user */

	struct qcow2_table l1;
	bool l1_moved;         /* the whole table is new: the next commit writes all of it, then the header */
	struct list l1_making; /* of struct qcow2_making: L2 tables being made, copied or frozen (l2.c) */

	struct co_mutex snapshots;   /* what changes the list of snapshots, or goes back to one */
	struct qcow2_freeze *freeze; /* a snapshot is being created, and not all tables are frozen yet; else NULL */
	bool vm_states; /* some snapshot has the state of a virtual machine, which may be mapped behind the disk's end */
	bool unsized_snapshots; /* of those that were there at first, some have the size of the disk, whatever it is */
	unsigned snapshot_ops;  /* that run or wait: closing waits for them */
	struct co_queue snapshots_done;

	struct qcow2_table reftable;
	struct co_mutex grow_refcounts;
	bool header_writing;
	uint32_t *full;        /* bitmap, a bit per refcount slice: no free cluster in it */
	uint64_t next_cluster; /* where the allocator looks first */

	bool shrunk; /* what is free at the end of the file goes when the image is closed */
	bool header_dirty;
	bool header_durable;       /* it has been written since the image was opened: rewrite.c */
	struct co_mutex rewriting; /* the header cluster as a whole: rewrite.c; before every other lock of the image */
	bool refcounts_wanted;     /* the next commit writes refcounts, even where they are lazy */
	struct qcow2_cache l2_cache, refcount_cache;

	uint64_t file_bytes; /* the file's size */
	uint64_t high_water; /* end of the highest cluster that was ever in use */
	uint64_t zero_from;  /* file space from here on was never written and reads zeros */
	struct co_mutex grow_file;

	struct qcow2_freed_list freed;         /* unmapped in memory */
	struct qcow2_freed_list freed_commit;  /* captured by the commit that runs */
	struct qcow2_freed_list freed_durable; /* unmapped on disk, waits for its epoch */

	bool other_backing; /* another backing file will come, of whatever size: qcow2_backing_expect */

	struct qcow2_codecs codecs;
	struct qcow2_decoder decoder;
	struct co_sem encoders; /* who may compress now */
	struct co_mutex pack;   /* held to look for space for compressed data */
	uint64_t compressed_at; /* where the next goes, inside a cluster that has some already; 0: into a fresh one */
	struct qcow2_bitmaps *bitmaps; /* bitmaps.h */

	bool commit_running;
	struct list commit_waiters; /* for the commit that starts next */
	struct qcow2_batch phase_a, phase_b;

	uint32_t *
		touched; /* bitmap of clusters allocated or freed since the image was opened, while leaks are looked for */
	uint64_t touched_clusters;
	bool leaks_alive, leaks_running; /* running: alive, and not waiting for a snapshot operation */
	unsigned leaks_paused;
	bool dirty, commit_soon, closing, keeper_alive;
	uint64_t dirty_since; /* when `dirty` was set */
	struct co_queue keeper_wake, keeper_done, leaks_done, leaks_wake;
};

static inline struct qcow2 *qcow2_of(struct node *n) { return container_of(n, struct qcow2, node); }
static inline uint64_t qcow2_cluster_of(const struct qcow2 *q, uint64_t host) { return host >> q->cluster_bits; }

static inline void bit_set(uint32_t *map, uint64_t i) { map[i / 32] |= UINT32_C(1) << (i % 32); }
static inline void bit_clear(uint32_t *map, uint64_t i) { map[i / 32] &= ~(UINT32_C(1) << (i % 32)); }
static inline bool bit_test(const uint32_t *map, uint64_t i) { return map[i / 32] >> (i % 32) & 1; }
static inline size_t bitmap_bytes(uint64_t bits) { return (size_t)div_round_up(bits, 32) * 4; }

/* Something waits to be committed: sees to it that this happens in due time. */
void qcow2_dirtied(struct qcow2 *q);
/* The same for q->header. */
static inline void qcow2_header_changed(struct qcow2 *q)
{
	q->header_dirty = true;
	qcow2_dirtied(q);
}

/* The image is inconsistent, in a way that the words tell: sets the corrupt bit on disk at once. From now on nothing is
 * allocated, changed or given back, and every write and flush fails; what can be read is read. Returns -EIO. */
int qcow2_corrupt(struct co *co, struct qcow2 *q, const char *format, ...) ATTR_PRINTF(3, 4) ATTR_MUST_USE;

/* ---- table.c ---- */

/* A table of n entries, all zero, none dirty. */
int qcow2_table_init(struct qcow2_table *t, uint64_t n, uint32_t unit_bytes) ATTR_MUST_USE;
void qcow2_table_fini(struct qcow2_table *t);
/* The same with more entries; those that are there stay, and stay dirty. */
int qcow2_table_grow(struct qcow2_table *t, uint64_t n, uint32_t unit_bytes) ATTR_MUST_USE;
int qcow2_table_load(struct co *co, struct qcow2 *q, struct qcow2_table *t, uint64_t host) ATTR_MUST_USE;
void qcow2_table_set(struct qcow2 *q, struct qcow2_table *t, uint64_t index, uint64_t entry);
/* Big-endian, as on disk: entries [first, first + n). keep masks out what is only for memory. */
void qcow2_table_export(const struct qcow2_table *t, uint64_t first, uint64_t n, uint64_t keep, void *out);

static inline uint64_t qcow2_l1_index(const struct qcow2 *q, uint64_t guest)
{
	return (guest >> q->cluster_bits) / q->l2_entries;
}

/* ---- l2.c ---- */

bool qcow2_l1_entry_valid(const struct qcow2 *q, uint64_t entry);
/* The L2 slice that maps guest, and the index in it. *out is NULL where there is no table. */
int qcow2_l2_get(struct co *co, struct qcow2 *q, uint64_t guest, struct qcow2_slice **out, uint32_t *index)
	ATTR_MUST_USE;
/* The same for changing it: the table is made, or copied if it is shared. */
int qcow2_l2_get_writable(struct co *co, struct qcow2 *q, uint64_t guest, struct qcow2_slice **out, uint32_t *index)
	ATTR_MUST_USE;
/* The table at `from`, whole, as it is in memory. */
int qcow2_l2_read(struct co *co, struct qcow2 *q, uint64_t from, char *to) ATTR_MUST_USE;
/* Whether the active tree alone refers to the table; only then do its entries' own COPIED bits mean anything. */
static inline bool qcow2_l1_is_own(const struct qcow2 *q, uint64_t guest)
{
	return q->l1.entries[qcow2_l1_index(q, guest)] & QCOW2_COPIED;
}

struct qcow2_making { /* an L2 table being made, copied or frozen; lives on the stack of whoever does it */
	struct list link;
	uint64_t l1_index;
	struct co_queue done;
};
/* One at a time works on the table of an L1 entry that isn't COPIED; the others wait here. */
void qcow2_making_begin(struct co *co, struct qcow2 *q, struct qcow2_making *m, uint64_t l1_index);
void qcow2_making_end(struct qcow2_making *m);

static inline uint32_t qcow2_l2_slice_entries(const struct qcow2 *q)
{
	return q->l2_cache.slice_bytes / q->l2_entry_bytes;
}

/* ---- entry.c ---- */

/*
 * What an L2 entry says, for both kinds: without extended L2 entries a cluster is one subcluster. A subcluster whose bit is
 * in neither set is unallocated; none is in both.
 */
struct qcow2_entry {
	uint64_t descriptor; /* as on disk, less the zero flag of a standard cluster */
	uint32_t data;       /* these subclusters lie in the host cluster */
	uint32_t zero;       /* these read zeros */
};

struct qcow2_entry qcow2_l2_entry(const struct qcow2 *q, const struct qcow2_slice *s, uint32_t index);
void qcow2_l2_set(struct qcow2 *q, struct qcow2_slice *s, uint32_t index, struct qcow2_entry e);
/* The entries of a slice, of which each names what is shared from now on: none is COPIED. True: one was. */
bool qcow2_entries_share(const struct qcow2 *q, void *slice);
/* Whether the entry is one that an image of this version and file size may hold. */
bool qcow2_l2_entry_valid(const struct qcow2 *q, struct qcow2_entry e);
/* Those of the cluster at guest address `cluster` that lie in [from, to), which are bounds of subclusters. */
uint32_t qcow2_subclusters(const struct qcow2 *q, uint64_t cluster, uint64_t from, uint64_t to);

static inline bool qcow2_entry_is_compressed(struct qcow2_entry e) { return e.descriptor & QCOW2_COMPRESSED; }
/* The rest is about standard clusters. */
/* In an external data file offset 0 is a place like any other: COPIED, which is always set there, tells it from none. */
static inline bool qcow2_entry_has_host(struct qcow2_entry e)
{
	return e.descriptor & (QCOW2_OFFSET_MASK | QCOW2_COPIED);
}
static inline uint64_t qcow2_entry_host(struct qcow2_entry e) { return e.descriptor & QCOW2_OFFSET_MASK; }
/* It has a host cluster that nobody shares: any part of it may be written. */
static inline bool qcow2_entry_is_own(struct qcow2_entry e)
{
	return !qcow2_entry_is_compressed(e) && (e.descriptor & QCOW2_COPIED) && qcow2_entry_has_host(e);
}

bool qcow2_offset_valid(const struct qcow2 *q, uint64_t offset); /* of a whole cluster */
/* Whether an entry that maps this guest address may say so: with an external data file it must be mapped to itself. */
bool qcow2_entry_is_placed(const struct qcow2 *q, struct qcow2_entry e, uint64_t guest);

struct qcow2_span {
	uint64_t host, bytes;
};
/* What the entry with this descriptor names in the image's file; none: bytes is 0. */
struct qcow2_span qcow2_entry_bytes(const struct qcow2 *q, uint64_t descriptor);
/* The clusters that hold it: the entry takes one reference to each of them. */
struct qcow2_span qcow2_entry_span(const struct qcow2 *q, uint64_t descriptor);
/* Compressed data lies below this: a descriptor has no room for more. */
uint64_t qcow2_compressed_end(const struct qcow2 *q);
uint64_t qcow2_compressed_descriptor(const struct qcow2 *q, uint64_t host, uint64_t bytes);

/* ---- data.c: the external data file, where q->node.data isn't q->node.file ---- */

static inline bool qcow2_has_data_file(const struct qcow2 *q)
{
	return q->header.incompatible & QCOW2_INCOMPAT_DATA_FILE;
}
/* It must hold by itself what the guest reads. */
static inline bool qcow2_data_is_raw(const struct qcow2 *q)
{
	return q->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
}

/* Whether the options give a data file if, and only if, the image has one. */
int qcow2_data_check(const struct qcow2_header *h, const struct qcow2_options *o, struct err *err) ATTR_MUST_USE;
/* Before the first request: sees to it that the data file is as long as the disk. */
int qcow2_data_start(struct co *co, struct qcow2 *q, struct err *err) ATTR_MUST_USE;
/* The file, and the data file if there is one. */
int qcow2_data_flush(struct co *co, struct qcow2 *q) ATTR_MUST_USE;
/* What an unmapping of guest bytes [off, off + len) does to the data file; *must_mark: the entries must be changed, too. */
int qcow2_data_unmap(struct co *co, struct qcow2 *q, uint64_t off, uint64_t len, enum node_unmap how, bool *must_mark)
	ATTR_MUST_USE;
/* The disk will have that size, more than now. */
int qcow2_data_grow(struct co *co, struct qcow2 *q, uint64_t size) ATTR_MUST_USE;
/* The disk has that size. */
int qcow2_data_cut(struct co *co, struct qcow2 *q, uint64_t size) ATTR_MUST_USE;
/* Maps every cluster that [from, to) touches. */
int qcow2_data_map_all(struct co *co, struct qcow2 *q, uint64_t from, uint64_t to) ATTR_MUST_USE;

/* ---- refcount.c ---- */

uint64_t qcow2_refcount_get(const void *data, unsigned order, uint64_t index);
void qcow2_refcount_set(void *data, unsigned order, uint64_t index, uint64_t value);
/* The slice with the refcount of a cluster, and the index in it; *out is NULL where there is no usable block. */
int qcow2_refcount_slice(struct co *co, struct qcow2 *q, uint64_t cluster, struct qcow2_slice **out, uint64_t *index)
	ATTR_MUST_USE;
/* One more reference to a cluster that has some, in the slice and at the index just looked up; false: no more fit. */
bool qcow2_refcount_raise_at(struct qcow2 *q, struct qcow2_slice *s, uint64_t index) ATTR_MUST_USE;
/* Takes one reference from each of n clusters, whose unmapping must be durable (or who were never mapped). */
int qcow2_refcount_drop(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n) ATTR_MUST_USE;
/* Gives each of n clusters that are in use one reference more; *done: how many have it, n unless it fails. -ERANGE: the
 * refcounts are too narrow to count it. */
int qcow2_refcount_raise(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t *done) ATTR_MUST_USE;
/* *run: how many of n clusters, at least one, are like the first in whether they have one reference (*last) or not. */
int qcow2_refcount_run(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n, bool *last, uint64_t *run)
	ATTR_MUST_USE;
/* A cluster's refcount; 0 where nothing counts it. */
int qcow2_refcount_find(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t *count) ATTR_MUST_USE;
/* Sets the refcount of a cluster that is in use, in its slice; at 0 it is free from now on. */
void qcow2_refcount_put(struct qcow2 *q, struct qcow2_slice *s, uint64_t index, uint64_t cluster, uint64_t count);
static inline uint64_t qcow2_slice_refcounts(const struct qcow2 *q)
{
	return (uint64_t)q->refcount_cache.slice_bytes * 8 >> q->header.refcount_order;
}

/* ---- refblock.c ---- */

/* Makes the refcount block that counts `cluster`; durable on return. */
int qcow2_refblock_make(struct co *co, struct qcow2 *q, uint64_t cluster) ATTR_MUST_USE;

/* ---- alloc.c ---- */

/* Up to `want` adjacent clusters, at least one; refcount 1 in memory. */
int qcow2_alloc(struct co *co, struct qcow2 *q, uint64_t want, uint64_t *host, uint64_t *got, bool *zeroed)
	ATTR_MUST_USE;
/* This one; *taken is false where it is in use. */
int qcow2_alloc_at(struct co *co, struct qcow2 *q, uint64_t cluster, bool *taken) ATTR_MUST_USE;
/* Exactly n adjacent ones. */
int qcow2_alloc_run(struct co *co, struct qcow2 *q, uint64_t n, uint64_t *host) ATTR_MUST_USE;
/* The file reaches to `end`. */
int qcow2_file_reach(struct co *co, struct qcow2 *q, uint64_t end) ATTR_MUST_USE;

/* ---- reclaim.c ---- */

/* Room for n more entries: after this qcow2_free can't fail n times. */
int qcow2_free_prepare(struct qcow2 *q, size_t n) ATTR_MUST_USE;
/* A reference to these clusters has just been replaced in memory. */
void qcow2_free(struct qcow2 *q, uint64_t host, uint64_t bytes);
/* Before freeing more: joins a commit where very much is waiting for one. */
int qcow2_free_throttle(struct co *co, struct qcow2 *q) ATTR_MUST_USE;
/* Lets go of what is durably unmapped and no longer in use: punch, refcount, reuse. */
int qcow2_reclaim(struct co *co, struct qcow2 *q) ATTR_MUST_USE;
/* Takes a reference from each of n clusters; those that it was the last of are punched before. The conditions are those
 * of qcow2_refcount_drop. */
int qcow2_release(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n) ATTR_MUST_USE;
int qcow2_keeper_start(struct qcow2 *q) ATTR_MUST_USE;
void qcow2_keeper_stop(struct co *co, struct qcow2 *q);
void qcow2_freed_move(struct qcow2_freed_list *to, struct qcow2_freed_list *from);
/* The commit that captured them is over. */
void qcow2_freed_settle(struct qcow2 *q, bool durable);

/* ---- pack.c: space for compressed data, several to a cluster ---- */

/* What it is cut into: no sector, or what is as good as one, is written twice. */
uint32_t qcow2_pack_unit(const struct qcow2 *q);
/* Space for so many bytes, whole units and less than a cluster; a reference to each cluster that it lies in. */
int qcow2_pack(struct co *co, struct qcow2 *q, uint64_t bytes, uint64_t *host) ATTR_MUST_USE;
/* Nothing ever pointed to it. */
void qcow2_pack_cancel(struct co *co, struct qcow2 *q, uint64_t host, uint64_t bytes);
/* The cluster is about to be punched or free: nothing more goes into it. */
void qcow2_pack_close(struct qcow2 *q, uint64_t cluster);

/* ---- decode.c, encode.c ---- */

/* For one who compresses or decompresses now; put it back. */
struct qcow2_codec *qcow2_codec_get(struct qcow2 *q);
void qcow2_codec_put(struct qcow2 *q, struct qcow2_codec *codec);
void qcow2_codecs_fini(struct qcow2 *q);
void qcow2_decoder_init(struct qcow2 *q);
void qcow2_decoder_fini(struct qcow2 *q);
/* Nobody can be reading the cluster any more, and it gets other content: forgets what was decompressed from it. */
void qcow2_decoder_forget(struct qcow2 *q, uint64_t cluster);
int qcow2_decode(struct co *co, struct node *n, const struct node_extent *what, struct guest at, struct iov to)
	ATTR_MUST_USE;
int qcow2_compress(struct co *co, struct node *n, struct guest at, struct iov from, bool *stored) ATTR_MUST_USE;

/* ---- tree.c: L2 tables with all that their entries name ---- */

/* One reference more to the table at `table`, and to every cluster that its entries name; these lose COPIED. Nobody
 * changes the table meanwhile. All of it or nothing, except that an error on the way back leaks. */
int qcow2_table_share(struct co *co, struct qcow2 *q, uint64_t table) ATTR_MUST_USE;
/* One reference less to each of them. No pointer to the table is left, in memory or on disk, of those that it counts. */
int qcow2_table_release(struct co *co, struct qcow2 *q, uint64_t table) ATTR_MUST_USE;

typedef int qcow2_index_fn(struct co *co, struct qcow2 *q, void *arg, uint64_t index);
/* fn for each index in [0, n), several at once, until one fails. Commits now and then, so that what is dirty stays little
 * and guests find room in the caches. -ECANCELED: the image is being closed. */
int qcow2_each_index(struct co *co, struct qcow2 *q, uint64_t n, qcow2_index_fn *fn, void *arg) ATTR_MUST_USE;
/* qcow2_table_release for every table of an L1 table (in host order); what can't be done is leaked, and counted. */
void qcow2_tree_release(struct co *co, struct qcow2 *q, const uint64_t *l1, uint64_t n);

/* ---- copied.c ---- */

/* Sets COPIED where the active tree refers to a cluster alone, and doesn't say so. only: a bitmap of n L1 indices to look
 * at, for the search for leaks, which gives up where a snapshot operation wants to begin; NULL: all of them. */
int qcow2_copied_restore(struct co *co, struct qcow2 *q, const uint32_t *only, uint64_t n) ATTR_MUST_USE;

/* ---- freeze.c: the active tree at one instant ---- */

struct qcow2_freeze {
	uint64_t *l1; /* of that instant, n entries without flags: 0 where there was no table */
	uint64_t n;
	uint64_t size;     /* of the disk */
	uint32_t *pending; /* bitmap of L1 indices: the table has only the active tree's references so far */
	unsigned running;  /* tables being frozen right now */
	struct co_queue idle;
	int rc; /* the first error: nothing more is frozen */
};
/* The instant: takes the L1 table. The freeze is on from then to qcow2_freeze_end. */
int qcow2_freeze_begin(struct co *co, struct qcow2 *q, struct qcow2_freeze *f) ATTR_MUST_USE;
/* Freezes what nobody has frozen yet. */
int qcow2_freeze_all(struct co *co, struct qcow2 *q, struct qcow2_freeze *f) ATTR_MUST_USE;
/* The table of this L1 entry, before it is copied. The caller has it in qcow2_making. */
void qcow2_freeze_table(struct co *co, struct qcow2 *q, uint64_t l1_index);
/* Over; f->l1 has the tables that were frozen. */
void qcow2_freeze_end(struct co *co, struct qcow2 *q, struct qcow2_freeze *f);
void qcow2_freeze_fini(struct qcow2_freeze *f);

/* ---- refs.c: how many references each cluster has, counted ---- */

struct qcow2_refs {
	struct qcow2_refs_chunk *chunks;
	uint64_t clusters;
};
int qcow2_refs_init(struct qcow2_refs *c, uint64_t clusters) ATTR_MUST_USE;
void qcow2_refs_fini(struct qcow2_refs *c);
int qcow2_refs_add(struct qcow2_refs *c, uint64_t cluster) ATTR_MUST_USE; /* -ENOMEM; outside it does nothing */
uint64_t qcow2_refs_get(const struct qcow2_refs *c, uint64_t cluster);    /* UINT64_MAX: more than can be told */

/* ---- leaks.c ---- */

/* Looks for references that an earlier crash has leaked, in the background, and gives them back. To be started before
 * anything is allocated. */
int qcow2_leaks_start(struct qcow2 *q) ATTR_MUST_USE;
void qcow2_leaks_stop(struct co *co, struct qcow2 *q);
/* These clusters are allocated or freed: the search lets them alone. */
void qcow2_leaks_not(struct qcow2 *q, uint64_t host, uint64_t bytes);
/* Between the two the search stands still, and begins again afterwards: for whoever changes references in other ways. */
void qcow2_leaks_pause(struct co *co, struct qcow2 *q);
void qcow2_leaks_resume(struct qcow2 *q);

/* ---- commit.c ---- */

/* Joins a commit that starts after this call: everything that was done before is durable on return. */
int qcow2_commit(struct co *co, struct qcow2 *q) ATTR_MUST_USE;
int qcow2_barrier(struct co *co, struct qcow2 *q) ATTR_MUST_USE;

/* Refcounts may wait until the image is closed, while the dirty bit is set. */
static inline bool qcow2_is_lazy(const struct qcow2 *q)
{
	return q->header.version >= 3 && (q->header.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS);
}
/* The next commit writes them nevertheless. */
static inline void qcow2_refcounts_want(struct qcow2 *q)
{
	q->refcounts_wanted = true;
	qcow2_dirtied(q);
}

/* ---- batch.c ---- */

void qcow2_batch_fini(struct qcow2_batch *b);
/* Empties it and makes room for this much: adding can't fail then. */
int qcow2_batch_reset(struct qcow2_batch *b, size_t writes, size_t bytes) ATTR_MUST_USE;
/* Memory for bytes that go to host; joined with the write before where they adjoin. event: what the write is. */
void *qcow2_batch_add(struct qcow2_batch *b, enum node_event event, uint64_t host, size_t bytes);
int qcow2_batch_write(struct co *co, struct qcow2 *q, struct qcow2_batch *b) ATTR_MUST_USE;

/* ---- shrink.c ---- */

/* Unmaps what lies behind the cluster in which a disk of this size ends. The caller is alone there. */
int qcow2_cut(struct co *co, struct qcow2 *q, uint64_t size) ATTR_MUST_USE;
/* Before the first request: the same for what an interruption has left there. */
void qcow2_cut_leftovers(struct co *co, struct qcow2 *q);

/* ---- trim.c ---- */

/* Before the image is closed: cuts the file back to what is in use. */
int qcow2_trim(struct co *co, struct qcow2 *q) ATTR_MUST_USE;

/* ---- map.c, write.c, unmap.c, resize.c: the driver's answers ---- */

/* An L2 entry with this descriptor has just been replaced in memory: what it named loses its references. */
void qcow2_entry_free(struct qcow2 *q, uint64_t descriptor);

int qcow2_overwriting(struct co *co, struct node *n, uint64_t host, uint64_t len) ATTR_MUST_USE;
int qcow2_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out) ATTR_MUST_USE;
int qcow2_reserve(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_reservation *out)
	ATTR_MUST_USE;
int qcow2_publish(struct co *co, struct node *n, const struct node_reservation *res) ATTR_MUST_USE;
/* The reserved clusters have their space, whole ones that nothing is mapped to, and read as before: where entries aren't
 * extended they read zeros. */
int qcow2_publish_space(struct co *co, struct qcow2 *q, const struct node_reservation *res) ATTR_MUST_USE;
void qcow2_cancel(struct co *co, struct node *n, const struct node_reservation *res);
int qcow2_unmap(struct co *co, struct node *n, struct guest at, uint64_t len, enum node_unmap how) ATTR_MUST_USE;
int qcow2_resize(struct co *co, struct node *n, uint64_t size) ATTR_MUST_USE;
/* The subcluster at guest, or all of a compressed cluster, reads zeros from guest address `end` on and what it did before, from
 * space of its own. buffer: of a cluster. */
int qcow2_rewrite(struct co *co, struct qcow2 *q, uint64_t guest, uint64_t end, void *buffer) ATTR_MUST_USE;

#endif
