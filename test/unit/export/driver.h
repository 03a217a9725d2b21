/* SPDX-License-Identifier: MIT */
/*
 * The guest's side of a virtqueue, for tests: it offers chains and collects what comes back. Written from the
 * specification, with nothing of the device's side in it. Addresses are the guest's: `memory` lies at guest_base.
 */
#ifndef CORRAL_TEST_EXPORT_DRIVER_H
#define CORRAL_TEST_EXPORT_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

struct driver_part { /* of a chain */
	uint64_t addr;
	uint32_t len;
	bool writes; /* the device does */
};

struct driver {
	uint8_t *memory;
	uint64_t guest_base;
	bool packed, event_index, indirect;
	uint16_t size;
	uint64_t desc, avail, used; /* guest addresses of the parts; packed: the ring, and the event structures */
	uint64_t tables; /* guest address of room for an indirect table of DRIVER_TABLE entries for each slot */

	uint16_t avail_at, used_at;
	bool avail_wrap, used_wrap;
	uint16_t free_head, n_free; /* split: a list of descriptors; packed: a count of slots */
	uint16_t next[1024];
	uint16_t len_of[1024]; /* of the chain with this head or id: slots */
	uint16_t next_id;      /* packed: a free one, if there is one */
	bool id_used[1024];
	uint16_t kicked_at; /* avail_at when we last asked whether to kick */
};

#define DRIVER_TABLE 32

/* Bytes that the ring and its tables take from `at`, which is aligned to 4096. */
uint64_t driver_init(struct driver *d, uint64_t at);
/* The head or id that the next chain will have. */
uint16_t driver_next(const struct driver *d);
/* Offers a chain; -1: no room. Returns its head, or its id. */
int driver_offer(struct driver *d, const struct driver_part *part, unsigned n);
/* Whether the device wants to be told of what was offered since this was last asked. */
bool driver_should_kick(struct driver *d);
/* One that came back; false: none. */
bool driver_collect(struct driver *d, uint16_t *head, uint32_t *len);
/* Whether it wants to be told of what comes back. */
void driver_want_calls(struct driver *d, bool want);

#endif
