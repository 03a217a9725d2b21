/* SPDX-License-Identifier: MIT */
/*
 * Refcounts, 1 to 64 bits wide, in slices of their blocks.
 * Source: docs/interop/qcow2.rst, "Host cluster management": widths below a byte start at the least significant bit.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "qcow2/engine.h"

uint64_t qcow2_refcount_get(const void *data, unsigned order, uint64_t index)
{
	const uint8_t *bytes = data;

	switch (order) {
	case 0:
	case 1:
	case 2:
		return bytes[index >> (3 - order)] >> ((index & ((8u >> order) - 1)) << order) &
			((1u << (1u << order)) - 1);
	case 3: return bytes[index];
	case 4: return be16_get(((const be16 *)data)[index]);
	case 5: return be32_get(((const be32 *)data)[index]);
	default: return be64_get(((const be64 *)data)[index]);
	}
}

static void set_bits(uint8_t *bytes, unsigned order, uint64_t index, uint64_t value)
{
	unsigned shift = (unsigned)(index & ((8u >> order) - 1)) << order;
	unsigned mask = MUTANT(54) ? 0xff : ((1u << (1u << order)) - 1) << shift;
	uint8_t *byte = &bytes[index >> (3 - order)];

	*byte = (uint8_t)((*byte & ~mask) | (unsigned)value << shift);
}

void qcow2_refcount_set(void *data, unsigned order, uint64_t index, uint64_t value)
{
	switch (order) {
	case 0:
	case 1:
	case 2: set_bits(data, order, index, value); break;
	case 3: ((uint8_t *)data)[index] = (uint8_t)value; break;
	case 4: ((be16 *)data)[index] = be16_of((uint16_t)value); break;
	case 5: ((be32 *)data)[index] = be32_of((uint32_t)value); break;
	default: ((be64 *)data)[index] = be64_of(value); break;
	}
}

/* The block's address, or 0 where there is none that may be used: an unpublished one counts nothing yet. */
static uint64_t usable_block(const struct qcow2 *q, uint64_t cluster)
{
	uint64_t i = cluster / q->block_refcounts;

	if (i >= q->reftable.n || (q->reftable.entries[i] & QCOW2_UNPUBLISHED))
		return 0;
	return q->reftable.entries[i];
}

int qcow2_refcount_slice(struct co *co, struct qcow2 *q, uint64_t cluster, struct qcow2_slice **out, uint64_t *index)
{
	uint64_t block = usable_block(q, cluster);
	uint64_t in_block = cluster % q->block_refcounts;
	uint64_t in_slice = qcow2_slice_refcounts(q);
	int rc;

	*out = NULL;
	if (!block)
		return 0;
	if (!is_aligned(block, q->cluster_bytes) || block >= q->file_bytes)
		return qcow2_corrupt(co, q,
			"Refblock offset %#" PRIx64 " unaligned, or not in the file (reftable index: %#" PRIx64 ")",
			block, cluster / q->block_refcounts);
	rc = qcow2_guard_table(co, q, block, QCOW2_ROLE_REFBLOCK, cluster / q->block_refcounts);
	if (rc)
		return rc;
	*index = in_block % in_slice;
	return qcow2_cache_get(
		co, &q->refcount_cache, block + in_block / in_slice * q->refcount_cache.slice_bytes, out);
}

static void mark_dirty_run(struct qcow2 *q, struct qcow2_slice *s, uint64_t index, uint64_t n)
{
	unsigned order = q->header.refcount_order;
	uint64_t first = (index << order) / 8, end = (((index + n) << order) + 7) / 8;

	if (n)
		qcow2_cache_dirty(&q->refcount_cache, s, (uint32_t)first, (uint32_t)(end - first));
}

static void mark_dirty(struct qcow2 *q, struct qcow2_slice *s, uint64_t index) { mark_dirty_run(q, s, index, 1); }

static uint64_t most_references(unsigned order) { return order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << order)) - 1; }

bool qcow2_refcount_raise_at(struct qcow2 *q, struct qcow2_slice *s, uint64_t index)
{
	unsigned order = q->header.refcount_order;
	uint64_t value = qcow2_refcount_get(s->data, order, index);

	if (value == 0 || (value == most_references(order) && !MUTANT(82)))
		return false;
	qcow2_refcount_set(s->data, order, index, value + 1);
	mark_dirty(q, s, index);
	return true;
}

#ifdef CORRAL_SIM
/* Mutant 22: beside the commit's own write of the sector. */
static int write_at_once(struct co *co, struct qcow2 *q, struct qcow2_slice *s, uint64_t index)
{
	uint32_t at = (uint32_t)align_down((index << q->header.refcount_order) / 8, QCOW2_SECTOR);
	char copy[QCOW2_SECTOR];

	memcpy(copy, (char *)s->data + at, sizeof(copy));
	return node_write(co, q->node.file, s->host + at, IOV_BUF(copy, sizeof(copy)), 0);
}
#else
#define write_at_once(co, q, s, index) ((void)(co), 0)
#endif

/* The cluster's last reference is gone: the allocator may have it. */
static void became_free(struct qcow2 *q, uint64_t cluster)
{
	qcow2_cache_forget(&q->l2_cache, cluster << q->cluster_bits, q->cluster_bytes);
	qcow2_decoder_forget(q, cluster);
	qcow2_guard_free(q, cluster);
	qcow2_pack_close(q, cluster);
	bit_clear(q->full, cluster / qcow2_slice_refcounts(q));
	if (!MUTANT(51))
		q->next_cluster = MIN(q->next_cluster, cluster);
	q->stats.clusters_freed++;
}

void qcow2_refcount_put(struct qcow2 *q, struct qcow2_slice *s, uint64_t index, uint64_t cluster, uint64_t count)
{
	qcow2_refcount_set(s->data, q->header.refcount_order, index, count);
	mark_dirty(q, s, index);
	if (count == 0)
		became_free(q, cluster);
}

/* A table that is being changed: somebody refers to it, whom its refcount has no count of. */
static bool is_needed(struct qcow2 *q, uint64_t cluster)
{
	return qcow2_cache_needs(&q->l2_cache, cluster << q->cluster_bits, q->cluster_bytes);
}

/* As many of n as the slice counts, from index on. -EUCLEAN: one of them has no reference to lose. */
static int drop_in_slice(struct co *co, struct qcow2 *q, struct qcow2_slice *s, uint64_t index, uint64_t cluster,
	uint64_t n, uint64_t *done)
{
	unsigned order = q->header.refcount_order;
	uint64_t most = MIN(n, MUTANT(22) ? 1 : qcow2_slice_refcounts(q) - index), i;

	for (i = 0; i < most; i++) {
		uint64_t count = qcow2_refcount_get(s->data, order, index + i);

		if (count == 0 || (count == 1 && is_needed(q, cluster + i)))
			break;
		qcow2_refcount_set(s->data, order, index + i, count - 1);
		if (count == 1 && !MUTANT(11) && !MUTANT(22))
			became_free(q, cluster + i);
	}
	*done += i;
	mark_dirty_run(q, s, index, i);
	if (MUTANT(22) && i)
		return write_at_once(co, q, s, index);
	return i < most ? -EUCLEAN : 0;
}

int qcow2_refcount_drop(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t done = 0;
	int rc = 0;

	while (!rc && done < n) {
		struct qcow2_slice *s;
		uint64_t index;

		rc = qcow2_refcount_slice(co, q, cluster + done, &s, &index);
		if (!rc)
			rc = s ? drop_in_slice(co, q, s, index, cluster + done, n - done, &done) : -EUCLEAN;
		if (rc == -EUCLEAN)
			return qcow2_corrupt(co, q,
				"host cluster %#" PRIx64 " has more references than its refcount says", cluster + done);
	}
	return rc;
}

int qcow2_refcount_run(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n, bool *last, uint64_t *run)
{
	unsigned order = q->header.refcount_order;
	struct qcow2_slice *s;
	uint64_t index;
	int rc = qcow2_refcount_slice(co, q, cluster, &s, &index);

	*run = 1;
	*last = !rc && s && qcow2_refcount_get(s->data, order, index) == 1;
	if (rc || !s)
		return rc;
	n = MIN(n, qcow2_slice_refcounts(q) - index);
	while (*run < n && (qcow2_refcount_get(s->data, order, index + *run) == 1) == *last)
		++*run;
	return 0;
}

int qcow2_refcount_find(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t *count)
{
	struct qcow2_slice *s;
	uint64_t index;
	int rc = qcow2_refcount_slice(co, q, cluster, &s, &index);

	*count = !rc && s ? qcow2_refcount_get(s->data, q->header.refcount_order, index) : 0;
	return rc;
}

/* As many of n as the slice counts, from index on. -EUCLEAN: one of them is not in use. */
static int raise_in_slice(struct qcow2 *q, struct qcow2_slice *s, uint64_t index, uint64_t n, uint64_t *done)
{
	unsigned order = q->header.refcount_order;
	uint64_t most = most_references(order), i = index, end = MIN(index + n, qcow2_slice_refcounts(q));
	int rc = 0;

	for (; !rc && i < end; i++) {
		uint64_t count = qcow2_refcount_get(s->data, order, i);

		if (count == 0)
			rc = -EUCLEAN;
		else if (count == most && !MUTANT(82))
			rc = -ERANGE;
		else
			qcow2_refcount_set(s->data, order, i, count + 1);
	}
	i -= rc != 0;
	*done += i - index;
	mark_dirty_run(q, s, index, i - index);
	return rc;
}

int qcow2_refcount_raise(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t *done)
{
	int rc = 0;

	for (*done = 0; !rc && *done < n;) {
		struct qcow2_slice *s;
		uint64_t index;

		rc = qcow2_refcount_slice(co, q, cluster + *done, &s, &index);
		if (!rc)
			rc = s ? raise_in_slice(q, s, index, n - *done, done) : -EUCLEAN;
		if (rc == -EUCLEAN)
			return qcow2_corrupt(
				co, q, "host cluster %#" PRIx64 " is in use, and its refcount is 0", cluster + *done);
	}
	return rc;
}
