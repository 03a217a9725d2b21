/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory, as the front end describes it: regions, each known by the guest's address, by the front end's own,
 * and by where it lies in ours. A table doesn't change once it is in use; a request keeps the one that it began with, and
 * a region goes when no table has it any more. Finding things in a table is pure.
 */
#ifndef CORRAL_EXPORT_VHOST_USER_MEMORY_H
#define CORRAL_EXPORT_VHOST_USER_MEMORY_H

#include <sys/uio.h>

#include "base/err.h"
#include "export/vhost_user/proto.h"
#include "io/share.h"

#define VU_REGIONS 509 /* as many as QEMU may have at most */

struct vu_mapping { /* shared by all tables that have the region */
	struct io_map *map;
	int fd; /* of what is mapped, from this offset on, where it is kept; -1: it isn't */
	uint64_t offset;
	unsigned tables;
};

struct vu_region {
	uint64_t guest, user, size;
	uint8_t *bytes;
	struct vu_mapping *mapping;
};

struct vu_memory {
	unsigned users;
	bool keeps; /* descriptors */
	unsigned n;
	struct vu_region region[]; /* room for VU_REGIONS */
};

/* ---- tables; each is owned by its users ---- */

/* Empty, with one user; NULL: no memory. keeps: the descriptors of regions are kept, as far as there are numbers for them. */
struct vu_memory *vu_memory_new(bool keeps);
/* One with the same regions. NULL: no memory. */
struct vu_memory *vu_memory_copy(const struct vu_memory *m);
struct vu_memory *vu_memory_get(struct vu_memory *m);
void vu_memory_put(struct co *co, struct vu_memory *m); /* NULL is fine */

/* Maps a region and puts it into a table that nobody else uses yet. The descriptor stays the caller's. */
int vu_memory_add(struct co *co, struct vu_memory *m, const struct vu_region_wire *region, int fd, struct err *err)
	ATTR_MUST_USE;
int vu_memory_remove(struct co *co, struct vu_memory *m, const struct vu_region_wire *region, struct err *err)
	ATTR_MUST_USE;
bool vu_memory_broken(const struct vu_memory *m); /* some of it was taken away */

/* ---- finding things ---- */

/* The bytes at [guest, guest + len) as pieces of our own memory: appended to v, where there is room for up to max in all.
 * false: some of it lies in no region, or in too many. */
bool vu_memory_pieces(
	const struct vu_memory *m, uint64_t guest, uint64_t len, struct iovec *v, unsigned max, unsigned *n);
/* The same, copied. */
bool vu_memory_read(const struct vu_memory *m, uint64_t guest, void *to, size_t len);
/* What lies at an address of the front end, in one piece; NULL: nothing does. */
uint8_t *vu_memory_user(const struct vu_memory *m, uint64_t user, uint64_t len);
/* The guest's address of a byte of ours; UINT64_MAX: it is in no region. */
uint64_t vu_memory_guest(const struct vu_memory *m, const void *byte);

#endif
