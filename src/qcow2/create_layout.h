/* SPDX-License-Identifier: MIT */
/*
 * Where everything lies in a new image. Pure functions. Clusters lie without a gap, each with a refcount of one, in QEMU's
 * order wherever QEMU needs one refcount block:
 *
 *   header | refcount table | block 0 | L1 table | other blocks | what is preallocated
 *
 *   nothing               -
 *   metadata              { L2 table | its data } ...
 *   metadata, data file   L2 tables; the data lies in the data file, at the place that it has on the disk
 *
 * With preallocated space QEMU makes its refcount structures anew when it knows how much there will be, and puts the first
 * L2 table where the refcount table was:
 *
 *   header | L2 table 0 | block 0 | L1 table | other blocks | refcount table | all data | other L2 tables
 *
 * The encryption header, if there is one, comes behind all of that.
 */
#ifndef CORRAL_QCOW2_CREATE_LAYOUT_H
#define CORRAL_QCOW2_CREATE_LAYOUT_H

#include "qcow2/qcow2.h"

struct qcow2_create_layout { /* counts and places, in clusters, unless the name says otherwise */
	uint64_t size;       /* of the disk, bytes: whole sectors */
	uint64_t cluster_bytes;
	uint32_t l2_entry_bytes;
	uint64_t l2_entries; /* of one table */
	uint64_t l1_entries;
	uint64_t per_block;            /* refcounts in a block */
	uint64_t reftable, blocks, l1; /* how many */
	uint64_t l2_tables, data;      /* how many are preallocated; data: those in the image's own file */
	uint64_t mapped;               /* guest clusters that are mapped: `data`, or as many in the data file */
	uint64_t crypto;               /* of the encryption header */
	uint64_t reftable_at, l1_at, more_blocks_at, prealloc_at;
	uint64_t end;
	bool space; /* the data is to have space: the second order above */
};

int qcow2_create_layout(const struct qcow2_create *how, struct qcow2_create_layout *l, struct err *err) ATTR_MUST_USE;

/* The cluster of the image in which a refcount block, or the L2 table of an L1 entry, lies. */
uint64_t qcow2_create_block_at(const struct qcow2_create_layout *l, uint64_t block);
uint64_t qcow2_create_l2_at(const struct qcow2_create_layout *l, uint64_t l1_index);
/* Where the data of a guest cluster lies: in the image, or, if that has none, in the data file. */
uint64_t qcow2_create_data_at(const struct qcow2_create_layout *l, uint64_t guest_cluster);
uint64_t qcow2_create_crypto_at(const struct qcow2_create_layout *l); /* of the encryption header, if there is one */
/* The size of the image's file, bytes. */
uint64_t qcow2_create_file_bytes(const struct qcow2_create_layout *l);

#endif
