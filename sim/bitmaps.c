/* SPDX-License-Identifier: MIT */
/*
 * Bitmaps: operations on them, and what a power cut may leave of them. See bitmaps.h.
 *
 * A bitmap that is valid on disk must have all that was changed since it was made or cleared, as long as it was enabled:
 * by what returned (least), and by what the disk itself shows (base), and nothing that wasn't asked for (most).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "memory.h"
#include "run.h"

static const char *const names[SIM_BITMAPS] = {"b0", "b1", "b2"};

/* ---- states ---- */

static void state_init(struct sim_bitmap_state *s, uint32_t sectors)
{
	s->least = sim_alloc(sectors);
	s->most = sim_alloc(sectors);
}

static void state_fini(struct sim_bitmap_state *s)
{
	sim_free(s->least);
	sim_free(s->most);
}

static void state_copy(struct sim_bitmap_state *to, const struct sim_bitmap_state *from, uint32_t sectors)
{
	bool *least = to->least, *most = to->most;

	*to = *from;
	to->least = memcpy(least, from->least, sectors);
	to->most = memcpy(most, from->most, sectors);
}

static void made_take(struct sim_run *run, struct sim_bitmap_state *s, const struct sim_made_bitmap *made)
{
	s->exists = s->sound = true;
	s->enabled = made->enabled;
	s->granularity_bits = made->granularity_bits;
	for (uint32_t g = 0; g < div_round_up(run->config->image.guest_bytes, UINT64_C(1) << s->granularity_bits); g++)
		s->least[g] = s->most[g] = made->bits[g];
}

void sim_bitmaps_init(struct sim_run *run)
{
	struct sim_bitmaps *all = &run->bitmaps;

	all->sectors = (uint32_t)(run->config->guest_most / SIM_SECTOR);
	all->base = sim_alloc(all->sectors * sizeof(*all->base));
	for (uint32_t s = 0; s < run->config->image.guest_bytes / SIM_SECTOR; s++)
		all->base[s] = run->model.only[s];
	for (unsigned k = 0; k < SIM_BITMAPS; k++) {
		state_init(&all->v[k].now, all->sectors);
		state_init(&all->v[k].next, all->sectors);
		if (k < run->config->image.bitmaps)
			made_take(run, &all->v[k].now, &run->image.bitmap[k]);
		all->v[k].followed = all->v[k].now.enabled;
	}
}

void sim_bitmaps_fini(struct sim_run *run)
{
	for (unsigned k = 0; k < SIM_BITMAPS; k++) {
		state_fini(&run->bitmaps.v[k].now);
		state_fini(&run->bitmaps.v[k].next);
	}
	sim_free(run->bitmaps.base);
}

/* ---- changes of the disk ---- */

static void change(struct sim_run *run, const struct sim_op *op, bool sure)
{
	for (unsigned k = 0; k < SIM_BITMAPS; k++) {
		struct sim_bitmap_state *s = &run->bitmaps.v[k].now;
		unsigned shift = s->granularity_bits - 9;

		if (!s->exists || !s->enabled || op->sectors == 0)
			continue;
		memset((sure ? s->least : s->most) + (op->first >> shift), true,
			((op->first + op->sectors - 1) >> shift) - (op->first >> shift) + 1);
	}
}

void sim_bitmaps_change_begin(struct sim_run *run, const struct sim_op *op) { change(run, op, false); }

void sim_bitmaps_change_end(struct sim_run *run, const struct sim_op *op, enum sim_outcome outcome)
{
	if (outcome != SIM_UNCERTAIN)
		change(run, op, true);
}

/* ---- lives ---- */

/* Where opening fails in the end what it had marked stays marked. */
void sim_bitmaps_opening(struct sim_run *run, bool again)
{
	for (unsigned k = 0; k < SIM_BITMAPS; k++) {
		struct sim_bitmap *b = &run->bitmaps.v[k];

		b->now.sound &= !b->now.enabled;
		b->vague |= again && b->now.exists;
	}
}

void sim_bitmaps_resizing(struct sim_run *run)
{
	for (unsigned k = 0; k < SIM_BITMAPS; k++)
		run->bitmaps.v[k].now.sound = false;
}

void sim_bitmaps_goto_begin(struct sim_run *run, uint64_t bytes)
{
	struct sim_op all = {.sectors = (uint32_t)(MAX(bytes, run->guest_bytes) / SIM_SECTOR)};

	sim_bitmaps_change_begin(run, &all);
	if (bytes != run->guest_bytes)
		sim_bitmaps_resizing(run);
}

/* What was behind the end of a disk that has shrunk is forgotten. */
static void cut_off(struct sim_bitmap_state *s, uint64_t disk_bytes, uint32_t sectors)
{
	uint32_t left = s->exists ? (uint32_t)div_round_up(disk_bytes, UINT64_C(1) << s->granularity_bits) : 0;

	memset(s->least + left, 0, sectors - left);
	memset(s->most + left, 0, sectors - left);
}

void sim_bitmaps_shrunk(struct sim_run *run, uint64_t bytes)
{
	for (uint64_t s = bytes / SIM_SECTOR; s < run->bitmaps.sectors; s++)
		run->bitmaps.base[s] = SIM_TAG_ZERO;
	for (unsigned k = 0; k < SIM_BITMAPS; k++)
		cut_off(&run->bitmaps.v[k].now, bytes, run->bitmaps.sectors);
}

void sim_bitmaps_goto_end(struct sim_run *run)
{
	struct sim_op all = {.sectors = (uint32_t)(run->guest_bytes / SIM_SECTOR)};

	sim_bitmaps_change_end(run, &all, SIM_DONE);
	for (unsigned k = 0; k < SIM_BITMAPS; k++)
		cut_off(&run->bitmaps.v[k].now, run->guest_bytes, run->bitmaps.sectors);
}

void sim_bitmaps_closed(struct sim_run *run)
{
	for (unsigned k = 0; k < SIM_BITMAPS; k++)
		run->bitmaps.v[k].now.sound = run->config->fail_allocation == 0;
}

static void settle_one(struct sim_bitmap *b, const struct sim_raw_bitmap *found, uint32_t sectors)
{
	struct sim_bitmap_state *s = &b->now;

	b->changing = b->vague = false;
	s->exists = found->found;
	s->enabled = found->found && (found->flags & SIM_BITMAP_AUTO);
	s->lost = found->found && (found->flags & SIM_BITMAP_IN_USE);
	s->sound = !s->lost;
	s->granularity_bits = found->found ? found->granularity_bits : 9;
	memset(s->least, 0, sectors);
	memset(s->most, 0, sectors);
	if (found->found && !s->lost) {
		memcpy(s->least, found->bits, found->granules);
		memcpy(s->most, found->bits, found->granules);
	}
	b->followed = s->enabled;
}

void sim_bitmaps_settle(struct sim_run *run)
{
	struct sim_bitmaps *all = &run->bitmaps;

	for (uint32_t s = 0; s < all->sectors; s++)
		all->base[s] = s < run->raw.active.size / SIM_SECTOR ? run->raw.active.tags[s] : SIM_TAG_ZERO;
	for (unsigned k = 0; k < SIM_BITMAPS; k++)
		settle_one(&all->v[k], &run->raw.bitmap[k], all->sectors);
}

void sim_bitmaps_seen(struct sim_run *run)
{
	for (unsigned k = 0; k < SIM_BITMAPS; k++) {
		struct sim_bitmap *b = &run->bitmaps.v[k];

		b->vague |= b->now.exists || b->changing;
		b->changing = false;
	}
}

/* ---- operations ---- */

static void merge(struct sim_bitmap_state *to, const struct sim_bitmap_state *from, uint32_t sectors)
{
	for (uint32_t s = 0; s < sectors; s++) {
		to->least[s >> (to->granularity_bits - 9)] |= from->least[s >> (from->granularity_bits - 9)];
		to->most[s >> (to->granularity_bits - 9)] |= from->most[s >> (from->granularity_bits - 9)];
	}
}

static void clear(struct sim_bitmap_state *s, uint32_t sectors)
{
	memset(s->least, 0, sectors);
	memset(s->most, 0, sectors);
	s->sound = !s->enabled;
}

static bool usable(const struct sim_bitmap_state *s) { return s->exists && !s->lost; }

/* What the operation makes of the bitmap; false: it isn't to be tried. */
static bool plan(struct sim_run *run, const struct sim_op *op, struct sim_bitmap *b)
{
	const struct sim_bitmap *source = &run->bitmaps.v[op->sectors % SIM_BITMAPS];
	uint32_t disk = (uint32_t)(run->guest_bytes / SIM_SECTOR), sectors = run->bitmaps.sectors;

	state_copy(&b->next, &b->now, sectors);
	switch (op->kind) {
	case SIM_BITMAP_ADD:
		if (b->now.exists)
			return false;
		b->next.exists = true;
		b->next.lost = false;
		b->next.enabled = op->sectors % 3 != 0;
		b->next.granularity_bits = 9 + op->sectors % 4;
		clear(&b->next, sectors);
		return true;
	case SIM_BITMAP_REMOVE: b->next.exists = false; return b->now.exists;
	case SIM_BITMAP_CLEAR: clear(&b->next, sectors); return usable(&b->now);
	case SIM_BITMAP_ENABLE:
		b->next.enabled = true;
		b->next.sound = false;
		return usable(&b->now);
	case SIM_BITMAP_DISABLE:
		b->next.enabled = false;
		b->next.sound = true;
		return usable(&b->now);
	default:
		if (!usable(&b->now) || !usable(&source->now) || source->vague)
			return false;
		merge(&b->next, &source->now, disk);
		b->next.sound = !b->next.enabled;
		return true;
	}
}

static int call(struct co *co, struct sim_run *run, const struct sim_op *op, const struct sim_bitmap *b)
{
	const char *name = names[op->first % SIM_BITMAPS];
	struct node *n = run->node;

	switch (op->kind) {
	case SIM_BITMAP_ADD:
		return qcow2_bitmap_add(co, n, name, UINT64_C(1) << b->next.granularity_bits, b->next.enabled, NULL);
	case SIM_BITMAP_REMOVE: return qcow2_bitmap_remove(co, n, name, NULL);
	case SIM_BITMAP_CLEAR: return qcow2_bitmap_clear(co, n, name, NULL);
	case SIM_BITMAP_ENABLE: return qcow2_bitmap_enable(co, n, name, true, NULL);
	case SIM_BITMAP_DISABLE: return qcow2_bitmap_enable(co, n, name, false, NULL);
	default: return qcow2_bitmap_merge(co, n, name, n, names[op->sectors % SIM_BITMAPS], NULL);
	}
}

/* One that there was no memory for when the image was opened isn't used. */
static bool outcome(struct sim_run *run, const struct sim_op *op, int rc)
{
	if (rc == -EUCLEAN && run->config->fail_allocation != 0)
		return false;
	return sim_life_outcome(run, sim_op_name(op->kind), rc);
}

void sim_bitmap_op(struct co *co, struct sim_task *t)
{
	struct sim_run *run = t->run;
	struct sim_bitmap *b = &run->bitmaps.v[t->op.first % SIM_BITMAPS];
	int rc;

	if (run->nbd || b->vague || !plan(run, &t->op, b))
		return;
	b->changing = true;
	rc = call(co, run, &t->op, b);
	if (run->world.dead)
		return;
	if (outcome(run, &t->op, rc))
		state_copy(&b->now, &b->next, run->bitmaps.sectors);
	else
		b->vague = true;
	b->changing = b->followed = false;
}

/* ---- after a power cut ---- */

static bool wrong(struct sim_run *run, unsigned k, const char *what, uint64_t where)
{
	snprintf(run->problem, sizeof(run->problem), "G16: bitmap %s %s (%" PRIu64 ") after a power cut", names[k],
		what, where);
	return false;
}

static bool bits_judge(struct sim_run *run, unsigned k, const struct sim_bitmap_state *s)
{
	const struct sim_raw_bitmap *found = &run->raw.bitmap[k];

	for (uint32_t g = 0; g < found->granules; g++) {
		if (s->least[g] && !found->bits[g])
			return wrong(run, k, "misses a change of a granule", g);
		if (found->bits[g] && !s->most[g] && run->config->fail_allocation == 0)
			return wrong(run, k, "claims a change of a granule", g);
	}
	return true;
}

static bool state_judge(struct sim_run *run, unsigned k, const struct sim_bitmap_state *s)
{
	const struct sim_raw_bitmap *found = &run->raw.bitmap[k];

	if (found->found != s->exists)
		return wrong(run, k, found->found ? "is back" : "is gone", 0);
	if (!s->exists)
		return true;
	if (found->granularity_bits != s->granularity_bits)
		return wrong(run, k, "has another granularity", found->granularity_bits);
	if (found->flags & SIM_BITMAP_IN_USE)
		return s->lost || !s->sound || wrong(run, k, "is marked in use", 0);
	if (s->lost)
		return wrong(run, k, "was in use, and is valid again", 0);
	if (!(found->flags & SIM_BITMAP_AUTO) != !s->enabled)
		return wrong(run, k, "is enabled or disabled", s->enabled);
	return bits_judge(run, k, s);
}

/* Whatever the operations say: what differs from what it was must be in a bitmap that was enabled all the time. */
static bool content_judge(struct sim_run *run, unsigned k)
{
	const struct sim_raw_bitmap *found = &run->raw.bitmap[k];
	const struct sim_raw_tree *t = &run->raw.active;
	uint32_t disk = (uint32_t)(MIN(t->size, run->guest_bytes) / SIM_SECTOR);

	if (!run->bitmaps.v[k].followed || !found->found || (found->flags & SIM_BITMAP_IN_USE))
		return true;
	for (uint32_t s = 0; s < disk; s++)
		if (t->tags[s] != run->bitmaps.base[s] && !found->bits[s >> (found->granularity_bits - 9)])
			return wrong(run, k, "misses that a sector has changed", s);
	return true;
}

bool sim_bitmaps_judge(struct sim_run *run)
{
	for (unsigned k = 0; k < SIM_BITMAPS; k++) {
		const struct sim_bitmap *b = &run->bitmaps.v[k];

		if (b->vague || (b->changing && state_judge(run, k, &b->next)))
			continue;
		if (!state_judge(run, k, &b->now) || !content_judge(run, k))
			return false;
	}
	return true;
}
