/* SPDX-License-Identifier: MIT */
/*
 * A life of the engine: open, operations, close; or until the power is cut. The driver starts one operation after the
 * other, each in a coroutine of its own, and tells the model of every call and every return.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "base/mutant.h"
#include "file/file.h"
#include "crypt.h"
#include "memory.h"
#include "nbd.h"

#define OPEN_TRIES 20
#define TRY_WAIT_NS 1000000

static bool dead(const struct sim_run *run) { return run->world.dead; }

/* ---- what may fail ---- */

static bool may_fail(const struct sim_run *run, int rc)
{
	if (run->failed_flush || run->model.fallen)
		return true;
	return run->config->faulty && (rc == -EIO || rc == -ENOSPC || rc == -ENOMEM || rc == -EROFS);
}

bool sim_life_outcome(struct sim_run *run, const char *what, int rc)
{
	if (rc == 0)
		return true;
	run->disturbed = true;
	if (!may_fail(run, rc))
		sim_violation("%s failed: %s", what, strerror(-rc));
	return false;
}

/* ---- operations ---- */

void sim_life_fill(struct sim_task *t)
{
	for (uint32_t i = 0; i < t->op.sectors; i++)
		sim_stamp_put(t->buffer + (size_t)i * SIM_SECTOR, sim_tag(t->op.first + i, t->id));
}

void sim_life_read_judge(struct sim_run *run, const struct sim_task *t, uint64_t start)
{
	char values[400];

	for (uint32_t i = 0; i < t->op.sectors; i++) {
		uint64_t tag = sim_stamp_get(t->buffer + (size_t)i * SIM_SECTOR);

		if (sim_model_read_check(&run->model, start, t->op.first + i, tag))
			continue;
		sim_model_tell(&run->model, t->op.first + i, values, sizeof(values));
		sim_violation("sector %u was read as %#" PRIx64 "; allowed: %s", t->op.first + i, tag, values);
	}
}

static void op_read(struct co *co, struct sim_task *t)
{
	struct sim_run *run = t->run;
	uint64_t start = sim_model_read_begin(&run->model);
	size_t bytes = (size_t)t->op.sectors * SIM_SECTOR;
	int rc;

	memset(t->buffer, 0xee, bytes);
	rc = node_read(co, run->node, t->op.first * UINT64_C(512), IOV_BUF(t->buffer, bytes));
	if (dead(run))
		return;
	if (sim_life_outcome(run, "read", rc))
		sim_life_read_judge(run, t, start);
	sim_model_read_end(&run->model, start);
}

/* The disk may have got another size than the one that was drawn; and what is encrypted isn't compressed. */
static int write_compressed(struct co *co, struct node *n, uint64_t off, struct iov from)
{
	bool whole = is_aligned(off, n->cluster) && (is_aligned(from.len, n->cluster) || off + from.len == n->size);

	return whole && n->data == n->file ? node_write_compressed(co, n, off, from, 0)
					   : node_write(co, n, off, from, 0);
}

static int op_change_call(struct co *co, struct sim_task *t)
{
	struct node *n = t->run->node;
	uint64_t off = t->op.first * UINT64_C(512), len = t->op.sectors * UINT64_C(512);
	unsigned lasting = t->op.lasting ? NODE_LASTING : 0;

	switch (t->op.kind) {
	case SIM_WRITE: return node_write(co, n, off, IOV_BUF(t->buffer, len), lasting);
	case SIM_WRITE_FUA: return node_write(co, n, off, IOV_BUF(t->buffer, len), NODE_FUA);
	case SIM_WRITE_COMPRESSED: return write_compressed(co, n, off, IOV_BUF(t->buffer, len));
	case SIM_ZERO: return node_zero(co, n, off, len, lasting);
	case SIM_ZERO_UNMAP: return node_zero(co, n, off, len, lasting | NODE_MAY_UNMAP);
	case SIM_DISCARD: return node_discard(co, n, off, len);
	default: assert(false); return -EINVAL;
	}
}

/* A discard that the format can't express may do nothing. */
static enum sim_outcome change_outcome(const struct sim_task *t, bool ok)
{
	const struct sim_run *run = t->run;

	if (!ok || (t->op.kind == SIM_DISCARD && run->version == 2 && run->config->below != SIM_BELOW_NONE))
		return SIM_UNCERTAIN;
	if (t->op.kind == SIM_WRITE_FUA)
		return SIM_DURABLE;
	return t->op.lasting ? SIM_LASTING : SIM_DONE;
}

static void op_change(struct co *co, struct sim_task *t)
{
	struct sim_run *run = t->run;
	bool zero = t->op.kind != SIM_WRITE && t->op.kind != SIM_WRITE_FUA && t->op.kind != SIM_WRITE_COMPRESSED;
	uint64_t start;
	bool ok;
	int rc;

	if (!zero)
		sim_life_fill(t);
	start = sim_model_write_begin(&run->model, t->op.first, t->op.sectors, t->id, zero);
	sim_bitmaps_change_begin(run, &t->op);
	rc = op_change_call(co, t);
	if (dead(run))
		return;
	ok = sim_life_outcome(run, sim_op_name(t->op.kind), rc);
	if (run->failed_flush && ok && t->op.kind == SIM_WRITE_FUA)
		sim_violation("G7: a FUA write succeeded after a failed flush");
	sim_model_write_end(&run->model, t->op.first, t->op.sectors, start, change_outcome(t, ok));
	sim_bitmaps_change_end(run, &t->op, change_outcome(t, ok));
}

void sim_life_flush_failed(struct sim_run *run)
{
	run->failed_flush = true;
	run->model.fallen = true;
}

static void op_flush(struct co *co, struct sim_task *t)
{
	struct sim_run *run = t->run;
	uint64_t start = sim_model_flush_begin(&run->model);
	bool failed_before = run->failed_flush;
	int rc = node_flush(co, run->node);

	if (dead(run))
		return;
	run->tally->flushes++;
	if (!sim_life_outcome(run, "flush", rc))
		sim_life_flush_failed(run);
	else if (failed_before)
		sim_violation("G7: a flush succeeded after one had failed");
	else
		sim_model_flush_end(&run->model, start);
}

static void op_drain(struct co *co, struct sim_task *t)
{
	struct sim_run *run = t->run;
	int rc = node_drain_begin(co, run->node);

	if (!dead(run)) {
		if (sim_life_outcome(run, "drain", rc))
			sim_model_flush_end(&run->model, sim_model_flush_begin(&run->model));
		else
			sim_life_flush_failed(run);
	}
	node_drain_end(run->node);
}

/* What lay behind the end of a disk that is smaller now never comes back. */
static void disk_shrunk(struct sim_run *run, uint64_t bytes)
{
	uint32_t first = (uint32_t)(bytes / SIM_SECTOR), n = (uint32_t)(run->guest_bytes / SIM_SECTOR) - first;

	sim_model_write_end(&run->model, first, n, sim_model_write_begin(&run->model, first, n, 0, true), SIM_DURABLE);
	sim_bitmaps_shrunk(run, bytes);
}

/* A smaller size is durable as soon as the node has it, even where what lies behind it couldn't be given back. */
static void op_resize(struct co *co, struct sim_task *t)
{
	struct sim_run *run = t->run;
	uint64_t bytes = t->op.sectors * UINT64_C(512);
	uint64_t start;
	bool ok, shrunk;
	int rc;

	start = sim_model_size_begin(&run->model, bytes);
	sim_bitmaps_resizing(run);
	rc = node_resize(co, run->node, bytes);
	if (dead(run))
		return;
	ok = sim_life_outcome(run, "resize", rc);
	shrunk = run->node->size < run->guest_bytes;
	sim_model_size_end(&run->model, start, shrunk ? SIM_DURABLE : ok ? SIM_DONE : SIM_UNCERTAIN);
	if (shrunk)
		disk_shrunk(run, bytes);
	run->guest_bytes = run->node->size;
}

static void op_do(struct co *co, struct sim_task *t)
{
	if (sim_snapshot_op(co, t))
		return;
	if (t->run->nbd && sim_nbd_op(co, t))
		return;
	switch (t->op.kind) {
	case SIM_READ: op_read(co, t); break;
	case SIM_FLUSH: op_flush(co, t); break;
	case SIM_DRAIN: op_drain(co, t); break;
	case SIM_RESIZE: op_resize(co, t); break;
	case SIM_BITMAP_ADD:
	case SIM_BITMAP_REMOVE:
	case SIM_BITMAP_CLEAR:
	case SIM_BITMAP_ENABLE:
	case SIM_BITMAP_DISABLE:
	case SIM_BITMAP_MERGE: sim_bitmap_op(co, t); break;
	default: op_change(co, t); break;
	}
}

static void task_entry(struct co *co, void *arg)
{
	struct sim_task *t = arg;
	struct sim_run *run = t->run;

	if (sim_tracing)
		sim_trace("%12" PRIu64 " > %s %u+%u id %u", run->world.now, sim_op_name(t->op.kind), t->op.first,
			t->op.sectors, t->id);
	op_do(co, t);
	if (sim_tracing)
		sim_trace("%12" PRIu64 " < %s %u+%u id %u", run->world.now, sim_op_name(t->op.kind), t->op.first,
			t->op.sectors, t->id);
	t->busy = false;
	run->in_flight--;
	run->tally->operations++;
	co_queue_wake_all(&run->freed);
}

/* ---- the driver ---- */

static void wait_idle(struct co *co, struct sim_run *run)
{
	while (run->in_flight > 0)
		co_queue_wait(co, &run->freed);
}

/* Whether the other may run beside a resize: it is not about bytes that the resize may be busy with, and has to work. */
static bool meets_resize(const struct sim_run *run, const struct sim_op *resize, const struct sim_op *other)
{
	uint64_t least = MIN(run->guest_bytes / SIM_SECTOR, (uint64_t)resize->sectors);

	switch (other->kind) {
	case SIM_FLUSH:
	case SIM_SNAPSHOT_CREATE:
	case SIM_SNAPSHOT_DELETE:
	case SIM_SNAPSHOT_READ: return !run->nbd;
	case SIM_READ:
	case SIM_WRITE:
	case SIM_WRITE_FUA:
	case SIM_ZERO:
	case SIM_ZERO_UNMAP:
	case SIM_DISCARD: return !run->nbd && other->first + (uint64_t)other->sectors <= least;
	default: return false;
	}
}

/* Whether these two may run at once. */
static bool may_meet(const struct sim_run *run, const struct sim_op *a, const struct sim_op *b)
{
	if (a->kind == SIM_RESIZE)
		return meets_resize(run, a, b);
	if (b->kind == SIM_RESIZE)
		return meets_resize(run, b, a);
	if (b->kind == SIM_SNAPSHOT_GOTO || sim_op_is_bitmap(b->kind))
		return false;
	return run->config->overlap || !ranges_overlap(a->first, a->sectors, b->first, b->sectors);
}

/* Whether an operation must wait: for room, or, where they may not meet, for another one. */
static bool must_wait(const struct sim_run *run, const struct sim_op *op)
{
	bool alone = op->idle || op->kind == SIM_SNAPSHOT_GOTO || (op->kind == SIM_DRAIN && !run->nbd) ||
		sim_op_is_bitmap(op->kind);

	if (sim_snapshot_must_wait(run, op->kind) || run->in_flight >= run->config->depth ||
		(alone && run->in_flight > 0))
		return true;
	for (unsigned i = 0; i < SIM_TASKS; i++) {
		const struct sim_task *t = &run->tasks[i];

		if (t->busy && !may_meet(run, op, &t->op))
			return true;
	}
	return false;
}

static struct sim_task *task_free(struct sim_run *run)
{
	for (unsigned i = 0; i < SIM_TASKS; i++) {
		if (!run->tasks[i].busy)
			return &run->tasks[i];
	}
	assert(false);
	return NULL;
}

void sim_life_start(struct sim_run *run, const struct sim_op *op)
{
	struct sim_task *t = task_free(run);
	int rc;

	t->op = *op;
	t->id = run->next_id++;
	t->busy = true;
	run->in_flight++;
	rc = co_spawn(run->world.io.sched, sim_op_name(op->kind), task_entry, t);
	if (rc)
		sim_violation("co_spawn: %s", strerror(-rc));
}

static void op_start(struct co *co, struct sim_run *run, const struct sim_op *op)
{
	if (op->delay_us)
		co_sleep(co, op->delay_us * UINT64_C(1000));
	while (must_wait(run, op))
		co_queue_wait(co, &run->freed);
	if (dead(run) ||
		(op->kind != SIM_RESIZE && !sim_op_is_bitmap(op->kind) &&
			(op->first + (uint64_t)op->sectors) * SIM_SECTOR > run->guest_bytes))
		return;
	sim_life_start(run, op);
}

/* ---- open ---- */

static const struct crypto_secret secret = {SIM_PASSPHRASE, sizeof(SIM_PASSPHRASE) - 1};

int sim_backing_open(struct co *co, struct sim_run *run, const char *name, struct node **out, struct err *err)
{
	struct node *file = NULL, *top;
	int rc = name[0] ? file_open(co, &(struct file_open){.path = name}, &file, err) : 0;

	*out = file;
	if (rc || strcmp(name, "base") != 0 || run->config->below == SIM_BELOW_RAW)
		return rc;
	rc = qcow2_open(co, file, &(struct qcow2_options){.secret = &secret}, &top, err);
	if (rc)
		(void)node_close(co, file);
	*out = rc ? NULL : top;
	return rc;
}

/* With its data file, which belongs to the node on success. */
static int top_open(
	struct co *co, struct sim_run *run, struct node *file, const char *snapshot, struct node **out, struct err *err)
{
	struct qcow2_options options = run->config->options;
	int rc = run->data ? file_open(co, &(struct file_open){.path = "data", .write = !snapshot, .no_lock = snapshot},
				     &options.data_file, err)
			   : 0;

	options.snapshot = snapshot;
	options.write = !snapshot;
	options.keep_leaks &= !run->auditing;
	options.secret = &secret;
	if (!rc)
		rc = qcow2_open(co, file, &options, out, err);
	if (rc)
		(void)node_close(co, options.data_file);
	return rc;
}

int sim_image_open(struct co *co, struct sim_run *run, const char *snapshot, struct node **out, struct err *err)
{
	struct file_open how = {.path = "image", .write = !snapshot, .no_lock = snapshot};
	struct node *file, *top, *base = NULL;
	int rc = file_open(co, &how, &file, err);

	if (rc)
		return rc;
	rc = top_open(co, run, file, snapshot, &top, err);
	if (rc) {
		(void)node_close(co, file);
		return rc;
	}
	rc = sim_backing_open(co, run, qcow2_node_header(top)->backing_name, &base, err);
	if (rc) {
		(void)node_close(co, top);
		return rc;
	}
	top->backing = base;
	*out = top;
	return 0;
}

/* A flush of it may have: what could be read before, and can be read now, need not be the same. */
static void open_failed(struct sim_run *run, bool recovering)
{
	if (recovering && !sim_one_in(&run->cut_rng, run->config->spared_in))
		sim_judge_cut(run);
	else if (!sim_snapshots_going_back(run))
		sim_judge_seen(run);
}

/* Where there are faults opening may fail; once they stop it must not. */
static bool image_open(struct co *co, struct sim_run *run)
{
	struct sim_faults faults = run->world.faults;
	bool recovering = run->cut && run->raw.dirty; /* which is cut off as well, so it may go on for long */
	struct err err = {0};
	int rc = -EIO;

	for (unsigned tries = 0; rc && tries < OPEN_TRIES && !dead(run); tries++) {
		if (tries == OPEN_TRIES - 1 || (recovering && run->repairs++ > OPEN_TRIES))
			sim_world_calm(&run->world);
		else if (tries > 0)
			co_sleep(co, TRY_WAIT_NS);
		sim_bitmaps_opening(run, tries > 0);
		rc = sim_image_open(co, run, NULL, &run->node, &err);
		if (rc && !dead(run) && !(run->config->faulty && tries < OPEN_TRIES - 1))
			sim_violation("the image can't be opened: %s (%s)", err.text, strerror(-rc));
		if (rc && !dead(run))
			open_failed(run, recovering);
	}
	run->world.faults = faults;
	if (rc || dead(run))
		return false;
	run->version = qcow2_node_header(run->node)->version;
	run->refcount_order = qcow2_node_header(run->node)->refcount_order;
	return true;
}

/* ---- phases ---- */

static void read_all(struct co *co, struct sim_run *run)
{
	uint32_t sectors = (uint32_t)(run->node->size / SIM_SECTOR), step = 64;

	if (run->node->size != run->guest_bytes)
		sim_violation(
			"the disk has %" PRIu64 " bytes, it should have %" PRIu64, run->node->size, run->guest_bytes);
	for (uint32_t s = 0; s < sectors && !dead(run); s += step) {
		struct sim_op op = {.kind = SIM_READ, .first = s, .sectors = MIN(step, sectors - s)};

		while (run->in_flight >= run->config->depth)
			co_queue_wait(co, &run->freed);
		sim_life_start(run, &op);
	}
	wait_idle(co, run);
}

static void close_node(struct co *co, struct sim_run *run)
{
	bool was_dead = dead(run);
	int rc = node_close(co, take(run->node));

	if (dead(run) || was_dead)
		return;
	if (!sim_life_outcome(run, "close", rc))
		sim_life_flush_failed(run);
	else if (run->failed_flush)
		sim_violation("G7: close succeeded after a failed flush");
	if (run->failed_flush) {
		sim_judge_end(run);
		return;
	}
	sim_model_flush_end(&run->model, sim_model_flush_begin(&run->model));
	sim_bitmaps_closed(run);
	sim_judge_closed(run);
}

static void operations(struct co *co, struct sim_run *run)
{
	if (run->nbd && !sim_nbd_start(co, run))
		return;
	while (run->next_op < run->config->ops_count && !dead(run)) {
		const struct sim_op *op = &run->config->ops[run->next_op++];

		if (op->kind == SIM_AMEND)
			run->amend = op;
		if (op->kind == SIM_REOPEN || op->kind == SIM_AMEND)
			break;
		if (op->kind == SIM_CUT)
			run->cut_in = op->first + 1;
		else
			op_start(co, run, op);
	}
	if (run->nbd)
		sim_nbd_stop(co, run);
	wait_idle(co, run);
}

/* Once the faults stop, everything must work again, unless a flush has failed. */
static void settle(struct co *co, struct sim_run *run)
{
	struct sim_op flush = {.kind = SIM_FLUSH};

	if (dead(run) || run->next_op < run->config->ops_count)
		return;
	sim_world_calm(&run->world);
	if (!run->failed_flush) {
		sim_life_start(run, &flush);
		wait_idle(co, run);
	}
	if (!dead(run) && !run->failed_flush)
		read_all(co, run);
}

/* What an earlier cut, or we, left to be put right may be cut off as well. */
static void recovery_cut_arm(struct sim_run *run)
{
	if ((run->damaged || (run->cut && run->raw.dirty)) && run->recoveries < SIM_RECOVERY_CUTS)
		run->cut_in = run->config->recovery_cuts[run->recoveries++];
}

void sim_life(struct co *co, void *arg)
{
	struct sim_run *run = arg;

	run->tally->lives++;
	co_queue_init(&run->freed);
	recovery_cut_arm(run);
	if (run->damaged && !sim_repair(co, run))
		return;
	if (run->amend && !sim_amend(co, run))
		return;
	if (!image_open(co, run)) {
		if (run->node)
			(void)node_close(co, take(run->node));
		return;
	}
	if (run->cut) {
		run->cut = false;
		read_all(co, run);
	}
	operations(co, run);
	settle(co, run);
	close_node(co, run);
}
