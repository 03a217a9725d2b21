/* SPDX-License-Identifier: MIT */
/* Features and configuration space: see config.h. */
#include "export/vhost_user/config.h"

#include <endian.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "base/math.h"
#include "export/vhost_user/proto.h"

uint64_t vu_disk_features(const struct vu_disk *d)
{
	uint64_t features = VU_F(VIRTIO_F_VERSION_1) | VU_F(VIRTIO_F_RING_PACKED) | VU_F(VIRTIO_F_ANY_LAYOUT) |
		VU_F(VIRTIO_RING_F_INDIRECT_DESC) | VU_F(VIRTIO_RING_F_EVENT_IDX) | VU_F_LOG_ALL |
		VU_F_PROTOCOL_FEATURES | VU_F(VIRTIO_BLK_F_SIZE_MAX) | VU_F(VIRTIO_BLK_F_SEG_MAX) |
		VU_F(VIRTIO_BLK_F_BLK_SIZE) | VU_F(VIRTIO_BLK_F_TOPOLOGY) | VU_F(VIRTIO_BLK_F_FLUSH) |
		VU_F(VIRTIO_BLK_F_CONFIG_WCE) | VU_F(VIRTIO_BLK_F_MQ);

	if (d->read_only)
		return features | VU_F(VIRTIO_BLK_F_RO);
	features |= VU_F(VIRTIO_BLK_F_WRITE_ZEROES);
	return d->discards ? features | VU_F(VIRTIO_BLK_F_DISCARD) : features;
}

static uint8_t log2_of(uint32_t v) { return (uint8_t)__builtin_ctz(v); }

void vu_disk_config(const struct vu_disk *d, struct virtio_blk_config *out)
{
	uint32_t physical = MAX(d->block, 4096u);

	*out = (struct virtio_blk_config){
		.capacity = htole64(align_down(d->bytes, d->block) / VU_SECTOR),
		.size_max = htole32(VU_SEGMENT_BYTES),
		.seg_max = htole32(VU_SEGMENTS),
		.blk_size = htole32(d->block),
		.physical_block_exp = log2_of(physical / d->block),
		.min_io_size = htole16((uint16_t)(physical / d->block)),
		.opt_io_size = htole32(d->granularity > physical ? d->granularity / d->block : 0),
		.wce = d->writeback,
		.num_queues = htole16(d->queues),
		.max_discard_sectors = htole32(VU_RANGE_SECTORS),
		.max_discard_seg = htole32(VU_RANGES),
		.discard_sector_alignment = htole32(MAX(d->granularity, physical) / VU_SECTOR),
		.max_write_zeroes_sectors = htole32(VU_RANGE_SECTORS),
		.max_write_zeroes_seg = htole32(VU_RANGES),
		.write_zeroes_may_unmap = d->discards,
	};
}
