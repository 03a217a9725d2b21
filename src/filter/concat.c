/* SPDX-License-Identifier: MIT */
/* Several disks behind each other: see the header. */
#include "filter/concat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/math.h"

#define SECTOR 512u

struct part {
	struct node *node;
	uint64_t start, end; /* in the whole; the node may be shorter by part of a sector */
};

struct concat {
	struct node node; /* first */
	unsigned n;
	struct part parts[];
};

static struct concat *concat_of(const struct node *n) { return container_of(n, struct concat, node); }

static const struct part *part_at(const struct node *n, uint64_t off)
{
	const struct part *p = concat_of(n)->parts;

	while (off >= p->end)
		p++;
	return p;
}

static int part_read(struct co *co, const struct part *p, uint64_t off, struct iov to)
{
	uint64_t there = off < p->node->size ? MIN(to.len, p->node->size - off) : 0;

	iov_fill(iov_slice(to, there, to.len - there), 0);
	return there > 0 ? node_read(co, p->node, off, iov_slice(to, 0, there)) : 0;
}

static int concat_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	int ret = 0;

	while (ret == 0 && to.len > 0) {
		const struct part *p = part_at(n, off);
		uint64_t now = MIN(to.len, p->end - off);

		ret = part_read(co, p, off - p->start, iov_slice(to, 0, now));
		off += now;
		to = iov_slice(to, now, to.len - now);
	}
	return ret;
}

static int concat_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	const struct part *p = part_at(n, at.off);
	uint64_t off = at.off - p->start;
	struct node_status is = {.zero = true, .len = p->end - at.off};
	int ret = 0;

	if (off < p->node->size)
		ret = node_status(co, p->node, off, MIN(len, p->node->size - off), true, &is);
	*out = (struct node_extent){
		.kind = is.zero ? NODE_ZERO : NODE_DATA,
		.has_host = true,
		.host = {at.off},
		.len = MIN(len, is.len),
	};
	return ret;
}

static int concat_close(struct co *co, struct node *n)
{
	struct concat *c = concat_of(n);
	int ret = 0;

	for (unsigned i = 0; i < c->n; i++) {
		int closed = node_close(co, c->parts[i].node);

		ret = ret ? ret : closed;
	}
	node_fini(n);
	free(c);
	return ret;
}

static int concat_flush(struct co *co ATTR_UNUSED, struct node *n ATTR_UNUSED) { return 0; }

static const struct node_ops concat_ops = {
	.name = "concat",
	.close = concat_close,
	.flush = concat_flush,
	.read = concat_read,
	.map = concat_map,
};

static int parts_place(struct concat *c, struct node *const *parts)
{
	for (unsigned i = 0; i < c->n; i++) {
		uint64_t start = c->node.size;

		if (add_overflows(start, align_up(parts[i]->size, SECTOR), &c->node.size) || c->node.size > INT64_MAX)
			return -EFBIG;
		c->parts[i] = (struct part){parts[i], start, c->node.size};
	}
	return 0;
}

int concat_open(struct co *co, struct node *const *parts, unsigned n, struct node **out)
{
	AUTO_FREE struct concat *c = calloc(1, sizeof(*c) + n * sizeof(c->parts[0]));
	int ret = c ? 0 : -ENOMEM;

	if (ret < 0)
		return ret;
	c->n = n;
	c->node = (struct node){.ops = &concat_ops,
		.align = 1,
		.mem_align = 1,
		.cluster = 1,
		.read_only = true,
		.opaque = true,
		.name = "concatenation"};
	ret = parts_place(c, parts);
	if (ret == 0)
		ret = node_init(&c->node, co_sched_of(co));
	if (ret == 0)
		*out = &take(c)->node;
	return ret;
}
