/* SPDX-License-Identifier: MIT */
/*
 * L2 entries: where they lie in a slice, which ones an image may hold, and what host clusters they refer to.
 * Source: docs/interop/qcow2.rst, "Cluster mapping", "Extended L2 Entries" and "Compressed Clusters Descriptor".
 *
 *     standard   descriptor (bit 0: reads zeros)
 *     extended   descriptor (bit 0 is reserved), bitmap: bits 0 to 31 data, 32 to 63 zero, a bit per subcluster
 *
 * Both words of an extended entry lie in one sector, so they change on disk at once.
 */
#include "qcow2/engine.h"

static be64 *words_of(const struct qcow2 *q, const struct qcow2_slice *s, uint32_t index)
{
	return (be64 *)((char *)s->data + (size_t)index * q->l2_entry_bytes);
}

struct qcow2_entry qcow2_l2_entry(const struct qcow2 *q, const struct qcow2_slice *s, uint32_t index)
{
	const be64 *words = words_of(q, s, index);
	struct qcow2_entry e = {.descriptor = be64_get(words[0])};

	if (q->subclusters > 1) {
		e.data = (uint32_t)be64_get(words[1]);
		e.zero = (uint32_t)(be64_get(words[1]) >> 32);
	} else if (!qcow2_entry_is_compressed(e)) {
		e.zero = e.descriptor & QCOW2_ZERO;
		e.descriptor &= ~QCOW2_ZERO;
		e.data = qcow2_entry_has_host(e) && !e.zero;
	}
	/* Without space the flag means nothing; other programs may leave it. */
	if (e.zero && !qcow2_entry_host(e) && !qcow2_has_data_file(q))
		e.descriptor &= ~QCOW2_COPIED;
	return e;
}

void qcow2_l2_set(struct qcow2 *q, struct qcow2_slice *s, uint32_t index, struct qcow2_entry e)
{
	be64 *words = words_of(q, s, index);

	words[0] = be64_of(e.descriptor | (q->subclusters > 1 ? 0 : e.zero));
	if (q->subclusters > 1)
		words[1] = be64_of((uint64_t)e.zero << 32 | e.data);
	qcow2_cache_dirty(&q->l2_cache, s, index * q->l2_entry_bytes, q->l2_entry_bytes);
}

bool qcow2_entries_share(const struct qcow2 *q, void *slice)
{
	const be64 copied = be64_of(QCOW2_COPIED);
	size_t step = q->l2_entry_bytes / sizeof(be64);
	bool any = false;
	be64 *words = slice;

	if (q->header.incompatible & QCOW2_INCOMPAT_DATA_FILE)
		return false;
	for (size_t i = 0; i < q->l2_cache.slice_bytes / sizeof(be64); i += step) {
		any |= words[i].raw & copied.raw;
		words[i].raw &= ~copied.raw;
	}
	return any;
}

uint32_t qcow2_subclusters(const struct qcow2 *q, uint64_t cluster, uint64_t from, uint64_t to)
{
	uint64_t first = from > cluster ? (from - cluster) / q->node.subcluster : 0;
	uint64_t end = MIN((to - cluster) / q->node.subcluster, (uint64_t)q->subclusters);

	return (uint32_t)((UINT64_C(1) << end) - (UINT64_C(1) << first));
}

bool qcow2_offset_valid(const struct qcow2 *q, uint64_t offset)
{
	return offset != 0 && is_aligned(offset, q->cluster_bytes) && offset < q->file_bytes;
}

/* x = 62 - (cluster_bits - 8) bits of offset, then the number of sectors behind the one that it begins in. */
static unsigned compressed_offset_bits(const struct qcow2 *q) { return 62 - (q->cluster_bits - 8); }

uint64_t qcow2_compressed_end(const struct qcow2 *q) { return UINT64_C(1) << MIN(compressed_offset_bits(q), 56u); }

uint64_t qcow2_compressed_descriptor(const struct qcow2 *q, uint64_t host, uint64_t bytes)
{
	uint64_t more = (host + bytes - 1) / QCOW2_SECTOR - host / QCOW2_SECTOR;

	return QCOW2_COMPRESSED | more << compressed_offset_bits(q) | host;
}

static struct qcow2_span compressed_bytes(const struct qcow2 *q, uint64_t descriptor)
{
	unsigned offset_bits = compressed_offset_bits(q);
	uint64_t offset = descriptor & ((UINT64_C(1) << offset_bits) - 1);
	uint64_t sectors = ((descriptor & (QCOW2_COMPRESSED - 1)) >> offset_bits) + 1;

	return (struct qcow2_span){offset, align_down(offset, QCOW2_SECTOR) + sectors * QCOW2_SECTOR - offset};
}

/* It begins in the file, behind the header; the last of its sectors may be cut off, as it needn't be used up. */
static bool compressed_valid(const struct qcow2 *q, uint64_t descriptor)
{
	uint64_t host = compressed_bytes(q, descriptor).host;

	return host >= q->cluster_bytes && host < MIN(q->file_bytes, qcow2_compressed_end(q));
}

bool qcow2_l2_entry_valid(const struct qcow2 *q, struct qcow2_entry e)
{
	if (qcow2_entry_is_compressed(e))
		return !e.data && !e.zero && !qcow2_has_data_file(q) && compressed_valid(q, e.descriptor);
	if (e.descriptor & (QCOW2_L2_RESERVED | QCOW2_ZERO))
		return false;
	if ((e.zero && q->header.version < 3) || (e.data & e.zero))
		return false;
	if (qcow2_entry_has_host(e) && qcow2_has_data_file(q))
		return is_aligned(qcow2_entry_host(e), q->cluster_bytes);
	if (qcow2_entry_has_host(e))
		return qcow2_offset_valid(q, qcow2_entry_host(e));
	return !e.data && (!e.descriptor || e.zero);
}

bool qcow2_entry_is_placed(const struct qcow2 *q, struct qcow2_entry e, uint64_t guest)
{
	return !qcow2_has_data_file(q) || !qcow2_entry_has_host(e) ||
		qcow2_entry_host(e) == align_down(guest, q->cluster_bytes);
}

struct qcow2_span qcow2_entry_bytes(const struct qcow2 *q, uint64_t descriptor)
{
	uint64_t offset = descriptor & QCOW2_OFFSET_MASK;

	if (descriptor & QCOW2_COMPRESSED)
		return compressed_bytes(q, descriptor);
	return (struct qcow2_span){offset, offset ? q->cluster_bytes : 0};
}

/* What lies in an external data file isn't counted. */
struct qcow2_span qcow2_entry_span(const struct qcow2 *q, uint64_t descriptor)
{
	struct qcow2_span b = qcow2_entry_bytes(q, descriptor);
	uint64_t first = align_down(b.host, q->cluster_bytes);

	if (qcow2_has_data_file(q))
		return (struct qcow2_span){0};
	return (struct qcow2_span){first, align_up(b.host + b.bytes, q->cluster_bytes) - first};
}
