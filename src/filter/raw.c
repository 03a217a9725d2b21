/* SPDX-License-Identifier: MIT */
/* A window of the child, which is a disk as it is. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "filter/filter.h"
#include "filter/pass.h"

static const char magic[] = {'Q', 'F', 'I', '\xfb'}; /* that a qcow2 image begins with */

struct raw {
	struct node node; /* first; its file is the child */
	struct raw_window window;
	struct co_mutex start; /* whoever changes the first bytes of a guarded one */
};

static struct raw *raw_of(const struct node *n) { return container_of(n, struct raw, node); }

static int raw_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	node_event(co, n->file, NODE_EVENT_READ_AIO);
	return node_read(co, n->file, raw_of(n)->window.off + off, to);
}

/* What the start would be after the write. */
static int start_check(struct co *co, struct raw *r, uint64_t off, struct iov from)
{
	char start[sizeof(magic)];
	int ret = node_read(co, r->node.file, r->window.off, IOV_BUF(start, sizeof(start)));

	if (ret < 0)
		return ret;
	iov_copy_out(from, start + off, sizeof(start) - off);
	return memcmp(start, magic, sizeof(magic)) == 0 ? -EPERM : 0;
}

/*
 * Whoever writes to a disk of which nobody knows that it is raw must not make it look like something else, not in pieces
 * either: they are written one after the other.
 */
static int guarded_write(struct co *co, struct raw *r, uint64_t off, struct iov from, unsigned flags)
{
	int ret;

	co_mutex_lock(co, &r->start);
	ret = start_check(co, r, off, from);
	if (ret == 0)
		ret = node_write(co, r->node.file, r->window.off + off, from, flags);
	co_mutex_unlock(&r->start);
	return ret;
}

static int raw_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct raw *r = raw_of(n);

	node_event(co, n->file, NODE_EVENT_WRITE_AIO);
	if (r->window.guarded && off < sizeof(magic))
		return guarded_write(co, r, off, from, flags);
	return node_write(co, n->file, r->window.off + off, from, flags);
}

static int raw_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	return node_zero(co, n->file, raw_of(n)->window.off + off, len, flags | NODE_NO_FALLBACK);
}

static int raw_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	return node_discard(co, n->file, raw_of(n)->window.off + off, len);
}

static int raw_copy(struct co *co, struct node *n, uint64_t off, struct node *from, uint64_t from_off, uint64_t len)
{
	struct raw *r = raw_of(n);

	if (r->window.guarded)
		return -ENOTSUP;
	return node_copy(co, n->file, r->window.off + off, from, from_off, len);
}

static int raw_flush(struct co *co, struct node *n) { return node_flush(co, n->file); }

static int raw_resize(struct co *co, struct node *n, uint64_t size)
{
	struct raw *r = raw_of(n);
	uint64_t end;
	int ret;

	if (r->window.size != RAW_ALL)
		return -ENOTSUP;
	if (add_overflows(r->window.off, size, &end))
		return -EINVAL;
	ret = node_resize(co, n->file, end);
	if (ret == 0)
		n->size = size;
	return ret;
}

static int raw_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	return pass_map(co, n, (struct guest){raw_of(n)->window.off + at.off}, len, out);
}

static int raw_close(struct co *co ATTR_UNUSED, struct node *n)
{
	node_fini(n);
	free(raw_of(n));
	return 0;
}

static const struct node_ops raw_ops = {
	.name = "raw",
	.close = raw_close,
	.flush = raw_flush,
	.resize = raw_resize,
	.read = raw_read,
	.write = raw_write,
	.zero = raw_zero,
	.discard = raw_discard,
	.copy = raw_copy,
	.map = raw_map,
};

static int window_check(const struct node *child, const struct raw_window *w, uint64_t *size, struct err *err)
{
	if (w->size == RAW_ALL && w->off > child->size)
		return err_set(err, -EINVAL,
			"Offset (%" PRIu64 ") cannot be greater than size of the containing file (%" PRIu64 ")", w->off,
			child->size);
	if (w->size != RAW_ALL && w->size % 512 != 0)
		return err_set(err, -EINVAL, "Specified size is not multiple of 512");
	if (w->size != RAW_ALL && (w->off > child->size || w->size > child->size - w->off))
		return err_set(err, -EINVAL,
			"The sum of offset (%" PRIu64 ") and size (%" PRIu64 ") has to be smaller or equal to the "
			" actual size of the containing file (%" PRIu64 ")",
			w->off, w->size, child->size);
	*size = w->size == RAW_ALL ? child->size - w->off : w->size;
	return 0;
}

/* A window that doesn't begin where the child's blocks do is read and written by the byte, which the child then pads. */
int raw_open(struct co *co, struct node *child, const struct raw_window *window, struct node **out, struct err *err)
{
	struct raw *r = calloc(1, sizeof(*r));
	uint64_t size = 0;
	int ret = r ? window_check(child, window, &size, err) : err_set(err, -ENOMEM, "no memory");

	if (ret < 0) {
		free(r);
		return ret;
	}
	r->window = *window;
	co_mutex_init(&r->start);
	r->node = (struct node){
		.ops = &raw_ops,
		.file = child,
		.size = size,
		.align = is_aligned(window->off, child->align) ? child->align : 1,
		.mem_align = child->mem_align,
		.cluster = 1,
		.read_only = child->read_only,
		.grows_zeroed = child->grows_zeroed,
	};
	snprintf(r->node.name, sizeof(r->node.name), "%s", child->name);
	ret = node_init(&r->node, co_sched_of(co));
	if (ret < 0) {
		free(r);
		return err_set(err, ret, "no memory");
	}
	*out = &r->node;
	return 0;
}
