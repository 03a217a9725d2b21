/* SPDX-License-Identifier: MIT */
/*
 * vhost-user on the wire: docs/interop/vhost-user.rst of QEMU. All numbers are in the machine's own byte order; what lies
 * in the guest's memory (linux/virtio_ring.h, linux/virtio_blk.h) is little-endian.
 */
#ifndef CORRAL_EXPORT_VHOST_USER_PROTO_H
#define CORRAL_EXPORT_VHOST_USER_PROTO_H

#include <stdint.h>

enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_LOG_BASE = 6,
	VU_SET_LOG_FD = 7,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_GET_INFLIGHT_FD = 31,
	VU_SET_INFLIGHT_FD = 32,
	VU_RESET_DEVICE = 34,
	VU_GET_MAX_MEM_SLOTS = 36,
	VU_ADD_MEM_REG = 37,
	VU_REM_MEM_REG = 38,
	VU_SET_STATUS = 39,
	VU_GET_STATUS = 40,
	VU_REQUESTS, /* one more than the last that is known here */
};

enum { VU_BACKEND_CONFIG_CHANGE = 2 }; /* from us to the front end */

/* Bits of virtio's features that are vhost-user's own. */
#define VU_F_LOG_ALL (UINT64_C(1) << 26)
#define VU_F_PROTOCOL_FEATURES (UINT64_C(1) << 30)

/* Protocol features. */
#define VU_P_MQ (UINT64_C(1) << 0)
#define VU_P_LOG_SHMFD (UINT64_C(1) << 1)
#define VU_P_REPLY_ACK (UINT64_C(1) << 3)
#define VU_P_BACKEND_REQ (UINT64_C(1) << 5)
#define VU_P_CONFIG (UINT64_C(1) << 9)
#define VU_P_INFLIGHT_SHMFD (UINT64_C(1) << 12)
#define VU_P_RESET_DEVICE (UINT64_C(1) << 13)
#define VU_P_CONFIGURE_MEM_SLOTS (UINT64_C(1) << 15)
#define VU_P_STATUS (UINT64_C(1) << 16)

/* Header flags. */
#define VU_VERSION_MASK 3u
#define VU_VERSION 1u
#define VU_REPLY (1u << 2)
#define VU_NEED_REPLY (1u << 3)

struct vu_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload */
};

/* Payloads. */

struct vu_vring_state {
	uint32_t index;
	uint32_t num;
};

#define VU_VRING_LOG 1u /* flag of the address: writes to the used ring are logged */

struct vu_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t descriptor; /* these three in the front end's address space */
	uint64_t used;
	uint64_t available;
	uint64_t log; /* in the guest's */
};

struct vu_region_wire {
	uint64_t guest;
	uint64_t size;
	uint64_t user;
	uint64_t offset;
};

#define VU_TABLE_REGIONS 8 /* of one SET_MEM_TABLE */

struct vu_table_wire {
	uint32_t n;
	uint32_t padding;
	struct vu_region_wire region[VU_TABLE_REGIONS];
};

struct vu_single_region_wire {
	uint64_t padding;
	struct vu_region_wire region;
};

struct vu_log_wire {
	uint64_t size;
	uint64_t offset;
};

#define VU_CONFIG_BYTES 256

struct vu_config_wire {
	uint32_t offset;
	uint32_t size;
	uint32_t flags; /* 0: the guest wrote it; 1: live migration */
	uint8_t data[VU_CONFIG_BYTES];
};

struct vu_inflight_wire {
	uint64_t size;
	uint64_t offset;
	uint16_t queues;
	uint16_t queue_size;
	uint32_t padding; /* of the struct that front ends send */
};

#define VU_INFLIGHT_BYTES 20 /* what of it some of them send */

/* The 64-bit number of SET_VRING_KICK, _CALL and _ERR. */
#define VU_VRING_INDEX 0xffu
#define VU_VRING_NO_FD (1u << 8)

union vu_payload {
	uint64_t u64;
	struct vu_vring_state state;
	struct vu_vring_addr addr;
	struct vu_table_wire table;
	struct vu_single_region_wire single;
	struct vu_log_wire log;
	struct vu_config_wire config;
	struct vu_inflight_wire inflight;
};

#endif
