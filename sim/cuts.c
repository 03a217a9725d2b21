/* SPDX-License-Identifier: MIT */
/*
 * Power cuts of a run. The image's file, and that of its data if there is one, lie on disks of their own: what one of them
 * loses says nothing about the other.
 */
#include "run.h"

void sim_run_cut(struct sim_run *run, enum sim_cut how)
{
	bool alike = sim_below(&run->cut_rng, 2) == 0;

	run->how = how;
	sim_disk_cut(run->disk, how, &run->cut_rng);
	if (!run->data)
		return;
	if (!alike)
		how = (enum sim_cut)sim_below(&run->cut_rng, SIM_CUT_KINDS);
	sim_disk_cut(run->data, how, &run->cut_rng);
}

void sim_run_seen(struct sim_run *run)
{
	run->how = SIM_CUT_NEW;
	sim_disk_cut(run->disk, SIM_CUT_NEW, &run->cut_rng);
	if (run->data)
		sim_disk_cut(run->data, SIM_CUT_NEW, &run->cut_rng);
}

void sim_run_cut_undo(struct sim_run *run)
{
	sim_disk_cut_undo(run->disk);
	if (run->data)
		sim_disk_cut_undo(run->data);
}

void sim_run_cut_become(struct sim_run *run)
{
	sim_disk_become(run->disk);
	if (run->data)
		sim_disk_become(run->data);
}

uint64_t sim_run_cuts(const struct sim_run *run, uint64_t most)
{
	uint64_t n = sim_disk_cuts(run->disk, most);

	if (run->data && n <= most)
		n *= sim_disk_cuts(run->data, most);
	return n > most ? most + 1 : n;
}

void sim_run_cut_nth(struct sim_run *run, uint64_t n)
{
	uint64_t images = sim_disk_cuts(run->disk, UINT32_MAX);

	sim_disk_cut_nth(run->disk, n % images);
	if (run->data)
		sim_disk_cut_nth(run->data, n / images);
}

bool sim_run_settled(struct sim_run *run)
{
	uint64_t changes = run->disk->changes + (run->data ? run->data->changes : 0);
	bool settled = changes == run->settled_changes && run->disk->dirty_count == 0 &&
		(!run->data || run->data->dirty_count == 0);

	run->settled_changes = changes;
	return settled;
}
