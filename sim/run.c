/* SPDX-License-Identifier: MIT */
/* One run from its configuration: see run.h. */
#include "run.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/mutant.h"
#include "damage.h"
#include "memory.h"
#include "nbd.h"
#include "rebase.h"

int mutant_selected;
static struct sim_rng buggify_rng;
static uint32_t buggify_in;

/* Each point is on in half of the seeds that have points at all. */
bool buggify(const char *point)
{
	uint64_t state = buggify_rng.s[0] & 0xff;

	if (buggify_in == 0)
		return false;
	for (const char *c = point; *c; c++)
		state = state * 131 + (unsigned char)*c;
	return (sim_mix(&state) & 1) && sim_one_in(&buggify_rng, buggify_in);
}

static void buggify_init(const struct sim_config *c)
{
	sim_rng_init(&buggify_rng, c->schedule, 4);
	buggify_in = c->buggify_in;
}

/* ---- files ---- */

static void base_tags(struct sim_run *run)
{
	uint64_t sectors = run->config->base.guest_bytes / SIM_SECTOR;

	run->below = sim_alloc(sectors * 8);
	for (uint64_t s = 0; s < sectors; s++)
		run->below[s] = run->config->below == SIM_BELOW_QCOW2 ? run->base.tags[s] : sim_tag(s, SIM_ID_BACKING);
}

static void base_raw(struct sim_run *run)
{
	struct sim_disk *d = sim_world_file(&run->world, "base", run->config->base.guest_bytes, 512, false);
	uint8_t sector[SIM_SECTOR];

	for (uint64_t s = 0; s < run->config->base.guest_bytes / SIM_SECTOR; s++) {
		sim_stamp_put(sector, run->below[s]);
		sim_disk_load(d, s * SIM_SECTOR, sector, SIM_SECTOR);
	}
}

static void base_make(struct sim_run *run, struct sim_rng *r)
{
	const struct sim_config *c = run->config;

	if (c->below == SIM_BELOW_NONE)
		return;
	if (c->below == SIM_BELOW_QCOW2)
		sim_make(&run->base, &c->base, r);
	base_tags(run);
	if (c->below == SIM_BELOW_QCOW2)
		sim_disk_load(sim_world_file(&run->world, "base", run->base.len, 512, false), 0, run->base.bytes,
			run->base.len);
	else
		base_raw(run);
	sim_world_find(&run->world, "base")->read_only = true;
	if (sim_config_rebases(c))
		sim_rebase_make(run);
}

/* A device has some room beyond the image, full of garbage; a file as much as it wants. */
static void files_make(struct sim_run *run)
{
	const struct sim_config *c = run->config;
	struct sim_rng r;
	uint64_t bytes = c->file_bytes;

	sim_rng_init(&r, c->seed, 5);
	sim_make(&run->image, &c->image, &r);
	if (c->image.data != SIM_DATA_INSIDE)
		sim_make_data(&run->image, &c->image, c->guest_most, &r);
	if (c->damage)
		sim_damage(&run->image, &c->image, c->damage, &r);
	if (c->device)
		bytes = MIN(bytes, align_up(run->image.len + 16 * c->guest_most + (UINT64_C(256) << 10), 65536));
	run->disk = sim_world_file(&run->world, "image", bytes, c->unit_bytes, c->device);
	run->disk->encrypted = c->image.encrypted;
	sim_disk_load(run->disk, 0, run->image.bytes, run->image.len);
	base_make(run, &r);
	if (run->image.data) {
		run->data = sim_world_file(
			&run->world, "data", align_up(c->guest_most, 4096), c->unit_bytes, c->data_device);
		run->data->encrypted = c->image.encrypted;
		sim_disk_load(run->data, 0, run->image.data, run->image.data_len);
	}
}

/* ---- the run ---- */

static void run_init(struct sim_run *run, const struct sim_config *c, struct sim_tally *tally)
{
	memset(run, 0, sizeof(*run));
	run->config = c;
	run->tally = tally;
	run->guest_bytes = c->image.guest_bytes;
	sim_world_init(&run->world, c->schedule);
	run->world.latency = c->latency;
	run->world.faults = c->faults;
	run->world.fifo = c->fifo;
	files_make(run);
	sim_judge_init(run);
	run->world.settled = sim_judge_settled;
	run->world.settled_arg = run;
	for (unsigned i = 0; i < SIM_TASKS; i++)
		run->tasks[i] = (struct sim_task){.run = run, .buffer = sim_alloc(c->guest_most)};
	buggify_init(c);
	run->nbd = c->nbd ? sim_nbd_new(run) : NULL;
}

static void run_fini(struct sim_run *run)
{
	for (unsigned i = 0; i < SIM_TASKS; i++)
		sim_free(run->tasks[i].buffer);
	sim_nbd_free(run->nbd);
	sim_judge_fini(run);
	sim_world_fini(&run->world);
	sim_made_free(&run->image);
	sim_made_free(&run->base);
	sim_free(run->below);
	sim_free(run->other);
}

/* In a world without faults; but a power cut may be due still. */
static void audit(struct sim_run *run)
{
	run->world.faults = (struct sim_faults){0};
	run->auditing = true;
	do {
		if (run->cut)
			sim_world_restart(&run->world);
		run->cut = false;
		if (co_main(run->world.io.sched, "audit", sim_audit, run) != 0)
			sim_violation("the audit can't be started");
	} while (run->cut);
}

/* Lives follow one another until the last operation is done and the image is closed well. */
void sim_run(const struct sim_config *c, struct sim_tally *tally)
{
	struct sim_run *run = sim_alloc(sizeof(*run));

	run_init(run, c, tally);
	sim_alloc_fail_nth(c->fail_allocation);
	do {
		if (run->cut)
			sim_world_restart(&run->world);
		if (co_main(run->world.io.sched, "driver", sim_life, run) != 0)
			sim_violation("the driver can't be started");
	} while (run->cut || run->amend || run->next_op < c->ops_count);
	tally->allocations = sim_alloc_count();
	sim_alloc_fail_nth(0);
	if (c->audit && c->fail_allocation == 0)
		audit(run);
	tally->seeds++;
	tally->failures += run->world.counts.failures;
	run_fini(run);
	sim_free(run);
}
