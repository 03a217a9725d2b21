/* SPDX-License-Identifier: MIT */
/*
 * Amendments in the simulated world: between two lives, as the command does it, with the image locked and nobody using it.
 * The power is cut at some event in half of them, and the host may fail; then the same amendment is tried again. Whatever is
 * cut off, the guest's data and every snapshot are what they were, and refcounts, of whichever width the header says, are
 * right. An amendment may be refused where it can't be.
 */
#include <errno.h>
#include <string.h>

#include "qcow2/qcow2.h"
#include "rebase.h"

#define TRIES 20

static struct qcow2_amend amendment_of(const struct sim_op *op)
{
	uint32_t version = op->sectors % 4, order = op->sectors / 4 % 8, lazy = op->sectors / 32; /* SIM_AMENDMENT */
	struct qcow2_amend how = {
		.version = version < 2 ? 0 : version,
		.refcount_bits = order < 7 ? 1u << order : 0,
		.lazy_refcounts = (enum qcow2_switch)(lazy % 3),
	};

	if (version != 2)
		return how;
	how.refcount_bits = 16;
	if (how.lazy_refcounts == QCOW2_ON)
		how.lazy_refcounts = QCOW2_AS_IT_IS;
	return how;
}

/* Whether this may be refused so; the image was as run->version and run->refcount_order say. */
static bool may_refuse(const struct sim_run *run, const struct qcow2_amend *how, int rc)
{
	uint32_t version = how->version ? how->version : run->version;
	uint32_t bits = how->refcount_bits ? how->refcount_bits : 1u << run->refcount_order;

	switch (rc) {
	case -EINVAL: return version == 2 && (bits != 16 || how->lazy_refcounts == QCOW2_ON);
	case -ERANGE: return bits < 1u << run->refcount_order;
	case -ENOTSUP: return version == 2 && run->version == 3;
	case -ENOSPC: return run->config->device;
	default: return false;
	}
}

static int run_once(struct co *co, struct sim_run *run, const struct qcow2_amend *how, struct err *err)
{
	struct node *n;
	int rc;

	sim_bitmaps_opening(run, run->amends_tried > 0);
	rc = sim_image_open(co, run, NULL, &n, err);
	if (rc)
		return rc;
	run->version = qcow2_node_header(n)->version;
	run->refcount_order = qcow2_node_header(n)->refcount_order;
	return run->amend->sectors == SIM_REBASE ? sim_rebase(co, run, n, err) : qcow2_amend(co, n, how, err);
}

static void done(struct sim_run *run)
{
	run->amend = NULL;
	run->amends_tried = 0;
	sim_model_flush_end(&run->model, sim_model_flush_begin(&run->model));
	sim_bitmaps_closed(run);
	sim_judge_closed(run);
}

/* Where it fails the process ends. */
static bool amend(struct co *co, struct sim_run *run)
{
	struct qcow2_amend how = run->amend->sectors == SIM_REBASE ? (struct qcow2_amend){0} : amendment_of(run->amend);
	bool faulty = run->config->faulty && run->amends_tried < TRIES, refused;
	struct err err = {0};
	int rc;

	run->amended = true;
	if (!faulty)
		sim_world_calm(&run->world);
	if (run->amends_tried == 0)
		run->cut_in = run->amend->first;
	rc = run_once(co, run, &how, &err);
	run->amends_tried++;
	if (run->world.dead)
		return false;
	refused = may_refuse(run, &how, rc);
	run->disturbed |= rc != 0;
	if (sim_tracing)
		sim_trace("amend: %s", rc ? err.text : "done");
	if (rc && !refused && !faulty)
		sim_violation("the image can't be amended: %s (%s)", err.text, strerror(-rc));
	if (rc == 0 || (refused && !faulty)) {
		done(run);
		return true;
	}
	if (refused)
		run->amend = NULL;
	sim_judge_end(run);
	return false;
}

bool sim_amend(struct co *co, struct sim_run *run)
{
	struct sim_faults faults = run->world.faults;
	bool go_on = amend(co, run);

	run->world.faults = faults;
	return go_on;
}
