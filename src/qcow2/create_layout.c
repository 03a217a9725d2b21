/* SPDX-License-Identifier: MIT */
/* The arithmetic of new images: create_layout.h draws them. */
#include "qcow2/create_layout.h"

#include <errno.h>
#include <inttypes.h>

#include "base/math.h"
#include "qcow2/crypt.h"

#define MAX_HOST_BYTES (UINT64_C(1) << 56) /* L1 and L2 entries reach no further */

/* The counts depend on each other: more refcount blocks are more clusters to count. They only grow, so this ends. */
static void count_refcounts(struct qcow2_create_layout *l, uint64_t others)
{
	l->reftable = l->blocks = 1;
	for (;;) {
		uint64_t blocks = div_round_up(others + l->reftable + l->blocks, l->per_block);
		uint64_t reftable = div_round_up(blocks * 8, l->cluster_bytes);

		if (blocks <= l->blocks && reftable <= l->reftable)
			break;
		l->blocks = MAX(blocks, l->blocks);
		l->reftable = MAX(reftable, l->reftable);
	}
}

static void place(struct qcow2_create_layout *l)
{
	uint64_t others = 1 + l->l1 + l->l2_tables + l->data + l->crypto;

	count_refcounts(l, others);
	l->reftable_at = 1;
	l->l1_at = 1 + l->reftable + 1;
	l->more_blocks_at = l->l1_at + l->l1;
	l->prealloc_at = l->more_blocks_at + l->blocks - 1;
	l->end = others + l->reftable + l->blocks;
}

/* Counted as QEMU does, which has the first refcount table and block beside the new ones: at worst one block too many. */
static void place_with_space(struct qcow2_create_layout *l)
{
	l->l1_at = 3;
	l->more_blocks_at = l->l1_at + l->l1;
	count_refcounts(l, l->more_blocks_at + l->l2_tables + l->data + l->crypto);
	l->reftable_at = l->more_blocks_at + l->blocks - 1;
	l->prealloc_at = l->reftable_at + l->reftable;
	l->end = l->prealloc_at + l->data + l->l2_tables - 1 + l->crypto;
}

/* A data file that is to be read alone must hold what the guest reads: all of it is mapped. */
static void count_preallocated(const struct qcow2_create *how, uint64_t clusters, struct qcow2_create_layout *l)
{
	if (how->preallocation == QCOW2_PREALLOCATE_OFF && !how->data_raw)
		return;
	l->l2_tables = l->l1_entries;
	l->mapped = clusters;
	l->data = how->data_name ? 0 : clusters;
	l->space = l->data != 0 && how->preallocation != QCOW2_PREALLOCATE_METADATA;
}

int qcow2_create_layout(const struct qcow2_create *how, struct qcow2_create_layout *l, struct err *err)
{
	uint64_t clusters;

	*l = (struct qcow2_create_layout){.size = align_up(how->size, 512)};
	l->cluster_bytes = UINT64_C(1) << how->cluster_bits;
	clusters = div_round_up(l->size, l->cluster_bytes);
	l->l2_entry_bytes = how->extended_l2 ? 16 : 8;
	l->l2_entries = l->cluster_bytes / l->l2_entry_bytes;
	l->l1_entries = div_round_up(clusters, l->l2_entries);
	l->per_block = l->cluster_bytes * 8 >> how->refcount_order;
	if (l->l1_entries > QCOW2_MAX_L1_BYTES / 8)
		return err_set(err, -EFBIG,
			"The image size is too large for file format 'qcow2' (try using a larger cluster size)");
	l->l1 = div_round_up(l->l1_entries * 8, l->cluster_bytes);
	count_preallocated(how, clusters, l);
	if (how->luks)
		l->crypto = div_round_up(qcow2_luks_bytes(how->luks), l->cluster_bytes);
	if (l->space)
		place_with_space(l);
	else
		place(l);
	if (l->reftable > QCOW2_MAX_REFTABLE_BYTES >> how->cluster_bits ||
		MAX(l->end, l->mapped) > MAX_HOST_BYTES >> how->cluster_bits)
		return err_set(err, -EFBIG,
			"an image of %" PRIu64 " bytes with preallocated metadata is too large for clusters of %" PRIu64
			" bytes",
			l->size, l->cluster_bytes);
	return 0;
}

uint64_t qcow2_create_block_at(const struct qcow2_create_layout *l, uint64_t block)
{
	return block == 0 ? l->l1_at - 1 : l->more_blocks_at + block - 1;
}

/* Where a table is followed by its data, its predecessors, each with a full set of data clusters, are before it. */
uint64_t qcow2_create_l2_at(const struct qcow2_create_layout *l, uint64_t l1_index)
{
	if (l->space)
		return l1_index == 0 ? 1 : l->prealloc_at + l->data + l1_index - 1;
	return l->prealloc_at + l1_index * (1 + (l->data ? l->l2_entries : 0));
}

uint64_t qcow2_create_data_at(const struct qcow2_create_layout *l, uint64_t guest_cluster)
{
	if (l->data == 0)
		return guest_cluster;
	if (l->space)
		return l->prealloc_at + guest_cluster;
	return l->prealloc_at + guest_cluster + guest_cluster / l->l2_entries + 1;
}

uint64_t qcow2_create_crypto_at(const struct qcow2_create_layout *l) { return l->end - l->crypto; }

/*
 * What comes last needn't fill its cluster, as with QEMU: the L1 table of an image without data; and where clusters are
 * mapped in 32 parts, the last one beyond the part in which the disk ends.
 */
uint64_t qcow2_create_file_bytes(const struct qcow2_create_layout *l)
{
	uint64_t last;

	if (l->l1 != 0 && l->end == l->more_blocks_at)
		return l->l1_at * l->cluster_bytes + l->l1_entries * 8;
	if (l->data == 0 || l->crypto != 0 || l->space || l->l2_entry_bytes == 8)
		return l->end * l->cluster_bytes;
	last = l->data - 1;
	return qcow2_create_data_at(l, last) * l->cluster_bytes +
		align_up(l->size - last * l->cluster_bytes, l->cluster_bytes / 32);
}
