/* SPDX-License-Identifier: MIT */
/* Another backing file: see rebase.h, which draws the order of writes. */
#include "job/rebase.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "base/mutant.h"
#include "job/walk.h"

#define REQUESTS 8u
#define PIECE_BYTES (UINT64_C(1) << 20)

struct rebase {
	const struct rebase_how *how;
	struct err *err;
	int failed;
	uint64_t unit;        /* what is compared, and copied, together */
	uint64_t piece_bytes; /* whole units */

	struct co_mutex walking;
	struct walk walk;
	uint64_t done;
	struct co_group workers;
};

struct piece { /* of the disk, in a worker's buffers */
	struct walk_range range;
	char *old, *fresh;
};

enum verdict { SAME, ZEROS, DATA };

static int fail(struct rebase *b, int ret, const char *doing, uint64_t off)
{
	if (b->failed == 0)
		b->failed = err_set(b->err, ret, "%s at byte %" PRIu64 ": %s", doing, off, strerror(-ret));
	return ret;
}

static void progress(struct rebase *b, uint64_t bytes)
{
	const struct rebase_how *how = b->how;

	b->done += bytes;
	if (how->progress && !how->progress(how->arg, b->done, how->top->size) && b->failed == 0)
		b->failed = err_set(b->err, -ECANCELED, "cancelled");
}

/* ---- what there is to compare ---- */

/* For how many bytes, whole units, the new backing file is known to read zeros. */
static int fresh_zeros(struct co *co, struct rebase *b, uint64_t off, uint64_t len, uint64_t *out)
{
	struct node *fresh = b->how->fresh;
	uint64_t at = off, end = off + len;

	while (fresh && at < MIN(end, fresh->size)) {
		struct node_status is;
		int ret = node_status(co, fresh, at, MIN(end, fresh->size) - at, true, &is);

		if (ret < 0)
			return fail(b, ret, "error while reading new backing file's metadata", at);
		if (!is.zero)
			break;
		at += is.len;
	}
	if (!fresh || at >= fresh->size)
		at = end;
	*out = at == end ? len : align_down(at, b->unit) - off;
	return 0;
}

/* The next range that may differ, at most as long as a buffer. What is known to be alike is passed over. */
static int range_next(struct co *co, struct rebase *b, struct walk_range *r, bool *more)
{
	for (;;) {
		uint64_t alike = 0;
		int ret = walk_next(co, &b->walk, b->piece_bytes, r, more);

		if (ret < 0)
			return fail(b, ret, "error while reading image metadata", b->walk.at);
		if (!*more)
			return 0;
		if (r->kind == WALK_SHARED || (MUTANT(175) && r->kind == WALK_ZERO))
			alike = r->len;
		else if (r->kind == WALK_ZERO)
			ret = fresh_zeros(co, b, r->off, r->len, &alike);
		if (ret < 0)
			return ret;
		if (alike == 0)
			break;
		walk_shorten(&b->walk, r, alike);
		progress(b, r->len);
		if (b->failed)
			return b->failed;
	}
	walk_shorten(&b->walk, r, b->piece_bytes);
	return 0;
}

static int piece_take(struct co *co, struct rebase *b, struct piece *p, bool *more)
{
	int ret;

	co_mutex_lock(co, &b->walking);
	ret = range_next(co, b, &p->range, more);
	co_mutex_unlock(&b->walking);
	return ret;
}

/* ---- comparing ---- */

/* Beyond its end the new backing file reads zeros, as where there is none. */
static int piece_read(struct co *co, struct rebase *b, struct piece *p)
{
	const struct walk_range *r = &p->range;
	struct node *fresh = b->how->fresh;
	uint64_t there = fresh && r->off < fresh->size ? MIN(r->len, fresh->size - r->off) : 0;
	int ret = 0;

	if (r->kind == WALK_ZERO)
		memset(p->old, 0, r->len);
	else
		ret = node_read(co, b->how->top, r->off, IOV_BUF(p->old, r->len));
	if (ret < 0)
		return fail(b, ret, "error while reading from old backing file", r->off);
	memset(p->fresh + there, 0, r->len - there);
	if (there > 0)
		ret = node_read(co, fresh, r->off, IOV_BUF(p->fresh, there));
	return ret < 0 ? fail(b, ret, "error while reading from new backing file", r->off) : 0;
}

static enum verdict unit_judge(const struct rebase *b, const struct piece *p, uint64_t at)
{
	uint64_t len = MIN(b->unit, p->range.len - at);

	if (memcmp(p->old + at, p->fresh + at, len) == 0)
		return SAME;
	if (MUTANT(176) && b->how->fresh && p->range.off + at >= b->how->fresh->size)
		return SAME;
	return mem_is_zero(p->old + at, len) ? ZEROS : DATA;
}

/* ---- writing ---- */

static int run_write(struct co *co, struct rebase *b, const struct piece *p, uint64_t at, uint64_t len, enum verdict is)
{
	struct node *top = b->how->top;
	uint64_t off = p->range.off + at;
	struct iov from = IOV_BUF(p->old + at, len);
	int ret = 0;

	if (is == ZEROS)
		ret = node_zero(co, top, off, len, NODE_MAY_UNMAP | NODE_UNCHANGED);
	else if (is == DATA)
		ret = b->how->compressed ? node_write_compressed(co, top, off, from, NODE_UNCHANGED)
					 : node_write(co, top, off, from, NODE_UNCHANGED);
	return ret < 0 ? fail(b, ret, "Error while writing to COW image", off) : 0;
}

/* Units that are alike go together. */
static int piece_write(struct co *co, struct rebase *b, const struct piece *p)
{
	uint64_t end = p->range.len, next;
	int ret = 0;

	for (uint64_t at = 0; at < end && ret == 0; at = next) {
		enum verdict is = unit_judge(b, p, at);

		next = MIN(at + b->unit, end);
		while (next < end && unit_judge(b, p, next) == is)
			next = MIN(next + b->unit, end);
		ret = run_write(co, b, p, at, next - at, is);
	}
	return ret;
}

/* ---- the workers ---- */

static void work(struct co *co, void *arg)
{
	struct rebase *b = arg;
	AUTO_FREE char *old = node_alloc(b->piece_bytes), *fresh = node_alloc(b->piece_bytes);
	struct piece p = {.old = old, .fresh = fresh};
	bool more = true;

	if (!old || !fresh)
		fail(b, -ENOMEM, "no memory to compare", 0);
	while (b->failed == 0 && piece_take(co, b, &p, &more) == 0 && more) {
		if (piece_read(co, b, &p) < 0 || piece_write(co, b, &p) < 0)
			return;
		progress(b, p.range.len);
	}
}

static void work_all(struct co *co, struct rebase *b)
{
	unsigned n = b->how->requests ? b->how->requests : REQUESTS;

	co_group_init(&b->workers, co_sched_of(co));
	for (unsigned i = 1; i < n; i++) {
		if (co_group_spawn(&b->workers, "rebase", work, b) < 0)
			break;
	}
	work(co, b);
	co_group_wait(co, &b->workers);
}

/* A layer of the old chain that becomes the backing file: it, and what is below it, needs no look. */
static bool is_below(const struct node *top, const struct node *layer)
{
	const struct node *n = top->backing;

	while (n && n != layer)
		n = n->backing;
	return n != NULL;
}

static int content_copy(struct co *co, const struct rebase_how *how, struct err *err)
{
	AUTO_FREE struct rebase *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(err, -ENOMEM, "no memory to compare");
	b->how = how;
	b->err = err;
	b->unit = how->compressed ? how->top->cluster : how->top->subcluster;
	b->piece_bytes = MAX(PIECE_BYTES, b->unit);
	co_mutex_init(&b->walking);
	walk_init(&b->walk, how->top, how->top->size);
	b->walk.own = how->top;
	b->walk.unit = b->unit;
	if (how->fresh && is_below(how->top, how->fresh)) {
		b->walk.shared = how->fresh;
		b->walk.shared_size = how->fresh->size;
	}
	work_all(co, b);
	return b->failed;
}

int rebase_run(struct co *co, const struct rebase_how *how, struct err *err)
{
	int ret = MUTANT(177) ? how->switch_over(co, how->arg, err) : 0;

	if (ret == 0)
		ret = content_copy(co, how, err);
	if (ret < 0)
		return ret;
	ret = node_flush(co, how->top);
	if (ret < 0)
		return err_set(err, ret, "'%s' can't be flushed: %s; its backing file is the old one", how->top->name,
			strerror(-ret));
	return MUTANT(177) ? 0 : how->switch_over(co, how->arg, err);
}
