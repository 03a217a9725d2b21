/* SPDX-License-Identifier: MIT */
/*
 * Repair in the simulated world: an image with planted damage is repaired before its first life, while the power is cut and
 * the host fails. What the guest would read must be right in every crash image; in the end the checker must find nothing,
 * and a second run must have nothing to do.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "file/file.h"
#include "qcow2/qcow2.h"
#include "run.h"

#define TRIES 20

static void line_trace(void *arg, const char *text)
{
	(void)arg;
	sim_trace("repair: %s", text);
}

static int run_once(struct co *co, unsigned fix, struct qcow2_check *found, struct err *err)
{
	struct qcow2_check_how how = {.fix = fix, .say = sim_tracing ? line_trace : NULL};
	struct node *file;
	int closed, rc = file_open(co, &(struct file_open){.path = "image", .write = fix != 0}, &file, err);

	if (rc)
		return rc;
	rc = qcow2_check_image(co, file, &how, found, err);
	closed = node_close(co, file);
	return rc ? rc : closed;
}

static bool is_clean(const struct qcow2_check *f)
{
	return f->corruptions == 0 && f->leaks == 0 && f->check_errors == 0;
}

/* Without faults it must succeed. Where it fails the process ends, and the next one tries. */
static bool repair_all(struct co *co, struct sim_run *run)
{
	struct qcow2_check found = {0};
	struct err err = {0};
	bool faulty = run->config->faulty && run->repairs++ < TRIES;
	int rc;

	if (!faulty)
		sim_world_calm(&run->world);
	rc = run_once(co, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, &found, &err);
	if (run->world.dead)
		return false;
	if (rc == 0 && is_clean(&found))
		return true;
	if (!faulty)
		sim_violation("the repair leaves %" PRIu64 " corruptions, %" PRIu64 " leaks: %s", found.corruptions,
			found.leaks, err.text);
	sim_judge_end(run);
	return false;
}

/* What can't be read makes other things look leaked, but nothing look corrupt; and it is no reason to write. */
static void second_run_judge(struct co *co, struct sim_run *run)
{
	struct qcow2_check found = {0};
	struct err err = {0};
	uint64_t writes = run->world.counts.writes, failures = run->world.counts.failures;
	int rc = run_once(co, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, &found, &err);
	bool failed = run->config->fail_allocation != 0 ||
		(run->config->faulty && (rc || run->world.counts.failures > failures));

	if (run->world.dead)
		return;
	if (found.corruptions > 0 || found.corruptions_fixed > 0 || found.leaks_fixed > 0 ||
		run->world.counts.writes != writes || (!failed && (rc || !is_clean(&found))))
		sim_violation("M14: a second repair still found something: %" PRIu64 " corruptions, %" PRIu64
			      " leaks, repaired %" PRIu64 " and %" PRIu64 " (%s)",
			found.corruptions, found.leaks, found.corruptions_fixed, found.leaks_fixed, err.text);
}

bool sim_repair(struct co *co, struct sim_run *run)
{
	struct sim_faults faults = run->world.faults;
	bool done = repair_all(co, run);

	run->world.faults = faults;
	if (!done)
		return false;
	/* From now on everything must be right, whatever of it a power cut would leave. */
	run->raw.damaged = run->damaged = false;
	sim_judge_settled(&run->world, run);
	second_run_judge(co, run);
	run->leaks_before = 0;
	return !run->world.dead;
}
