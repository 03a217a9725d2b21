/* SPDX-License-Identifier: MIT */
/* The qcow2 format driver: its face to the other rooms. */
#ifndef CORRAL_QCOW2_QCOW2_H
#define CORRAL_QCOW2_QCOW2_H

#include "crypto/luks.h"
#include "node/node.h"
#include "qcow2/header.h"

enum qcow2_preallocation {
	QCOW2_PREALLOCATE_OFF,
	QCOW2_PREALLOCATE_METADATA, /* every cluster is mapped; the file is sparse */
	QCOW2_PREALLOCATE_FALLOC,   /* and has its space on the host */
	QCOW2_PREALLOCATE_FULL,     /* and is written */
};

struct qcow2_options {
	bool write;
	struct node *data_file;        /* the external data file, open as the image is; NULL: data lies in the image */
	uint64_t l2_cache_bytes;       /* 0: twice what its L2 tables need, 1 to 32 MiB */
	uint64_t refcount_cache_bytes; /* 0: what its refcounts need, 1 to 4 MiB */
	uint64_t commit_interval_ns;   /* dirty metadata is written after this long without a flush; 0: 5 s */
	bool keep_leaks;               /* don't look in the background for clusters that an earlier crash has leaked */
	enum qcow2_preallocation growth; /* of what the disk gains when it is resized */
	bool no_discard;                 /* freed clusters are kept in the file rather than punched out of it */
	struct log *log;                 /* what the operator should know; NULL: nobody listens */
	const char
		*snapshot; /* the disk as it was in this snapshot (ID or name), read only; needed until open returns */
	const struct crypto_secret
		*secret; /* of an encrypted image, or NULL; the caller's, and only needed to open it */
	bool locked;     /* without a secret an encrypted image may be opened all the same; its data is -ENOKEY then */
};

/*
 * Takes file, and options->data_file, over on success. Whether a data file is needed, and how the header names it, is asked
 * beforehand with qcow2_header_load: the caller opens it under his policy. The backing file is not opened: the caller reads its name with qcow2_node_header, opens it
 * under his policy, and sets node->backing before the first request.
 * -ENOTSUP: a feature that is missing here, by name. -EROFS: dirty or corrupt, or a snapshot, may only be opened read only.
 * -ENOENT: there is no such snapshot. -ENOKEY: it is encrypted and no secret was given; -EACCES: the wrong one.
 */
int qcow2_open(struct co *co, struct node *file, const struct qcow2_options *options, struct node **out,
	struct err *err) ATTR_MUST_USE;
const struct qcow2_header *qcow2_node_header(const struct node *n);
bool node_is_qcow2(const struct node *n);

struct qcow2_stats { /* counters since the image was opened */
	uint64_t commits, barriers;
	uint64_t l2_hits, l2_misses, refcount_misses;
	uint64_t clusters_allocated, clusters_freed;
	uint64_t leaks_reclaimed;
	bool leaks_searched; /* the search for what an earlier crash has leaked is over, or there was none */
	uint64_t reclaim_errors;
	char corruption[160]; /* "", or what was found to be inconsistent, since when nothing can be written */
	uint64_t leaked;      /* clusters that an error kept from being given back; check finds them */
};
const struct qcow2_stats *qcow2_node_stats(struct node *n);

/* The header of the image in file, which isn't opened as one. known: the incompatible features that the caller can deal
 * with (-ENOTSUP, as qcow2_header_check_features). */
int qcow2_header_load(struct co *co, struct node *file, uint64_t known, struct qcow2_header *out, struct err *err)
	ATTR_MUST_USE;

/* The same by qcow2_header_parse_damaged. */
int qcow2_header_load_damaged(
	struct co *co, struct node *file, uint64_t known, struct qcow2_header *out, struct err *err) ATTR_MUST_USE;

/* ---- create ---- */

struct qcow2_create_luks {
	struct crypto_spec spec;
	enum crypto_hash hash; /* of PBKDF2 and the splitter */
	uint32_t iter_ms;      /* that PBKDF2 is to take here */
	struct crypto_secret secret;
};
/* What QEMU takes where nothing else is said: AES-256 in XTS, plain64, SHA-256, two seconds. */
#define QCOW2_LUKS_DEFAULT                                                                                             \
	{                                                                                                              \
		.spec = {.alg = CRYPTO_AES_256, .mode = CRYPTO_XTS, .ivgen = CRYPTO_PLAIN64}, .hash = CRYPTO_SHA256,   \
		.iter_ms = 2000                                                                                        \
	}

struct qcow2_create {
	uint64_t size;
	unsigned version; /* 2 or 3 */
	unsigned cluster_bits;
	unsigned refcount_order;
	bool lazy_refcounts;
	const char *backing_name;   /* NULL: none */
	const char *backing_format; /* NULL: not recorded */
	bool extended_l2;
	unsigned compression_type; /* QCOW2_COMPRESSION_* */
	enum qcow2_preallocation preallocation;
	const char *data_name; /* to be recorded as that of the external data file; NULL: data lies in the image */
	bool data_raw;         /* the data file alone is a raw image of the disk: all is mapped, off is as metadata */
	struct node *data;     /* with data_name, of qcow2_create: the data file, to be resized; not taken over */
	const struct qcow2_create_luks *luks; /* NULL: not encrypted */
};

/* Lays a new image out in file, with the same layout as qemu-img's. It must be empty (size 0) and grow; or it is what can't grow,
 * holds anything, and is large enough (-ENOSPC). */
int qcow2_create(struct co *co, struct node *file, const struct qcow2_create *how, struct err *err) ATTR_MUST_USE;

/* Whether such an image can be made, as far as that can be told beforehand. */
int qcow2_create_check(const struct qcow2_create *how, struct err *err) ATTR_MUST_USE;

/* ---- encryption ---- */

/* The encryption header of an image with crypt_method LUKS; *out isn't trusted further than luks_parse checks it. */
int qcow2_luks_load(struct co *co, struct node *file, const struct qcow2_header *h, struct luks *out, struct err *err)
	ATTR_MUST_USE;

struct qcow2_luks_change {               /* of the passphrases */
	struct crypto_secret unlock;     /* add: one that opens the image now */
	struct crypto_secret passphrase; /* add: the new one; remove: whatever it opens goes, or bytes is NULL */
	int slot;         /* 0 to 7; -1: add: the first that is free; remove: those that the passphrase opens */
	uint32_t iter_ms; /* add: that PBKDF2 is to take here; QEMU's default is 2000 */
	bool force;       /* add: replace an active slot; remove: the last one too, which makes the data unreadable */
};
/* file: the image's file node, opened for writing, so locked against others; not opened as an image. The slot is durable
 * on return. -EACCES: the passphrase opens nothing. -EEXIST, -ENOSPC, -EPERM: refused without force, explained. */
int qcow2_luks_add(struct co *co, struct node *file, const struct qcow2_luks_change *how, struct err *err)
	ATTR_MUST_USE;
int qcow2_luks_remove(struct co *co, struct node *file, const struct qcow2_luks_change *how, struct err *err)
	ATTR_MUST_USE;

/* ---- check and repair ---- */

struct qcow2_check { /* the fields of qemu-img check's JSON */
	uint64_t image_end_offset;
	uint64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
	uint64_t corruptions, leaks, check_errors; /* those that are left */
	uint64_t corruptions_fixed, leaks_fixed;
};

/* Each finding is told to say(arg, text) as it is found: one line, no newline. */
typedef void qcow2_say(void *arg, const char *text);
/* How far it is, now and then; done <= all. false: give up, with -ECANCELED; what was begun is in order. */
typedef bool qcow2_progress(void *arg, uint64_t done, uint64_t all);

enum {
	QCOW2_FIX_LEAKS = 1 << 0,  /* refcounts that are too high */
	QCOW2_FIX_ERRORS = 1 << 1, /* all else that can be repaired */
};

struct qcow2_check_how {
	unsigned fix; /* 0: nothing is changed */
	qcow2_say *say;
	qcow2_progress *progress; /* each may be NULL */
	void *arg;
};

/*
 * Reads all metadata of the image in file, its file node. 0 if that could be done, whatever was found. Memory is bounded
 * by the file's size.
 *
 * With fix, repairs: the power may fail at any point, and the next run goes on from there. Nobody else has the file open
 * for writing. Where something can't be read, or it isn't clear which clusters are in use, what might destroy something
 * is left undone. When everything is right in the end, the dirty and the corrupt bit are cleared.
 */
int qcow2_check_image(struct co *co, struct node *file, const struct qcow2_check_how *how, struct qcow2_check *out,
	struct err *err) ATTR_MUST_USE;

/* What opening a dirty image for writing begins with: refcounts and COPIED flags are put right, and the dirty bit is
 * cleared. -EROFS: something else is wrong as well. header: the one in file, which changes on disk. */
int qcow2_recover(struct co *co, struct node *file, const struct qcow2_header *header, struct err *err) ATTR_MUST_USE;

/* qcow2_check_image that changes nothing. */
int qcow2_check_run(struct co *co, struct node *file, qcow2_say *say, void *arg, struct qcow2_check *out,
	struct err *err) ATTR_MUST_USE;

/* ---- amend ---- */

enum qcow2_switch { QCOW2_AS_IT_IS, QCOW2_OFF, QCOW2_ON };

struct qcow2_amend {            /* what is to change; the rest stays */
	unsigned version;       /* 2 or 3; 0: as it is */
	unsigned refcount_bits; /* 0: as it is */
	enum qcow2_switch lazy_refcounts, data_raw;
	const char *data_name; /* to be recorded as the external data file's; "": none; NULL: as it is */
	uint64_t size;         /* 0: as it is */
	const struct qcow2_luks_change *luks_add, *luks_remove; /* NULL, or one of them */
	qcow2_progress *progress; /* or NULL, as for check: each long step from 0 to all */
	void *arg;
};

/*
 * Amends an image that is open for writing, alone, with its backing chain; takes it over, and closes it whatever the result
 * is. What can be refused is, before anything has changed, explained in qemu-img's words. A power cut at any point leaves
 * the old image or the new one, or, of several changes, one that has the first of them; and at most leaked clusters.
 */
int qcow2_amend(struct co *co, struct node *image, const struct qcow2_amend *how, struct err *err) ATTR_MUST_USE;

/* ---- another backing file ---- */

/*
 * The header of an image that is open for writing names this backing file from now on, or none (NULL). Atomic and durable;
 * what the image reads is the caller's business, who leaves node->backing as it is. -EINVAL: refused; -ENOSPC,
 * -ENAMETOOLONG: the header has no room for it; nothing has changed then. _check only tells what is refused. From _expect on,
 * what is zeroed is marked so even where no backing file reaches.
 */
void qcow2_backing_expect(struct node *n);
int qcow2_backing_check(const struct node *n, const char *name, const char *format, struct err *err) ATTR_MUST_USE;
int qcow2_backing_set(struct co *co, struct node *n, const char *name, const char *format, struct err *err)
	ATTR_MUST_USE;

/* ---- what info shows ---- */

struct qcow2_snapshot_info {
	char id[64], name[256];
	uint64_t vm_state_bytes, disk_bytes;
	uint32_t date_sec, date_nsec;
	uint64_t vm_clock_nsec;
	int64_t icount; /* -1: unknown */
};
/* The snapshot list, for info and check; *out is malloc'd, *n its length. Bounded by the file's size. */
int qcow2_snapshots_read(struct co *co, struct node *file, const struct qcow2_header *h,
	struct qcow2_snapshot_info **out, unsigned *n, struct err *err) ATTR_MUST_USE;

/* ---- snapshots of an open image ---- */

/*
 * While they run the node may be read, written and flushed. They wait for each other. Closing the node makes those that run
 * give up early; what was begun is then finished by the search for leaks that follows the next opening.
 * -EROFS: the image isn't open for writing. -ENOTSUP: it has an external data file. Each failure is explained.
 */
struct qcow2_snapshot_new {
	const char *name;
	uint32_t date_sec, date_nsec;
	uint64_t vm_clock_nsec;
	char id[64]; /* set by create: the number after the highest one */
};
/* The disk at one instant between call and return. When it returns 0 the snapshot is durable, with all it holds.
 * -ERANGE: the image's refcounts are too narrow. */
int qcow2_snapshot_create(struct co *co, struct node *n, struct qcow2_snapshot_new *how, struct err *err) ATTR_MUST_USE;
/* which: ID or name, looked for in this order; -ENOENT. When it returns 0 the snapshot is durably gone and its space given
 * back, except what an error has leaked. */
int qcow2_snapshot_delete(struct co *co, struct node *n, const char *which, struct err *err) ATTR_MUST_USE;
/* The disk is as it was in the snapshot, size and all, durable. Nobody is inside the node until this is so: requests wait. */
int qcow2_snapshot_apply(struct co *co, struct node *n, const char *which, struct err *err) ATTR_MUST_USE;

struct qcow2_bitmap_info {
	char name[1024];
	uint32_t flags; /* QCOW2_BITMAP_* */
	unsigned granularity_bits;
};
enum { QCOW2_BITMAP_IN_USE = 1 << 0, QCOW2_BITMAP_AUTO = 1 << 1, QCOW2_BITMAP_EXTRA_COMPATIBLE = 1 << 2 };
/* The persistent bitmaps, as the snapshots. Those of an image whose autoclear bit isn't set don't count. */
int qcow2_bitmaps_read(struct co *co, struct node *file, const struct qcow2_header *h, struct qcow2_bitmap_info **out,
	unsigned *n, struct err *err) ATTR_MUST_USE;

/* ---- bitmaps of an open image ---- */

/*
 * Changes of them. Each drains the node, so that what requests change belongs either to the time before or to the time
 * after; the caller is not inside a request of it. Durable on return. Errors are told in qemu-img's words. -ENOENT: no
 * bitmap has this name. -EUCLEAN: it is inconsistent, and may only be removed.
 */
/* granularity: bytes, 0: as QEMU chooses. An enabled one follows all changes from now on. */
int qcow2_bitmap_add(struct co *co, struct node *n, const char *name, uint64_t granularity, bool enabled,
	struct err *err) ATTR_MUST_USE;
int qcow2_bitmap_remove(struct co *co, struct node *n, const char *name, struct err *err) ATTR_MUST_USE;
int qcow2_bitmap_clear(struct co *co, struct node *n, const char *name, struct err *err) ATTR_MUST_USE;
int qcow2_bitmap_enable(struct co *co, struct node *n, const char *name, bool enabled, struct err *err) ATTR_MUST_USE;
/* Adds what `source` of the image `from`, which may be n itself, says to `name`. */
int qcow2_bitmap_merge(struct co *co, struct node *n, const char *name, struct node *from, const char *source,
	struct err *err) ATTR_MUST_USE;

struct qcow2_bitmap_status {
	char name[1024];
	uint64_t granularity; /* bytes */
	uint64_t dirty_bytes; /* in whole granules */
	bool enabled, usable; /* usable: its content is known */
	bool in_use;          /* marked so on disk */
};
/* *out is malloc'd. */
int qcow2_bitmap_list(struct co *co, struct node *n, struct qcow2_bitmap_status **out, unsigned *count, struct err *err)
	ATTR_MUST_USE;

struct qcow2_bitmap_extent {
	bool dirty;
	uint64_t len; /* bytes from the asked offset that are alike; at most what was asked, at least 1 */
};
/* What a bitmap says of [off, off + len), or of a prefix of it. */
int qcow2_bitmap_run(struct co *co, struct node *n, const char *name, uint64_t off, uint64_t len,
	struct qcow2_bitmap_extent *out) ATTR_MUST_USE;

#endif
