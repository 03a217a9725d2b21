/* SPDX-License-Identifier: MIT */
/*
 * What a guest may legally see, sector by sector: the promises G1 to G14 of docs/crash-safety.md.
 *
 * Each sector is a register. A record is a value that it may have: when its write was called, when it returned, and since
 * when nobody may read it any more (it was superseded, or a read pinned another value). A power cut may bring back what is
 * superseded, until a flush that was called later has returned: then the record is gone.
 *
 * All of this speaks of calls and returns alone, never of what the engine does in between. Time is a count of calls and
 * returns.
 */
#ifndef CORRAL_SIM_MODEL_H
#define CORRAL_SIM_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_NEVER UINT64_MAX
#define SIM_READS 64 /* at once */

struct sim_record {
	uint64_t tag;
	uint64_t start, end; /* end: SIM_NEVER while it is in flight */
	uint64_t hidden;     /* since when no read that is called may give it */
	uint32_t next;       /* of the same sector and list; 0: none */
	bool gone;           /* not even a power cut brings it back */
	bool behind; /* a write that lasts came after it: the next process doesn't find it, if the host goes on */
};

struct sim_register {
	uint32_t live,
		hidden; /* its records: those that a read may give, and the others, the last one that was hidden first */
	uint64_t ended; /* when the last of its writes did */
};

struct sim_model {
	uint32_t registers; /* the most sectors, and one more: the disk's size */
	struct sim_register *of;
	uint64_t *only; /* the value of each after a power cut, or SIM_TAG_OTHER where there are several */
	struct sim_record *records;
	uint32_t used, room, free;
	uint64_t time;
	uint64_t reads[SIM_READS]; /* when each read in flight was called; 0: none */
	bool fallen;               /* a flush has failed: reads may give what a power cut may bring back */
};

enum sim_outcome {
	SIM_DONE,
	SIM_LASTING,   /* done, and found again by the next process */
	SIM_DURABLE,   /* done, and every earlier value is gone: FUA */
	SIM_UNCERTAIN, /* it failed: the sector has this value or not */
};

void sim_model_init(struct sim_model *m, uint32_t sectors);
void sim_model_fini(struct sim_model *m);
static inline uint32_t sim_model_size_register(const struct sim_model *m) { return m->registers - 1; }

/* The one value that a register has, now and after a power cut. */
void sim_model_set(struct sim_model *m, uint32_t reg, uint64_t tag);
/* After a power cut: nothing is in flight, no flush has failed. */
void sim_model_restart(struct sim_model *m);

/* The process that wrote is no more, and its host goes on: a register reads as tag, whatever it was that was under way; what
 * else a power cut may bring back, it still may, until a flush. Nothing is in flight, no flush has failed. */
void sim_model_seen(struct sim_model *m, uint32_t reg, uint64_t tag);
/* Whether it may, if nothing of what was written has been lost. */
bool sim_model_may_see(const struct sim_model *m, uint32_t reg, uint64_t tag);

/* Returns the time of the call. The tag of each sector is made of id; zeros where zero is set. */
uint64_t sim_model_write_begin(struct sim_model *m, uint32_t first, uint32_t n, uint32_t id, bool zero);
void sim_model_write_end(struct sim_model *m, uint32_t first, uint32_t n, uint64_t start, enum sim_outcome outcome);
uint64_t sim_model_size_begin(struct sim_model *m, uint64_t bytes);
void sim_model_size_end(struct sim_model *m, uint64_t start, enum sim_outcome outcome);

uint64_t sim_model_flush_begin(struct sim_model *m);
void sim_model_flush_end(struct sim_model *m, uint64_t start);

uint64_t sim_model_read_begin(struct sim_model *m);
/* Whether the read may give this value of that sector; remembers what it pins. */
bool sim_model_read_check(struct sim_model *m, uint64_t start, uint32_t reg, uint64_t tag);
void sim_model_read_end(struct sim_model *m, uint64_t start);

/* Whether somebody who looked at all sectors at once, at some instant since start (of a read that hasn't ended), may have
 * seen this value of that sector; *from and *to: between when and when, at the widest. */
bool sim_model_was(const struct sim_model *m, uint64_t start, uint32_t reg, uint64_t tag, uint64_t *from, uint64_t *to);

/* Whether a power cut now may leave this value. */
bool sim_model_may_find(const struct sim_model *m, uint32_t reg, uint64_t tag);
/* What the values are, for a message. */
void sim_model_tell(const struct sim_model *m, uint32_t reg, char *out, unsigned bytes);

#endif
