/* SPDX-License-Identifier: MIT */
/*
 * Snapshots of an image that is in use: create and delete. (Going back to one: snapshot_apply.c.)
 *
 *   create   the instant: freeze.c takes the active L1 table; from here on refcounts rise and COPIED bits fall, in memory
 *            and by whatever commits there are
 *            the snapshot's L1 table and a new snapshot table, in space of their own
 *            commit: A refcounts | barrier | B COPIED clears | barrier        (nothing on disk knows of the snapshot)
 *            commit: barrier | B header: number and place of the table, one sector | barrier        (it exists)
 *            the old snapshot table is free
 *
 *   delete   a new snapshot table without it
 *            commit: barrier | B header | barrier                              (it is gone)
 *            its tree gives its references back, its L1 table and the old snapshot table are free; then COPIED again
 *            where one reference is left; commit: A refcounts | barrier | B COPIED sets | barrier
 *
 * (crash-safety O14 to O16.) Whatever an interruption leaves is refcounts that are too high and COPIED bits that are
 * missing, or still there on a cluster whose refcount has risen and whose references have not: no pointer is ever short of
 * a refcount, and what is COPIED has one reference. The search for leaks puts both right after the next opening.
 *
 * When the write of the header fails, which of the two tables the disk names is unknown: memory goes back to the old one,
 * the next commit that succeeds writes it, and until then nothing that the new one names is given back (O23).
 */
#include "qcow2/snapshot_ops.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define PIECE_BYTES (UINT64_C(1) << 20)
#define L1_PIECE 8192u /* entries that are converted at once */

/* ---- one at a time ---- */

static int refusal(const struct qcow2 *q, struct err *err)
{
	if (q->node.read_only)
		return err_set(err, -EROFS, "the image isn't open for writing");
	if (q->header.incompatible & QCOW2_INCOMPAT_DATA_FILE)
		return err_set(err, -ENOTSUP, "an image with an external data file can't have internal snapshots");
	if (q->node.failed)
		return err_set(err, q->node.failed, "an earlier flush has failed: open the image again");
	return q->closing ? err_set(err, -ECANCELED, "the image is being closed") : 0;
}

int qcow2_snapshot_enter(struct co *co, struct qcow2 *q, struct err *err)
{
	int rc;

	q->snapshot_ops++;
	co_mutex_lock(co, &q->snapshots);
	qcow2_leaks_pause(co, q);
	rc = refusal(q, err);
	if (rc)
		qcow2_snapshot_leave(q);
	return rc;
}

void qcow2_snapshot_leave(struct qcow2 *q)
{
	qcow2_leaks_resume(q);
	co_mutex_unlock(&q->snapshots);
	if (--q->snapshot_ops == 0)
		co_queue_wake_all(&q->snapshots_done);
}

void qcow2_snapshots_stop(struct co *co, struct qcow2 *q)
{
	q->closing = true;
	while (q->snapshot_ops)
		co_queue_wait(co, &q->snapshots_done);
}

/* ---- space ---- */

int qcow2_space_take(struct co *co, struct qcow2 *q, uint64_t bytes, struct qcow2_space *out, struct err *err)
{
	int rc;

	*out = (struct qcow2_space){.bytes = align_up(bytes, q->cluster_bytes)};
	rc = bytes ? qcow2_alloc_run(co, q, out->bytes >> q->cluster_bits, &out->host) : 0;
	if (rc)
		out->bytes = 0;
	return rc ? err_set(err, rc, "no space for %" PRIu64 " bytes: %s", bytes, strerror(-rc)) : 0;
}

void qcow2_space_give_back(struct co *co, struct qcow2 *q, struct qcow2_space *s)
{
	uint64_t clusters = s->bytes >> q->cluster_bits;

	if (clusters && qcow2_release(co, q, qcow2_cluster_of(q, s->host), clusters))
		q->stats.reclaim_errors++;
	s->bytes = 0;
}

void qcow2_space_free(struct qcow2 *q, struct qcow2_space *s)
{
	if (!s->bytes)
		return;
	if (qcow2_free_prepare(q, 1))
		q->stats.leaked += s->bytes >> q->cluster_bits;
	else
		qcow2_free(q, s->host, s->bytes);
	s->bytes = 0;
}

static int write_bytes(struct co *co, struct qcow2 *q, uint64_t host, char *from, uint64_t bytes)
{
	int rc = 0;

	for (uint64_t at = 0; !rc && at < bytes; at += PIECE_BYTES)
		rc = node_write(co, q->node.file, host + at, IOV_BUF(from + at, MIN(PIECE_BYTES, bytes - at)), 0);
	return rc;
}

int qcow2_l1_write(struct co *co, struct qcow2 *q, uint64_t host, const uint64_t *l1, uint64_t n)
{
	be64 *piece = node_alloc(L1_PIECE * sizeof(*piece));
	int rc = piece ? 0 : -ENOMEM;

	for (uint64_t at = 0; !rc && at < n; at += L1_PIECE) {
		uint64_t entries = MIN((uint64_t)L1_PIECE, n - at);

		for (uint64_t i = 0; i < entries; i++)
			piece[i] = be64_of(l1[at + i]);
		rc = node_write(co, q->node.file, host + at * 8, IOV_BUF(piece, entries * 8), 0);
	}
	free(piece);
	return rc;
}

int qcow2_l1_read(struct co *co, struct qcow2 *q, uint64_t host, uint64_t *l1, uint64_t n)
{
	int rc = n ? node_read(co, q->node.file, host, IOV_BUF(l1, n * 8)) : 0;

	for (uint64_t i = 0; !rc && i < n; i++)
		l1[i] = be64toh(l1[i]) & QCOW2_OFFSET_MASK;
	return rc;
}

/* ---- the snapshot table ---- */

struct change { /* of the table */
	struct qcow2_records records;
	struct qcow2_space old, fresh;
};

static int change_begin(struct co *co, struct qcow2 *q, struct change *c, struct err *err)
{
	int rc;

	*c = (struct change){0};
	rc = qcow2_records_load(co, q->node.file, &q->header, &c->records, err);
	if (!rc && c->records.len)
		c->old = (struct qcow2_space){q->header.snapshots_at.off, align_up(c->records.len, q->cluster_bytes)};
	return rc;
}

/* The new records, where nothing points to them. */
static int change_write(struct co *co, struct qcow2 *q, struct change *c, struct err *err)
{
	int rc = write_bytes(co, q, c->fresh.host, c->records.bytes, c->records.len);

	return rc ? err_set(err, rc, "the snapshot table can't be written: %s", strerror(-rc)) : 0;
}

static void header_set(struct qcow2 *q, uint32_t n, uint64_t at)
{
	q->header.snapshots = n;
	q->header.snapshots_at.off = at;
	qcow2_header_changed(q);
}

/* On a failure the disk's header has the old table, or the new one until a commit succeeds. */
static int change_publish(struct co *co, struct qcow2 *q, struct change *c, struct err *err)
{
	uint32_t n = q->header.snapshots;
	uint64_t at = q->header.snapshots_at.off;
	int rc;

	header_set(q, c->records.n, c->records.n ? c->fresh.host : 0);
	qcow2_guard_keep(q, c->fresh.host, c->fresh.bytes, QCOW2_ROLE_SNAPSHOTS);
	rc = qcow2_commit(co, q);
	if (!rc) {
		c->fresh.bytes = 0;
		return 0;
	}
	header_set(q, n, at);
	return err_set(err, rc, "the header can't be written: %s", strerror(-rc));
}

/* ---- create ---- */

struct creation {
	struct qcow2_freeze freeze;
	struct change table;
	struct qcow2_space l1;
	struct qcow2_snapshot record;
	bool announced; /* the header may be on disk */
};

/* A refcount of one bit counts no second reference. */
static int width_check(const struct qcow2 *q, struct err *err)
{
	for (uint64_t i = 0; q->header.refcount_order == 0 && i < q->l1.n; i++)
		if (q->l1.entries[i])
			return err_set(err, -ERANGE, "refcounts of one bit can't count a second reference");
	return 0;
}

/* What of the record is known beforehand. */
static int record_begin(struct creation *c, struct qcow2_snapshot_new *how, struct err *err)
{
	struct qcow2_snapshot_info *info = &c->record.info;

	if (strlen(how->name) >= sizeof(info->name))
		return err_set(
			err, -ENAMETOOLONG, "the name of a snapshot has at most %zu bytes", sizeof(info->name) - 1);
	strcpy(info->name, how->name);
	snprintf(info->id, sizeof(info->id), "%" PRIu64, c->table.records.highest_id + 1);
	info->date_sec = how->date_sec;
	info->date_nsec = how->date_nsec;
	info->vm_clock_nsec = how->vm_clock_nsec;
	memcpy(how->id, info->id, sizeof(how->id));
	return 0;
}

static int record_add(struct creation *c, struct err *err)
{
	c->record.info.disk_bytes = c->freeze.size;
	c->record.l1.off = c->l1.bytes ? c->l1.host : 0;
	c->record.l1_entries = (uint32_t)c->freeze.n;
	return qcow2_records_add(&c->table.records, &c->record, err);
}

/* Room for both tables. The instant then tells whether the L1 table has grown since. */
static int take_space(struct co *co, struct qcow2 *q, struct creation *c, struct err *err)
{
	uint64_t records = c->table.records.len + qcow2_record_bytes(&c->record.info);
	int rc = qcow2_space_take(co, q, records, &c->table.fresh, err);

	return rc ? rc : qcow2_space_take(co, q, q->l1.n * 8, &c->l1, err);
}

static int take_instant(struct co *co, struct qcow2 *q, struct creation *c, struct err *err)
{
	int rc = qcow2_freeze_begin(co, q, &c->freeze);

	if (rc)
		return err_set(err, rc, "no memory for the L1 table");
	if (c->l1.bytes == align_up(c->freeze.n * 8, q->cluster_bytes))
		return 0;
	qcow2_space_give_back(co, q, &c->l1);
	return qcow2_space_take(co, q, c->freeze.n * 8, &c->l1, err);
}

static int freeze_all(struct co *co, struct qcow2 *q, struct creation *c, struct err *err)
{
	int rc = qcow2_freeze_all(co, q, &c->freeze);

	if (rc == -ERANGE)
		return err_set(err, rc, "a cluster has as many references already as %u bits can count",
			1u << q->header.refcount_order);
	return rc ? err_set(err, rc, "the references can't be counted: %s", strerror(-rc)) : 0;
}

/* What nothing points to yet: the tables, and what freezing has changed. */
static int write_tables(struct co *co, struct qcow2 *q, struct creation *c, struct err *err)
{
	int rc = qcow2_l1_write(co, q, c->l1.host, c->freeze.l1, c->freeze.n);

	if (rc)
		return err_set(err, rc, "the snapshot's L1 table can't be written: %s", strerror(-rc));
	return change_write(co, q, &c->table, err);
}

static int freeze_and_commit(struct co *co, struct qcow2 *q, struct creation *c, struct err *err)
{
	int rc = freeze_all(co, q, c, err);

	if (rc)
		return rc;
	rc = qcow2_commit(co, q);
	return rc ? err_set(err, rc, "the references can't be written: %s", strerror(-rc)) : 0;
}

static int announce(struct co *co, struct qcow2 *q, struct creation *c, struct err *err)
{
	c->announced = true;
	qcow2_guard_keep(q, c->l1.host, c->l1.bytes, QCOW2_ROLE_INACTIVE_L1);
	return change_publish(co, q, &c->table, err);
}

static int take_snapshot(
	struct co *co, struct qcow2 *q, struct creation *c, struct qcow2_snapshot_new *how, struct err *err)
{
	int rc = record_begin(c, how, err);

	if (!rc)
		rc = take_space(co, q, c, err);
	if (!rc)
		rc = take_instant(co, q, c, err);
	if (!rc)
		rc = record_add(c, err);
	if (!rc)
		rc = write_tables(co, q, c, err);
	if (!rc && MUTANT(25))
		return announce(co, q, c, err) ?: freeze_and_commit(co, q, c, err);
	if (!rc)
		rc = freeze_and_commit(co, q, c, err);
	return rc ? rc : announce(co, q, c, err);
}

/* The references that were taken go back, once no header on disk can name them. */
static void untake(struct co *co, struct qcow2 *q, struct creation *c)
{
	if (c->announced) {
		qcow2_space_free(q, &c->l1);
		qcow2_space_free(q, &c->table.fresh);
	} else {
		qcow2_space_give_back(co, q, &c->l1);
		qcow2_space_give_back(co, q, &c->table.fresh);
	}
	if (!c->freeze.l1)
		return;
	if (q->closing || qcow2_commit(co, q)) {
		q->stats.reclaim_errors++;
		return;
	}
	qcow2_tree_release(co, q, c->freeze.l1, c->freeze.n);
	if (qcow2_copied_restore(co, q, NULL, 0))
		q->stats.reclaim_errors++;
}

int qcow2_snapshot_create(struct co *co, struct node *n, struct qcow2_snapshot_new *how, struct err *err)
{
	struct qcow2 *q = qcow2_of(n);
	AUTO_FREE struct creation *c = calloc(1, sizeof(*c));
	int rc = c ? qcow2_snapshot_enter(co, q, err) : err_set(err, -ENOMEM, "no memory");

	if (rc)
		return rc;
	rc = width_check(q, err);
	if (!rc)
		rc = change_begin(co, q, &c->table, err);
	if (!rc)
		rc = take_snapshot(co, q, c, how, err);
	qcow2_freeze_end(co, q, &c->freeze);
	if (rc)
		untake(co, q, c);
	else
		qcow2_space_give_back(co, q, &c->table.old);
	qcow2_freeze_fini(&c->freeze);
	free(c->table.records.bytes);
	qcow2_snapshot_leave(q);
	return rc;
}

/* ---- delete ---- */

struct deletion {
	struct change table;
	struct qcow2_snapshot_place place;
	uint64_t *l1;
};

static int deletion_prepare(struct co *co, struct qcow2 *q, struct deletion *d, const char *which, struct err *err)
{
	const struct qcow2_snapshot *s = &d->place.is;
	int rc = qcow2_snapshot_find(co, q->node.file, &q->header, which, &d->place, err);

	if (!rc)
		rc = qcow2_snapshot_check(&q->header, q->file_bytes, s, 0, err);
	if (!rc)
		rc = change_begin(co, q, &d->table, err);
	if (rc)
		return rc;
	d->l1 = node_alloc_zeroed(s->l1_entries * sizeof(*d->l1));
	if (!d->l1)
		return err_set(err, -ENOMEM, "no memory for the snapshot's L1 table");
	rc = qcow2_l1_read(co, q, s->l1.off, d->l1, s->l1_entries);
	if (rc)
		return err_set(err, rc, "the snapshot's L1 table can't be read: %s", strerror(-rc));
	qcow2_records_remove(&d->table.records, d->place.from, d->place.to);
	return qcow2_space_take(co, q, d->table.records.len, &d->table.fresh, err);
}

static void give_references_back(struct co *co, struct qcow2 *q, struct deletion *d)
{
	struct qcow2_space l1 = {d->place.is.l1.off, align_up(d->place.is.l1_entries * UINT64_C(8), q->cluster_bytes)};

	if (MUTANT(79) && qcow2_copied_restore(co, q, NULL, 0))
		q->stats.reclaim_errors++;
	if (!MUTANT(80))
		qcow2_tree_release(co, q, d->l1, d->place.is.l1_entries);
	qcow2_space_give_back(co, q, &l1);
	qcow2_space_give_back(co, q, &d->table.old);
	if (qcow2_copied_restore(co, q, NULL, 0) || qcow2_commit(co, q))
		q->stats.reclaim_errors++;
}

static int delete_snapshot(struct co *co, struct qcow2 *q, struct deletion *d, const char *which, struct err *err)
{
	int rc = deletion_prepare(co, q, d, which, err);

	if (!rc)
		rc = change_write(co, q, &d->table, err);
	if (rc) {
		qcow2_space_give_back(co, q, &d->table.fresh);
		return rc;
	}
	if (MUTANT(80))
		qcow2_tree_release(co, q, d->l1, d->place.is.l1_entries);
	rc = change_publish(co, q, &d->table, err);
	if (rc)
		qcow2_space_free(q, &d->table.fresh);
	else
		give_references_back(co, q, d);
	return rc;
}

int qcow2_snapshot_delete(struct co *co, struct node *n, const char *which, struct err *err)
{
	struct qcow2 *q = qcow2_of(n);
	AUTO_FREE struct deletion *d = calloc(1, sizeof(*d));
	int rc = d ? qcow2_snapshot_enter(co, q, err) : err_set(err, -ENOMEM, "no memory");

	if (rc)
		return rc;
	rc = delete_snapshot(co, q, d, which, err);
	free(d->l1);
	free(d->table.records.bytes);
	qcow2_snapshot_leave(q);
	return rc;
}

/* ---- complete records ---- */

static int complete_records(struct co *co, struct qcow2 *q, struct change *c, struct err *err)
{
	bool changed = false;
	int rc = change_begin(co, q, c, err);

	if (rc)
		return rc;
	if (qcow2_records_complete(&c->records, q->header.size, &changed))
		return err_set(err, -ENOMEM, "no memory for the snapshot table");
	if (!changed)
		return 0;
	rc = qcow2_space_take(co, q, c->records.len, &c->fresh, err);
	if (rc)
		return rc;
	rc = change_write(co, q, c, err);
	if (rc) {
		qcow2_space_give_back(co, q, &c->fresh);
		return rc;
	}
	rc = change_publish(co, q, c, err);
	if (rc)
		qcow2_space_free(q, &c->fresh);
	else
		qcow2_space_give_back(co, q, &c->old);
	return rc;
}

int qcow2_snapshots_complete(struct co *co, struct qcow2 *q, struct err *err)
{
	struct change c;
	int rc = qcow2_snapshot_enter(co, q, err);

	if (rc)
		return rc;
	rc = complete_records(co, q, &c, err);
	free(c.records.bytes);
	qcow2_snapshot_leave(q);
	return rc;
}
