/* SPDX-License-Identifier: MIT */
/*
 * What a chain of descriptors stands for: pieces of memory, those that the device reads before those that it writes; and
 * what of them is a request of virtio-blk (virtio 1.2, section 5.2.6). Pure.
 */
#ifndef CORRAL_EXPORT_VHOST_USER_CHAIN_H
#define CORRAL_EXPORT_VHOST_USER_CHAIN_H

#include <linux/virtio_ring.h>

#include "base/iovec.h"
#include "export/vhost_user/memory.h"
#include "export/vhost_user/ring.h"

#define VU_PIECES (VU_CHAIN_MAX + 32u)            /* descriptors, with some that cross the border of a region */
#define VU_CHAIN_BYTES ((UINT64_C(33) << 20) - 1) /* of one chain: the largest request, and what goes with it */

struct vu_buffers {
	struct iov out; /* what the device reads */
	struct iov in;  /* what it writes */
	struct iovec piece[VU_PIECES];
};

struct vu_scratch { /* room for copies */
	struct vu_desc desc[VU_CHAIN_MAX];
	struct vring_desc table[VU_CHAIN_MAX];
	struct err err;
};

struct vu_terms { /* how descriptors are to be read */
	bool packed, indirect;
};

/* Finds the memory of the n descriptors in s->desc, through an indirect table at the end of them. -EPROTO, explained. */
int vu_chain_map(const struct vu_memory *m, const struct vu_terms *terms, struct vu_scratch *s, unsigned n,
	struct vu_buffers *out, struct err *err) ATTR_MUST_USE;

struct vu_blk {
	uint32_t type; /* VIRTIO_BLK_T_* */
	uint64_t sector;
	struct iov out, in; /* the data */
	uint8_t *status;
};

int vu_blk_parse(const struct vu_buffers *b, struct vu_blk *out, struct err *err)
	ATTR_MUST_USE; /* -EPROTO, explained */

#endif
