/* SPDX-License-Identifier: MIT */
/*
 * A virtqueue, split or packed (virtio 1.2, sections 2.7 and 2.8), seen from the device. Pure: it is given where the
 * three parts of the ring lie in our memory, and trusts nothing that it reads there. Every number is read once; a chain of
 * descriptors is copied before it is looked at.
 */
#ifndef CORRAL_EXPORT_VHOST_USER_RING_H
#define CORRAL_EXPORT_VHOST_USER_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define VU_RING_MAX 1024u /* entries */
#define VU_CHAIN_MAX 256u /* descriptors of one chain, an indirect table included */

struct vu_desc { /* a copy */
	uint64_t addr;
	uint32_t len;
	uint16_t flags; /* VRING_DESC_F_* */
	uint16_t id;    /* packed: of the buffer */
};

struct vu_ring {
	bool packed, event_index;
	uint16_t size;   /* a power of two */
	uint8_t *desc;   /* the descriptor table, or the descriptor ring */
	uint8_t *driver; /* the available ring, or the driver's event suppression */
	uint8_t *device; /* the used ring, or the device's event suppression */

	/* Where the next chain is taken, and where the next one is given back. Split: they count on and wrap at 2^16. Packed:
	 * places in the ring, with a counter that is one bit each. */
	uint16_t avail, used;
	bool avail_wrap, used_wrap;
	uint16_t outstanding; /* descriptors (packed) or chains (split) that were taken and not given back */

	uint16_t signalled; /* `used` when it was last asked whether the driver wants to know */
	bool signalled_valid;
};

struct vu_chain {
	uint16_t head;  /* split: the first descriptor; packed: the id */
	uint16_t slots; /* of the ring that it takes: split 1 */
	unsigned n;     /* descriptors that were copied */
};

/* Bytes of each part for a ring of so many entries. */
uint64_t vu_ring_desc_bytes(uint16_t size);
uint64_t vu_ring_driver_bytes(bool packed, uint16_t size);
uint64_t vu_ring_device_bytes(bool packed, uint16_t size);
/* How the parts must be aligned. */
#define VU_RING_DESC_ALIGN 16u
#define VU_RING_DRIVER_ALIGN(packed) ((packed) ? 4u : 2u)
#define VU_RING_DEVICE_ALIGN 4u

bool vu_ring_empty(const struct vu_ring *r);
/* Takes the next chain: 1, with its descriptors in desc[VU_CHAIN_MAX]; 0 if there is none; -EPROTO, explained. */
int vu_ring_take(struct vu_ring *r, struct vu_desc *desc, struct vu_chain *out, struct err *err) ATTR_MUST_USE;
/* Copies the chain that begins at a descriptor of a split ring's table once more. */
int vu_ring_again(const struct vu_ring *r, uint16_t head, struct vu_desc *desc, struct vu_chain *out, struct err *err)
	ATTR_MUST_USE;
/* Gives a chain back, with len bytes written to its memory. */
void vu_ring_give(struct vu_ring *r, const struct vu_chain *chain, uint32_t len);
/* Whether the driver is to be told of what was given back since this was last asked. */
bool vu_ring_should_signal(struct vu_ring *r);
/* Whether the driver shall tell us of further chains. After `true` look once more whether there is one. */
void vu_ring_want_kicks(struct vu_ring *r, bool want);

/* `used` of a split ring as it stands in memory. */
uint16_t vu_ring_used_index(const struct vu_ring *r);
/* Packed: whether the slot at this place was given back in the round of this wrap counter. */
bool vu_ring_is_given(const struct vu_ring *r, uint16_t at, bool wrap);
/* Packed: moves a place on by so many slots. */
void vu_ring_advance(const struct vu_ring *r, uint16_t *at, bool *wrap, uint16_t slots);

#endif
