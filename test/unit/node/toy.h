/* SPDX-License-Identifier: MIT */
/*
 * A storage node and a format in memory, on a host whose clock is virtual and whose scheduler picks at random. Both take
 * random time for everything, fail the operation they are told to, and die at once of what a node may not do:
 *
 *   storage   a request that isn't aligned or lies outside; two writes of one sector in flight
 *   format    a mapping that changes without the range lock; space that is used after it was given to others, which
 *             shows as garbage; a reservation that is neither published nor cancelled, or both
 */
#ifndef CORRAL_TEST_NODE_TOY_H
#define CORRAL_TEST_NODE_TOY_H

#include "../co/host.h"

#include <errno.h>
#include <stdio.h>

#include "base/math.h"
#include "node/node.h"

#define TOY_SECTOR 512u
#define TOY_GARBAGE 0xee

struct rig {                /* a world with a dice, and a fault in store */
	struct world world; /* first */
	uint64_t seed;
	unsigned dawdle;  /* the longest that an operation takes, in virtual nanoseconds; 0: it doesn't yield */
	unsigned fail_at; /* the how manyth operation from now fails; 0: none */
	int fail_with;    /* -EIO where it is 0 */
	unsigned failed;  /* how many did */
};

void rig_init(struct rig *r, uint64_t seed, const struct co_limits *limits);
void rig_fini(struct rig *r);
void rig_run(struct rig *r, co_entry *entry, void *arg); /* until nobody is alive */
uint64_t rig_random(struct rig *r, uint64_t below);
int rig_step(struct co *co, struct rig *r) ATTR_MUST_USE; /* takes time, may fail */

struct toy_storage {
	struct node node; /* first */
	struct rig *rig;
	uint8_t *data;
	uint64_t room;    /* bytes of data; the node's size may grow up to it */
	uint8_t *writing; /* per sector, whether a write is in flight */
	unsigned reads, writes, zeroes, discards, flushes, fua;
	uint64_t bytes_read, bytes_written;
	unsigned in_flight, most_in_flight;
	unsigned *closed; /* counted when it is closed */
	bool alone;       /* whoever writes keeps his writes of one sector apart himself: none has to wait here */
	bool no_zero;     /* zero and discard: -ENOTSUP */
	bool holes;       /* map tells zeros from data, in blocks of 4 KiB */
};

struct toy_storage *toy_storage_new(struct rig *r, uint64_t size, uint64_t room, uint32_t align);
static inline struct toy_storage *toy_storage_of(struct node *n) { return container_of(n, struct toy_storage, node); }

struct toy_cluster {
	enum node_kind kind;
	bool shared; /* not in place, and never freed */
	bool moving; /* not in place: the next write moves it elsewhere */
	bool has_host;
	uint64_t host;
};

struct toy_freed {
	uint64_t host, epoch;
};

struct toy_format {
	struct node node; /* first */
	struct rig *rig;
	struct toy_cluster *map;
	uint64_t clusters;
	struct co_mutex grow_file;
	uint8_t *used; /* per host cluster: TOY_FREE... */
	uint64_t hosts;
	struct toy_freed *freed; /* waits for its epoch */
	size_t n_freed;
	unsigned reserved, maps, reserves, publishes, cancels, unmaps, flushes;
	unsigned most_reserve; /* clusters that one reservation gives; 0: as asked */
	unsigned most_map;     /* clusters that one map tells; 0: all that are alike */
	bool never_zeroed;     /* reservations don't tell that space is zero */
	bool no_unmap;
	unsigned *closed;
};

enum { TOY_FRESH, TOY_USED, TOY_DIRTY }; /* of host space: never written, in use or in quarantine, free but written */

/* Takes file and backing over. */
struct toy_format *toy_format_new(
	struct rig *r, struct node *file, struct node *backing, uint64_t size, uint32_t cluster);
static inline struct toy_format *toy_format_of(struct node *n) { return container_of(n, struct toy_format, node); }
/* Sets a cluster up before anything runs: DATA gets space filled with `byte`. */
void toy_format_set(struct toy_format *f, uint64_t cluster, enum node_kind kind, bool shared, int byte);
/* What the disk reads at off, by looking at the tables and into the memory: an oracle that shares no code with the room. */
uint8_t toy_peek(struct node *n, uint64_t off);

#endif
