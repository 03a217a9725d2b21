/* SPDX-License-Identifier: MIT */
/*
 * The graph of block nodes. A node is a disk: bytes [0, size). There are two kinds.
 *
 *   storage and filters   do the I/O themselves: read, write, zero, discard, flush, resize (file, delay, raw)
 *   formats               answer questions, and this room moves the data:
 *       map      where is this guest range now?
 *       reserve  give me host space for it
 *       publish  the content is written: link it
 *       unmap    it reads zeros from now on
 *
 * For formats this room does, once for all of them: reading through the layers, in-place and allocating writes,
 * copy-on-write, bounded parallelism inside a request, range locks, epochs, drain, bounds.
 *
 * Locks. A write, zero or discard holds a range lock (below) while it works: its exact bytes when it changes data in
 * place, whole clusters when it changes the mapping. So two writes never have the same sector in flight, and whoever
 * changes the mapping of a cluster is alone in it. Reads take no lock. A request holds one range lock at a time.
 *
 * Epochs. Every request on a format node enters an epoch when it begins and leaves it when it ends. What a format frees
 * (a host cluster) may be used again only when every request that began before the unmapping has ended, since it may
 * still read or write there: node_epoch_now() when it is unmapped, node_epoch_passed() before it is used again.
 *
 * Every function returns 0 or a negative errno unless it says otherwise. Offsets and lengths are bytes; a request outside
 * [0, size) is -EINVAL for reads, -ENOSPC for writes; no alignment is needed: the room pads where storage needs it.
 */
#ifndef CORRAL_NODE_NODE_H
#define CORRAL_NODE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/iovec.h"
#include "base/list.h"
#include "co/co.h"
#include "co/sync.h"
#include "node/event.h"

struct log;
struct node;

/* Addresses are of two kinds that must not be mixed: of the disk that a format presents, and of the child it lies in. */
struct guest {
	uint64_t off;
};
struct host {
	uint64_t off;
};

#define NODE_MAX_DEPTH 256                     /* layers of a backing chain */
#define NODE_MAX_REQUEST (UINT64_C(32) << 20)  /* bytes of one read or write that a caller should send */
#define NODE_PIECE_BYTES (UINT64_C(2) << 20)   /* an allocating write works in pieces of about this many bytes */
#define NODE_PIECES 8                          /* pieces of one request in flight at once */
#define NODE_BUFFER_BYTES (UINT64_C(64) << 20) /* budget of bounce buffers per node */

/* ---- requests ---- */

enum {
	NODE_FUA = 1 << 0,         /* durable, with its mapping, when the call returns */
	NODE_MAY_UNMAP = 1 << 1,   /* zero: the space may be given back */
	NODE_NO_FALLBACK = 1 << 2, /* zero: -ENOTSUP rather than writing zeros as data */
	NODE_LASTING = 1 << 3,   /* found again, mapping and all, when this process is killed after the call returned */
	NODE_UNCHANGED = 1 << 4, /* it is what reads there already: nobody needs to note a change */
};

int node_read(struct co *co, struct node *n, uint64_t off, struct iov to) ATTR_MUST_USE;
int node_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags) ATTR_MUST_USE;
/* The same for whole clusters (the last one may end where the disk does, else -EINVAL), which become compressed where that
 * makes them smaller. -ENOTSUP: the node can't. */
int node_write_compressed(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags) ATTR_MUST_USE;
int node_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags) ATTR_MUST_USE;
/* Reads zeros afterwards (edges inside a cluster are written as zeros), unless the format can't express it (qcow2 version
 * 2 over a backing file): then nothing changes. */
int node_discard(struct co *co, struct node *n, uint64_t off, uint64_t len) ATTR_MUST_USE;
/* Has storage take over what lies in other storage, without its going through memory. -ENOTSUP: these two can't, and some of
 * it may have been copied; read and write then. */
int node_copy(struct co *co, struct node *n, uint64_t off, struct node *from, uint64_t from_off, uint64_t len)
	ATTR_MUST_USE;
/* A format forgets all of its mapping: the disk reads what the backing file has, or zeros. For what has been committed to the
 * backing file, durably. -ENOTSUP: the node can't. */
int node_forget(struct co *co, struct node *n) ATTR_MUST_USE;
/* Durable: everything that returned before this was called. A failure is final: this and every later write and flush of
 * the node fail until it is reopened; and every later read if it was storage that failed, the node or what is below it: it
 * may have less than was read before. */
int node_flush(struct co *co, struct node *n) ATTR_MUST_USE;
/* What a larger disk gains reads zeros. Where a smaller one has the new size in spite of an error, something of what lay
 * behind its end has not been given back; n->size tells. -ENOTSUP: it can't have that size. */
int node_resize(struct co *co, struct node *n, uint64_t size) ATTR_MUST_USE;
/* Sees to it that a storage node is at least so large. */
int node_reach(struct co *co, struct node *n, uint64_t size) ATTR_MUST_USE;

struct node_status {
	uint64_t len;   /* bytes from the asked offset that are alike; at least 1 */
	bool zero;      /* reads as zeros */
	bool allocated; /* some layer has data or a zero mark there, rather than nothing */
	unsigned depth; /* which layer answered: 0 is the node itself, 1 its backing file, ...; the last one if none */
	bool has_host;  /* it lies contiguously at `host` of `holder` */
	struct host host;
	struct node *holder; /* the layer that answered */
	bool compressed;
};
/* What lies at [off, off + len)? A prefix of it, alike throughout. follow: look through backing layers; else only here. */
int node_status(struct co *co, struct node *n, uint64_t off, uint64_t len, bool follow, struct node_status *out)
	ATTR_MUST_USE;

/* Stops new requests (they wait), waits for those in flight, flushes. On return everything that completed is on disk.
 * The result is the flush's; node_drain_end is owed in any case. Drains nest. The caller is not inside a request (node_op)
 * of the node. Of a chain, drain the top first: its requests wait for those below. */
int node_drain_begin(struct co *co, struct node *n) ATTR_MUST_USE;
void node_drain_end(struct node *n);

/* Drains, closes the node, then its children. The memory is gone whatever it returns; the result tells whether what was
 * written is durable. NULL is fine. */
int node_close(struct co *co, struct node *n);

/* ---- drivers ---- */

enum node_kind {
	NODE_UNALLOCATED, /* not in this layer: ask the backing file, or zeros */
	NODE_ZERO,        /* reads zeros, whatever lies below */
	NODE_DATA,        /* at `host` of the child `data` */
	NODE_ENCODED,     /* only the driver can read it: compressed, or encrypted by itself */
};

struct node_extent {
	enum node_kind kind;
	bool in_place; /* DATA: a write may change it where it lies */
	bool has_host; /* `host` is meant: always for DATA and ENCODED, else where space is kept */
	struct host host;
	uint64_t encoded_bytes; /* of ENCODED: what lies at `host` */
	bool compressed;        /* ENCODED: that is why */
	uint64_t len; /* bytes from the asked address on, contiguous and alike; at least 1 and at most what was asked */
};

struct node_reservation {
	struct guest guest; /* whole subclusters */
	struct host host;
	uint64_t len;
	bool zeroed; /* the host space is known to read as zeros: zeros need not be written */
	bool reused; /* the guest range had this space already, without data in it */
};

enum node_unmap {
	NODE_UNMAP_KEEP,    /* write zeroes, the space stays */
	NODE_UNMAP_FREE,    /* write zeroes, the space may be given back */
	NODE_UNMAP_DISCARD, /* discard */
	NODE_UNMAP_FORGET,  /* whole clusters: nothing is said of them any more, and the backing file shows */
};

struct node_ops {
	const char *name;
	/* Everything in flight has ended. Leaves what completed on disk, calls node_fini, frees the driver's part, which the node
	 * lies in; not the children. */
	int (*close)(struct co *co, struct node *n);
	int (*flush)(struct co *co, struct node *n);
	int (*resize)(struct co *co, struct node *n,
		uint64_t size); /* sets n->size; alone in all from the cluster of the smaller size on */

	/* Storage and filters. Aligned to n->align and n->mem_align where these are above 1. Zero and discard may be NULL. */
	int (*read)(struct co *co, struct node *n, uint64_t off, struct iov to);
	int (*write)(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags);
	/* -ENOTSUP: can't; with NODE_NO_FALLBACK also where it would be no faster than writing zeros. */
	int (*zero)(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags);
	int (*discard)(struct co *co, struct node *n, uint64_t off, uint64_t len);
	int (*copy)(struct co *co, struct node *n, uint64_t off, struct node *from, uint64_t from_off,
		uint64_t len); /* or NULL */

	/* Or NULL: somebody above is about to do this to the node (node/event.h). */
	void (*event)(struct co *co, struct node *n, enum node_event event);

	/* Storage may leave it NULL: all is data. Formats: the answer is a value and may be stale after the next yield. */
	int (*map)(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out);

	/* Formats, or NULL: reads [at, at + to.len), which map has just said to be all `what`: ENCODED. */
	int (*decode)(struct co *co, struct node *n, const struct node_extent *what, struct guest at, struct iov to);

	/* Formats, or NULL: from becomes the cluster at `at`, or its part inside the disk; *stored is false where it doesn't get
	 * smaller: then nothing has changed. The caller holds the cluster's range lock. */
	int (*compress)(struct co *co, struct node *n, struct guest at, struct iov from, bool *stored);

	/* Formats, or NULL: [off, off + len) is about to be changed by a request. */
	void (*changing)(struct node *n, uint64_t off, uint64_t len);

	/* Formats, or NULL: content is about to be written to [host, host + len) of `data`. 0, or why it must not. */
	int (*overwriting)(struct co *co, struct node *n, uint64_t host, uint64_t len);

	/* Formats; at and len are whole subclusters, and the caller holds the range lock of the clusters that they lie in from
	 * reserve to publish or cancel. reserve may give less than asked, at least the first subcluster, and more: other
	 * subclusters of these clusters, around it, which must be filled as well. What was there is still mapped until publish,
	 * which replaces it; cancel gives the space back, which may have been written to, also after a publish
	 * that failed. unmap returns -ENOTSUP where the format can't say it; with len 0 it only tells that, for the cluster at
	 * `at`. */
	int (*reserve)(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_reservation *out);
	int (*publish)(struct co *co, struct node *n, const struct node_reservation *res);
	void (*cancel)(struct co *co, struct node *n, const struct node_reservation *res);
	int (*unmap)(struct co *co, struct node *n, struct guest at, uint64_t len, enum node_unmap how);
};

struct node_range { /* a range lock, held or waited for; lives on its holder's stack */
	struct list link;
	uint64_t off, len;
	unsigned blockers; /* earlier ranges that overlap it */
	struct co_queue granted;
};

struct node_op { /* a request in flight; lives on its coroutine's stack */
	struct list link;
	uint64_t epoch;
	bool request; /* a drain waits for it */
};

struct node_buffers; /* node/buffer.h */
struct node_skips;   /* node/skip.h */

struct node { /* drivers embed it, and fill the first part before node_init */
	const struct node_ops *ops;
	struct node *file; /* where host addresses lie; owned */
	struct node *data; /* where those of guest data lie; owned if it isn't `file`; NULL until node_init: `file` */
	struct node *backing; /* what unallocated ranges read; owned; may be shorter */
	uint64_t size;
	uint32_t align; /* of requests to it, 1 or a power of two (O_DIRECT) */
	uint32_t mem_align;
	uint32_t cluster;    /* formats: the allocation unit in bytes, which range locks are taken of; else 1 */
	uint32_t subcluster; /* formats: the unit of the mapping, a part of a cluster; 0 until node_init: a cluster */
	bool data_apart; /* formats: what is written to `data` lies in a file of its own, which ends where the disk ends */
	bool read_only;
	bool opaque;       /* storage: what it holds doesn't lie as it is, at the same place, in what is below it */
	bool grows_zeroed; /* storage: space that was never written, and what a resize adds, reads zeros */
	char name[64];     /* for messages: the tail of the path, or the driver */
	struct log *log;   /* storage: who is told when it has failed for good; or NULL */

	struct co_sched *sched; /* set by node_init, as all below */
	int failed; /* sticky: 0, or why no write and no flush can succeed any more; of storage, no read either */
	bool failure_told;       /* to the log */
	struct list ranges;      /* of node_range, in order of arrival */
	struct list ops_running; /* of node_op, in order of arrival */
	unsigned requests;       /* of them */
	uint64_t next_epoch;
	uint64_t changes;         /* of a format's mapping, so far */
	uint64_t changes_written; /* how many of them flushes have written */
	unsigned changing;        /* under way */
	unsigned drains;
	struct co_queue drained, resumed;
	struct node_buffers *buffers;
	struct node_skips *skips; /* NULL: nothing is remembered of the layers from here on */
};

int node_init(struct node *n, struct co_sched *sched) ATTR_MUST_USE; /* -ENOMEM */
void node_fini(struct node *n);

/* Locks [off, off + len) against all others that overlap it, in order of arrival. */
void node_range_lock(struct co *co, struct node *n, struct node_range *r, uint64_t off, uint64_t len);
void node_range_unlock(struct node *n, struct node_range *r);

/* Requests enter and leave; drivers' own background work may do so too. Waits while the node is drained. */
void node_op_begin(struct co *co, struct node *n, struct node_op *op);
/* Enters even while the node is drained, and no drain waits for it: for a driver's work on its own behalf, which changes
 * nothing that a request sees, and which closing it waits for. */
void node_op_join(struct node *n, struct node_op *op);
void node_op_end(struct node *n, struct node_op *op);
uint64_t node_epoch_now(struct node *n);
bool node_epoch_passed(const struct node *n, uint64_t epoch); /* every request that began before has ended */

/* Tells a node what is about to be done to it. What the caller knew before is stale, as after every call that may yield. */
static inline void node_event(struct co *co, struct node *n, enum node_event event)
{
	if (__builtin_expect(n->ops->event != NULL, 0))
		n->ops->event(co, n, event);
}

/* Bounce memory, aligned for O_DIRECT. Waits while the budget is used up; -ENOMEM only from the system. A coroutine holds
 * one buffer at a time. */
int node_buffer_get(struct co *co, struct node *n, size_t bytes, void **out) ATTR_MUST_USE;
void node_buffer_put(struct node *n, void *buffer, size_t bytes);

/* The caller's own memory, with the alignment that lets every storage use it as it is; free it. NULL: there is none. */
void *node_alloc(size_t bytes);
void *node_alloc_zeroed(size_t bytes);

#endif
