/* SPDX-License-Identifier: MIT */
/*
 * Comparing disks: workers take ranges in order, read both sides, and end in any order. The first difference is the one with
 * the lowest address: once there is one, no more ranges are taken, and those before it are under way already.
 */
#include "job/compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"

#define WORKERS 8u
#define SECTOR UINT64_C(512)
#define CHUNK_BYTES (UINT64_C(1) << 20)

struct compare {
	const struct compare_how *how;
	struct compare_result *out;
	int failed;
	struct co_mutex taking;
	struct co_group group;
	uint64_t at, end;
	struct node_status ahead[2]; /* what is known from `at` on; len 0: nothing */
};

struct chunk {
	uint64_t off, len;
	bool zero[2];
};

static void note_error(struct compare *c, int ret, unsigned which, uint64_t off, bool map)
{
	if (c->failed)
		return;
	c->failed = ret;
	c->out->which = which;
	c->out->off = off;
	c->out->map = map;
}

static void note_difference(struct compare *c, enum compare_found found, uint64_t off)
{
	if (c->out->found != COMPARE_SAME && c->out->off <= off)
		return;
	c->out->found = found;
	c->out->off = off;
}

/* Behind its end a disk has nothing, which reads zeros. */
static int look(struct co *co, struct compare *c, unsigned i)
{
	struct node *n = c->how->n[i];
	struct node_status *is = &c->ahead[i];
	int ret = 0;

	if (is->len > 0)
		return 0;
	if (c->at >= n->size)
		*is = (struct node_status){.len = c->end - c->at, .zero = true};
	else
		ret = node_status(co, n, c->at, n->size - c->at, true, is);
	if (ret < 0)
		note_error(c, ret, i, c->at, true);
	return ret;
}

static bool both_have(const struct compare *c) { return c->at < c->how->n[0]->size && c->at < c->how->n[1]->size; }

/* What is compressed has no place where it lies as it is. */
static bool is_alike(const struct node_status *a, const struct node_status *b)
{
	return a->zero == b->zero && a->allocated == b->allocated && (a->zero || a->compressed == b->compressed);
}

static void chunk_cut(struct compare *c, struct chunk *chunk)
{
	chunk->off = c->at;
	chunk->len = MIN(c->ahead[0].len, c->ahead[1].len);
	for (unsigned i = 0; i < 2; i++)
		chunk->zero[i] = c->ahead[i].zero;
	if (!chunk->zero[0] || !chunk->zero[1])
		chunk->len = MIN(chunk->len, CHUNK_BYTES);
	c->at += chunk->len;
	for (unsigned i = 0; i < 2; i++)
		c->ahead[i].len -= chunk->len;
}

/* The next range that must be read; *more is false when there is none. */
static void take_chunk(struct co *co, struct compare *c, struct chunk *chunk, bool *more)
{
	co_mutex_lock(co, &c->taking);
	do {
		*more = c->at < c->end && !c->failed && c->out->found == COMPARE_SAME && look(co, c, 0) == 0 &&
			look(co, c, 1) == 0;
		if (!*more)
			break;
		if (c->how->strict && both_have(c) && !is_alike(&c->ahead[0], &c->ahead[1])) {
			note_difference(c, COMPARE_STATUS, c->at);
			*more = false;
			break;
		}
		chunk_cut(c, chunk);
		if (c->how->progress && !c->how->progress(c->how->arg, c->at, c->end))
			note_error(c, -ECANCELED, 0, c->at, false);
	} while (chunk->zero[0] && chunk->zero[1]);
	co_mutex_unlock(&c->taking);
}

/* Reads a side, or zeros. */
static int side_read(struct co *co, struct compare *c, const struct chunk *chunk, unsigned i, char *to)
{
	int ret = 0;

	if (chunk->zero[i])
		iov_fill(IOV_BUF(to, chunk->len), 0);
	else
		ret = node_read(co, c->how->n[i], chunk->off, IOV_BUF(to, chunk->len));
	if (ret < 0)
		note_error(c, ret, i, chunk->off, false);
	return ret;
}

static void chunk_compare(struct compare *c, const struct chunk *chunk, const char *a, const char *b)
{
	for (uint64_t i = 0; i < chunk->len; i += SECTOR) {
		if (memcmp(a + i, b + i, MIN(SECTOR, chunk->len - i)) != 0) {
			note_difference(c, COMPARE_CONTENT, chunk->off + i);
			return;
		}
	}
}

static void work(struct co *co, void *arg)
{
	struct compare *c = arg;
	AUTO_FREE char *memory = aligned_alloc(4096, 2 * CHUNK_BYTES);
	struct chunk chunk;
	bool more = true;

	if (!memory)
		note_error(c, -ENOMEM, 0, c->at, false);
	for (;;) {
		char *a = memory, *b = memory + CHUNK_BYTES;

		take_chunk(co, c, &chunk, &more);
		if (!more)
			return;
		if (side_read(co, c, &chunk, 0, a) == 0 && side_read(co, c, &chunk, 1, b) == 0)
			chunk_compare(c, &chunk, a, b);
	}
}

int compare_run(struct co *co, const struct compare_how *how, struct compare_result *out)
{
	AUTO_FREE struct compare *c = calloc(1, sizeof(*c));

	*out = (struct compare_result){.found = COMPARE_SAME};
	if (!c)
		return -ENOMEM;
	c->how = how;
	c->out = out;
	c->end = MAX(how->n[0]->size, how->n[1]->size);
	co_mutex_init(&c->taking);
	co_group_init(&c->group, co_sched_of(co));
	for (unsigned i = 1; i < WORKERS; i++) {
		if (co_group_spawn(&c->group, "compare", work, c) < 0)
			break;
	}
	work(co, c);
	co_group_wait(co, &c->group);
	return out->found == COMPARE_SAME ? c->failed : 0;
}
