/* SPDX-License-Identifier: MIT */
/*
 * Snapshots that are made, gone back to, read and deleted while a run goes on: what is promised of them (G13 of
 * docs/crash-safety.md), and whether it is kept.
 *
 * A snapshot is like a read of the whole disk that begins when its creation is called and ends when this returns, and that
 * sees all sectors at one instant. What it holds is found out when it first appears in a crash image; from then on it must
 * stay so, in every image, until its deletion is called.
 */
#ifndef CORRAL_SIM_SNAPSHOT_H
#define CORRAL_SIM_SNAPSHOT_H

#include "raw.h"

struct sim_run;
struct sim_task;
struct co;

enum sim_snapshot_state {
	SIM_SNAPSHOT_ABSENT,
	SIM_SNAPSHOT_COMING, /* being created */
	SIM_SNAPSHOT_THERE,
	SIM_SNAPSHOT_GOING,     /* being deleted */
	SIM_SNAPSHOT_UNCERTAIN, /* its creation or deletion has failed */
};

struct sim_snapshot {
	enum sim_snapshot_state state;
	char name[SIM_SNAPSHOT_NAME];
	uint64_t start; /* of its creation, for the model; 0: that is over */
	bool known;     /* what it holds: */
	uint64_t size;
	uint64_t *tags;
	unsigned readers;
	bool going_back; /* somebody makes the disk what it was then, or has failed to: it may be that */
};

void sim_snapshots_init(struct sim_run *run);
void sim_snapshots_fini(struct sim_run *run);

/* Whether the operation is one of these; then it has been done. */
bool sim_snapshot_op(struct co *co, struct sim_task *t);
/* Whether it must wait for one that is under way. */
bool sim_snapshot_must_wait(const struct sim_run *run, unsigned kind);

/* The image that has been checked: run->problem if it isn't right. */
bool sim_snapshots_judge(struct sim_run *run);
/* Whether it is the disk that somebody is going back to. */
bool sim_snapshots_gone_back(const struct sim_run *run);
bool sim_snapshots_going_back(const struct sim_run *run); /* somebody may be, or may have been */
/* The image that has been checked is what is, for good. */
void sim_snapshots_settle(struct sim_run *run);
/* It is what is, and a power cut may bring back what was before. */
void sim_snapshots_seen(struct sim_run *run);

/* Opens the image once more, lets the search for leaks come to its end, closes: then every refcount is exact. */
void sim_audit(struct co *co, void *arg);

#endif
