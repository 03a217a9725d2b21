/* SPDX-License-Identifier: MIT */
/*
 * Zero clusters said without the zero flag, which version 2 doesn't have:
 *
 *                            nothing below              the backing file shows
 *     no space               entry 0                    new space, zeros written
 *     own space              entry 0, space freed       zeros written there
 *     space that is shared   entry 0, one ref less      new space, zeros written; one ref less
 *
 * An entry is changed where it lies, in tables that several trees share too: what is read through it stays the same, so
 * nobody sees which of the two it is. New space is counted once for each tree that reaches the entry, before: the commit
 * sees to the order (zeros and refcounts, barrier, entries, barrier, then what was freed). Nothing that a snapshot may still
 * read is overwritten. A power cut leaves some entries as they were; whoever comes next goes on.
 *
 * Which trees reach a table is asked of their L1 tables, index by index: the refcount of the table may be too high.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/amend.h"
#include "qcow2/snapshot.h"

#define WINDOW 64u        /* L1 entries of each tree that are looked at together */
#define COMMIT_TABLES 64u /* so many tables changed, and the changes are committed */

struct tree {
	uint64_t l1, entries; /* of the active one only the number */
};

struct table {          /* an L2 table */
	uint64_t index; /* in the L1 tables */
	uint64_t host;
	uint64_t parents; /* that it was found in */
	bool own;         /* the active tree has it alone */
};

struct trees;
typedef int table_fn(struct co *co, struct trees *t, const struct table *table);

struct trees {
	struct qcow2 *q;
	table_fn *fn;   /* for each table */
	struct tree *v; /* the active one first */
	uint64_t n, most_entries;
	be64 *window;   /* WINDOW entries of each */
	uint64_t *same; /* the entries of one index */
	void *buffer;   /* a cluster of zeros */
	qcow2_progress *progress;
	void *arg;
	unsigned changed; /* tables, since the last commit */
	bool compressed;  /* some entry is */
};

/* ---- the trees ---- */

static int tree_add(struct trees *t, const struct qcow2_snapshot *s, struct err *err)
{
	int rc = qcow2_snapshot_check(&t->q->header, t->q->file_bytes, s, 0, err);

	t->v[t->n++] = (struct tree){s->l1.off, s->l1_entries};
	t->most_entries = MAX(t->most_entries, s->l1_entries);
	return rc;
}

static int snapshots_add(struct co *co, struct trees *t, struct err *err)
{
	const struct qcow2_header *h = &t->q->header;
	struct qcow2_snapshot_walk walk = {.window.file = t->q->node.file, .header = h, .at = h->snapshots_at.off};
	AUTO_FREE struct qcow2_snapshot *one = malloc(sizeof(*one));
	int more = one ? 1 : err_set(err, -ENOMEM, "no memory for the snapshots");

	while (more > 0 && (more = qcow2_snapshot_next(co, &walk, one, err)) > 0) {
		int rc = tree_add(t, one, err);

		more = rc ? rc : more;
	}
	free(walk.window.bytes);
	return more;
}

static void trees_free(struct trees *t)
{
	if (!t)
		return;
	free(t->v);
	free(t->window);
	free(t->same);
	free(t->buffer);
	free(t);
}

static int trees_new(struct co *co, struct qcow2 *q, table_fn *fn, struct trees **out, struct err *err)
{
	uint64_t n = 1 + (uint64_t)q->header.snapshots;
	struct trees *t = calloc(1, sizeof(*t));

	*out = t;
	if (!t)
		return err_set(err, -ENOMEM, "no memory for the L1 tables");
	t->q = q;
	t->fn = fn;
	t->v = calloc(n, sizeof(*t->v));
	t->window = calloc(n * WINDOW, sizeof(*t->window));
	t->same = calloc(n, sizeof(*t->same));
	t->buffer = aligned_alloc(4096, align_up(q->cluster_bytes, 4096));
	if (!t->v || !t->window || !t->same || !t->buffer)
		return err_set(err, -ENOMEM, "no memory for the L1 tables");
	memset(t->buffer, 0, q->cluster_bytes);
	t->v[t->n++].entries = t->most_entries = q->l1.n;
	return MUTANT(111) ? 0 : snapshots_add(co, t, err);
}

/* ---- walking along them ---- */

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int window_read(struct co *co, struct trees *t, uint64_t first)
{
	int rc = 0;

	for (uint64_t k = 1; !rc && k < t->n; k++) {
		be64 *to = t->window + k * WINDOW;
		uint64_t n = t->v[k].entries > first ? MIN(t->v[k].entries - first, (uint64_t)WINDOW) : 0;

		memset(to, 0, WINDOW * sizeof(*to));
		if (n)
			rc = node_read(co, t->q->node.file, t->v[k].l1 + first * 8, IOV_BUF(to, n * 8));
	}
	return rc;
}

/* Each table that the index names, once. */
static int index_walk(struct co *co, struct trees *t, uint64_t index)
{
	struct qcow2 *q = t->q;
	uint64_t active = index < q->l1.n ? q->l1.entries[index] : 0, next;
	int rc = 0;

	t->same[0] = active & QCOW2_OFFSET_MASK;
	for (uint64_t k = 1; k < t->n; k++)
		t->same[k] = be64_get(t->window[k * WINDOW + index % WINDOW]) & QCOW2_OFFSET_MASK;
	qsort(t->same, t->n, sizeof(*t->same), ascending);
	for (uint64_t k = 0; !rc && k < t->n; k = next) {
		struct table table = {
			index, t->same[k], 1, (active & QCOW2_COPIED) && t->same[k] == (active & QCOW2_OFFSET_MASK)};

		for (next = k + 1; next < t->n && t->same[next] == t->same[k]; next++)
			table.parents++;
		if (table.host && !qcow2_offset_valid(q, table.host))
			rc = qcow2_corrupt(co, q, "an entry of an L2 table, or the place of one, is what it can't be");
		else if (table.host)
			rc = t->fn(co, t, &table);
	}
	return rc;
}

static int trees_walk(struct co *co, struct trees *t)
{
	int rc = 0;

	for (uint64_t i = 0; !rc && i < t->most_entries; i++) {
		if (i % WINDOW == 0)
			rc = window_read(co, t, i);
		if (!rc)
			rc = index_walk(co, t, i);
		if (!rc && t->progress && !t->progress(t->arg, i + 1, t->most_entries))
			rc = -ECANCELED;
	}
	return rc;
}

/* ---- one entry ---- */

static bool backing_shows(const struct qcow2 *q, uint64_t guest)
{
	return q->node.backing && guest < q->node.backing->size && !MUTANT(109);
}

static int zeros_write(struct co *co, struct trees *t, uint64_t host)
{
	struct qcow2 *q = t->q;
	int rc = qcow2_file_reach(co, q, host + q->cluster_bytes);

	if (rc)
		return rc;
	if (q->encrypted)
		return node_write(co, q->node.data, host, IOV_BUF(t->buffer, q->cluster_bytes), 0);
	return node_zero(co, q->node.data, host, q->cluster_bytes, 0);
}

/* Space that reads zeros, with a reference for each tree that may reach the table. */
static int space_take(struct co *co, struct trees *t, const struct table *table, uint64_t *host)
{
	struct qcow2 *q = t->q;
	uint64_t got, references, done;
	bool zeroed;
	int rc = qcow2_refcount_find(co, q, qcow2_cluster_of(q, table->host), &references);

	if (!rc)
		rc = qcow2_alloc(co, q, 1, host, &got, &zeroed);
	if (rc)
		return rc;
	if (!zeroed || q->encrypted)
		rc = zeros_write(co, t, *host);
	references = MAX(references, table->parents);
	for (uint64_t i = 1; !rc && i < references && !MUTANT(108); i++)
		rc = qcow2_refcount_raise(co, q, qcow2_cluster_of(q, *host), 1, &done);
	if (rc)
		q->stats.leaked++;
	return rc;
}

/* What the entry becomes; *freed: its space loses a reference for each parent of the table. */
static int entry_expand(struct co *co, struct trees *t, const struct table *table, uint64_t guest, struct qcow2_entry e,
	struct qcow2_entry *to, bool *freed)
{
	bool own = table->own && qcow2_entry_is_own(e);
	uint64_t host = qcow2_entry_host(e);
	int rc;

	*to = (struct qcow2_entry){0};
	*freed = qcow2_entry_has_host(e);
	if (!backing_shows(t->q, guest))
		return 0;
	*freed &= !own;
	rc = own ? zeros_write(co, t, host) : space_take(co, t, table, &host);
	to->descriptor = host | (table->own ? QCOW2_COPIED : 0);
	to->data = 1;
	return rc;
}

static int entry_replace(struct co *co, struct trees *t, const struct table *table, uint64_t slice, uint32_t index,
	struct qcow2_entry e, struct qcow2_entry to, bool freed)
{
	struct qcow2 *q = t->q;
	struct qcow2_slice *s;
	int rc = qcow2_cache_get(co, &q->l2_cache, slice, &s);

	if (!rc && freed)
		rc = qcow2_free_prepare(q, table->parents);
	if (rc)
		return rc;
	for (uint64_t i = 0; freed && i < table->parents; i++)
		qcow2_free(q, qcow2_entry_host(e), q->cluster_bytes);
	qcow2_l2_set(q, s, index, to);
	return 0;
}

static int entry_visit(
	struct co *co, struct trees *t, const struct table *table, uint64_t slice, uint32_t index, struct qcow2_entry e)
{
	struct qcow2 *q = t->q;
	uint64_t entry = table->index * q->l2_entries + (slice - table->host) / q->l2_entry_bytes + index;
	struct qcow2_entry to;
	bool freed;
	int rc = qcow2_free_throttle(co, q);

	if (!rc)
		rc = entry_expand(co, t, table, entry << q->cluster_bits, e, &to, &freed);
	return rc ? rc : entry_replace(co, t, table, slice, index, e, to, freed);
}

static int slice_expand(struct co *co, struct trees *t, const struct table *table, uint64_t slice)
{
	struct qcow2 *q = t->q;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < qcow2_l2_slice_entries(q); i++) {
		struct qcow2_slice *s;
		struct qcow2_entry e;

		rc = qcow2_cache_get(co, &q->l2_cache, slice, &s);
		if (rc)
			return rc;
		e = qcow2_l2_entry(q, s, i);
		if (!qcow2_l2_entry_valid(q, e))
			rc = qcow2_corrupt(co, q, "an entry of an L2 table, or the place of one, is what it can't be");
		else if (e.zero)
			rc = entry_visit(co, t, table, slice, i, e);
	}
	return rc;
}

static int table_expand(struct co *co, struct trees *t, const struct table *table)
{
	struct qcow2 *q = t->q;
	int rc = 0;

	for (uint64_t at = 0; !rc && at < q->cluster_bytes; at += q->l2_cache.slice_bytes)
		rc = slice_expand(co, t, table, table->host + at);
	if (!rc && ++t->changed % COMMIT_TABLES == 0 && q->dirty)
		rc = qcow2_commit(co, q);
	return rc;
}

/* ---- doors ---- */

int qcow2_zeros_expand(struct co *co, struct qcow2 *q, qcow2_progress *progress, void *arg, struct err *err)
{
	struct trees *t;
	int rc = trees_new(co, q, table_expand, &t, err);

	if (!rc) {
		t->progress = progress;
		t->arg = arg;
		rc = trees_walk(co, t);
		if (!rc)
			rc = qcow2_commit(co, q);
		if (rc)
			err_set(err, rc, "Failed to turn zero into data clusters: %s", strerror(-rc));
	}
	trees_free(t);
	return rc;
}

static int table_look(struct co *co, struct trees *t, const struct table *table)
{
	struct qcow2 *q = t->q;
	struct qcow2_slice *s;
	int rc = 0;

	for (uint64_t at = 0; !rc && !t->compressed && at < q->cluster_bytes; at += q->l2_cache.slice_bytes) {
		rc = qcow2_cache_get(co, &q->l2_cache, table->host + at, &s);
		for (uint32_t i = 0; !rc && i < qcow2_l2_slice_entries(q); i++)
			t->compressed |= qcow2_entry_is_compressed(qcow2_l2_entry(q, s, i));
	}
	return rc;
}

int qcow2_is_compressed(struct co *co, struct qcow2 *q, bool *compressed, struct err *err)
{
	struct trees *t;
	int rc = trees_new(co, q, table_look, &t, err);

	if (!rc) {
		rc = trees_walk(co, t);
		*compressed = t->compressed;
		if (rc)
			err_set(err, rc, "Failed to check block status: %s", strerror(-rc));
	}
	trees_free(t);
	return rc;
}
