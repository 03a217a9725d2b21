/* SPDX-License-Identifier: MIT */
/*
 * The record of what is in flight, in memory that the front end keeps when we die ("Inflight I/O tracking"). A successor
 * learns from it which chains were taken and not given back, and does them again. Pure: one queue's part of that memory.
 * It isn't trusted: a front end may give us one of its own making.
 */
#ifndef CORRAL_EXPORT_VHOST_USER_INFLIGHT_H
#define CORRAL_EXPORT_VHOST_USER_INFLIGHT_H

#include "export/vhost_user/ring.h"

struct vu_inflight {
	void *area; /* NULL: nothing is recorded */
	bool packed;
	uint16_t size; /* entries */
	uint64_t counter;
};

uint64_t vu_inflight_bytes(bool packed, uint16_t size);      /* of one queue */
uint64_t vu_inflight_share(uint64_t bytes, uint16_t queues); /* of one queue, in a record of so many bytes */

/* 1: there is a record of a predecessor; 0: there was none, or of a ring of another size, which must be another ring, and one
 * begins at the ring's places; -EPROTO: one of a version that isn't known, explained. */
int vu_inflight_begin(struct vu_inflight *f, const struct vu_ring *r, struct err *err) ATTR_MUST_USE;
/* A chain has been taken, with these descriptors; *entry names it from now on. */
int vu_inflight_take(struct vu_inflight *f, const struct vu_chain *chain, const struct vu_desc *desc, uint16_t *entry,
	struct err *err) ATTR_MUST_USE;
/* It is about to be given back; it has been. */
void vu_inflight_giving(struct vu_inflight *f, const struct vu_ring *r, const struct vu_chain *chain, uint16_t entry);
void vu_inflight_given(struct vu_inflight *f, const struct vu_ring *r, uint16_t entry);

/* With a predecessor's record: puts right what its writer was interrupted in, and sets the ring's places. Returns how many chains are
 * in flight, and their entries in the order in which they were taken, in entry[VU_RING_MAX]; or -EPROTO, explained. */
int vu_inflight_recover(struct vu_inflight *f, struct vu_ring *r, uint16_t *entry, struct err *err) ATTR_MUST_USE;
/* One of them once more: its chain, and its descriptors in desc[VU_CHAIN_MAX]. */
int vu_inflight_again(const struct vu_inflight *f, const struct vu_ring *r, uint16_t entry, struct vu_desc *desc,
	struct vu_chain *out, struct err *err) ATTR_MUST_USE;

#endif
