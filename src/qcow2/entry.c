/* SPDX-License-Identifier: MIT */
/*
 * L2 entries: where they lie in a slice, which ones an image may hold, and what host clusters they refer to.
 * Source: docs/interop/qcow2.rst, "Cluster mapping" and "Compressed Clusters Descriptor".
 */
#include "qcow2/engine.h"

static be64 *descriptor(const struct qcow2 *q, const struct qcow2_slice *s, uint32_t index)
{
	return (be64 *)((char *)s->data + (size_t)index * q->l2_entry_bytes);
}

uint64_t qcow2_l2_entry(const struct qcow2 *q, const struct qcow2_slice *s, uint32_t index)
{
	return be64_get(*descriptor(q, s, index));
}

void qcow2_l2_set(struct qcow2 *q, struct qcow2_slice *s, uint32_t index, uint64_t entry)
{
	*descriptor(q, s, index) = be64_of(entry);
	qcow2_cache_dirty(&q->l2_cache, s, index * q->l2_entry_bytes, q->l2_entry_bytes);
}

bool qcow2_offset_valid(const struct qcow2 *q, uint64_t offset)
{
	return offset != 0 && is_aligned(offset, q->cluster_bytes) && offset < q->file_bytes;
}

bool qcow2_l2_entry_valid(const struct qcow2 *q, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK;

	if (entry & QCOW2_COMPRESSED)
		return true;
	if (entry & QCOW2_L2_RESERVED)
		return false;
	if (entry & QCOW2_ZERO)
		return q->header.version >= 3 && (offset == 0 || qcow2_offset_valid(q, offset));
	return entry == 0 || qcow2_offset_valid(q, offset);
}

/* x = 62 - (cluster_bits - 8) bits of offset, then the number of sectors behind the one that it begins in. */
static struct qcow2_span compressed_bytes(const struct qcow2 *q, uint64_t entry)
{
	unsigned offset_bits = 62 - (q->cluster_bits - 8);
	uint64_t offset = entry & ((UINT64_C(1) << offset_bits) - 1);
	uint64_t sectors = ((entry & (QCOW2_COMPRESSED - 1)) >> offset_bits) + 1;

	return (struct qcow2_span){offset, align_down(offset, QCOW2_SECTOR) + sectors * QCOW2_SECTOR - offset};
}

struct qcow2_span qcow2_entry_bytes(const struct qcow2 *q, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK;

	if (entry & QCOW2_COMPRESSED)
		return compressed_bytes(q, entry);
	return (struct qcow2_span){offset, offset ? q->cluster_bytes : 0};
}

struct qcow2_span qcow2_entry_span(const struct qcow2 *q, uint64_t entry)
{
	struct qcow2_span b = qcow2_entry_bytes(q, entry);
	uint64_t first = align_down(b.host, q->cluster_bytes);

	return (struct qcow2_span){first, align_up(b.host + b.bytes, q->cluster_bytes) - first};
}
