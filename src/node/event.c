/* SPDX-License-Identifier: MIT */
/* The names of events. */
#include "node/event.h"

#include <errno.h>
#include <string.h>

static const char *const event_names[NODE_EVENTS] = {
	[NODE_EVENT_NONE] = "none",
	[NODE_EVENT_L1_UPDATE] = "l1_update",
	[NODE_EVENT_L1_GROW_ALLOC_TABLE] = "l1_grow_alloc_table",
	[NODE_EVENT_L1_GROW_WRITE_TABLE] = "l1_grow_write_table",
	[NODE_EVENT_L1_GROW_ACTIVATE_TABLE] = "l1_grow_activate_table",
	[NODE_EVENT_L1_SHRINK_WRITE_TABLE] = "l1_shrink_write_table",
	[NODE_EVENT_L1_SHRINK_FREE_L2_CLUSTERS] = "l1_shrink_free_l2_clusters",
	[NODE_EVENT_L2_LOAD] = "l2_load",
	[NODE_EVENT_L2_UPDATE] = "l2_update",
	[NODE_EVENT_L2_UPDATE_COMPRESSED] = "l2_update_compressed",
	[NODE_EVENT_L2_ALLOC_COW_READ] = "l2_alloc_cow_read",
	[NODE_EVENT_L2_ALLOC_WRITE] = "l2_alloc_write",
	[NODE_EVENT_READ_AIO] = "read_aio",
	[NODE_EVENT_READ_BACKING_AIO] = "read_backing_aio",
	[NODE_EVENT_READ_COMPRESSED] = "read_compressed",
	[NODE_EVENT_WRITE_AIO] = "write_aio",
	[NODE_EVENT_WRITE_COMPRESSED] = "write_compressed",
	[NODE_EVENT_VMSTATE_LOAD] = "vmstate_load",
	[NODE_EVENT_VMSTATE_SAVE] = "vmstate_save",
	[NODE_EVENT_COW_READ] = "cow_read",
	[NODE_EVENT_COW_WRITE] = "cow_write",
	[NODE_EVENT_COR_WRITE] = "cor_write",
	[NODE_EVENT_REFTABLE_LOAD] = "reftable_load",
	[NODE_EVENT_REFTABLE_GROW] = "reftable_grow",
	[NODE_EVENT_REFTABLE_UPDATE] = "reftable_update",
	[NODE_EVENT_REFBLOCK_LOAD] = "refblock_load",
	[NODE_EVENT_REFBLOCK_UPDATE] = "refblock_update",
	[NODE_EVENT_REFBLOCK_UPDATE_PART] = "refblock_update_part",
	[NODE_EVENT_REFBLOCK_ALLOC] = "refblock_alloc",
	[NODE_EVENT_REFBLOCK_ALLOC_HOOKUP] = "refblock_alloc_hookup",
	[NODE_EVENT_REFBLOCK_ALLOC_WRITE] = "refblock_alloc_write",
	[NODE_EVENT_REFBLOCK_ALLOC_WRITE_BLOCKS] = "refblock_alloc_write_blocks",
	[NODE_EVENT_REFBLOCK_ALLOC_WRITE_TABLE] = "refblock_alloc_write_table",
	[NODE_EVENT_REFBLOCK_ALLOC_SWITCH_TABLE] = "refblock_alloc_switch_table",
	[NODE_EVENT_CLUSTER_ALLOC] = "cluster_alloc",
	[NODE_EVENT_CLUSTER_ALLOC_BYTES] = "cluster_alloc_bytes",
	[NODE_EVENT_CLUSTER_ALLOC_SPACE] = "cluster_alloc_space",
	[NODE_EVENT_CLUSTER_FREE] = "cluster_free",
	[NODE_EVENT_FLUSH_TO_OS] = "flush_to_os",
	[NODE_EVENT_FLUSH_TO_DISK] = "flush_to_disk",
	[NODE_EVENT_PWRITEV_RMW_HEAD] = "pwritev_rmw_head",
	[NODE_EVENT_PWRITEV_RMW_AFTER_HEAD] = "pwritev_rmw_after_head",
	[NODE_EVENT_PWRITEV_RMW_TAIL] = "pwritev_rmw_tail",
	[NODE_EVENT_PWRITEV_RMW_AFTER_TAIL] = "pwritev_rmw_after_tail",
	[NODE_EVENT_PWRITEV] = "pwritev",
	[NODE_EVENT_PWRITEV_ZERO] = "pwritev_zero",
	[NODE_EVENT_PWRITEV_DONE] = "pwritev_done",
	[NODE_EVENT_EMPTY_IMAGE_PREPARE] = "empty_image_prepare",
};

int node_event_parse(const char *name, enum node_event *out)
{
	for (unsigned i = 0; i < NODE_EVENTS; i++) {
		if (strcmp(name, event_names[i]) == 0) {
			*out = (enum node_event)i;
			return 0;
		}
	}
	return -ENOENT;
}
