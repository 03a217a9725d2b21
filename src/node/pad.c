/* SPDX-License-Identifier: MIT */
/*
 * Storage that must be accessed in blocks (O_DIRECT) and in aligned memory. What doesn't fit goes through a bounce buffer;
 * a write that begins or ends inside a block reads the block first. Every write locks the blocks that it touches, so that
 * two of them never work on one block, and neither is one sector twice in flight where there are no blocks.
 */
#include "node/impl.h"

#include <errno.h>

#include "base/math.h"

#define PAD_BYTES (UINT64_C(1) << 20) /* the most that is bounced at once */

static bool fits(const struct node *n, uint64_t off, struct iov it)
{
	return is_aligned(off | it.len, n->align) && (n->mem_align == 1 || iov_is_aligned(it, n->mem_align));
}

/*
 * A failed durable write is as final as a failed flush: the kernel reports an error of the file's earlier writes once, and
 * it may have been to us. But EFAULT is about the memory of this write alone, which a guest may have lost.
 */
static int write_blocks(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	int err;

	node_event(co, n, NODE_EVENT_PWRITEV);
	err = n->ops->write(co, n, off, from, flags);
	node_event(co, n, NODE_EVENT_PWRITEV_DONE);
	if (err != 0 && err != -EFAULT && (flags & NODE_FUA) != 0)
		node_fail(n, err);
	return err;
}

struct pad { /* a request on its way through a buffer, window by window */
	struct node *n;
	uint64_t off;
	struct iov it;
	uint64_t at, len; /* the window: whole blocks */
	char *buffer;
};

/* The next window after `at`; false: there is none. */
static bool pad_next(struct pad *p)
{
	uint64_t end = align_up(p->off + p->it.len, p->n->align);

	p->at += p->len;
	p->len = MIN(end - p->at, PAD_BYTES);
	return p->len > 0;
}

/* What of the request lies in the window, and where in the buffer. */
static struct iov pad_part(const struct pad *p, uint64_t *skip)
{
	uint64_t from = MAX(p->at, p->off), to = MIN(p->at + p->len, p->off + p->it.len);

	*skip = from - p->at;
	return iov_slice(p->it, from - p->off, to - from);
}

static int pad_read_window(struct co *co, struct pad *p)
{
	uint64_t skip;
	struct iov part = pad_part(p, &skip);
	int err = p->n->ops->read(co, p->n, p->at, IOV_BUF(p->buffer, p->len));

	if (err == 0)
		iov_copy_in(part, p->buffer + skip, part.len);
	return err;
}

static int read_block(struct co *co, struct pad *p, uint64_t in_window, enum node_event before, enum node_event after)
{
	int err;

	node_event(co, p->n, before);
	err = p->n->ops->read(co, p->n, p->at + in_window, IOV_BUF(p->buffer + in_window, p->n->align));
	node_event(co, p->n, after);
	return err;
}

/* Reads the first and the last block of the window, as far as the request leaves something of them. */
static int read_edges(struct co *co, struct pad *p, uint64_t skip, uint64_t len)
{
	uint64_t last = p->len - p->n->align;
	bool head = skip > 0, tail = skip + len < p->len;
	int err = 0;

	if (head)
		err = read_block(co, p, 0, NODE_EVENT_PWRITEV_RMW_HEAD, NODE_EVENT_PWRITEV_RMW_AFTER_HEAD);
	if (err == 0 && tail && !(head && last == 0))
		err = read_block(co, p, last, NODE_EVENT_PWRITEV_RMW_TAIL, NODE_EVENT_PWRITEV_RMW_AFTER_TAIL);
	return err;
}

static int pad_write_window(struct co *co, struct pad *p, unsigned flags)
{
	uint64_t skip;
	struct iov part = pad_part(p, &skip);
	int err = read_edges(co, p, skip, part.len);

	if (err != 0)
		return err;
	iov_copy_out(part, p->buffer + skip, part.len);
	return write_blocks(co, p->n, p->at, IOV_BUF(p->buffer, p->len), flags);
}

/* Takes the request through the buffer, window by window. */
static int bounce(struct co *co, struct node *n, uint64_t off, struct iov it, bool write, unsigned flags)
{
	struct pad p = {.n = n, .off = off, .it = it, .at = align_down(off, n->align)};
	size_t bytes = MIN(align_up(off + it.len, n->align) - p.at, PAD_BYTES);
	void *buffer;
	int err = node_buffer_get(co, n, bytes, &buffer);

	if (err != 0)
		return err;
	p.buffer = buffer;
	while (err == 0 && pad_next(&p))
		err = write ? pad_write_window(co, &p, flags) : pad_read_window(co, &p);
	node_buffer_put(n, buffer, bytes);
	return err;
}

int node_pad_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	return fits(n, off, to) ? n->ops->read(co, n, off, to) : bounce(co, n, off, to, false, 0);
}

int node_pad_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct node_range lock;
	int err;

	node_blocks_lock(
		co, n, &lock, off, MUTANT(22) ? 0 : from.len, MUTANT(52) ? NODE_SECTOR : MAX(n->align, NODE_SECTOR));
	if (!node_is_inside(n, off, from.len)) /* it may have shrunk while we waited */
		err = -ENOSPC;
	else if (fits(n, off, from))
		err = write_blocks(co, n, off, from, flags);
	else
		err = bounce(co, n, off, from, true, flags);
	node_range_unlock(n, &lock);
	return err;
}
