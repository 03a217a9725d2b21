/* SPDX-License-Identifier: MIT */
/* The copy engine: see copy.h. */
#include "job/copy.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "base/mutant.h"
#include "job/walk.h"

#define SECTOR UINT64_C(512)
#define NS_PER_S UINT64_C(1000000000)

struct copy {
	const struct copy_how *how;
	struct copy_counts *counts;
	struct err *err;
	int failed;
	uint64_t request_bytes;
	uint64_t block; /* zeros are looked for in blocks of this many bytes */

	struct co_mutex walking;
	struct walk walk;
	uint64_t taken, ended; /* in_order: ranges that were taken from the walk, and that were written */
	struct co_queue turned;

	uint64_t paced_ns; /* with a rate: when the next write may begin */
	uint64_t done, all;
	bool offload; /* so far it could */
	struct co_group workers;
};

struct piece { /* of the disk, in a worker's buffer */
	struct walk_range range;
	uint64_t turn;
	char *data;
};

/* ---- the end of it ---- */

/* The first failure is the one that is told. */
static void fail(struct copy *c, int ret, const char *doing, uint64_t off, const struct node *n)
{
	if (c->failed == 0) {
		c->failed = err_set(c->err, ret, "error while %s at byte %" PRIu64 ": %s", doing, off, strerror(-ret));
		err_hint(c->err, "it was '%s'", n->name);
	}
	co_queue_wake_all(&c->turned);
}

static void progress(struct copy *c, uint64_t bytes)
{
	c->done += bytes;
	if (!c->how->progress || c->how->progress(c->how->arg, MIN(c->done, c->all), c->all) || c->failed != 0)
		return;
	c->failed = err_set(c->err, -ECANCELED, "cancelled");
	co_queue_wake_all(&c->turned);
}

/* ---- reading ---- */

static void unreadable(struct copy *c, uint64_t off, uint64_t len, int err)
{
	c->counts->salvage_bytes += len;
	if (c->how->unreadable)
		c->how->unreadable(c->how->arg, off, len, err);
}

/* As much as can be read, and zeros for the rest: where a read fails, halves of it are tried, down to a sector. */
static void read_salvage(struct co *co, struct copy *c, uint64_t off, char *to, uint64_t len)
{
	uint64_t step = len, now;

	for (uint64_t at = 0; at < len && c->failed == 0; at += now) {
		int ret;

		now = MIN(step, len - at);
		ret = node_read(co, c->how->from, off + at, IOV_BUF(to + at, now));
		if (ret == 0) {
			step *= 2;
		} else if (now > SECTOR) {
			step = align_up(now / 2, SECTOR);
			now = 0;
		} else {
			memset(to + at, 0, now);
			unreadable(c, off + at, now, ret);
		}
	}
}

/* Beyond its end the source reads zeros. */
static int piece_read(struct co *co, struct copy *c, struct piece *p)
{
	const struct walk_range *r = &p->range;
	struct node *from = c->how->from;
	uint64_t there = r->off < from->size ? MIN(r->len, from->size - r->off) : 0;
	int ret;

	memset(p->data + there, 0, r->len - there);
	if (there == 0)
		return 0;
	if (c->how->salvage) {
		read_salvage(co, c, r->off, p->data, there);
		return 0;
	}
	ret = node_read(co, from, r->off, IOV_BUF(p->data, there));
	if (ret < 0)
		fail(c, ret, "reading", r->off, from);
	return ret;
}

/* ---- writing ---- */

/* Waits until the rate allows for as many bytes more. */
static void pace(struct co *co, struct copy *c, uint64_t bytes)
{
	uint64_t from = MAX(c->paced_ns, co_now(co));

	if (c->how->rate == 0)
		return;
	c->paced_ns = from + (uint64_t)((double)bytes * (double)NS_PER_S / (double)c->how->rate);
	co_sleep_until(co, from);
}

static void write_data(struct co *co, struct copy *c, uint64_t off, const char *data, uint64_t len)
{
	struct node *to = c->how->to;
	struct iov from = IOV_BUF(data, len);
	int ret;

	pace(co, c, len);
	ret = c->how->compressed ? node_write_compressed(co, to, off, from, 0) : node_write(co, to, off, from, 0);
	if (ret < 0)
		fail(c, ret, "writing", off, to);
	c->counts->data_bytes += len;
}

static void write_zero(struct co *co, struct copy *c, uint64_t off, uint64_t len)
{
	int ret = 0;

	c->counts->zero_bytes += len;
	if (!c->how->target_zero)
		ret = node_zero(co, c->how->to, off, len, c->how->sparse != 0 ? NODE_MAY_UNMAP : 0);
	if (ret < 0)
		fail(c, ret, "writing", off, c->how->to);
}

/* The end of the block at off, or of the data. */
static uint64_t block_end(const struct copy *c, uint64_t off, uint64_t end)
{
	return MIN(end, align_down(off, c->block) + c->block);
}

/* From off on, to where zeros begin or end; *zero tells which it is. */
static uint64_t alike_end(const struct copy *c, const struct piece *p, uint64_t off, bool *zero)
{
	uint64_t start = p->range.off, end = start + p->range.len, next = block_end(c, off, end);

	*zero = mem_is_zero(p->data + (off - start), next - off);
	for (uint64_t at = next; at < end; at = next) {
		next = block_end(c, at, end);
		if (mem_is_zero(p->data + (at - start), next - at) != *zero)
			return at;
	}
	return end;
}

/* Zeros that are too few for a hole are data, together with what is around them. */
static uint64_t part_end(const struct copy *c, const struct piece *p, uint64_t off, bool *zero)
{
	uint64_t end = p->range.off + p->range.len, at = alike_end(c, p, off, zero);

	if (*zero && at - off < c->how->sparse && at < end)
		*zero = false;
	while (!*zero && at < end) {
		bool hole;
		uint64_t next = alike_end(c, p, at, &hole);

		if (hole && (next - at >= c->how->sparse || next == end))
			break;
		at = next;
	}
	return at;
}

static void piece_write(struct co *co, struct copy *c, const struct piece *p)
{
	const struct walk_range *r = &p->range;
	uint64_t end = r->off + r->len, next;

	for (uint64_t off = r->off; off < end && c->failed == 0; off = next) {
		bool zero = false;

		next = c->block != 0 ? part_end(c, p, off, &zero) : end;
		if (zero)
			write_zero(co, c, off, next - off);
		else
			write_data(co, c, off, p->data + (off - r->off), next - off);
	}
}

/* ---- leaving it to the storage ---- */

/* Where the source has data, as it lies in its storage; *storage is NULL where it hasn't. */
static int lies_at(
	struct co *co, struct copy *c, const struct walk_range *r, struct node_status *is, struct node **storage)
{
	struct node *from = c->how->from;
	uint64_t there = r->off < from->size ? MIN(r->len, from->size - r->off) : 0;
	int ret = there > 0 ? node_status(co, from, r->off, there, true, is) : -ENOTSUP;

	*storage = NULL;
	if (ret == 0 && is->has_host && !is->zero)
		*storage = is->holder->data ? is->holder->data : is->holder;
	return ret;
}

/* Takes off the range what the storage copies. What is left is read and written, and where it can't at all, all the rest of
 * the disk. */
static void offload(struct co *co, struct copy *c, struct walk_range *r)
{
	while (c->offload && r->len > 0 && c->failed == 0) {
		struct node_status is;
		struct node *storage;

		if (lies_at(co, c, r, &is, &storage) < 0 || !storage)
			return;
		pace(co, c, is.len);
		c->offload = node_copy(co, c->how->to, r->off, storage, is.host.off, is.len) == 0;
		if (!c->offload)
			return;
		c->counts->data_bytes += is.len;
		r->off += is.len;
		r->len -= is.len;
		progress(c, is.len);
	}
}

/* ---- the workers ---- */

/* Zeros that are to be written as data come in pieces that fit in a buffer, as data does. */
static bool as_data(const struct copy *c, enum walk_kind kind)
{
	return kind == WALK_DATA || (kind == WALK_ZERO && c->how->sparse == 0);
}

static int take_piece(struct co *co, struct copy *c, struct piece *p, bool *more)
{
	struct walk_range *r = &p->range;
	int ret;

	co_mutex_lock(co, &c->walking);
	ret = walk_next(co, &c->walk, c->request_bytes, r, more);
	if (ret < 0)
		fail(c, ret, "reading block status", c->walk.at, c->how->from);
	if (ret == 0 && *more && as_data(c, r->kind))
		walk_shorten(&c->walk, r, c->request_bytes);
	p->turn = c->taken++;
	co_mutex_unlock(&c->walking);
	return ret;
}

static void wait_turn(struct co *co, struct copy *c, const struct piece *p)
{
	while (c->how->in_order && c->ended != p->turn && c->failed == 0)
		co_queue_wait(co, &c->turned);
}

static void piece_copy(struct co *co, struct copy *c, struct piece *p)
{
	struct walk_range *r = &p->range;

	if (r->kind == WALK_DATA)
		offload(co, c, r);
	if (r->len == 0)
		return;
	if (r->kind == WALK_SHARED) {
		c->counts->shared_bytes += r->len;
	} else if (as_data(c, r->kind)) {
		if (r->kind == WALK_ZERO)
			memset(p->data, 0, r->len);
		else if (piece_read(co, c, p) < 0)
			return;
		wait_turn(co, c, p);
		if (c->failed == 0)
			piece_write(co, c, p);
		progress(c, r->len);
	} else {
		write_zero(co, c, r->off, r->len);
	}
}

static void work(struct co *co, void *arg)
{
	struct copy *c = arg;
	AUTO_FREE char *buffer = aligned_alloc(4096, c->request_bytes);
	struct piece p = {.data = buffer};
	bool more = true;

	if (!buffer)
		fail(c, -ENOMEM, "making room for data", 0, c->how->from);
	while (c->failed == 0 && take_piece(co, c, &p, &more) == 0 && more) {
		piece_copy(co, c, &p);
		wait_turn(co, c, &p);
		c->ended++;
		co_queue_wake_all(&c->turned);
	}
}

/* How much data there is to copy, for those who want to know how far it is. */
static int count(struct co *co, struct copy *c)
{
	struct walk w = c->walk;
	bool more = true;
	int ret = 0;

	while (c->how->progress && ret == 0 && more) {
		struct walk_range r;

		ret = walk_next(co, &w, c->request_bytes, &r, &more);
		if (ret < 0)
			fail(c, ret, "reading block status", w.at, c->how->from);
		else if (more && as_data(c, r.kind))
			c->all += r.len;
	}
	return ret;
}

static void start(struct co *co, struct copy *c)
{
	unsigned n = c->how->requests ? c->how->requests : COPY_REQUESTS;

	co_group_init(&c->workers, co_sched_of(co));
	for (unsigned i = 1; i < n; i++) {
		if (co_group_spawn(&c->workers, "copy", work, c) < 0)
			break;
	}
	work(co, c);
	co_group_wait(co, &c->workers);
}

static uint64_t block_of(const struct copy_how *how)
{
	uint64_t block = how->sparse;

	if (block == 0)
		return 0;
	while (!is_power_of_two(block))
		block &= block - 1;
	return how->compressed ? how->to->cluster : MAX(block, how->to->subcluster);
}

int copy_run(struct co *co, const struct copy_how *how, struct copy_counts *counts, struct err *err)
{
	struct copy_counts unasked;
	AUTO_FREE struct copy *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(err, -ENOMEM, "no memory for a copy");
	assert(how->len <= how->to->size || how->in_order);
	c->how = how;
	c->counts = counts ? counts : &unasked;
	*c->counts = (struct copy_counts){0};
	c->err = err;
	c->request_bytes = MAX(how->request_bytes ? how->request_bytes : COPY_REQUEST_BYTES, how->to->cluster);
	c->block = block_of(how);
	c->offload = how->offload;
	co_mutex_init(&c->walking);
	co_queue_init(&c->turned);
	walk_init(&c->walk, how->from, how->len);
	c->walk.shared = how->shared;
	c->walk.shared_size = how->shared_size;
	c->walk.unit = how->compressed || how->in_order ? how->to->cluster : 1;
	if (count(co, c) == 0)
		start(co, c);
	return c->failed;
}
