/* SPDX-License-Identifier: MIT */
/* Zeros that are written: see the header. */
#include "filter/detect_zeroes.h"

#include <errno.h>
#include <stdlib.h>

#include "filter/pass.h"

struct detect {
	struct node node; /* first */
	bool unmap;
};

static int detect_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	const struct detect *d = container_of(n, struct detect, node);

	if (from.len == 0 || !iov_is_zero(from))
		return node_write(co, n->file, off, from, flags);
	return node_zero(co, n->file, off, from.len, flags | (d->unmap ? NODE_MAY_UNMAP : 0));
}

static int detect_close(struct co *co ATTR_UNUSED, struct node *n)
{
	node_fini(n);
	free(container_of(n, struct detect, node));
	return 0;
}

static const struct node_ops detect_ops = {
	.name = "detect-zeroes",
	.close = detect_close,
	.flush = pass_flush,
	.resize = pass_resize,
	.read = pass_read,
	.write = detect_write,
	.zero = pass_zero,
	.discard = pass_discard,
	.map = pass_map,
};

int detect_zeroes_open(struct co *co, struct node *child, bool unmap, struct node **out)
{
	struct detect *d = calloc(1, sizeof(*d));
	int err = d ? pass_init(co, &d->node, &detect_ops, child) : -ENOMEM;

	if (err != 0) {
		free(d);
		return err;
	}
	d->unmap = unmap;
	*out = &d->node;
	return 0;
}
