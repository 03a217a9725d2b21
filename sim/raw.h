/* SPDX-License-Identifier: MIT */
/*
 * An independent reader and checker of qcow2 images, on what a power cut would leave of a simulated disk. It shares no
 * code with the engine: a misunderstanding would have to be made twice. Rules M1 to M14 of docs/crash-safety.md; source:
 * QEMU's docs/interop/qcow2.rst.
 */
#ifndef CORRAL_SIM_RAW_H
#define CORRAL_SIM_RAW_H

#include "disk.h"

#define SIM_SNAPSHOTS 6 /* the most that an image may have here */
#define SIM_SNAPSHOT_NAME 16
#define SIM_BITMAPS 3 /* the same; they are called b0, b1, b2 */
#define SIM_PROBLEM 240

enum sim_role {
	SIM_ROLE_NONE,
	SIM_ROLE_HEADER,
	SIM_ROLE_REFTABLE,
	SIM_ROLE_REFBLOCK,
	SIM_ROLE_L1,
	SIM_ROLE_L2,
	SIM_ROLE_DATA,
	SIM_ROLE_COMPRESSED,
	SIM_ROLE_SNAPSHOTS,
	SIM_ROLE_BITMAP_DIRECTORY,
	SIM_ROLE_BITMAP_TABLE,
	SIM_ROLE_BITMAP_DATA,
	SIM_ROLE_CRYPTO,
};

struct sim_raw_header {
	uint32_t version, cluster_bits, refcount_order;
	uint64_t size, l1_offset, reftable_offset, snapshots_offset;
	uint32_t l1_entries, reftable_clusters, snapshots;
	uint64_t incompatible, compatible, autoclear;
	uint8_t compression; /* enum sim_compression */
};

struct sim_raw_tree { /* what a guest, or a snapshot's reader, would see */
	uint64_t size;
	uint64_t *tags;                                      /* per sector */
	char name[SIM_SNAPSHOT_NAME], id[SIM_SNAPSHOT_NAME]; /* of a snapshot */
};

enum { SIM_BITMAP_IN_USE = 1 << 0, SIM_BITMAP_AUTO = 1 << 1 };

struct sim_raw_bitmap {
	bool found;
	uint32_t flags;
	unsigned granularity_bits;
	uint32_t granules;
	bool *bits; /* per granule, where it isn't in use */
};

struct sim_raw {
	/* set by the user before the check */
	const uint64_t *backing; /* what lies below, a tag per sector; NULL: nothing */
	uint32_t backing_sectors;
	const uint64_t *other; /* the same, where the header names "other" */
	uint32_t other_sectors;
	const struct sim_image *data; /* the external data file; NULL: the image has its data in itself */
	bool data_alone;              /* the data file by itself must be what the guest reads */
	bool exact;                   /* COPIED must be set wherever the refcount is 1: nothing has been interrupted */
	bool sharing; /* references may have been counted of a tree that nothing refers to yet: a leak, also of what is COPIED */
	bool damaged;           /* it is to be repaired: clusters may have two roles, and refcounts mean nothing ... */
	uint64_t damaged_table; /* ... while this is still their table */

	/* what the check found */
	struct sim_raw_header header;
	bool encrypted;
	bool dirty;         /* the bit is set: refcounts need not be right */
	uint32_t clusters;  /* of the file */
	uint32_t leaks;     /* refcounts that nothing accounts for */
	uint32_t allocated; /* clusters with a role */
	uint32_t beyond;    /* entries of the active tree behind the disk's end that aren't 0 */
	struct sim_raw_tree active, snapshot[SIM_SNAPSHOTS];
	struct sim_raw_bitmap bitmap[SIM_BITMAPS];
	char problem[SIM_PROBLEM]; /* "": none; else the first one */

	/* its own */
	const uint64_t *below; /* one of the two; NULL: the header names none */
	uint32_t below_sectors;
	uint32_t room, guest_room; /* clusters of the file, sectors of the guest that there is memory for */
	uint64_t *refcount;
	uint32_t *references;
	uint8_t *role, *tree;
	bool *copied; /* the active tree says so */
	const struct sim_image *image;
	uint8_t scratch[SIM_SECTOR];
	struct sim_memo *memo; /* raw_encoded.c: what was decompressed; NULL: nothing */
	uint32_t reads;        /* a step of the walk, for messages */
};

void sim_raw_init(struct sim_raw *r, uint64_t file_bytes, uint64_t guest_bytes);
void sim_raw_fini(struct sim_raw *r);

/* Checks the whole image and finds out what each sector of each tree reads as. True: no problem. */
bool sim_raw_check(struct sim_raw *r, const struct sim_image *image);

#endif
