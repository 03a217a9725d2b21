/* SPDX-License-Identifier: MIT */
/* From a stream to a node: see the header. */
#include "job/pour.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

struct pour {
	const struct pour_how *how;
	struct err *err;
	int failed;
	struct co_sem room;
	struct co_group group;
	uint64_t taken, ended; /* pieces; in_order: whose turn it is */
	uint64_t written;      /* in_order: the end of what was written */
	uint64_t done, paced_ns;
	struct co_queue turned;
};

struct task { /* a piece under way */
	struct pour *p;
	struct pour_piece piece;
	uint64_t turn;
	int decoded;
};

static void fail(struct pour *p, int ret, const char *doing, uint64_t off)
{
	if (p->failed == 0) {
		p->failed = err_set(p->err, ret, "error while %s at byte %" PRIu64 ": %s", doing, off, strerror(-ret));
		err_hint(p->err, "it was '%s'", p->how->to->name);
	}
	co_queue_wake_all(&p->turned);
}

static void decode(void *arg)
{
	struct task *t = arg;

	t->decoded = t->p->how->decode(t->p->how->arg, &t->piece);
}

static void decode_if_needed(struct co *co, struct task *t)
{
	const struct pour_how *how = t->p->how;

	if (!how->decode || !how->decode_needed(&t->piece))
		return;
	co_offload(co, decode, t);
	if (t->decoded < 0)
		fail(t->p, t->decoded, "decompressing", t->piece.off);
}

static int write_part(struct co *co, const struct pour_how *how, uint64_t off, const char *data, uint64_t len)
{
	bool whole =
		is_aligned(off, how->to->cluster) && (is_aligned(len, how->to->cluster) || off + len == how->to->size);
	struct iov from = IOV_BUF(data, len);

	return how->compressed && whole ? node_write_compressed(co, how->to, off, from, 0)
					: node_write(co, how->to, off, from, 0);
}

/* The end of what is alike from `at` on: zeros or not, in blocks. */
static uint64_t alike_end(const struct pour_how *how, const struct pour_piece *piece, uint64_t at, bool *zero)
{
	uint64_t block = how->sparse ? how->sparse : piece->len, end = at;

	do {
		uint64_t next = MIN(align_down(piece->off + end, block) + block - piece->off, piece->len);
		bool now = how->sparse != 0 && mem_is_zero(piece->data + end, next - end);

		if (end > at && now != *zero)
			break;
		*zero = now;
		end = next;
	} while (end < piece->len);
	return end;
}

static void write_piece(struct co *co, struct task *t)
{
	const struct pour_piece *piece = &t->piece;
	uint64_t end;
	int ret = 0;

	for (uint64_t at = 0; at < piece->len && ret == 0; at = end) {
		bool zero = false;

		end = alike_end(t->p->how, piece, at, &zero);
		if (!zero)
			ret = write_part(co, t->p->how, piece->off + at, piece->data + at, end - at);
		if (ret < 0)
			fail(t->p, ret, "writing", piece->off + at);
	}
}

/* Zeros up to off, where nothing came. */
static void fill_gap(struct co *co, struct pour *p, uint64_t off)
{
	int ret = off < p->written ? -ESPIPE : 0;

	if (ret == 0 && off > p->written)
		ret = node_zero(co, p->how->to, p->written, off - p->written, 0);
	if (ret < 0)
		fail(p, ret, "writing in the order of the disk", off);
}

static void wait_turn(struct co *co, struct task *t)
{
	struct pour *p = t->p;

	if (!p->how->in_order)
		return;
	while (p->ended != t->turn && p->failed == 0)
		co_queue_wait(co, &p->turned);
	if (p->failed == 0)
		fill_gap(co, p, t->piece.off);
	p->written = t->piece.off + t->piece.len;
}

static void work(struct co *co, void *arg)
{
	struct task *t = arg;
	struct pour *p = t->p;

	decode_if_needed(co, t);
	wait_turn(co, t);
	if (p->failed == 0)
		write_piece(co, t);
	p->ended++;
	co_queue_wake_all(&p->turned);
	free(t->piece.data);
	free(t->piece.more);
	free(t);
	co_sem_release(&p->room, 1);
}

/* Waits until the rate allows for the piece, and the target has room for it. */
static int prepare(struct co *co, struct pour *p, const struct pour_piece *piece)
{
	uint64_t from = MAX(p->paced_ns, co_now(co)), end = piece->off + piece->len;

	if (p->how->rate) {
		p->paced_ns = from + (uint64_t)((double)piece->len * 1e9 / (double)p->how->rate);
		co_sleep_until(co, from);
	}
	return p->how->grows && end > p->how->to->size ? node_reach(co, p->how->to, align_up(end, 512)) : 0;
}

static int start(struct co *co, struct pour *p, struct task *t)
{
	int ret = prepare(co, p, &t->piece);

	if (ret < 0) {
		fail(p, ret, "making room", t->piece.off);
		return ret;
	}
	p->done += t->piece.len;
	t->turn = p->taken++;
	co_sem_acquire(co, &p->room, 1);
	if (co_group_spawn(&p->group, "pour", work, t) < 0)
		work(co, t);
	if (p->how->progress && !p->how->progress(p->how->arg, p->done) && p->failed == 0)
		p->failed = err_set(p->err, -ECANCELED, "cancelled");
	return 0;
}

/* One piece; *more is false when there are none. */
static void pour_one(struct co *co, struct pour *p, bool *more)
{
	struct task *t = calloc(1, sizeof(*t));
	int ret = t ? p->how->next(co, p->how->arg, &t->piece, more, p->err) : err_set(p->err, -ENOMEM, "no memory");

	if (ret < 0 && p->failed == 0) {
		p->failed = ret;
		co_queue_wake_all(&p->turned);
	}
	if (ret == 0 && *more) {
		t->p = p;
		if (start(co, p, t) == 0)
			return;
	}
	if (t) {
		free(t->piece.data);
		free(t->piece.more);
	}
	free(t);
}

int pour_run(struct co *co, const struct pour_how *how, struct err *err)
{
	struct pour p = {.how = how, .err = err};
	bool more = true;

	co_sem_init(&p.room, POUR_PIECES);
	co_queue_init(&p.turned);
	co_group_init(&p.group, co_sched_of(co));
	while (more && p.failed == 0)
		pour_one(co, &p, &more);
	co_group_wait(co, &p.group);
	if (p.failed == 0 && how->in_order && how->end > p.written)
		fill_gap(co, &p, how->end);
	return p.failed;
}
