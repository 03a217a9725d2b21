/* SPDX-License-Identifier: MIT */
/*
 * One run: an image, a host, the real engine on it, operations, and the judgement of every power cut that is tried. A run
 * has one life, or more where the power is really cut and the image opened again.
 */
#ifndef CORRAL_SIM_RUN_H
#define CORRAL_SIM_RUN_H

#include "bitmaps.h"
#include "config.h"
#include "model.h"
#include "snapshot.h"
#include "node/node.h"

#define SIM_TASKS 32

struct sim_run;
struct sim_nbd;

struct sim_task { /* an operation in flight */
	struct sim_run *run;
	struct sim_op op;
	uint32_t id;
	bool busy;
	uint8_t *buffer;
};

struct sim_samples {        /* of the images that are judged: sample.c */
	const char *folder; /* NULL: none are kept */
	uint64_t one_in, taken;
};

struct sim_tally { /* over many runs */
	uint64_t handovers;
	uint64_t seeds, operations, images, lives, violations;
	uint64_t flushes, most_leaks;
	uint64_t failures;                    /* of operations on the host */
	uint64_t allocations;                 /* of the last run */
	uint64_t cuts;                        /* of the power, for good */
	uint64_t spared;                      /* other ends of a process */
	uint64_t connections, answered, lost; /* of NBD, and requests */
	struct sim_samples samples;
	uint64_t leaks_early, leaks_late; /* the most in the first and in the second half of the cuts of a run */
};

struct sim_run {
	const struct sim_config *config;
	struct sim_tally *tally;
	struct sim_world world;
	struct sim_model model;
	struct sim_raw raw;
	struct sim_rng cut_rng;
	struct sim_disk *disk; /* of the image */
	struct sim_disk *data; /* of its external data file, or NULL */
	struct sim_made image, base;
	struct sim_bitmaps bitmaps;
	uint64_t *below; /* what the backing file reads as, per sector */
	uint64_t *other; /* and the other one, which it may get; NULL: it may not */
	uint32_t other_sectors;
	struct sim_snapshot snapshots[SIM_SNAPSHOTS];
	bool sharing; /* see struct sim_raw: since the last time that all was exact */
	bool auditing;
	bool amended;                /* or it was begun: the header cluster may have been rewritten */
	uint32_t header_version[64]; /* of the sectors of the first cluster, from the second on: they never change */

	struct node *node;
	struct sim_nbd *nbd; /* NULL: operations call the node, else its server */
	struct sim_task tasks[SIM_TASKS];
	unsigned in_flight;
	struct co_queue freed; /* a task has ended */
	uint32_t next_op, next_id;
	uint64_t footprint_most;          /* bytes that the file may have, whatever happens */
	uint64_t guest_bytes;             /* as of the last resize that returned */
	uint32_t cut_in;                  /* events until the power is cut; 0: not planned */
	bool cut;                         /* it was, or the process was killed */
	bool damaged;                     /* the image is still to be repaired */
	unsigned repairs;                 /* tried so far */
	unsigned recoveries;              /* begun so far, by repair or by opening */
	const struct sim_op *amend;       /* before the next life; NULL: none */
	unsigned amends_tried;            /* of it, so often so far */
	uint32_t version, refcount_order; /* of the image, as it was opened last */
	bool failed_flush; /* the guest has been told so: nothing succeeds before the image is opened again */
	bool disturbed;    /* something failed, or the power was cut: clusters may have leaked */
	uint32_t leaks_before;
	enum sim_cut how; /* the image that is being judged, for the report */
	uint64_t settled_changes;
	char problem[600]; /* what is wrong with the image that is being judged */
};

void sim_run(const struct sim_config *c, struct sim_tally *tally);

/* cuts.c: power cuts of both disks, as those of disk.h of one */
void sim_run_cut(struct sim_run *run, enum sim_cut how);
void sim_run_seen(struct sim_run *run); /* what whoever opens the image now finds, with the power on */
void sim_run_cut_undo(struct sim_run *run);
void sim_run_cut_become(struct sim_run *run);
uint64_t sim_run_cuts(const struct sim_run *run, uint64_t most);
void sim_run_cut_nth(struct sim_run *run, uint64_t n);
/* Whether nothing has changed since it was asked last, and nothing is pending. */
bool sim_run_settled(struct sim_run *run);

/* life.c */
/* The image itself, for writing; or one of its snapshots. */
int sim_image_open(struct co *co, struct sim_run *run, const char *snapshot, struct node **out, struct err *err);
/* The backing file of that name; "": none, NULL. */
int sim_backing_open(struct co *co, struct sim_run *run, const char *name, struct node **out, struct err *err);

/* judge.c */
/* What is durable now, and nothing else. */
void sim_judge_durable(struct sim_run *run);
/* After an audit: nothing has leaked, and COPIED is right. */
void sim_judge_audited(struct sim_run *run);
void sim_judge_init(struct sim_run *run);
void sim_judge_fini(struct sim_run *run);
/* The image in disk->found, with its data in data->found: consistent, and every sector has a value that it may have. Ends the program if not. */
void sim_judge(struct sim_run *run);
/* The hook of the world: tries some power cuts. */
void sim_judge_settled(struct sim_world *w, void *arg);
/* Cuts the power: one of the images becomes the disk. */
void sim_judge_cut(struct sim_run *run);
/* The process is killed, or has ended and left things undone, and its host goes on: whoever comes next finds the page cache. */
void sim_judge_spared(struct sim_run *run);
/* Nobody has the image open: what was written is what can be read now, whatever has failed meanwhile. */
void sim_judge_seen(struct sim_run *run);
/* Either of both, as is drawn. */
void sim_judge_end(struct sim_run *run);
/* After a clean close: nothing is pending, nothing has leaked. */
void sim_judge_closed(struct sim_run *run);

/* bitmaps.c */
void sim_bitmaps_init(struct sim_run *run);
void sim_bitmaps_fini(struct sim_run *run);
void sim_bitmaps_change_begin(struct sim_run *run, const struct sim_op *op);
void sim_bitmaps_change_end(struct sim_run *run, const struct sim_op *op, enum sim_outcome outcome);
/* The image is about to be opened, resized; was closed: what may be marked in use from now on, what may not. */
void sim_bitmaps_opening(struct sim_run *run, bool again);
void sim_bitmaps_resizing(struct sim_run *run);
/* The disk is smaller now. */
void sim_bitmaps_shrunk(struct sim_run *run, uint64_t bytes);
void sim_bitmaps_closed(struct sim_run *run);
/* All of the disk becomes what it was: it has that size then, or, until the end, not yet. */
void sim_bitmaps_goto_begin(struct sim_run *run, uint64_t bytes);
void sim_bitmaps_goto_end(struct sim_run *run);
void sim_bitmap_op(struct co *co, struct sim_task *t);
static inline bool sim_op_is_bitmap(enum sim_op_kind kind)
{
	return kind >= SIM_BITMAP_ADD && kind <= SIM_BITMAP_MERGE;
}
/* Whether those that were found are right; if not, `problem` tells. */
bool sim_bitmaps_judge(struct sim_run *run);
/* What was found is what is. */
void sim_bitmaps_settle(struct sim_run *run);
/* The same, but a power cut may bring back something else. */
void sim_bitmaps_seen(struct sim_run *run);

/* sample.c: keeps the image in disk->found as a file, if it is its turn */
void sim_sample(struct sim_run *run);

/* repair.c: repairs the damage that was planted; false: the power was cut meanwhile */
bool sim_repair(struct co *co, struct sim_run *run);

/* amend.c: what run->amend asks for; false: the power was cut meanwhile */
bool sim_amend(struct co *co, struct sim_run *run);

/* life.c */
void sim_life(struct co *co, void *arg);
void sim_life_start(struct sim_run *run, const struct sim_op *op);
/* Whether an operation succeeded; that it failed without a reason is a violation. */
bool sim_life_outcome(struct sim_run *run, const char *what, int rc);
void sim_life_fill(struct sim_task *t);
void sim_life_read_judge(struct sim_run *run, const struct sim_task *t, uint64_t start);
void sim_life_flush_failed(struct sim_run *run);

#endif
