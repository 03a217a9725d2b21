/* SPDX-License-Identifier: MIT */
/*
 * Known ways to lose a disk, each as a short list of operations on an image and a host that are chosen so that a bug of
 * this kind shows. A case runs in the simulated world under many schedules, with crash images judged at every step, and
 * then once more for each mutant of the engine that has the bug: a case that doesn't notice its mutants has failed.
 *
 * docs/bug-classes.md says which case stands for what; base/mutant.h what a mutant is.
 */
#ifndef TEST_CRASH_H
#define TEST_CRASH_H

#include "config.h"

#define CRASH_MUTANTS 4

struct crash_case {
	const char *name;
	const struct sim_op *ops;
	unsigned ops_count;
	unsigned rounds;        /* how often the list is repeated in a run; 0: 3 times */
	unsigned jitter_us;     /* half of the operations begin later, by up to this much; 0: 300 */
	unsigned refcount_bits; /* 0: 16 */
	unsigned schedules;     /* 0: 200 */
	int mutants[CRASH_MUTANTS];
	struct sim_config config; /* what is 0 in it is filled in: see config_complete in crash.c */
};

#define CRASH_OPS(list) .ops = (list), .ops_count = sizeof(list) / sizeof((list)[0])

int crash_main(const struct crash_case *cases, unsigned n, int argc, char **argv);

#endif
