/* SPDX-License-Identifier: MIT */
/* See snapshot.h. */
#include "snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "file/file.h"
#include "memory.h"
#include "run.h"

#define READ_SECTORS 64u

static bool dead(const struct sim_run *run) { return run->world.dead; }

/* ---- life ---- */

static uint64_t tag_below(const struct sim_run *run, uint32_t sector)
{
	return run->below && sector < run->config->base.guest_bytes / SIM_SECTOR ? run->below[sector] : SIM_TAG_ZERO;
}

/* Those that the image was made with. */
static void made_init(struct sim_run *run, unsigned k)
{
	struct sim_snapshot *s = &run->snapshots[k];

	s->state = SIM_SNAPSHOT_THERE;
	s->known = true;
	s->size = run->config->image.guest_bytes;
	snprintf(s->name, sizeof(s->name), "%c", 'a' + (int)k);
	for (uint32_t i = 0; i < s->size / SIM_SECTOR; i++)
		s->tags[i] = run->image.snapshot_holds[k][i] ? run->image.snapshot_tags[k][i] : tag_below(run, i);
}

void sim_snapshots_init(struct sim_run *run)
{
	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++)
		run->snapshots[k].tags = sim_alloc(run->config->guest_most);
	for (unsigned k = 0; k < run->config->image.snapshots; k++)
		made_init(run, k);
}

void sim_snapshots_fini(struct sim_run *run)
{
	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++)
		sim_free(run->snapshots[k].tags);
}

static struct sim_snapshot *find(struct sim_run *run, const char *name)
{
	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++) {
		struct sim_snapshot *s = &run->snapshots[k];

		if (s->state != SIM_SNAPSHOT_ABSENT && strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

/* The n-th of those that are there and that nobody reads. */
static struct sim_snapshot *choose(struct sim_run *run, uint32_t n)
{
	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++) {
		struct sim_snapshot *s = &run->snapshots[(n + k) % SIM_SNAPSHOTS];

		if (s->state == SIM_SNAPSHOT_THERE && s->known && s->readers == 0)
			return s;
	}
	return NULL;
}

static struct sim_snapshot *unused(struct sim_run *run)
{
	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++)
		if (run->snapshots[k].state == SIM_SNAPSHOT_ABSENT)
			return &run->snapshots[k];
	return NULL;
}

/* ---- a crash image ---- */

static bool wrong(struct sim_run *run, const struct sim_snapshot *s, const char *what)
{
	snprintf(run->problem, sizeof(run->problem), "G13: snapshot %s %s", s->name, what);
	return false;
}

static bool wrong_sector(
	struct sim_run *run, const struct sim_snapshot *s, uint32_t sector, uint64_t tag, const char *other)
{
	snprintf(run->problem, sizeof(run->problem), "G13: sector %u of snapshot %s is %#" PRIx64 "; %s", sector,
		s->name, tag, other);
	return false;
}

/* Seen for the first time: every sector has a value of then, and there is an instant at which all had theirs. */
static bool content_possible(struct sim_run *run, const struct sim_snapshot *s, const struct sim_raw_tree *t)
{
	uint64_t from = s->start, to = SIM_NEVER;
	char values[300];

	if (run->model.fallen || s->start == 0)
		return true;
	for (uint32_t i = 0; i < t->size / SIM_SECTOR; i++) {
		uint64_t began, ended;

		if (!sim_model_was(&run->model, s->start, i, t->tags[i], &began, &ended)) {
			sim_model_tell(&run->model, i, values, sizeof(values));
			return wrong_sector(run, s, i, t->tags[i], values);
		}
		from = MAX(from, began);
		to = MIN(to, ended);
	}
	return from <= to || wrong(run, s, "holds values of different instants");
}

static bool content_same(struct sim_run *run, const struct sim_snapshot *s, const struct sim_raw_tree *t)
{
	if (t->size != s->size)
		return wrong(run, s, "has another size");
	for (uint32_t i = 0; i < s->size / SIM_SECTOR; i++) {
		char was[40];

		if (t->tags[i] == s->tags[i])
			continue;
		snprintf(was, sizeof(was), "it was %#" PRIx64, s->tags[i]);
		return wrong_sector(run, s, i, t->tags[i], was);
	}
	return true;
}

static bool found_judge(struct sim_run *run, struct sim_snapshot *s, const struct sim_raw_tree *t)
{
	if (s->known)
		return content_same(run, s, t);
	if (!content_possible(run, s, t))
		return false;
	s->known = true;
	s->size = t->size;
	memcpy(s->tags, t->tags, t->size / SIM_SECTOR * sizeof(*s->tags));
	return true;
}

bool sim_snapshots_judge(struct sim_run *run)
{
	bool found[SIM_SNAPSHOTS] = {false};

	for (uint32_t k = 0; k < run->raw.header.snapshots; k++) {
		struct sim_snapshot *s = find(run, run->raw.snapshot[k].name);

		if (!s) {
			snprintf(run->problem, sizeof(run->problem), "G13: there is a snapshot '%s'",
				run->raw.snapshot[k].name);
			return false;
		}
		if (!found_judge(run, s, &run->raw.snapshot[k]))
			return false;
		found[s - run->snapshots] = true;
	}
	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++)
		if (run->snapshots[k].state == SIM_SNAPSHOT_THERE && !found[k])
			return wrong(run, &run->snapshots[k], "is gone");
	return true;
}

bool sim_snapshots_gone_back(const struct sim_run *run)
{
	const struct sim_raw_tree *t = &run->raw.active;

	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++) {
		const struct sim_snapshot *s = &run->snapshots[k];

		if (s->going_back && t->size == s->size &&
			memcmp(t->tags, s->tags, s->size / SIM_SECTOR * sizeof(*s->tags)) == 0)
			return true;
	}
	return false;
}

bool sim_snapshots_going_back(const struct sim_run *run)
{
	bool any = false;

	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++)
		any |= run->snapshots[k].going_back;
	return any;
}

void sim_snapshots_seen(struct sim_run *run)
{
	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++) {
		struct sim_snapshot *s = &run->snapshots[k];

		if (s->state == SIM_SNAPSHOT_COMING || s->state == SIM_SNAPSHOT_GOING)
			s->state = SIM_SNAPSHOT_UNCERTAIN;
		s->start = 0;
		s->readers = 0;
	}
}

void sim_snapshots_settle(struct sim_run *run)
{
	bool there[SIM_SNAPSHOTS] = {false};

	for (uint32_t k = 0; k < run->raw.header.snapshots; k++) {
		struct sim_snapshot *s = find(run, run->raw.snapshot[k].name);

		if (s)
			there[s - run->snapshots] = true;
	}
	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++) {
		struct sim_snapshot *s = &run->snapshots[k];

		s->state = there[k] ? SIM_SNAPSHOT_THERE : SIM_SNAPSHOT_ABSENT;
		s->start = 0;
		s->readers = 0;
		s->going_back = false;
	}
}

/* ---- operations ---- */

/* Narrow refcounts may not be able to count another reference, of compressed clusters that share one, too: that is said, and
 * nothing has changed. */
static bool outcome(struct sim_run *run, const char *what, int rc)
{
	if (rc == -ERANGE && run->refcount_order <= 3)
		return false;
	return sim_life_outcome(run, what, rc);
}

static void op_create(struct co *co, struct sim_task *t)
{
	struct sim_run *run = t->run;
	struct sim_snapshot *s = unused(run);
	struct qcow2_snapshot_new how = {.name = s ? s->name : NULL, .date_sec = t->id};
	struct err err = {0};
	int rc;

	if (!s)
		return;
	run->sharing = true;
	*s = (struct sim_snapshot){.state = SIM_SNAPSHOT_COMING, .tags = s->tags};
	snprintf(s->name, sizeof(s->name), "s%u", t->id);
	s->start = sim_model_read_begin(&run->model);
	rc = qcow2_snapshot_create(co, run->node, &how, &err);
	if (dead(run))
		return;
	if (outcome(run, "snapshot-create", rc)) {
		s->state = SIM_SNAPSHOT_THERE;
		sim_judge_durable(run);
	} else {
		s->state = SIM_SNAPSHOT_UNCERTAIN;
	}
	sim_model_read_end(&run->model, s->start);
	s->start = 0;
}

static void op_delete(struct co *co, struct sim_task *t)
{
	struct sim_run *run = t->run;
	struct sim_snapshot *s = choose(run, t->op.first);
	struct err err = {0};
	int rc;

	if (!s)
		return;
	s->state = SIM_SNAPSHOT_GOING;
	rc = qcow2_snapshot_delete(co, run->node, s->name, &err);
	if (dead(run))
		return;
	s->state = outcome(run, "snapshot-delete", rc) ? SIM_SNAPSHOT_ABSENT : SIM_SNAPSHOT_UNCERTAIN;
}

/* Durable, and the old values with it. */
static void disk_becomes(struct sim_run *run, const struct sim_snapshot *s)
{
	struct sim_model *m = &run->model;
	uint32_t sectors = (uint32_t)(s->size / SIM_SECTOR);

	for (uint32_t i = 0; i < m->registers - 1; i++)
		sim_model_set(m, i, i < sectors ? s->tags[i] : SIM_TAG_ZERO);
	sim_model_set(m, sim_model_size_register(m), s->size);
	run->guest_bytes = s->size;
}

/* Not through the server: requests whose connection broke may still be carried out, and nobody knows when. */
static void op_goto(struct co *co, struct sim_task *t)
{
	struct sim_run *run = t->run;
	struct sim_snapshot *s = choose(run, t->op.first);
	struct err err = {0};
	int rc;

	if (!s || run->failed_flush || run->nbd)
		return;
	run->sharing = true;
	s->going_back = true;
	sim_bitmaps_goto_begin(run, s->size);
	rc = qcow2_snapshot_apply(co, run->node, s->name, &err);
	if (dead(run))
		return;
	if (!outcome(run, "snapshot-goto", rc)) { /* it may yet turn out to have happened */
		if (run->node->failed)
			sim_life_flush_failed(run);
		return;
	}
	disk_becomes(run, s);
	sim_bitmaps_goto_end(run);
	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++)
		run->snapshots[k].going_back = false;
}

/* Reads all of it, through a node of its own. */
static int read_whole(struct co *co, struct sim_task *t, struct node *n, const struct sim_snapshot *s)
{
	if (n->size != s->size)
		sim_violation("G13: snapshot %s is opened with %" PRIu64 " bytes, it has %" PRIu64, s->name, n->size,
			s->size);
	for (uint64_t at = 0; at < s->size; at += READ_SECTORS * SIM_SECTOR) {
		uint64_t len = MIN(s->size - at, READ_SECTORS * (uint64_t)SIM_SECTOR);
		int rc = node_read(co, n, at, IOV_BUF(t->buffer, len));

		if (rc || dead(t->run))
			return rc;
		for (uint64_t i = 0; i < len / SIM_SECTOR; i++) {
			uint64_t tag = sim_stamp_get(t->buffer + i * SIM_SECTOR);

			if (tag != s->tags[at / SIM_SECTOR + i])
				sim_violation("G13: sector %" PRIu64 " of snapshot %s was read as %#" PRIx64
					      "; it is %#" PRIx64,
					at / SIM_SECTOR + i, s->name, tag, s->tags[at / SIM_SECTOR + i]);
		}
	}
	return 0;
}

static void op_read(struct co *co, struct sim_task *t)
{
	struct sim_run *run = t->run;
	struct sim_snapshot *s = choose(run, t->op.first);
	struct err err = {0};
	struct node *n;
	int rc;

	if (!s)
		return;
	s->readers++;
	rc = sim_image_open(co, run, s->name, &n, &err);
	if (rc == 0) {
		rc = read_whole(co, t, n, s);
		(void)!node_close(co, n);
	}
	if (dead(run))
		return;
	s->readers--;
	outcome(run, "snapshot-read", rc);
}

bool sim_snapshot_op(struct co *co, struct sim_task *t)
{
	switch (t->op.kind) {
	case SIM_SNAPSHOT_CREATE: op_create(co, t); return true;
	case SIM_SNAPSHOT_DELETE: op_delete(co, t); return true;
	case SIM_SNAPSHOT_GOTO: op_goto(co, t); return true;
	case SIM_SNAPSHOT_READ: op_read(co, t); return true;
	default: return false;
	}
}

static bool changes_table(unsigned kind) { return kind == SIM_SNAPSHOT_CREATE || kind == SIM_SNAPSHOT_DELETE; }

/* A reader of its own sees the file: nobody may replace the table under it. */
bool sim_snapshot_must_wait(const struct sim_run *run, unsigned kind)
{
	for (unsigned i = 0; i < SIM_TASKS; i++) {
		unsigned other = run->tasks[i].op.kind;

		if (!run->tasks[i].busy)
			continue;
		if ((kind == SIM_SNAPSHOT_READ && changes_table(other)) ||
			(other == SIM_SNAPSHOT_READ && changes_table(kind)))
			return true;
	}
	return false;
}

/* ---- the audit ---- */

void sim_audit(struct co *co, void *arg)
{
	struct sim_run *run = arg;
	struct err err = {0};
	int rc;

	sim_bitmaps_opening(run, false);
	rc = sim_image_open(co, run, NULL, &run->node, &err);
	if (rc && !dead(run))
		sim_violation("the image can't be opened: %s (%s)", err.text, strerror(-rc));
	while (run->node && !dead(run) && !qcow2_node_stats(run->node)->leaks_searched)
		co_sleep(co, 1000000);
	rc = node_close(co, take(run->node));
	if (dead(run))
		return;
	if (rc)
		sim_violation("the image can't be closed: %s", strerror(-rc));
	sim_bitmaps_closed(run);
	sim_judge_audited(run);
}
