/* SPDX-License-Identifier: MIT */
/*
 * Counting references, and holding them against the image's refcounts.
 *
 * A count is a 32-bit word: 26 bits of number, and twice 3 bits of role: what the cluster was met as first, and what else
 * it was met as, if that was something different. Two roles are a corruption even where the refcounts agree, since then
 * a write through one destroys the other.
 */
#include "qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

#define LEAF_BITS 16
#define LEAF_ENTRIES (UINT64_C(1) << LEAF_BITS)
#define NUMBER_MASK UINT32_C(0x03ffffff)
#define ROLE_SHIFT 26
#define OTHER_ROLE_SHIFT 29
#define ROLE_MASK 7u
#define MAX_LEAF_BYTES (UINT64_C(2) << 30)
#define BLOCK_CACHE_BYTES (UINT64_C(64) << 20)
#define REFTABLE_RESERVED UINT64_C(0x1ff)

static const char *const role_names[] = {
	[QCOW2_ROLE_HEADER] = "header",
	[QCOW2_ROLE_L1] = "L1 table",
	[QCOW2_ROLE_L2] = "L2 table",
	[QCOW2_ROLE_DATA] = "guest data",
	[QCOW2_ROLE_COMPRESSED] = "compressed guest data",
	[QCOW2_ROLE_REFCOUNTS] = "refcounts",
	[QCOW2_ROLE_OTHER] = "other metadata",
};

static int refcounts_init(struct qcow2_checker *c, struct err *err)
{
	struct qcow2_refcounts *r = &c->refcounts;

	r->entries = c->header.reftable_clusters * c->cluster_bytes / 8;
	r->per_block = c->cluster_bytes * 8 >> c->header.refcount_order;
	r->slots = MAX(
		MIN(div_round_up(c->counts.clusters, r->per_block), BLOCK_CACHE_BYTES / c->cluster_bytes), UINT64_C(1));
	r->table = malloc(r->entries * 8);
	r->blocks = malloc(r->slots * c->cluster_bytes);
	r->cached = calloc(r->slots, sizeof(*r->cached));
	if (!r->table || !r->blocks || !r->cached)
		return err_set(err, -ENOMEM, "no memory for the refcount table");
	return 0;
}

int qcow2_counts_init(struct qcow2_checker *c, struct err *err)
{
	uint64_t clusters = div_round_up(c->file->size, c->cluster_bytes);

	if (clusters > INT_MAX)
		return err_set(
			err, -EFBIG, "the file has %" PRIu64 " clusters; at most %d can be checked", clusters, INT_MAX);
	c->counts.clusters = clusters;
	c->counts.leaf_entries = (clusters >> LEAF_BITS) + 2;
	c->counts.leaves = calloc(c->counts.leaf_entries, sizeof(*c->counts.leaves));
	if (!c->counts.leaves)
		return err_set(err, -ENOMEM, "no memory for counting the references to %" PRIu64 " clusters", clusters);
	return refcounts_init(c, err);
}

void qcow2_counts_fini(struct qcow2_checker *c)
{
	for (uint64_t i = 0; c->counts.leaves && i < c->counts.leaf_entries; i++)
		free(c->counts.leaves[i]);
	free(c->counts.leaves);
	free(c->refcounts.table);
	free(c->refcounts.blocks);
	free(c->refcounts.cached);
}

/* ---- counting ---- */

static uint32_t *word_make(struct qcow2_counts *counts, uint64_t cluster)
{
	uint32_t **leaf = &counts->leaves[cluster >> LEAF_BITS];

	if (!*leaf && counts->bytes < MAX_LEAF_BYTES) {
		*leaf = calloc(LEAF_ENTRIES, sizeof(**leaf));
		counts->bytes += LEAF_ENTRIES * sizeof(**leaf);
	}
	return *leaf ? &(*leaf)[cluster & (LEAF_ENTRIES - 1)] : NULL;
}

static uint32_t word_get(const struct qcow2_counts *counts, uint64_t cluster)
{
	const uint32_t *leaf = counts->leaves[cluster >> LEAF_BITS];

	return leaf ? leaf[cluster & (LEAF_ENTRIES - 1)] : 0;
}

uint64_t qcow2_counts_get(const struct qcow2_checker *c, uint64_t cluster)
{
	return word_get(&c->counts, cluster) & NUMBER_MASK;
}

/* An overflow is told at once; what else is wrong with that cluster would be told twice. */
static void word_add(struct qcow2_checker *c, uint32_t *word, uint64_t cluster, enum qcow2_role role)
{
	unsigned first = *word >> ROLE_SHIFT & ROLE_MASK;

	if ((*word & NUMBER_MASK) == MIN(c->refcount_max, (uint64_t)NUMBER_MASK)) {
		qcow2_check_found(c, &c->out->corruptions, "ERROR: overflow cluster offset=0x%" PRIx64,
			cluster * c->cluster_bytes);
		return;
	}
	if (first == QCOW2_ROLE_NONE)
		*word |= (uint32_t)role << ROLE_SHIFT;
	else if (first != role && *word >> OTHER_ROLE_SHIFT == QCOW2_ROLE_NONE)
		*word |= (uint32_t)role << OTHER_ROLE_SHIFT;
	++*word;
}

/* The last cluster may lie partly beyond the end of the file, but none may lie there wholly. */
static bool outside_file(const struct qcow2_checker *c, uint64_t off, uint64_t bytes)
{
	uint64_t end;

	return add_overflows(off, bytes, &end) || (end > c->file->size && end - c->file->size >= c->cluster_bytes);
}

int qcow2_counts_add(struct qcow2_checker *c, uint64_t off, uint64_t bytes, enum qcow2_role role)
{
	if (bytes == 0)
		return 0;
	if (outside_file(c, off, bytes)) {
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x%" PRIx64
			" size 0x%" PRIx64,
			off, bytes);
		return 0;
	}
	for (uint64_t i = off / c->cluster_bytes; i <= (off + bytes - 1) / c->cluster_bytes; i++) {
		uint32_t *word = word_make(&c->counts, i);

		if (!word)
			return -ENOMEM;
		c->counts.clusters = MAX(c->counts.clusters, i + 1);
		word_add(c, word, i, role);
	}
	return 0;
}

/* ---- the image's refcounts ---- */

int qcow2_check_read(struct co *co, struct qcow2_checker *c, uint64_t off, void *to, size_t len)
{
	size_t inside = off < c->file->size ? MIN(c->file->size - off, (uint64_t)len) : 0;

	memset((char *)to + inside, 0, len - inside);
	return inside ? node_read(co, c->file, off, IOV_BUF(to, inside)) : 0;
}

/* Refcounts narrower than a byte fill it from its low end; the others are big-endian. */
static uint64_t refcount_at(const unsigned char *block, uint64_t index, unsigned order)
{
	uint64_t value = 0;

	if (order < 3)
		return block[index >> (3 - order)] >> ((index << order) & 7) & ((1u << (1u << order)) - 1);
	for (unsigned i = 0; i < 1u << (order - 3); i++)
		value = value << 8 | block[(index << (order - 3)) + i];
	return value;
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

int qcow2_check_refcount(struct co *co, struct qcow2_checker *c, uint64_t cluster, uint64_t *out)
{
	uint64_t index = cluster / c->refcounts.per_block, host;
	const unsigned char *block;

	*out = 0;
	if (index >= c->refcounts.entries)
		return 0;
	host = be64_get(c->refcounts.table[index]) & ~REFTABLE_RESERVED;
	if (host == 0)
		return 0;
	if (!is_aligned(host, c->cluster_bytes) || block_get(co, c, index, host, &block) < 0)
		return -EIO;
	*out = refcount_at(block, cluster % c->refcounts.per_block, c->header.refcount_order);
	return 0;
}

/* ---- holding them against each other ---- */

static void cluster_compare(struct co *co, struct qcow2_checker *c, uint64_t cluster, uint64_t *end)
{
	uint32_t word = word_get(&c->counts, cluster);
	uint64_t refcount, number = word & NUMBER_MASK;
	unsigned other = word >> OTHER_ROLE_SHIFT;

	if (qcow2_check_refcount(co, c, cluster, &refcount) < 0) {
		qcow2_check_found(c, &c->out->check_errors, "Can't get refcount for cluster %" PRIu64 ": %s", cluster,
			strerror(EIO));
		return;
	}
	if (refcount > 0 || number > 0)
		*end = cluster + 1;
	if (refcount < number)
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, cluster, refcount, number);
	else if (other != QCOW2_ROLE_NONE)
		qcow2_check_found(c, &c->out->corruptions, "ERROR cluster %" PRIu64 " is used both as %s and as %s",
			cluster, role_names[word >> ROLE_SHIFT & ROLE_MASK], role_names[other]);
	if (refcount > number)
		qcow2_check_found(c, &c->out->leaks,
			"Leaked cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, cluster, refcount,
			number);
}

/* Whether a run of clusters with neither counts nor a refcount block begins here, and where it ends. */
static uint64_t nothing_until(const struct qcow2_checker *c, uint64_t cluster)
{
	uint64_t index = cluster / c->refcounts.per_block;
	uint64_t block_end = (index + 1) * c->refcounts.per_block;
	uint64_t leaf_end = ((cluster >> LEAF_BITS) + 1) << LEAF_BITS;

	if (c->counts.leaves[cluster >> LEAF_BITS])
		return cluster;
	if (index >= c->refcounts.entries)
		return leaf_end;
	return be64_get(c->refcounts.table[index]) == 0 ? MIN(block_end, leaf_end) : cluster;
}

int qcow2_check_compare(struct co *co, struct qcow2_checker *c)
{
	uint64_t end = 0, cluster = 0;

	while (cluster < c->counts.clusters) {
		uint64_t next = nothing_until(c, cluster);

		if (next == cluster)
			cluster_compare(co, c, cluster++, &end);
		else
			cluster = next;
	}
	c->out->image_end_offset = MAX(end, UINT64_C(1)) * c->cluster_bytes;
	return 0;
}
