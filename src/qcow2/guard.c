/* SPDX-License-Identifier: MIT */
/* See guard.h. The hash table has linear probing, and no tombstones: what follows a slot that becomes free moves up. */
#include "qcow2/guard.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "qcow2/engine.h"
#include "qcow2/snapshot_ops.h"

#define LEAST_SLOTS 64u
#define CONTESTED UINT32_MAX /* index: two entries name it, so that neither may have it changed */

/* QEMU's names, as far as it has them. */
static const char *const role_names[] = {
	[QCOW2_ROLE_NONE] = "nothing",
	[QCOW2_ROLE_HEADER] = "qcow2_header",
	[QCOW2_ROLE_L1] = "active L1 table",
	[QCOW2_ROLE_L2] = "active L2 table",
	[QCOW2_ROLE_REFTABLE] = "refcount table",
	[QCOW2_ROLE_REFBLOCK] = "refcount block",
	[QCOW2_ROLE_SNAPSHOTS] = "snapshot table",
	[QCOW2_ROLE_INACTIVE_L1] = "inactive L1 table",
	[QCOW2_ROLE_INACTIVE_L2] = "inactive L2 table",
	[QCOW2_ROLE_BITMAPS] = "bitmap directory",
	[QCOW2_ROLE_CRYPTO] = "encryption header",
};

/* ---- the hash table ---- */

static size_t slot_of(const struct qcow2_guard *g, uint64_t cluster)
{
	return (size_t)((cluster * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (g->slots - 1);
}

/* Where the cluster is, or would be put. */
static struct qcow2_guarded *find(const struct qcow2_guard *g, uint64_t cluster)
{
	size_t i = slot_of(g, cluster);

	while (g->v[i].cluster && g->v[i].cluster != cluster)
		i = (i + 1) & (g->slots - 1);
	return &g->v[i];
}

static int make_room(struct qcow2_guard *g, size_t n)
{
	struct qcow2_guard to = {.n = g->n, .slots = MAX(g->slots, (size_t)LEAST_SLOTS), .incomplete = g->incomplete};

	while (to.slots < 2 * n)
		to.slots *= 2;
	if (to.slots == g->slots)
		return 0;
	to.v = calloc(to.slots, sizeof(*to.v));
	if (!to.v)
		return -ENOMEM;
	for (size_t i = 0; i < g->slots; i++)
		if (g->v[i].cluster)
			*find(&to, g->v[i].cluster) = g->v[i];
	free(g->v);
	*g = to;
	return 0;
}

static void put(struct qcow2_guard *g, struct qcow2_guarded it)
{
	if (make_room(g, g->n + 1)) {
		g->incomplete = true;
		return;
	}
	g->n += find(g, it.cluster)->cluster == 0;
	*find(g, it.cluster) = it;
}

/* The free slot wanders to the end of the run: each one behind it that may lie there moves. */
static void take_out(struct qcow2_guard *g, struct qcow2_guarded *it)
{
	size_t hole = (size_t)(it - g->v), mask = g->slots - 1;

	for (size_t i = (hole + 1) & mask; g->v[i].cluster; i = (i + 1) & mask) {
		if (((i - slot_of(g, g->v[i].cluster)) & mask) < ((i - hole) & mask))
			continue;
		g->v[hole] = g->v[i];
		hole = i;
	}
	g->v[hole] = (struct qcow2_guarded){0};
	g->n--;
}

/* ---- the truth ---- */

static bool table_names(const struct qcow2 *q, const struct qcow2_table *t, const struct qcow2_guarded *it)
{
	return it->index < t->n && qcow2_cluster_of(q, t->entries[it->index] & QCOW2_OFFSET_MASK) == it->cluster;
}

/* The entry that would have to name it still does. */
static bool is_true(const struct qcow2 *q, const struct qcow2_guarded *it)
{
	if (it->index == CONTESTED || MUTANT(102))
		return true;
	switch (it->role) {
	case QCOW2_ROLE_L2: return table_names(q, &q->l1, it);
	case QCOW2_ROLE_REFBLOCK: return table_names(q, &q->reftable, it);
	default: return true;
	}
}

static bool touches(const struct qcow2 *q, uint64_t host, uint64_t bytes, uint64_t off, uint64_t len)
{
	return len && host < align_up(off + len, q->cluster_bytes) && off < host + bytes;
}

static enum qcow2_role fixed_role(const struct qcow2 *q, uint64_t host, uint64_t bytes)
{
	const struct qcow2_header *h = &q->header;

	if (host < q->cluster_bytes)
		return QCOW2_ROLE_HEADER;
	if (touches(q, host, bytes, h->l1.off, q->l1.n * 8))
		return QCOW2_ROLE_L1;
	if (touches(q, host, bytes, h->reftable.off, (uint64_t)h->reftable_clusters << q->cluster_bits))
		return QCOW2_ROLE_REFTABLE;
	if (touches(q, host, bytes, h->bitmap_directory.off, h->bitmap_directory_bytes))
		return QCOW2_ROLE_BITMAPS;
	return touches(q, host, bytes, h->crypto.off, h->crypto_bytes) ? QCOW2_ROLE_CRYPTO : QCOW2_ROLE_NONE;
}

static enum qcow2_role role_of(const struct qcow2 *q, uint64_t cluster)
{
	const struct qcow2_guarded *it = find(&q->guard, cluster);

	return it->cluster && is_true(q, it) ? (enum qcow2_role)it->role : QCOW2_ROLE_NONE;
}

/* ---- keeping up ---- */

static bool same(const struct qcow2_guarded *a, const struct qcow2_guarded *b)
{
	return a->cluster == b->cluster && a->role == b->role && a->index == b->index;
}

/* A table of a snapshot may be active as well. */
void qcow2_guard_add(struct qcow2 *q, uint64_t host, enum qcow2_role role, uint64_t index)
{
	struct qcow2_guarded it = {.cluster = qcow2_cluster_of(q, host), .index = (uint32_t)index, .role = role};
	struct qcow2_guarded *there;

	if (!q->guard.v || it.cluster == 0 || fixed_role(q, host, 1))
		return;
	there = find(&q->guard, it.cluster);
	if (!there->cluster || !is_true(q, there) || (there->role == QCOW2_ROLE_INACTIVE_L2 && role == QCOW2_ROLE_L2))
		put(&q->guard, it);
	else if (!same(there, &it))
		there->index = CONTESTED;
}

void qcow2_guard_keep(struct qcow2 *q, uint64_t host, uint64_t bytes, enum qcow2_role role)
{
	uint64_t first = qcow2_cluster_of(q, host), n = div_round_up(bytes, q->cluster_bytes);

	for (uint64_t i = first; q->guard.v && i < first + n && !MUTANT(164); i++)
		if (i && !role_of(q, i))
			put(&q->guard, (struct qcow2_guarded){.cluster = i, .role = role});
}

void qcow2_guard_free(struct qcow2 *q, uint64_t cluster)
{
	struct qcow2_guarded *it = q->guard.v ? find(&q->guard, cluster) : NULL;
	bool asked = it && (it->role == QCOW2_ROLE_L2 || it->role == QCOW2_ROLE_REFBLOCK);

	if (it && it->cluster && !(asked && is_true(q, it)) &&
		!MUTANT(103)) /* else it isn't free, whatever its refcount says */
		take_out(&q->guard, it);
}

static void add_all(struct qcow2 *q, const struct qcow2_table *t, enum qcow2_role role)
{
	for (uint64_t i = 0; i < t->n; i++)
		if (t->entries[i] & QCOW2_OFFSET_MASK)
			qcow2_guard_add(q, t->entries[i] & QCOW2_OFFSET_MASK, role, i);
}

static size_t count(const struct qcow2_table *t)
{
	size_t n = 0;

	for (uint64_t i = 0; i < t->n; i++)
		n += (t->entries[i] & QCOW2_OFFSET_MASK) != 0;
	return n;
}

/* Snapshots first: what they have can't be a table of the active tree. */
int qcow2_guard_start(struct co *co, struct qcow2 *q)
{
	int rc = 0;

	if (!q->options.write)
		return 0;
	rc = make_room(&q->guard, count(&q->l1) + count(&q->reftable));
	if (!rc)
		rc = qcow2_snapshots_look(co, q);
	if (rc)
		return rc;
	add_all(q, &q->reftable, QCOW2_ROLE_REFBLOCK);
	add_all(q, &q->l1, QCOW2_ROLE_L2);
	return 0;
}

void qcow2_guard_fini(struct qcow2 *q)
{
	free(q->guard.v);
	q->guard = (struct qcow2_guard){0};
}

/* ---- questions ---- */

static int refuse(struct co *co, struct qcow2 *q, enum qcow2_role role, uint64_t host)
{
	return qcow2_corrupt(co, q, "Preventing invalid write on metadata (overlaps with %s), offset %#" PRIx64,
		role_names[role], host);
}

int qcow2_guard_write(struct co *co, struct qcow2 *q, uint64_t host, uint64_t bytes)
{
	enum qcow2_role role = QCOW2_ROLE_NONE;
	uint64_t last;

	if (!q->guard.v || !bytes)
		return 0;
	role = fixed_role(q, host, bytes);
	if (role && !MUTANT(161))
		return refuse(co, q, role, host);
	last = qcow2_cluster_of(q, host + bytes - 1);
	for (uint64_t i = qcow2_cluster_of(q, host); i <= last; i++) {
		role = role_of(q, i);
		if (role && !MUTANT(162))
			return refuse(co, q, role, i << q->cluster_bits);
	}
	return 0;
}

int qcow2_guard_table(struct co *co, struct qcow2 *q, uint64_t host, enum qcow2_role role, uint64_t index)
{
	const struct qcow2_guarded *it;
	enum qcow2_role fixed;

	if (!q->guard.v || MUTANT(163))
		return 0;
	it = find(&q->guard, qcow2_cluster_of(q, host));
	if (it->cluster && it->role == role && it->index == index)
		return 0;
	if (!it->cluster && q->guard.incomplete)
		return 0;
	fixed = fixed_role(q, host, 1);
	return refuse(co, q, fixed ? fixed : it->cluster ? (enum qcow2_role)it->role : role, host);
}
