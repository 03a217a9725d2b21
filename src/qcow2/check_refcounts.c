/* SPDX-License-Identifier: MIT */
/*
 * The refcounts that the image has, and what was counted held against them. Blocks are read many at once, in their order.
 * Source: docs/interop/qcow2.rst, "Host cluster management".
 */
#include "qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define BLOCK_CACHE_BYTES (UINT64_C(2) << 20)

int qcow2_check_refcounts_init(struct qcow2_checker *c, struct err *err)
{
	struct qcow2_refcounts *r = &c->refcounts;
	uint64_t blocks;

	r->per_block = c->cluster_bytes * 8 >> c->header.refcount_order;
	blocks = (c->counts.leaf_entries << 16) / r->per_block + 1;
	r->slots = MAX(MIN(blocks, BLOCK_CACHE_BYTES / c->cluster_bytes), UINT64_C(1));
	r->blocks = node_alloc(r->slots * c->cluster_bytes);
	r->cached = calloc(r->slots, sizeof(*r->cached));
	r->wrong = calloc(blocks, 1);
	if (!r->blocks || !r->cached || !r->wrong)
		return err_set(err, -ENOMEM, "no memory for refcounts");
	return 0;
}

void qcow2_check_refcounts_fini(struct qcow2_checker *c)
{
	free(c->refcounts.table);
	free(c->refcounts.blocks);
	free(c->refcounts.cached);
	free(c->refcounts.wrong);
	c->refcounts = (struct qcow2_refcounts){0};
}

/* ---- the structures themselves ---- */

static void damaged(struct qcow2_checker *c) { c->rebuild = true; }

static int reftable_entry_check(struct qcow2_checker *c, uint64_t index, uint64_t entry)
{
	uint64_t *corruptions = &c->out->corruptions, count;
	struct qcow2_cell cell;
	uint64_t host = entry & ~CHECK_REFTABLE_RESERVED;
	const char *what = "block", *wrong = NULL;
	int ret;

	if (entry & CHECK_REFTABLE_RESERVED) {
		what = "table entry";
		wrong = "has reserved bits set";
	} else if (!is_aligned(host, c->cluster_bytes)) {
		wrong = "is not cluster aligned; refcount table entry corrupted";
	} else if (host >= c->file->size) {
		wrong = "is outside image";
		c->dangling = MIN(c->dangling, host);
	}
	if (wrong) {
		damaged(c);
		qcow2_check_found(c, corruptions, "ERROR refcount %s %" PRIu64 " %s", what, index, wrong);
		return 0;
	}
	ret = qcow2_counts_add(c, host, c->cluster_bytes, QCOW2_ROLE_REFCOUNTS, 0);
	cell = qcow2_counts_get(c, host / c->cluster_bytes);
	count = qcow2_counts_refcount(c, cell);
	if (cell.number != 1)
		damaged(c);
	if (ret == 0 && count != 1) {
		qcow2_check_found(c, corruptions, "ERROR refcount block %" PRIu64 " refcount=%" PRIu64, index, count);
	}
	return ret;
}

/* The header may claim anything. A table that can't be one counts as missing. */
static bool reftable_possible(struct qcow2_checker *c)
{
	uint64_t bytes = c->header.reftable_clusters * c->cluster_bytes;

	if (bytes != 0 && bytes <= QCOW2_MAX_REFTABLE_BYTES && c->header.reftable.off != 0 &&
		is_aligned(c->header.reftable.off, c->cluster_bytes))
		return true;
	qcow2_check_found(c, &c->out->corruptions,
		"ERROR refcount table offset=0x%" PRIx64 " clusters=%" PRIu32 ": there can't be one",
		c->header.reftable.off, c->header.reftable_clusters);
	return false;
}

/* A table in which something else lies isn't to be written to. */
static void reftable_alone(struct qcow2_checker *c, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += c->cluster_bytes) {
		if (qcow2_counts_get(c, (c->header.reftable.off + at) / c->cluster_bytes).number != 1)
			damaged(c);
	}
}

int qcow2_check_reftable(struct co *co, struct qcow2_checker *c)
{
	uint64_t bytes = c->header.reftable_clusters * c->cluster_bytes;
	int ret;

	if (!reftable_possible(c)) {
		damaged(c);
		return 0;
	}
	c->refcounts.table = node_alloc(bytes);
	if (!c->refcounts.table)
		return -ENOMEM;
	c->refcounts.entries = bytes / 8;
	ret = qcow2_counts_add(c, c->header.reftable.off, bytes, QCOW2_ROLE_REFCOUNTS, 0);
	if (ret == 0)
		ret = qcow2_check_read(co, c, c->header.reftable.off, c->refcounts.table, bytes);
	return ret;
}

int qcow2_check_blocks(struct qcow2_checker *c)
{
	int ret = 0;

	for (uint64_t i = 0; i < c->refcounts.entries && ret == 0; i++) {
		if (be64_get(c->refcounts.table[i]) != 0)
			ret = reftable_entry_check(c, i, be64_get(c->refcounts.table[i]));
	}
	if (ret == 0)
		reftable_alone(c, c->refcounts.entries * 8);
	return ret;
}

/* ---- single refcounts ---- */

/* Refcounts narrower than a byte fill it from its low end; the others are big-endian. */
uint64_t qcow2_check_refcount_at(const void *bytes, uint64_t index, unsigned order)
{
	const unsigned char *block = bytes;
	uint64_t value = 0;

	if (order == 4)
		return (uint64_t)block[2 * index] << 8 | block[2 * index + 1];
	if (order < 3)
		return block[index >> (3 - order)] >> ((index << order) & 7) & ((1u << (1u << order)) - 1);
	for (unsigned i = 0; i < 1u << (order - 3); i++)
		value = value << 8 | block[(index << (order - 3)) + i];
	return value;
}

uint64_t qcow2_check_block(const struct qcow2_checker *c, uint64_t index)
{
	return index < c->refcounts.entries ? be64_get(c->refcounts.table[index]) & ~CHECK_REFTABLE_RESERVED : 0;
}

static int block_get(struct co *co, struct qcow2_checker *c, uint64_t index, uint64_t host, const unsigned char **out)
{
	struct qcow2_refcounts *r = &c->refcounts;
	uint64_t slot = index % r->slots;
	unsigned char *at = r->blocks + slot * c->cluster_bytes;

	if (r->cached[slot] != index + 1) {
		r->cached[slot] = 0;
		if (qcow2_check_read(co, c, host, at, c->cluster_bytes) < 0)
			return -EIO;
		r->cached[slot] = index + 1;
	}
	*out = at;
	return 0;
}

void qcow2_check_refcounts_forget(struct qcow2_checker *c)
{
	memset(c->refcounts.cached, 0, c->refcounts.slots * sizeof(*c->refcounts.cached));
}

int qcow2_check_refcount(struct co *co, struct qcow2_checker *c, uint64_t cluster, uint64_t *out)
{
	uint64_t index = cluster / c->refcounts.per_block, host = qcow2_check_block(c, index);
	const unsigned char *block;

	*out = 0;
	if (host == 0)
		return 0;
	if (!is_aligned(host, c->cluster_bytes) || block_get(co, c, index, host, &block) < 0)
		return -EIO;
	*out = qcow2_check_refcount_at(block, cluster % c->refcounts.per_block, c->header.refcount_order);
	return 0;
}

/* ---- holding them against what was counted ---- */

static bool flags_disagree(const struct qcow2_cell *cell, uint64_t refcount)
{
	return refcount == 1 ? cell->plain : cell->copied;
}

static void cluster_differs(struct qcow2_checker *c, uint64_t cluster, uint64_t refcount, const struct qcow2_cell *cell)
{
	uint8_t *wrong = &c->refcounts.wrong[cluster / c->refcounts.per_block];
	uint64_t number = qcow2_counts_refcount(c, *cell);

	if (refcount < number) {
		*wrong |= QCOW2_TOO_LOW;
		c->low++;
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, cluster, refcount, number);
	}
	if (refcount > number) {
		*wrong |= QCOW2_TOO_HIGH;
		c->high++;
		qcow2_check_found(c, &c->out->leaks,
			"Leaked cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, cluster, refcount,
			number);
	}
}

static void cluster_mixed(struct qcow2_checker *c, uint64_t cluster, uint64_t refcount, const struct qcow2_cell *cell)
{
	static const char *const names[] = {
		[QCOW2_ROLE_HEADER] = "header",
		[QCOW2_ROLE_L1] = "L1 table",
		[QCOW2_ROLE_L2] = "L2 table",
		[QCOW2_ROLE_DATA] = "guest data",
		[QCOW2_ROLE_COMPRESSED] = "compressed guest data",
		[QCOW2_ROLE_REFCOUNTS] = "refcounts",
		[QCOW2_ROLE_OTHER] = "other metadata",
	};

	c->mixed++;
	/* Where the refcount is too low as well, or too narrow, that is told; once is enough. */
	if (refcount >= cell->number)
		qcow2_check_found(c, &c->out->corruptions, "ERROR cluster %" PRIu64 " is used both as %s and as %s",
			cluster, names[cell->role], names[cell->other]);
}

static void cluster_compare(struct qcow2_checker *c, uint64_t cluster, uint64_t refcount, uint64_t *end)
{
	struct qcow2_cell cell = qcow2_counts_get(c, cluster);

	if (refcount > 0 || cell.number > 0)
		*end = cluster + 1;
	if (cell.other != QCOW2_ROLE_NONE)
		cluster_mixed(c, cluster, refcount, &cell);
	if (refcount != qcow2_counts_refcount(c, cell))
		cluster_differs(c, cluster, refcount, &cell);
	c->copied_wrong |= flags_disagree(&cell, refcount) || flags_disagree(&cell, cell.number);
}

static void block_compare(struct qcow2_checker *c, uint64_t index, const unsigned char *block, uint64_t *end)
{
	uint64_t first = index * c->refcounts.per_block;
	uint64_t last = MIN(first + c->refcounts.per_block, c->counts.clusters);
	uint64_t before = c->low;

	if (block && mem_is_zero(block, c->cluster_bytes))
		block = NULL;
	for (uint64_t i = first, next; i < last; i++) {
		if (!block && !qcow2_counts_any(c, i, &next))
			i = next - 1;
		else
			cluster_compare(c, i,
				block ? qcow2_check_refcount_at(block, i - first, c->header.refcount_order) : 0, end);
	}
	if (c->low > before && qcow2_check_block(c, index) == 0)
		damaged(c);
}

/* A block that can't be read may be readable tomorrow: it isn't replaced. */
static void block_unknown(struct qcow2_checker *c, uint64_t index, bool unreadable)
{
	uint64_t first = index * c->refcounts.per_block;

	c->incomplete |= unreadable;
	c->copied_wrong = true; /* for all that is known */
	for (uint64_t i = first; i < MIN(first + c->refcounts.per_block, c->counts.clusters); i++)
		qcow2_check_found(
			c, &c->out->check_errors, "Can't get refcount for cluster %" PRIu64 ": %s", i, strerror(EIO));
}

/* [first, last) of the blocks: those that exist have been read, in this order. */
static int blocks_compare(struct co *co, struct qcow2_checker *c, const struct qcow2_fetch *f, uint64_t first,
	uint64_t last, uint64_t *end)
{
	const struct qcow2_piece *piece = f->v;
	int ret = 0;

	for (uint64_t i = first; i < last && ret == 0; i++) {
		const unsigned char *block = NULL;

		if (qcow2_check_block(c, i) != 0) {
			bool unreadable = piece->result < 0;

			if (!unreadable && is_aligned(piece->host, c->cluster_bytes))
				block = piece->bytes;
			piece++;
			if (!block) {
				block_unknown(c, i, unreadable);
				continue;
			}
		}
		block_compare(c, i, block, end);
		ret = qcow2_check_step(c, c->refcounts.per_block);
		co_yield(co);
	}
	return ret;
}

static int compare(struct co *co, struct qcow2_checker *c, struct qcow2_fetch *f, uint64_t *end)
{
	uint64_t blocks = div_round_up(c->counts.clusters, c->refcounts.per_block), next = 0;
	int ret = 0;

	while (next < blocks && ret == 0) {
		uint64_t first = next;

		for (f->n = 0; next < blocks && !qcow2_fetch_full(f); next++) {
			uint64_t host = qcow2_check_block(c, next);

			if (host != 0)
				qcow2_fetch_add(f, host, next, 0);
		}
		qcow2_fetch_start(co, f);
		qcow2_fetch_wait(co, f);
		ret = blocks_compare(co, c, f, first, next, end);
	}
	return ret;
}

int qcow2_check_compare(struct co *co, struct qcow2_checker *c)
{
	AUTO_FREE struct qcow2_fetch *f = calloc(1, sizeof(*f));
	uint64_t end = 0;
	int ret = f ? qcow2_fetch_init(f, c, QCOW2_PIECES) : -ENOMEM;

	if (ret < 0)
		return ret;
	ret = compare(co, c, f, &end);
	c->out->image_end_offset = MAX(end, UINT64_C(1)) * c->cluster_bytes;
	qcow2_fetch_fini(f);
	return ret;
}
