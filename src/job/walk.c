/* SPDX-License-Identifier: MIT */
/* The ranges of a disk: see walk.h. */
#include "job/walk.h"

#include <assert.h>

#include "base/math.h"

void walk_init(struct walk *w, struct node *from, uint64_t end)
{
	*w = (struct walk){.from = from, .end = end, .unit = 1};
}

/* Whether the layer that answered is one that the target has as well, and has something to say there. */
static bool is_shared(const struct walk *w, uint64_t off, const struct node *holder)
{
	for (const struct node *n = w->shared; n; n = n->backing) {
		if (n == holder)
			return off < holder->size;
	}
	return false;
}

/* Where the target's own backing file has ended, nothing needs to be said of zeros. */
static enum walk_kind kind_of(const struct walk *w, uint64_t off, const struct node_status *is)
{
	if (w->own && is->holder == w->own && is->allocated)
		return WALK_SHARED;
	if (is_shared(w, off, is->holder) || (w->shared && is->zero && off >= w->shared_size))
		return WALK_SHARED;
	return is->zero ? WALK_ZERO : WALK_DATA;
}

/* The range at off, as one answer has it. */
static int range_ask(struct co *co, struct walk *w, uint64_t off, struct walk_range *out)
{
	struct node_status is;
	int ret;

	*out = (struct walk_range){.off = off, .len = w->end - off, .kind = WALK_ZERO};
	if (off >= w->from->size)
		return 0;
	ret = node_status(co, w->from, off, MIN(w->end, w->from->size) - off, true, &is);
	if (ret == 0) {
		out->len = is.len;
		out->kind = kind_of(w, off, &is);
	}
	return ret;
}

/* What was found ahead, or what is there. */
static int range_take(struct co *co, struct walk *w, uint64_t off, struct walk_range *out)
{
	if (w->ahead.len == 0)
		return range_ask(co, w, off, out);
	assert(w->ahead.off == off);
	*out = w->ahead;
	w->ahead.len = 0;
	return 0;
}

/* Widens it by the ranges behind it that are alike, up to `limit`; the first that isn't is kept for later. */
static int range_widen(struct co *co, struct walk *w, struct walk_range *r, uint64_t limit)
{
	while (r->off + r->len < limit) {
		struct walk_range next;
		int ret = range_take(co, w, r->off + r->len, &next);

		if (ret < 0)
			return ret;
		if (next.kind != r->kind) {
			w->ahead = next;
			return 0;
		}
		r->len += next.len;
	}
	return 0;
}

/* Keeps `len` bytes of it, and the rest for later. */
static void range_cut(struct walk *w, struct walk_range *r, uint64_t len)
{
	if (r->len <= len)
		return;
	if (w->ahead.len == 0 || w->ahead.kind == r->kind)
		w->ahead =
			(struct walk_range){.off = r->off + len, .len = r->len - len + w->ahead.len, .kind = r->kind};
	else
		w->ahead.len = 0; /* two ranges don't fit: it will be asked again */
	r->len = len;
}

/* Ends it at a multiple of the unit, as data where it shares its last unit, or its only one, with others. */
static int range_align(struct co *co, struct walk *w, struct walk_range *r)
{
	uint64_t end = MIN(r->off + r->len, w->end), whole = align_down(end, w->unit);

	if (w->unit == 1 || end == w->end || end == whole)
		return 0;
	if (r->kind != WALK_DATA && whole > r->off) {
		range_cut(w, r, whole - r->off);
		return 0;
	}
	r->kind = WALK_DATA;
	end = MIN(align_up(end, w->unit), w->end);
	while (r->off + r->len < end) {
		struct walk_range next;
		int ret = range_take(co, w, r->off + r->len, &next);

		if (ret < 0)
			return ret;
		r->len += next.len;
		w->ahead.len = 0;
		if (r->off + r->len > end) {
			w->ahead = (struct walk_range){end, r->off + r->len - end, next.kind};
			r->len = end - r->off;
		}
	}
	return 0;
}

int walk_next(struct co *co, struct walk *w, uint64_t most, struct walk_range *out, bool *more)
{
	uint64_t limit = align_down(w->at + most, most);
	int ret;

	*more = w->at < w->end;
	if (!*more)
		return 0;
	ret = range_take(co, w, w->at, out);
	if (ret == 0)
		ret = range_widen(co, w, out, out->kind == WALK_DATA ? MIN(limit, w->end) : w->end);
	if (ret == 0)
		ret = range_align(co, w, out);
	if (ret < 0)
		return ret;
	if (out->kind == WALK_DATA && out->off + out->len > limit)
		range_cut(w, out, limit - out->off);
	w->at = out->off + out->len;
	return 0;
}

void walk_shorten(struct walk *w, struct walk_range *r, uint64_t most)
{
	range_cut(w, r, most);
	w->at = r->off + r->len;
}
