/* SPDX-License-Identifier: MIT */
/* What most filters do alike: see the header. */
#include "filter/pass.h"

#include <stdio.h>

int pass_read(struct co *co, struct node *n, uint64_t off, struct iov to) { return node_read(co, n->file, off, to); }

int pass_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	return node_write(co, n->file, off, from, flags);
}

int pass_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	return node_zero(co, n->file, off, len, flags | NODE_NO_FALLBACK);
}

int pass_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	return node_discard(co, n->file, off, len);
}

int pass_flush(struct co *co, struct node *n) { return node_flush(co, n->file); }

int pass_resize(struct co *co, struct node *n, uint64_t size)
{
	int err = node_resize(co, n->file, size);

	n->size = n->file->size;
	return err;
}

int pass_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	struct node_status st;
	int err = node_status(co, n->file, at.off, len, true, &st);

	if (err != 0)
		return err;
	*out = (struct node_extent){
		.kind = st.zero ? NODE_ZERO : NODE_DATA,
		.in_place = !st.zero,
		.has_host = st.has_host,
		.host = st.host,
		.len = st.len,
	};
	return 0;
}

int pass_init(struct co *co, struct node *n, const struct node_ops *ops, struct node *child)
{
	n->ops = ops;
	n->file = child;
	n->size = child->size;
	n->align = child->align;
	n->mem_align = child->mem_align;
	n->cluster = 1;
	n->read_only = child->read_only;
	n->opaque = child->opaque;
	n->grows_zeroed = child->grows_zeroed;
	snprintf(n->name, sizeof(n->name), "%s", child->name);
	return node_init(n, co_sched_of(co));
}
