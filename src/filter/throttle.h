/* SPDX-License-Identifier: MIT */
/*
 * I/O limits: how many requests and bytes a disk may have in each second. Several nodes may share a group, and then its
 * limits.
 *
 * Each limit is a bucket that leaks: a request pours in what it costs, the bucket leaks `avg` a second, and as long as more
 * is in it than its size, nobody passes. So a request of any size passes once there is room, and pays afterwards; over
 * time exactly `avg` a second pass. Sizes: a tenth of a second's avg, or `max` for bursts. A burst that lasts longer
 * than a second may have max in each of `length` seconds: the bucket holds max * length, and a second one, which leaks max a
 * second and holds a tenth of that, keeps it from coming all at once.
 *
 * Requests of one kind pass in turn: among the nodes of a group one after the other, of each node first come, first
 * served; while a node is being drained its requests don't wait. Reads and writes have limits of their own, besides those of both together; zeroing and discarding count as
 * writes, flushing is free.
 */
#ifndef CORRAL_FILTER_THROTTLE_H
#define CORRAL_FILTER_THROTTLE_H

#include "node/node.h"

enum throttle_kind {
	THROTTLE_BPS_TOTAL,
	THROTTLE_BPS_READ,
	THROTTLE_BPS_WRITE,
	THROTTLE_IOPS_TOTAL,
	THROTTLE_IOPS_READ,
	THROTTLE_IOPS_WRITE,
	THROTTLE_KINDS,
};

#define THROTTLE_MOST UINT64_C(1000000000000000) /* of each of these numbers, and of max * length */

struct throttle_limit {
	uint64_t avg;    /* a second; 0: no limit */
	uint64_t max;    /* a second of a burst; 0: none */
	uint64_t length; /* of a burst, seconds; 0 is 1 */
};

struct throttle_limits {
	struct throttle_limit of[THROTTLE_KINDS];
	uint64_t
		iops_size; /* a request counts as one for each such number of bytes, at least as one; 0: always as one */
};

/*
 * Sets what an option says: "iops-total", "bps-read-max", "iops-write-max-length", "iops-size", ... -ENOENT: there is none
 * of that name. throttle_check tells whether all of them agree: -EINVAL, explained.
 */
int throttle_set(struct throttle_limits *limits, const char *name, uint64_t value) ATTR_MUST_USE;
int throttle_check(const struct throttle_limits *limits, struct err *err) ATTR_MUST_USE;

struct throttle_group;

/* A group without members, with limits that have been checked; NULL: no memory. It lives until its last reference is gone;
 * each of its nodes holds one. */
struct throttle_group *throttle_group_new(struct co_sched *sched, const struct throttle_limits *limits);
struct throttle_group *throttle_group_ref(struct throttle_group *group);
void throttle_group_unref(struct throttle_group *group); /* NULL is fine */
/* Other limits, at once, for those who wait as well. What was used up before is forgotten. */
void throttle_group_limit(struct throttle_group *group, const struct throttle_limits *limits);

/* A node over the child, which it owns on success. -ENOMEM. */
int throttle_open(struct co *co, struct node *child, struct throttle_group *group, struct node **out) ATTR_MUST_USE;

#endif
