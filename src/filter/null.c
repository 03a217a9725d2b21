/* SPDX-License-Identifier: MIT */
/* Storage that keeps nothing: see the header. Its requests do nothing but take their time. */
#include "filter/null.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct null {
	struct node node; /* first */
	uint64_t latency_ns;
	bool unread;
};

static struct null *null_of(const struct node *n) { return container_of(n, struct null, node); }

static int null_wait(struct co *co, struct node *n)
{
	if (null_of(n)->latency_ns > 0)
		co_sleep(co, null_of(n)->latency_ns);
	return 0;
}

static int null_read(struct co *co, struct node *n, uint64_t off ATTR_UNUSED, struct iov to)
{
	if (!null_of(n)->unread)
		iov_fill(to, 0);
	return null_wait(co, n);
}

static int null_write(struct co *co, struct node *n, uint64_t off ATTR_UNUSED, struct iov from ATTR_UNUSED,
	unsigned flags ATTR_UNUSED)
{
	return null_wait(co, n);
}

static int null_zero(
	struct co *co, struct node *n, uint64_t off ATTR_UNUSED, uint64_t len ATTR_UNUSED, unsigned flags ATTR_UNUSED)
{
	return null_wait(co, n);
}

static int null_discard(struct co *co, struct node *n, uint64_t off ATTR_UNUSED, uint64_t len ATTR_UNUSED)
{
	return null_wait(co, n);
}

static int null_map(struct co *co ATTR_UNUSED, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	*out = (struct node_extent){
		.kind = null_of(n)->unread ? NODE_DATA : NODE_ZERO,
		.in_place = true,
		.has_host = true,
		.host = {at.off},
		.len = len,
	};
	return 0;
}

static int null_close(struct co *co ATTR_UNUSED, struct node *n)
{
	node_fini(n);
	free(null_of(n));
	return 0;
}

static const struct node_ops null_ops = {
	.name = "null-co",
	.close = null_close,
	.flush = null_wait,
	.read = null_read,
	.write = null_write,
	.zero = null_zero,
	.discard = null_discard,
	.map = null_map,
};

int null_open(struct co *co, const struct null_open *how, struct node **out)
{
	struct null *null = calloc(1, sizeof(*null));
	int err;

	if (null == NULL)
		return -ENOMEM;
	null->latency_ns = how->latency_ns;
	null->unread = how->unread;
	null->node = (struct node){
		.ops = &null_ops, .size = how->size, .align = 1, .mem_align = 1, .cluster = 1, .name = "null-co"};
	err = node_init(&null->node, co_sched_of(co));
	if (err != 0) {
		free(null);
		return err;
	}
	*out = &null->node;
	return 0;
}
