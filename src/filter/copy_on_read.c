/* SPDX-License-Identifier: MIT */
/*
 * Copy on read. A copy must not undo a write that comes in between: so from reading what is below until the image has it,
 * the range lock of these clusters is held on this node, which every write takes for what it changes (node/pad.c,
 * node/zero.c). Under the lock it is asked again what is still missing. What the image has already is read without any
 * lock.
 */
#include "filter/copy_on_read.h"

#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "base/mutant.h"
#include "filter/pass.h"

#define COPY_BYTES MiB /* at once, or a cluster */

struct copy {
	struct node *n;
	uint64_t first, end; /* whole clusters of the child, but for the last one of the disk */
	char *buffer;
};

/* Bytes of [off, off + len), from its start on, that the image has, or that it has not. */
static int find_run(struct co *co, struct node *n, uint64_t off, uint64_t len, bool *has, uint64_t *run)
{
	struct node_status st;
	int err = node_status(co, n->file, off, len, false, &st);

	*has = st.allocated;
	*run = st.len;
	while (err == 0 && *run < len && st.allocated == *has) {
		err = node_status(co, n->file, off + *run, len - *run, false, &st);
		if (err == 0 && st.allocated == *has)
			*run += st.len;
	}
	return err;
}

static bool is_zero(const struct copy *c, uint64_t off)
{
	return mem_is_zero(c->buffer + (off - c->first), MIN((uint64_t)c->n->file->cluster, c->end - off));
}

/* Clusters of zeros needn't take space. */
static int write_run(struct co *co, const struct copy *c, uint64_t off, uint64_t len)
{
	int err = 0;

	for (uint64_t end = off + len, next = off; err == 0 && off < end; off = next) {
		bool zero = is_zero(c, off);

		do
			next = MIN(end, next + c->n->file->cluster);
		while (next < end && is_zero(c, next) == zero);
		if (zero)
			err = node_zero(co, c->n->file, off, next - off, NODE_UNCHANGED);
		else
			err = node_write(
				co, c->n->file, off, IOV_BUF(c->buffer + (off - c->first), next - off), NODE_UNCHANGED);
	}
	return err;
}

/* Writes what the image still hasn't. */
static int write_missing(struct co *co, const struct copy *c)
{
	uint64_t run;
	int err = 0;

	for (uint64_t at = c->first; err == 0 && at < c->end; at += run) {
		bool has;

		err = find_run(co, c->n, at, c->end - at, &has, &run);
		if (err == 0 && !has)
			err = write_run(co, c, at, run);
	}
	return err;
}

/* What was read is right, whatever becomes of the copy. */
static int copy_locked(struct co *co, struct copy *c, uint64_t off, struct iov to)
{
	int err;

	if (off + to.len > c->n->file->size) /* it has shrunk while we waited */
		return -EINVAL;
	c->end = MIN(c->end, c->n->file->size);
	err = node_read(co, c->n->file, c->first, IOV_BUF(c->buffer, c->end - c->first));
	if (err != 0)
		return err;
	iov_copy_in(to, c->buffer + (off - c->first), to.len);
	(void)!write_missing(co, c);
	return 0;
}

/* Reads and copies some of it, at least a byte. */
static int read_and_copy(struct co *co, struct node *n, uint64_t off, struct iov to, uint64_t *done)
{
	uint64_t cluster = n->file->cluster, most = MAX(COPY_BYTES, cluster);
	struct copy c = {.n = n, .first = align_down(off, cluster)};
	struct node_range lock;
	size_t bytes;
	void *buffer;
	int err;

	c.end = MIN(align_up(off + to.len, cluster), c.first + most);
	*done = MIN(to.len, c.end - off);
	bytes = c.end - c.first;
	err = node_buffer_get(co, n, bytes, &buffer);
	if (err != 0)
		return err;
	c.buffer = buffer;
	node_range_lock(co, n, &lock, c.first, MUTANT(140) ? 0 : bytes);
	err = copy_locked(co, &c, off, iov_slice(to, 0, *done));
	node_range_unlock(n, &lock);
	node_buffer_put(n, buffer, bytes);
	return err;
}

static int cor_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	int err = 0;

	while (err == 0 && to.len > 0) {
		uint64_t done;
		bool has;

		err = find_run(co, n, off, to.len, &has, &done);
		if (err != 0)
			return err;
		if (has)
			err = pass_read(co, n, off, iov_slice(to, 0, done));
		else
			err = read_and_copy(co, n, off, iov_slice(to, 0, done), &done);
		off += done;
		to = iov_slice(to, done, to.len - done);
	}
	return err;
}

static int cor_close(struct co *co ATTR_UNUSED, struct node *n)
{
	node_fini(n);
	free(n);
	return 0;
}

static const struct node_ops cor_ops = {
	.name = "copy-on-read",
	.close = cor_close,
	.flush = pass_flush,
	.resize = pass_resize,
	.read = cor_read,
	.write = pass_write,
	.zero = pass_zero,
	.discard = pass_discard,
	.map = pass_map,
};

int copy_on_read_open(struct co *co, struct node *child, struct node **out)
{
	struct node *n = calloc(1, sizeof(*n));
	int err = n != NULL ? pass_init(co, n, &cor_ops, child) : -ENOMEM;

	if (err != 0) {
		free(n);
		return err;
	}
	*out = n;
	return 0;
}
