/* SPDX-License-Identifier: MIT */
/*
 * Counting references.
 *
 * Each cluster has a cell: how often it is referred to, what it is used for, and what else, if that was something
 * different. Two roles are a corruption even where the refcounts agree, since then a write through one destroys the other.
 *
 * Nearly all cells say "once, as guest data" or "once, as an L2 table", with the COPIED flag: two bits hold that. A leaf
 * gets wider cells when it meets one that doesn't fit.
 */
#include "qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define LEAF_BITS 16
#define LEAF_CELLS (UINT64_C(1) << LEAF_BITS)
#define NUMBER_MAX 0xffffffu
#define MAX_LEAF_BYTES (UINT64_C(4) << 30)

enum { THIN = 2, MIDDLE = 16, WIDE = 32 }; /* bits of a cell */

struct qcow2_leaf {
	unsigned width;
	unsigned char cells[];
};

/* ---- cells ---- */

/* What the two bits of a thin cell mean. */
static const struct qcow2_cell thin_cells[] = {
	{0},
	{.number = 1, .role = QCOW2_ROLE_DATA, .copied = true},
	{.number = 1, .role = QCOW2_ROLE_L2, .copied = true},
	{.number = 1, .role = QCOW2_ROLE_REFCOUNTS},
};

static unsigned thin_get(const struct qcow2_leaf *l, uint64_t i) { return l->cells[i / 4] >> (i % 4 * 2) & 3; }
static void thin_put(struct qcow2_leaf *l, uint64_t i, unsigned code)
{
	l->cells[i / 4] = (unsigned char)((l->cells[i / 4] & ~(3u << (i % 4 * 2))) | code << (i % 4 * 2));
}

/* A word: the number, then eight bits of roles and flags. */
static struct qcow2_cell cell_of_word(uint32_t word)
{
	return (struct qcow2_cell){
		.number = word >> 8,
		.role = word & 7,
		.other = word >> 3 & 7,
		.copied = word >> 6 & 1,
		.plain = word >> 7 & 1,
	};
}

static uint32_t word_of_cell(struct qcow2_cell c)
{
	return c.number << 8 | (uint32_t)c.plain << 7 | (uint32_t)c.copied << 6 | (uint32_t)c.other << 3 | c.role;
}

static struct qcow2_cell cell_get(const struct qcow2_leaf *l, uint64_t i)
{
	uint16_t middle;
	uint32_t wide;

	if (l->width == THIN)
		return thin_cells[thin_get(l, i)];
	if (l->width == MIDDLE) {
		memcpy(&middle, l->cells + i * sizeof(middle), sizeof(middle));
		return cell_of_word(middle);
	}
	memcpy(&wide, l->cells + i * sizeof(wide), sizeof(wide));
	return cell_of_word(wide);
}

/* The code of a cell that fits in two bits; else 4. */
static unsigned thin_code(struct qcow2_cell c)
{
	unsigned code = 0;

	while (code < 4 && word_of_cell(thin_cells[code]) != word_of_cell(c))
		code++;
	return code;
}

/* False: it doesn't fit. */
static bool cell_put(struct qcow2_leaf *l, uint64_t i, struct qcow2_cell c)
{
	uint32_t wide = word_of_cell(c);
	uint16_t middle = (uint16_t)wide;

	if (l->width == THIN) {
		unsigned code = thin_code(c);

		if (code < 4)
			thin_put(l, i, code);
		return code < 4;
	}
	if (l->width == WIDE)
		memcpy(l->cells + i * sizeof(wide), &wide, sizeof(wide));
	else if (middle == wide)
		memcpy(l->cells + i * sizeof(middle), &middle, sizeof(middle));
	return l->width == WIDE || middle == wide;
}

/* ---- leaves ---- */

static struct qcow2_leaf *leaf_new(struct qcow2_counts *counts, unsigned width)
{
	size_t bytes = sizeof(struct qcow2_leaf) + LEAF_CELLS * width / 8;
	struct qcow2_leaf *l = counts->bytes + bytes > MAX_LEAF_BYTES ? NULL : calloc(1, bytes);

	if (!l)
		return NULL;
	l->width = width;
	counts->bytes += bytes;
	return l;
}

static int leaf_widen(struct qcow2_counts *counts, struct qcow2_leaf **leaf)
{
	struct qcow2_leaf *old = *leaf, *wider = leaf_new(counts, old->width == THIN ? MIDDLE : WIDE);

	if (!wider)
		return -ENOMEM;
	for (uint64_t i = 0; i < LEAF_CELLS; i++)
		(void)cell_put(wider, i, cell_get(old, i));
	counts->bytes -= sizeof(*old) + LEAF_CELLS * old->width / 8;
	free(old);
	*leaf = wider;
	return 0;
}

int qcow2_counts_init(struct qcow2_checker *c, struct err *err)
{
	uint64_t clusters = div_round_up(c->file->size, c->cluster_bytes);
	unsigned bits = 1u << c->header.refcount_order;

	if (clusters > INT_MAX)
		return err_set(
			err, -EFBIG, "the file has %" PRIu64 " clusters; at most %d can be checked", clusters, INT_MAX);
	c->counts = (struct qcow2_counts){
		.clusters = clusters,
		.leaf_entries = (clusters >> LEAF_BITS) + 2,
		.refcount_max = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1,
	};
	c->counts.leaves = calloc(c->counts.leaf_entries, sizeof(struct qcow2_leaf *));
	if (!c->counts.leaves)
		return err_set(err, -ENOMEM, "no memory for counting the references to %" PRIu64 " clusters", clusters);
	return 0;
}

void qcow2_counts_fini(struct qcow2_checker *c)
{
	for (uint64_t i = 0; c->counts.leaves && i < c->counts.leaf_entries; i++)
		free(c->counts.leaves[i]);
	free(c->counts.leaves);
	c->counts = (struct qcow2_counts){0};
}

/* ---- counting ---- */

/* Of more than two roles those that are metadata are remembered: they say what may be written there. */
static void roles_add(struct qcow2_cell *cell, enum qcow2_role role)
{
	if (cell->role == QCOW2_ROLE_NONE || cell->role == role) {
		cell->role = role;
	} else if (cell->role == QCOW2_ROLE_DATA) {
		cell->other = cell->other == QCOW2_ROLE_NONE ? QCOW2_ROLE_DATA : cell->other;
		cell->role = role;
	} else if (cell->other == QCOW2_ROLE_NONE || cell->other == QCOW2_ROLE_DATA) {
		cell->other = role;
	}
}

static void cell_add(
	struct qcow2_checker *c, struct qcow2_cell *cell, uint64_t cluster, enum qcow2_role role, unsigned flags)
{
	cell->copied |= (flags & QCOW2_REF_COPIED) != 0;
	cell->plain |= (flags & QCOW2_REF_PLAIN) != 0;
	if (cell->number >= MIN(c->counts.refcount_max, (uint64_t)NUMBER_MAX))
		qcow2_check_found(c, &c->out->corruptions, "ERROR: overflow cluster offset=0x%" PRIx64,
			cluster * c->cluster_bytes);
	roles_add(cell, role);
	cell->number += cell->number < NUMBER_MAX;
}

static int cluster_add(struct qcow2_checker *c, uint64_t cluster, enum qcow2_role role, unsigned flags)
{
	struct qcow2_leaf **leaf = &c->counts.leaves[cluster >> LEAF_BITS];
	uint64_t i = cluster & (LEAF_CELLS - 1);
	struct qcow2_cell cell;
	int ret = 0;

	if (!*leaf && !(*leaf = leaf_new(&c->counts, THIN)))
		return -ENOMEM;
	/* By far the most frequent case, without the detour. */
	if (role == QCOW2_ROLE_DATA && flags == QCOW2_REF_COPIED && (*leaf)->width == THIN && thin_get(*leaf, i) == 0) {
		thin_put(*leaf, i, 1);
		return 0;
	}
	cell = cell_get(*leaf, i);
	cell_add(c, &cell, cluster, role, flags);
	while (ret == 0 && !cell_put(*leaf, i, cell))
		ret = leaf_widen(&c->counts, leaf);
	return ret;
}

/* The last cluster may lie partly beyond the end of the file, but none may lie there wholly. */
static bool outside_file(const struct qcow2_checker *c, uint64_t off, uint64_t bytes)
{
	uint64_t end;

	return add_overflows(off, bytes, &end) || (end > c->file->size && end - c->file->size >= c->cluster_bytes);
}

int qcow2_counts_add(struct qcow2_checker *c, uint64_t off, uint64_t bytes, enum qcow2_role role, unsigned flags)
{
	int ret = 0;

	if (bytes == 0)
		return 0;
	if (outside_file(c, off, bytes)) {
		c->dangling = MIN(c->dangling, MAX(off, c->file->size));
		c->copied_wrong |= flags != 0;
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x%" PRIx64
			" size 0x%" PRIx64,
			off, bytes);
		return 0;
	}
	for (uint64_t i = off / c->cluster_bytes; i <= (off + bytes - 1) / c->cluster_bytes && ret == 0; i++) {
		c->counts.clusters = MAX(c->counts.clusters, i + 1);
		ret = cluster_add(c, i, role, flags);
	}
	return ret;
}

/* ---- what was counted ---- */

struct qcow2_cell qcow2_counts_get(const struct qcow2_checker *c, uint64_t cluster)
{
	const struct qcow2_leaf *leaf =
		cluster >> LEAF_BITS < c->counts.leaf_entries ? c->counts.leaves[cluster >> LEAF_BITS] : NULL;

	return leaf ? cell_get(leaf, cluster & (LEAF_CELLS - 1)) : (struct qcow2_cell){0};
}

bool qcow2_counts_any(const struct qcow2_checker *c, uint64_t cluster, uint64_t *end)
{
	*end = ((cluster >> LEAF_BITS) + 1) << LEAF_BITS;
	return cluster >> LEAF_BITS < c->counts.leaf_entries && c->counts.leaves[cluster >> LEAF_BITS];
}

/* Guest data that lies on a table is garbage in any case, and refcounts that are to be replaced are as well. */
static bool is_harmless(const struct qcow2_checker *c, unsigned role)
{
	return role == QCOW2_ROLE_NONE || role == QCOW2_ROLE_DATA || (role == QCOW2_ROLE_REFCOUNTS && c->rebuild);
}

bool qcow2_counts_table(const struct qcow2_checker *c, uint64_t off, uint64_t bytes, enum qcow2_role role)
{
	for (uint64_t i = off / c->cluster_bytes; i <= (off + bytes - 1) / c->cluster_bytes; i++) {
		struct qcow2_cell cell = qcow2_counts_get(c, i);

		if (cell.role != role || !is_harmless(c, cell.other))
			return false;
	}
	return true;
}
