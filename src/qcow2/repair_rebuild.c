/* SPDX-License-Identifier: MIT */
/*
 * New refcount structures, from the counts alone, in clusters that nothing refers to:
 *
 *     the new blocks, the new table; flush; the header's table offset and size, in one sector; flush
 *
 * Until the header is written the old structures are untouched. They are counted by the new ones as everything else is;
 * the next round finds them leaked.
 */
#include "qcow2/repair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct plan {
	uint8_t *needed;          /* per block: it counts something */
	uint64_t indexes, blocks; /* entries of the table that are used; blocks among them */
	uint64_t table_clusters;
	uint64_t first; /* cluster of the first block; the table follows the last */
};

/* Whether a block would say anything but zeros. */
static bool block_needed(const struct qcow2_checker *c, uint64_t index)
{
	uint64_t first = index * c->refcounts.per_block, next;

	for (uint64_t i = first; i < MIN(first + c->refcounts.per_block, c->counts.clusters); i++) {
		if (!qcow2_counts_any(c, i, &next))
			i = next - 1;
		else if (qcow2_counts_get(c, i).number > 0)
			return true;
	}
	return false;
}

static int needed_mark(const struct qcow2_checker *c, struct plan *p)
{
	uint64_t room = (c->counts.leaf_entries << 16) / c->refcounts.per_block + 1;

	p->needed = calloc(room, 1);
	if (!p->needed)
		return -ENOMEM;
	for (uint64_t i = 0; i < div_round_up(c->counts.clusters, c->refcounts.per_block); i++) {
		p->needed[i] = block_needed(c, i);
		p->blocks += p->needed[i];
		if (p->needed[i])
			p->indexes = i + 1;
	}
	return 0;
}

/* The blocks that count the new structures themselves are needed too. */
static void plan_extend(const struct qcow2_checker *c, struct plan *p, uint64_t n)
{
	uint64_t last = (p->first + n - 1) / c->refcounts.per_block;

	for (uint64_t i = p->first / c->refcounts.per_block; i <= last; i++) {
		p->blocks += !p->needed[i];
		p->needed[i] = 1;
	}
	p->indexes = MAX(p->indexes, last + 1);
	p->table_clusters = div_round_up(p->indexes * 8, c->cluster_bytes);
}

static int plan_make(struct co *co, struct qcow2_repairer *r, struct plan *p)
{
	uint64_t n = 0;
	int ret = needed_mark(r->c, p);

	p->table_clusters = 1;
	while (ret == 0 && p->blocks + p->table_clusters > n) {
		n = p->blocks + p->table_clusters;
		ret = qcow2_repair_find(co, r, n, false, &p->first);
		if (ret == 0)
			plan_extend(r->c, p, n);
	}
	if (ret == 0 && p->table_clusters * r->c->cluster_bytes > QCOW2_MAX_REFTABLE_BYTES)
		ret = -EFBIG;
	if (ret == 0)
		ret = qcow2_counts_add(r->c, p->first * r->c->cluster_bytes,
			(p->blocks + p->table_clusters) * r->c->cluster_bytes, QCOW2_ROLE_REFCOUNTS, 0);
	return ret;
}

static int block_write(struct co *co, struct qcow2_repairer *r, uint64_t index, uint64_t host, void *block)
{
	const struct qcow2_checker *c = r->c;
	uint64_t first = index * c->refcounts.per_block;

	memset(block, 0, c->cluster_bytes);
	for (uint64_t i = 0; i < c->refcounts.per_block && first + i < c->counts.clusters; i++) {
		uint64_t refcount = MIN(qcow2_repair_refcount(co, r, first + i), c->counts.refcount_max);

		if (refcount > 0)
			qcow2_repair_refcount_put(block, i, c->header.refcount_order, refcount);
	}
	return c->incomplete && !MUTANT(136) ? -EIO : qcow2_repair_write(co, r, host, block, c->cluster_bytes);
}

static int structures_write(struct co *co, struct qcow2_repairer *r, const struct plan *p, be64 *table)
{
	uint64_t cluster_bytes = r->c->cluster_bytes, host = p->first * cluster_bytes;
	AUTO_FREE void *block = node_alloc(cluster_bytes);
	int ret = block ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < p->indexes && ret == 0; i++) {
		if (!p->needed[i])
			continue;
		table[i] = be64_of(host);
		ret = block_write(co, r, i, host, block);
		host += cluster_bytes;
	}
	return ret == 0 ? qcow2_repair_write(co, r, host, table, p->table_clusters * cluster_bytes) : ret;
}

static int publish(struct co *co, struct qcow2_repairer *r, const struct plan *p)
{
	r->c->header.reftable.off = (p->first + p->blocks) * r->c->cluster_bytes;
	r->c->header.reftable_clusters = (uint32_t)p->table_clusters;
	return qcow2_repair_header(co, r);
}

static int rebuild(struct co *co, struct qcow2_repairer *r, struct plan *p)
{
	AUTO_FREE be64 *table = NULL;
	int ret = plan_make(co, r, p);

	if (ret < 0)
		return ret;
	table = node_alloc_zeroed(p->table_clusters * r->c->cluster_bytes);
	if (!table)
		return -ENOMEM;
	if (MUTANT(90)) {
		ret = publish(co, r, p);
		return ret == 0 ? structures_write(co, r, p, table) : ret;
	}
	ret = structures_write(co, r, p, table);
	if (ret == 0)
		ret = qcow2_repair_flush(co, r);
	return ret == 0 ? publish(co, r, p) : ret;
}

int qcow2_repair_rebuild(struct co *co, struct qcow2_repairer *r)
{
	struct plan p = {0};
	int ret;

	qcow2_check_found(r->c, NULL, "Rebuilding refcount structure");
	ret = rebuild(co, r, &p);
	free(p.needed);
	return ret;
}
