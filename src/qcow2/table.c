/* SPDX-License-Identifier: MIT */
/* Tables that are whole in memory, in host order, dirty by units. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/engine.h"

int qcow2_table_init(struct qcow2_table *t, uint64_t n, uint32_t unit_bytes)
{
	uint64_t bytes = align_up(MAX(n * 8, UINT64_C(8)), unit_bytes);

	t->n = n;
	t->entries = node_alloc_zeroed(bytes);
	t->dirty = calloc(1, bitmap_bytes(bytes / unit_bytes));
	t->writing = calloc(1, bitmap_bytes(bytes / unit_bytes));
	if (t->entries && t->dirty && t->writing)
		return 0;
	qcow2_table_fini(t);
	return -ENOMEM;
}

void qcow2_table_fini(struct qcow2_table *t)
{
	free(t->entries);
	free(t->dirty);
	free(t->writing);
	*t = (struct qcow2_table){0};
}

int qcow2_table_grow(struct qcow2_table *t, uint64_t n, uint32_t unit_bytes)
{
	struct qcow2_table grown;
	size_t map_bytes = bitmap_bytes(align_up(MAX(t->n * 8, UINT64_C(8)), unit_bytes) / unit_bytes);
	int rc = qcow2_table_init(&grown, n, unit_bytes);

	if (rc)
		return rc;
	memcpy(grown.entries, t->entries, t->n * 8);
	memcpy(grown.dirty, t->dirty, map_bytes);
	memcpy(grown.writing, t->writing, map_bytes);
	qcow2_table_fini(t);
	*t = grown;
	return 0;
}

int qcow2_table_load(struct co *co, struct qcow2 *q, struct qcow2_table *t, uint64_t host)
{
	int rc = node_read(co, q->node.file, host, IOV_BUF(t->entries, t->n * 8));

	for (uint64_t i = 0; !rc && i < t->n; i++)
		t->entries[i] = be64toh(t->entries[i]);
	return rc;
}

void qcow2_table_set(struct qcow2 *q, struct qcow2_table *t, uint64_t index, uint64_t entry)
{
	t->entries[index] = entry;
	bit_set(t->dirty, index * 8 / q->unit_bytes);
	if (entry & QCOW2_OFFSET_MASK)
		qcow2_guard_add(q, entry & QCOW2_OFFSET_MASK, t == &q->l1 ? QCOW2_ROLE_L2 : QCOW2_ROLE_REFBLOCK, index);
	qcow2_dirtied(q);
}

void qcow2_table_export(const struct qcow2_table *t, uint64_t first, uint64_t n, uint64_t keep, void *out)
{
	be64 *to = out;

	for (uint64_t i = 0; i < n; i++)
		to[i] = be64_of(t->entries[first + i] & keep);
}
