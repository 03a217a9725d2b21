/* SPDX-License-Identifier: MIT */
/* How far it is, in qemu-img's form: with -p all the time, on a terminal with the rate and the time left; else on stderr
 * whenever SIGUSR1 asks. */
#ifndef CORRAL_CLI_PROGRESS_H
#define CORRAL_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
	FILE *to;
	bool shown, terminal;
	double last; /* per cent, as printed */
	uint64_t start_ns, last_ns;
	unsigned width; /* of what stands on the terminal's line */
};

/* to: standard output, or standard error where that has the data. */
void progress_begin(struct progress *p, bool shown, FILE *to);
void progress_show(struct progress *p, uint64_t done, uint64_t all);
/* done: it has come to its end, which is then 100 %. */
void progress_end(struct progress *p, bool done);

#endif
