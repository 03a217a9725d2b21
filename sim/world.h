/* SPDX-License-Identifier: MIT */
/*
 * The world behind io/'s backend: one host with its files, its clock, and a queue of operations in flight. Nothing in it
 * happens by itself: a seeded generator says how long each operation takes (and so which one completes next), which fail,
 * and which of the runnable coroutines goes on.
 *
 * After a power cut (sim_world_cut) nothing reaches the disks any more and every operation fails: the engine, which doesn't
 * know that it is dead, runs to its end, so that its memory is freed and its error paths are exercised. So it is when the
 * process is killed (sim_world_kill), but for the page cache, which the next one finds as it is.
 */
#ifndef CORRAL_SIM_WORLD_H
#define CORRAL_SIM_WORLD_H

#include "disk.h"
#include "io/backend.h"
#include "net.h"
#include "prng.h"

#define SIM_FILES 4
#define SIM_FDS 32
#define SIM_LOCKS 64
#define SIM_EVENTS 512
#define SIM_NO_TIME UINT64_MAX /* when an operation is due that waits for others */

#define SIM_HANG_NS UINT64_C(2000000000)

/* Turns of timers alone, after which whoever still waits waits for ever. */
#define SIM_TIMERS_ONLY 200000u

struct sim_latency {            /* nanoseconds */
	uint64_t least, spread; /* of an operation */
	uint64_t flush;         /* more for a flush */
	uint32_t tail_in;       /* one in so many takes ... */
	uint64_t tail;          /* ... this much more */
	uint32_t slow_in;       /* one read or write in so many ... */
	uint64_t slow;          /* ... outlives whole commits */
	uint32_t hang_in;       /* one in so many hangs until everything else has stopped, for SIM_HANG_NS at most */
};

struct sim_faults { /* one in so many; 0: never */
	uint32_t read_in, write_in, flush_in, zero_in, short_in, again_in, interrupt_in, full_in;
	bool no_zero, no_punch;          /* the file system can't */
	uint64_t sticky_from, sticky_to; /* bytes of file 0 that fail for ever, once they have failed */
	uint64_t nth;                    /* this operation from now on fails, 1 is the next; counts down; 0: none */
	uint64_t limit;                  /* file 0 can't grow beyond this; 0: only by its size */
};

struct sim_file {
	char name[32];
	struct sim_disk disk;
	uint32_t align;
	bool used, read_only;
};

struct sim_fd {
	struct sim_file *file;
	bool writable;
};

struct sim_lock {
	int fd; /* -1: free */
	uint64_t at;
};

struct sim_event {
	struct io_op *op;
	uint64_t due, number;
	uint64_t covers; /* of a flush */
	int64_t result;
	uint32_t write; /* of the disk; 0: none */
	bool failed;    /* a write whose sectors took the new contents or not */
	bool early;     /* a read that was served when it was submitted */
	bool cancelled; /* it waits no more */
};

struct sim_counts {
	uint64_t reads, writes, dsyncs, flushes, zeroes, punches, events;
	uint64_t failures; /* of operations, by our will: not short transfers and the like */
};

struct sim_world {
	struct io io; /* first */
	struct sim_rng schedule, fault;
	struct sim_latency latency;
	struct sim_faults faults;
	uint64_t now, submitted;
	unsigned timers_only; /* turns in a row in which nothing completed */
	bool dead;            /* the power is cut, or the process killed */
	bool fifo;            /* no choice between coroutines: first come, first served */
	struct sim_file files[SIM_FILES];
	struct sim_fd fds[SIM_FDS];
	struct sim_lock locks[SIM_LOCKS];
	struct sim_event events[SIM_EVENTS];
	struct sim_net net;
	unsigned in_flight;
	struct sim_counts counts;
	uint64_t digest; /* of all that happened */

	/* Called whenever everything that could run has run, before the next completion. */
	void (*settled)(struct sim_world *w, void *arg);
	void *settled_arg;
};

void sim_world_init(struct sim_world *w, uint64_t seed);
void sim_world_fini(struct sim_world *w);
/* The disk of a new file. */
struct sim_disk *sim_world_file(
	struct sim_world *w, const char *name, uint64_t bytes, uint32_t unit_bytes, bool device);
struct sim_file *sim_world_find(struct sim_world *w, const char *name);
void sim_world_cut(struct sim_world *w);
/* The process is killed, its host goes on: what is in flight takes effect or doesn't. Then as after a cut. */
void sim_world_kill(struct sim_world *w);
void sim_world_calm(struct sim_world *w);    /* no more faults; what the file system can't do it still can't */
void sim_world_restart(struct sim_world *w); /* after a cut; nothing is alive */
void sim_world_digest(struct sim_world *w, uint64_t what);

/* world_file.c: what operations on files do */
void sim_file_begin(struct sim_world *w, struct sim_event *e);
void sim_file_finish(struct sim_world *w, struct sim_event *e);
void sim_file_kill(struct sim_world *w, const struct sim_event *e); /* who asked for it is gone */

/* report.c */
void sim_violation(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern bool sim_tracing;

#endif
