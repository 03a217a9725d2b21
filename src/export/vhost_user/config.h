/* SPDX-License-Identifier: MIT */
/* The disk as the guest sees it: features and the configuration space (virtio 1.2, sections 5.2.3 to 5.2.5). Pure. */
#ifndef CORRAL_EXPORT_VHOST_USER_CONFIG_H
#define CORRAL_EXPORT_VHOST_USER_CONFIG_H

#include <linux/virtio_blk.h>
#include <stdbool.h>
#include <stdint.h>

#define VU_SECTOR 512u
#define VU_SEGMENTS 126u              /* of one request at most, so the guest is told */
#define VU_SEGMENT_BYTES (128u << 10) /* of one of them */
#define VU_RANGES 32u                 /* of one discard or write-zeroes */
#define VU_RANGE_SECTORS (4u << 20)   /* of one of them: 2 GiB */

#define VU_F(bit) (UINT64_C(1) << (bit))

struct vu_disk {
	uint64_t bytes;
	uint32_t block;       /* of the disk: 512 or 4096 */
	uint32_t granularity; /* what is best written at once, and what a discard can free; bytes */
	uint16_t queues;
	bool read_only, discards, writeback;
};

uint64_t vu_disk_features(const struct vu_disk *d);
void vu_disk_config(const struct vu_disk *d, struct virtio_blk_config *out);

#endif
