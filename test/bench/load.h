/* SPDX-License-Identifier: MIT */
/* The load of bench-load: which request is next, and what became of it. Its transports are load_nbd.c and load_vhost.c. */
#ifndef CORRAL_TEST_BENCH_LOAD_H
#define CORRAL_TEST_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "export/stats.h"

#define LOAD_DEPTH 256

enum load_order { LOAD_RANDOM, LOAD_SEQUENTIAL, LOAD_STRIDE }; /* stride: each step once, in a shuffled order */

struct load {
	const char *socket;
	unsigned depth, bytes;
	uint64_t requests, disk; /* disk: how much of it is used */
	unsigned reads_percent;
	enum load_order order;
	uint64_t step; /* of LOAD_STRIDE */
	bool sync;     /* a flush behind each write, before its slot goes on */

	uint64_t seed, begun, done, at;
	struct export_stats stats;
};

struct load_slot { /* what is under way */
	enum export_op op;
	uint64_t offset, begun_ns;
	bool flush_next;
};

uint64_t load_now(void);
/* Fills the slot in with the next request; false: there is none. */
bool load_next(struct load *l, struct load_slot *slot);
void load_done(struct load *l, struct load_slot *slot, bool succeeded);
_Noreturn void load_die(const char *what);
int load_connect(const char *path);
void load_send(int fd, const void *data, size_t len);
void load_receive(int fd, void *to, size_t len);

/* Each connects, calls load_begin, and runs until all is done. */
void load_begin(struct load *l);
void load_nbd(struct load *l);
void load_vhost(struct load *l);

#endif
