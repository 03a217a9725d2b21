/* SPDX-License-Identifier: MIT */
/* Sizes of files to be: see the header. */
#include "qcow2/measure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "qcow2/crypt.h"
#include "qcow2/header.h"

#define DIRECTORY_ENTRY_BYTES 24u /* of a bitmap, less its name */

/* Refcount table and blocks of so many clusters, which count themselves as well. */
static uint64_t refcount_clusters(uint64_t clusters, uint64_t cluster, unsigned order)
{
	uint64_t per_block = cluster * 8 >> order, table = 0, blocks = 0, last;

	do {
		last = table + blocks;
		blocks = div_round_up(clusters + table + blocks, per_block);
		table = div_round_up(blocks * 8, cluster);
	} while (table + blocks != last);
	return table + blocks;
}

int qcow2_measure(const struct qcow2_create *how, uint64_t *bytes, struct err *err)
{
	uint64_t cluster = UINT64_C(1) << how->cluster_bits, entry = how->extended_l2 ? 16 : 8;
	uint64_t data, l2, l1, meta, crypto = 0;

	if (how->size > INT64_MAX - 2 * MiB ||
		div_round_up(how->size >> how->cluster_bits, cluster / entry) * 8 > QCOW2_MAX_L1_BYTES)
		return err_set(err, -EINVAL, "The image size is too large (try using a larger cluster size)");
	data = align_up(how->size, cluster);
	l2 = align_up(data / cluster, cluster / entry) * entry;
	l1 = align_up(l2 / cluster * 8, cluster);
	meta = cluster + l2 + l1;
	meta += refcount_clusters((meta + data) / cluster, cluster, how->refcount_order) * cluster;
	if (how->luks)
		crypto = align_up(qcow2_luks_bytes(how->luks), cluster);
	*bytes = data + meta + crypto;
	return 0;
}

/* Each wholly allocated, its table, and its place in the directory. */
int qcow2_measure_bitmaps(struct co *co, struct node *n, unsigned cluster_bits, uint64_t *bytes, struct err *err)
{
	AUTO_FREE struct qcow2_bitmap_status *all = NULL;
	uint64_t cluster = UINT64_C(1) << cluster_bits, directory = 0;
	unsigned count = 0;
	int ret = qcow2_bitmap_list(co, n, &all, &count, err);

	*bytes = 0;
	for (unsigned i = 0; ret == 0 && i < count; i++) {
		uint64_t clusters = div_round_up(div_round_up(div_round_up(n->size, all[i].granularity), 8), cluster);

		*bytes += clusters * cluster + align_up(clusters * 8, cluster);
		directory += align_up(DIRECTORY_ENTRY_BYTES + strlen(all[i].name), 8);
	}
	*bytes += align_up(directory, cluster);
	return ret;
}
