/* SPDX-License-Identifier: MIT */
/*
 * What one seed does: the image it starts from, its host, its faults, and the operations in their order. Everything is
 * drawn before the run begins, so that a run can be repeated with some of it left out. No expression draws twice: C says
 * nothing about which comes first, and compilers differ.
 */
#ifndef CORRAL_SIM_CONFIG_H
#define CORRAL_SIM_CONFIG_H

#include "make.h"
#include "qcow2/qcow2.h"
#include "world.h"

enum sim_op_kind {
	SIM_READ,
	SIM_WRITE,
	SIM_WRITE_FUA,
	SIM_WRITE_COMPRESSED, /* where it isn't whole clusters, as any other */
	SIM_FLUSH,
	SIM_ZERO,
	SIM_ZERO_UNMAP,
	SIM_DISCARD,
	SIM_RESIZE, /* sectors: the new size */
	SIM_DRAIN,
	SIM_SNAPSHOT_CREATE,
	SIM_SNAPSHOT_DELETE, /* first: one of those there are */
	SIM_SNAPSHOT_GOTO,
	SIM_SNAPSHOT_READ,
	SIM_BITMAP_ADD, /* of all: first says which bitmap; sectors: granularity, and whether it is enabled */
	SIM_BITMAP_REMOVE,
	SIM_BITMAP_CLEAR,
	SIM_BITMAP_ENABLE,
	SIM_BITMAP_DISABLE,
	SIM_BITMAP_MERGE, /* sectors: from which bitmap */
	SIM_REOPEN,
	SIM_CUT, /* first: after so many events */
	SIM_AMEND, /* closes, amends, opens the image; sectors: SIM_AMENDMENT; first: events until the power is cut, or 0 */
	SIM_OP_KINDS
};

/* What SIM_AMEND is to change. version: 2, 3, or 0; order: of the width of refcounts, or 7; lazy: enum qcow2_switch; 0, 7
 * and 0 stand for what the image has. */
#define SIM_AMENDMENT(version, order, lazy) ((version) + 4 * (order) + 32 * (lazy))
#define SIM_REBASE 128 /* instead: it gets another backing file */

struct sim_op {
	enum sim_op_kind kind;
	uint32_t first, sectors;
	uint32_t delay_us; /* before it is started */
	bool idle;         /* started when nothing else is in flight */
	bool lasting;      /* writes and zeroes: NODE_LASTING */
};

enum sim_below_kind { SIM_BELOW_NONE, SIM_BELOW_RAW, SIM_BELOW_QCOW2 };

#define SIM_RECOVERY_CUTS 3 /* of a run, at most, while an image is repaired or recovered */

struct sim_config {
	uint64_t seed, schedule; /* schedule: of latencies, coroutines, faults */
	struct sim_geometry image;
	enum sim_below_kind below;
	struct sim_geometry base; /* of the backing file, if it is qcow2; its guest_bytes in any case */
	uint32_t damage;          /* SIM_DAMAGE_*: planted in the image, to be repaired before its first life */
	uint32_t recovery_cuts[SIM_RECOVERY_CUTS]; /* events after which the power is cut while it is; 0: never */
	uint64_t guest_most;                       /* bytes that it may grow to */
	uint64_t file_bytes;                       /* the most that the image's file may have */
	uint32_t unit_bytes;
	bool device, data_device;
	struct qcow2_options options;
	struct sim_latency latency;
	struct sim_faults faults;
	bool faulty, fifo, overlap;
	bool audit; /* at the end: sim_audit */
	uint32_t
		spared_in; /* one end of a process in so many leaves its host alive; 0: the power fails with each of them */
	bool bitmaps;      /* there may be some */
	bool nbd;          /* operations go through the server: nbd.h */
	unsigned depth;
	unsigned cuts;     /* images judged whenever everything has settled */
	uint64_t all_cuts; /* all of them, if there are at most so many */
	uint32_t weight[SIM_OP_KINDS];
	uint32_t buggify_in;      /* a point strikes once in so many times; 0: never */
	uint64_t fail_allocation; /* this one of the engine's fails; 0: none */
	struct sim_op *ops;
	uint32_t ops_count;
};

enum sim_overlap { SIM_OVERLAP_AUTO, SIM_OVERLAP_NO, SIM_OVERLAP_YES };

void sim_config_draw(struct sim_config *c, uint64_t seed, enum sim_overlap overlap, uint32_t ops);
/* Damage of some kinds, whether or not the seed drew it. */
void sim_config_damage(struct sim_config *c);
/* Another list of operations: the power is cut so many times, after a few operations each; nothing else fails. */
void sim_config_cycles(struct sim_config *c, uint32_t cycles);
/*
 * One of the workloads on which others have been measured: reads, writes and flushes of a sound image without snapshots,
 * bitmaps, encryption or a data file.
 *     plain        no more than that
 *     zero-unmap   write-zeroes that may unmap, too
 *     compressed   plain, over an image that is compressed throughout
 *     lazy         zero-unmap, with lazy refcounts
 * False: there is no such workload.
 */
bool sim_config_workload(struct sim_config *c, const char *name);
/* Leaves all operations of a kind out; false: there is no such kind. */
bool sim_config_without(struct sim_config *c, const char *name);
void sim_config_free(struct sim_config *c);
const char *sim_op_name(enum sim_op_kind kind);
void sim_config_tell(const struct sim_config *c);

/* Whether the image gets other backing files now and then. */
bool sim_config_rebases(const struct sim_config *c);

#endif
