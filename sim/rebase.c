/* SPDX-License-Identifier: MIT */
/*
 * Another backing file in the simulated world, between two lives as amendments are (amend.c): from any of two backing files
 * and none to any other. They are alike in part, and of different lengths. In every crash image the guest reads what it read,
 * over the one that the header of that image names.
 */
#include "rebase.h"

#include <string.h>

#include "base/math.h"
#include "base/mutant.h"
#include "file/file.h"
#include "job/rebase.h"
#include "memory.h"

static const char *const names[] = {"base", "other", ""};

/* ---- what it reads as ---- */

/* A third is as in the first one, a third zeros, a third something else, in runs of a few sectors. */
static uint64_t other_tag(const struct sim_run *run, uint64_t sector)
{
	uint64_t base_sectors = run->config->base.guest_bytes / SIM_SECTOR;

	switch ((sector / 5 + run->config->seed) % 3) {
	case 0: return sector < base_sectors ? run->below[sector] : SIM_TAG_ZERO;
	case 1: return SIM_TAG_ZERO;
	default: return sim_tag(sector, SIM_ID_OTHER_BACKING);
	}
}

void sim_rebase_make(struct sim_run *run)
{
	uint64_t guest = run->config->guest_most / SIM_SECTOR, seed = run->config->seed;
	uint64_t sectors = 1 + seed * 37 % (seed % 2 ? guest + 8 : guest / 2);
	struct sim_disk *d = sim_world_file(&run->world, "other", sectors * SIM_SECTOR, 512, false);
	uint8_t sector[SIM_SECTOR];

	run->other = sim_alloc(sectors * sizeof(*run->other));
	run->other_sectors = (uint32_t)sectors;
	for (uint64_t s = 0; s < sectors; s++) {
		run->other[s] = other_tag(run, s);
		sim_stamp_put(sector, run->other[s]);
		sim_disk_load(d, s * SIM_SECTOR, sector, SIM_SECTOR);
	}
	sim_world_find(&run->world, "other")->read_only = true;
}

/* ---- doing it ---- */

struct rebasing {
	struct node *top;
	const char *name;
};

static int switch_over(struct co *co, void *arg, struct err *err)
{
	const struct rebasing *r = arg;

	return qcow2_backing_set(co, r->top, r->name[0] ? r->name : NULL, "raw", err);
}

static const char *next_name(const struct sim_run *run, const char *now)
{
	unsigned i = 0;

	while (strcmp(names[i], now) != 0)
		i++;
	return names[(i + 1 + run->amend->first % 2) % ARRAY_ENTRIES(names)];
}

int sim_rebase(struct co *co, struct sim_run *run, struct node *top, struct err *err)
{
	const struct sim_config *c = run->config;
	struct rebasing r = {.top = top, .name = next_name(run, qcow2_node_header(top)->backing_name)};
	struct rebase_how how = {
		.top = top,
		.requests = 1 + run->amend->first % 5,
		.compressed = run->amend->first % 3 == 0 && !c->image.data && !c->image.encrypted,
		.switch_over = switch_over,
		.arg = &r,
	};
	int rc = sim_backing_open(co, run, r.name, &how.fresh, err), closed;

	if (rc == 0) {
		qcow2_backing_expect(top);
		rc = rebase_run(co, &how, err);
	}
	(void)!node_close(co, how.fresh);
	closed = node_close(co, top);
	return rc ? rc : closed ? err_set(err, closed, "the image can't be closed") : 0;
}
