/* SPDX-License-Identifier: MIT */
/* Power cuts: which are tried, and whether what they leave is right. */
#include <endian.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "memory.h"
#include "run.h"

/* ---- one image ---- */

static bool wrong(struct sim_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool wrong(struct sim_run *run, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(run->problem, sizeof(run->problem), format, ap);
	va_end(ap);
	return false;
}

static bool value_wrong(struct sim_run *run, const char *what, uint32_t reg, uint64_t tag)
{
	char values[300];

	sim_model_tell(&run->model, reg, values, sizeof(values));
	return wrong(run, "%s %u is %#" PRIx64 " after a power cut; allowed: %s", what, reg, tag, values);
}

static bool content_judge(struct sim_run *run)
{
	const struct sim_raw_tree *t = &run->raw.active;
	const struct sim_model *m = &run->model;
	uint32_t sectors = (uint32_t)(t->size / SIM_SECTOR);

	if (sim_snapshots_gone_back(run))
		return true;
	if (!sim_model_may_find(m, sim_model_size_register(m), t->size))
		return value_wrong(run, "size, register", sim_model_size_register(m), t->size);
	for (uint32_t s = 0; s < sectors; s++) {
		if (t->tags[s] != m->only[s] && !sim_model_may_find(m, s, t->tags[s]))
			return value_wrong(run, "sector", s, t->tags[s]);
	}
	return true;
}

static bool header_judge(struct sim_run *run)
{
	uint32_t sectors = MIN((1u << run->config->image.cluster_bits) / SIM_SECTOR, 64u);
	uint8_t now[SIM_SECTOR];

	if (run->config->bitmaps || run->amended)
		return true;
	for (uint32_t s = 1; s < sectors; s++) {
		uint32_t v = run->disk->found.version[s];

		if (v != run->header_version[s] &&
			memcmp(sim_version_bytes(run->disk, v, now), run->image.bytes + s * SIM_SECTOR, SIM_SECTOR) !=
				0)
			return wrong(run, "M9: sector %u of the header cluster has changed", s);
	}
	return true;
}

static bool image_is_right(struct sim_run *run)
{
	run->raw.sharing = run->sharing;
	if (!sim_raw_check(&run->raw, &run->disk->found))
		return wrong(run, "%s", run->raw.problem);
	return header_judge(run) && content_judge(run) && sim_snapshots_judge(run) && sim_bitmaps_judge(run);
}

/* ---- the report ---- */

static const char *const cut_names[SIM_CUT_KINDS + 1] = {"nothing pending kept", "everything kept",
	"all that ended kept", "half kept", "few kept", "most kept", "whole writes", "early writes kept",
	"late writes kept", "all but one kept", "only one kept", "data kept", "metadata kept", "one of all subsets"};

/* Gives back what needn't be lost for the image to be wrong: the sectors that are left name the missing order. */
static void lost_shrink(struct sim_run *run, struct sim_disk *d)
{
	uint64_t size = d->found.size;

	d->found.size = d->size;
	if (image_is_right(run))
		d->found.size = size;
	for (uint32_t i = 0; i < d->dirty_count; i++) {
		uint32_t s = d->dirty[i], v = d->found.version[s];

		d->found.version[s] = d->newest[s];
		if (image_is_right(run))
			d->found.version[s] = v;
	}
}

static void tell_lost(const struct sim_run *run, const struct sim_disk *d)
{
	printf("power cut at %" PRIu64 " ns, %s; %s size %#" PRIx64 " of %#" PRIx64
	       "; %u sectors pending; lost, at least:",
		run->world.now, cut_names[run->how], d == run->data ? "data file" : "file", d->found.size, d->size,
		d->dirty_count);
	for (uint32_t i = 0; i < d->dirty_count; i++) {
		uint32_t s = d->dirty[i];

		if (d->found.version[s] != d->newest[s])
			printf(" %#" PRIx64, (uint64_t)s * SIM_SECTOR);
	}
	printf("\n");
}

void sim_judge(struct sim_run *run)
{
	run->tally->images++;
	sim_sample(run);
	if (!image_is_right(run)) {
		lost_shrink(run, run->disk);
		if (run->data)
			lost_shrink(run, run->data);
		image_is_right(run);
		tell_lost(run, run->disk);
		if (run->data)
			tell_lost(run, run->data);
		sim_violation("%s", run->problem);
	}
	run->tally->most_leaks = MAX(run->tally->most_leaks, (uint64_t)run->raw.leaks);
}

/*
 * The file may not grow for ever. What it needs at most is what it had, the whole guest written anew, and what waits in
 * quarantine: a quarter of the file, twice that before whoever frees more is made to wait, 64 clusters at least.
 */
static void footprint_init(struct sim_run *run)
{
	const struct sim_config *c = run->config;
	uint64_t snapshots = c->weight[SIM_SNAPSHOT_CREATE] ? SIM_SNAPSHOTS : 0;

	run->footprint_most =
		2 * (run->image.len + (1 + snapshots) * c->guest_most) + (UINT64_C(256) << c->image.cluster_bits);
}

static void footprint_judge(const struct sim_run *run)
{
	const struct sim_config *c = run->config;

	if (!c->device && !c->options.keep_leaks && run->disk->size > run->footprint_most)
		sim_violation("H41: the file has grown to %" PRIu64 " bytes; %" PRIu64 " are more than enough",
			run->disk->size, run->footprint_most);
}

static void judge_cut_kind(struct sim_run *run, enum sim_cut how)
{
	sim_run_cut(run, how);
	sim_judge(run);
}

void sim_judge_durable(struct sim_run *run)
{
	judge_cut_kind(run, SIM_CUT_OLD);
	sim_run_cut_undo(run);
}

static enum sim_cut any_cut(struct sim_run *run) { return (enum sim_cut)sim_below(&run->cut_rng, SIM_CUT_KINDS); }

/* Nothing is in flight, in memory or pending: what was found is what is, for the model too. */
static void model_settle(struct sim_run *run)
{
	struct sim_model *m = &run->model;
	uint32_t sectors = (uint32_t)(run->raw.active.size / SIM_SECTOR);

	for (uint32_t s = 0; s < m->registers - 1; s++)
		sim_model_set(m, s, s < sectors ? run->raw.active.tags[s] : SIM_TAG_ZERO);
	sim_model_set(m, sim_model_size_register(m), run->raw.active.size);
	sim_model_restart(m);
	sim_bitmaps_settle(run);
}

/* How the leaks develop from cut to cut. */
static void leaks_note(struct sim_run *run)
{
	struct sim_tally *t = run->tally;
	uint64_t leaks = run->raw.leaks > run->leaks_before ? run->raw.leaks - run->leaks_before : 0;

	t->cuts++;
	if (run->next_op < run->config->ops_count / 2)
		t->leaks_early = MAX(t->leaks_early, leaks);
	else
		t->leaks_late = MAX(t->leaks_late, leaks);
}

/* Where nothing has failed, what was to outlive the process has. */
static void lasting_judge(const struct sim_run *run, uint32_t sectors)
{
	char values[300];

	for (uint32_t s = 0; s < sectors && !run->config->faulty; s++) {
		uint64_t tag = run->raw.active.tags[s];

		if (sim_model_may_see(&run->model, s, tag))
			continue;
		sim_model_tell(&run->model, s, values, sizeof(values));
		sim_violation("sector %u is %#" PRIx64 " though a write that lasts came after that; there are %s", s,
			tag, values);
	}
}

void sim_judge_seen(struct sim_run *run)
{
	struct sim_model *m = &run->model;
	const struct sim_raw_tree *t = &run->raw.active;
	uint32_t sectors;

	sim_run_seen(run);
	sim_judge(run);
	sim_run_cut_undo(run);
	sectors = (uint32_t)(t->size / SIM_SECTOR);
	lasting_judge(run, sectors);
	sim_model_restart(m);
	for (uint32_t s = 0; s < m->registers - 1; s++)
		sim_model_seen(m, s, s < sectors ? t->tags[s] : SIM_TAG_ZERO);
	sim_model_seen(m, sim_model_size_register(m), t->size);
	sim_snapshots_seen(run);
	sim_bitmaps_seen(run);
	run->guest_bytes = t->size;
	run->disturbed = true;
}

void sim_judge_spared(struct sim_run *run)
{
	sim_world_kill(&run->world);
	sim_judge_seen(run);
	run->tally->spared++;
	run->cut = true;
	run->failed_flush = false;
	if (sim_tracing)
		sim_trace("%12" PRIu64 " the process is over, its host goes on: %u leaks", run->world.now,
			run->raw.leaks);
}

/* Where the disk is going back to a snapshot, and may or may not be there, the model can't say it sector by sector. */
void sim_judge_end(struct sim_run *run)
{
	if (sim_one_in(&run->cut_rng, run->config->spared_in) && !sim_snapshots_going_back(run))
		sim_judge_spared(run);
	else
		sim_judge_cut(run);
}

void sim_judge_cut(struct sim_run *run)
{
	judge_cut_kind(run, any_cut(run));
	leaks_note(run);
	sim_run_cut_become(run);
	model_settle(run);
	sim_snapshots_settle(run);
	run->guest_bytes = run->raw.active.size;
	run->cut = run->disturbed = true;
	run->failed_flush = false;
	sim_world_cut(&run->world);
	if (sim_tracing)
		sim_trace("%12" PRIu64 " power cut: %s, %u leaks", run->world.now, cut_names[run->how], run->raw.leaks);
}

/* All images there are, where they are few. */
static bool judge_all(struct sim_run *run)
{
	uint64_t most = run->config->all_cuts;
	uint64_t n = sim_run_cuts(run, most);

	if (n > most)
		return false;
	run->how = SIM_CUT_KINDS;
	for (uint64_t i = 0; i < n; i++) {
		sim_run_cut_nth(run, i);
		sim_judge(run);
		sim_run_cut_undo(run);
	}
	return true;
}

void sim_judge_settled(struct sim_world *w, void *arg)
{
	struct sim_run *run = arg;

	if (w->dead)
		return;
	if (run->cut_in != 0 && --run->cut_in == 0) {
		sim_judge_end(run);
		return;
	}
	if (sim_run_settled(run))
		return;
	footprint_judge(run);
	if (judge_all(run))
		return;
	for (unsigned i = 0; i < run->config->cuts; i++) {
		judge_cut_kind(run, any_cut(run));
		sim_run_cut_undo(run);
	}
}

void sim_judge_closed(struct sim_run *run)
{
	bool smooth = !run->disturbed && run->world.counts.failures == 0 && run->config->fail_allocation == 0;

	run->raw.exact = smooth;
	judge_cut_kind(run, SIM_CUT_OLD);
	sim_run_cut_undo(run);
	judge_cut_kind(run, SIM_CUT_NEW);
	sim_run_cut_undo(run);
	if (run->raw.dirty)
		sim_violation("the image is closed and its dirty bit is set");
	if (run->raw.leaks > run->leaks_before && smooth)
		sim_violation("%u clusters have leaked, %u before", run->raw.leaks, run->leaks_before);
	run->raw.exact = false;
	model_settle(run);
	sim_snapshots_settle(run);
}

void sim_judge_audited(struct sim_run *run)
{
	run->sharing = false;
	run->raw.exact = true;
	judge_cut_kind(run, SIM_CUT_OLD);
	sim_run_cut_undo(run);
	run->raw.exact = false;
	if (run->raw.leaks > 0)
		sim_violation("M13: the search for leaks has left %u clusters", run->raw.leaks);
	if (run->raw.beyond > 0)
		sim_violation("M13: %u entries behind the end of the disk still map something", run->raw.beyond);
}

/* ---- life ---- */

static uint64_t tag_below(const struct sim_run *run, uint32_t sector)
{
	return run->below && sector < run->config->base.guest_bytes / SIM_SECTOR ? run->below[sector] : SIM_TAG_ZERO;
}

void sim_judge_init(struct sim_run *run)
{
	const struct sim_config *c = run->config;
	struct sim_model *m = &run->model;

	sim_rng_init(&run->cut_rng, c->schedule, 3);
	sim_raw_init(&run->raw, c->file_bytes, c->guest_most);
	run->raw.backing = run->below;
	run->raw.data = run->data ? &run->data->found : NULL;
	run->raw.data_alone = c->image.data == SIM_DATA_RAW;
	run->raw.damaged = run->damaged = c->damage != 0;
	memcpy(&run->raw.damaged_table, run->image.bytes + 48, sizeof(uint64_t));
	run->raw.damaged_table = be64toh(run->raw.damaged_table);
	run->raw.other = run->other;
	run->raw.other_sectors = run->other_sectors;
	run->raw.backing_sectors = c->below == SIM_BELOW_NONE ? 0 : (uint32_t)(c->base.guest_bytes / SIM_SECTOR);
	sim_model_init(m, (uint32_t)(c->guest_most / SIM_SECTOR));
	for (uint32_t s = 0; s < c->image.guest_bytes / SIM_SECTOR; s++)
		sim_model_set(m, s, run->image.holds[s] ? run->image.tags[s] : tag_below(run, s));
	sim_model_set(m, sim_model_size_register(m), c->image.guest_bytes);
	sim_snapshots_init(run);
	sim_bitmaps_init(run);
	footprint_init(run);
	for (uint32_t s = 1; s < 64; s++)
		run->header_version[s] = run->disk->durable[s];
	run->raw.exact = true;
	run->how = SIM_CUT_OLD;
	sim_judge(run);
	run->raw.exact = false;
	run->leaks_before = run->raw.leaks;
}

void sim_judge_fini(struct sim_run *run)
{
	sim_raw_fini(&run->raw);
	sim_model_fini(&run->model);
	sim_snapshots_fini(run);
	sim_bitmaps_fini(run);
}
