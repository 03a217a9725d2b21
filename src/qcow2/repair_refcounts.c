/* SPDX-License-Identifier: MIT */
/* Refcounts written one block at a time, in place: only the sectors that change. And free clusters, found by the counts. */
#include "qcow2/repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define SECTOR 512u

void qcow2_repair_refcount_put(void *block, uint64_t index, unsigned order, uint64_t value)
{
	unsigned char *bytes = block;

	if (order < 3) {
		unsigned shift = (unsigned)(index << order) & 7, mask = ((1u << (1u << order)) - 1) << shift;
		unsigned char *byte = &bytes[index >> (3 - order)];

		*byte = (unsigned char)((*byte & ~mask) | (unsigned)value << shift);
		return;
	}
	for (unsigned n = 1u << (order - 3), i = n; i-- > 0; value >>= 8)
		bytes[index * n + i] = (unsigned char)value;
}

struct block { /* being changed */
	uint64_t host;
	unsigned char *bytes;
	uint64_t from, to; /* bytes that differ from the disk */
};

static int block_load(struct co *co, struct qcow2_repairer *r, uint64_t index, struct block *b)
{
	b->host = qcow2_check_block(r->c, index);
	b->from = b->to = 0;
	return qcow2_check_read(co, r->c, b->host, b->bytes, r->c->cluster_bytes);
}

static void block_put(struct qcow2_repairer *r, struct block *b, uint64_t index, uint64_t value)
{
	unsigned order = r->c->header.refcount_order;
	uint64_t at = align_down((index << order) / 8, SECTOR);

	qcow2_repair_refcount_put(b->bytes, index, order, value);
	if (b->from == b->to)
		b->from = at;
	b->from = MIN(b->from, at);
	b->to = MAX(b->to, at + SECTOR);
}

static int block_store(struct co *co, struct qcow2_repairer *r, const struct block *b)
{
	return b->to > b->from ? qcow2_repair_write(co, r, b->host + b->from, b->bytes + b->from, b->to - b->from) : 0;
}

/* ---- what disagrees ---- */

uint64_t qcow2_repair_refcount(struct co *co, struct qcow2_repairer *r, uint64_t cluster)
{
	struct qcow2_checker *c = r->c;
	uint64_t number = qcow2_counts_get(c, cluster).number, old = 0;

	if (!qcow2_repair_keeps_leaks(r) ||
		!is_aligned(qcow2_check_block(c, cluster / c->refcounts.per_block), c->cluster_bytes))
		return number;
	if (qcow2_check_refcount(co, c, cluster, &old) < 0)
		c->incomplete = true;
	return MAX(number, old);
}

static void block_correct(struct qcow2_repairer *r, struct block *b, uint64_t index, uint8_t which, uint64_t *fixed)
{
	struct qcow2_checker *c = r->c;
	uint64_t first = index * c->refcounts.per_block;

	for (uint64_t i = first; i < MIN(first + c->refcounts.per_block, c->counts.clusters); i++) {
		uint64_t refcount = qcow2_check_refcount_at(b->bytes, i - first, c->header.refcount_order);
		uint64_t number = qcow2_counts_refcount(c, qcow2_counts_get(c, i));

		if (which == QCOW2_TOO_LOW ? refcount >= number : refcount <= number)
			continue;
		qcow2_check_found(c, NULL, "Repairing cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, i,
			refcount, number);
		block_put(r, b, i - first, number);
		++*fixed;
	}
}

int qcow2_repair_refcounts(struct co *co, struct qcow2_repairer *r, uint8_t which, uint64_t *fixed)
{
	struct qcow2_checker *c = r->c;
	AUTO_FREE unsigned char *bytes = node_alloc(c->cluster_bytes);
	struct block b = {.bytes = bytes};
	uint64_t blocks = div_round_up(c->counts.clusters, c->refcounts.per_block);
	int ret = bytes ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < blocks && ret == 0; i++) {
		if (!(c->refcounts.wrong[i] & which))
			continue;
		ret = block_load(co, r, i, &b);
		if (ret == 0) {
			block_correct(r, &b, i, which, fixed);
			ret = block_store(co, r, &b);
		}
	}
	qcow2_check_refcounts_forget(c);
	return ret == 0 ? qcow2_repair_flush(co, r) : ret;
}

/* ---- space ---- */

static bool is_free(struct qcow2_repairer *r, uint64_t cluster, bool counted)
{
	struct qcow2_checker *c = r->c;

	return cluster > 0 && qcow2_counts_get(c, cluster).number == 0 &&
		(!counted || qcow2_check_block(c, cluster / c->refcounts.per_block) != 0);
}

/* Behind the end of the file, unless something refers to there already. */
static int find_behind(struct co *co, struct qcow2_repairer *r, uint64_t n, bool counted, uint64_t *cluster)
{
	struct qcow2_checker *c = r->c;
	uint64_t first = c->counts.clusters; /* the file's, and what was found here before */
	uint64_t end = (first + n) * c->cluster_bytes;

	if (!c->file->grows_zeroed || end > c->dangling || first + n > c->counts.leaf_entries << 16)
		return -ENOSPC;
	for (uint64_t i = first; i < first + n; i++) {
		if (!is_free(r, i, counted))
			return -ENOSPC;
	}
	*cluster = first;
	return end > c->file->size ? node_resize(co, c->file, end) : 0;
}

static int find_between(struct qcow2_repairer *r, uint64_t n, bool counted, uint64_t *cluster)
{
	uint64_t clusters = r->c->file->size / r->c->cluster_bytes, run = 0;

	if (qcow2_repair_keeps_leaks(r))
		return -ENOSPC;
	for (uint64_t i = r->next_free; i < clusters; i++) {
		run = is_free(r, i, counted) ? run + 1 : 0;
		if (run == n) {
			*cluster = i + 1 - n;
			r->next_free = n == 1 ? i + 1 : r->next_free;
			return 0;
		}
	}
	return -ENOSPC;
}

int qcow2_repair_find(struct co *co, struct qcow2_repairer *r, uint64_t n, bool counted, uint64_t *cluster)
{
	int ret;

	/* New structures that nothing counts yet are better off where nobody has ever written. */
	if (!counted)
		return find_behind(co, r, n, counted, cluster) == 0 ? 0 : find_between(r, n, counted, cluster);
	ret = find_between(r, n, counted, cluster);
	return ret == -ENOSPC ? find_behind(co, r, n, counted, cluster) : ret;
}

static int refcount_write_one(struct co *co, struct qcow2_repairer *r, struct block *b, uint64_t cluster)
{
	uint64_t per_block = r->c->refcounts.per_block;
	int ret = block_load(co, r, cluster / per_block, b);

	if (ret == 0) {
		block_put(r, b, cluster % per_block, 1);
		ret = block_store(co, r, b);
	}
	return ret;
}

int qcow2_repair_claim(struct co *co, struct qcow2_repairer *r, uint64_t n, enum qcow2_role role, uint64_t *host)
{
	struct qcow2_checker *c = r->c;
	AUTO_FREE unsigned char *bytes = node_alloc(c->cluster_bytes);
	struct block b = {.bytes = bytes};
	uint64_t cluster = 0;
	int ret = bytes ? qcow2_repair_find(co, r, n, true, &cluster) : -ENOMEM;

	*host = cluster * c->cluster_bytes;
	if (ret == 0)
		ret = qcow2_counts_add(c, *host, n * c->cluster_bytes, role, 0);
	for (uint64_t i = 0; i < n && ret == 0; i++)
		ret = refcount_write_one(co, r, &b, cluster + i);
	return ret;
}
