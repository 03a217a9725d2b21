/* SPDX-License-Identifier: MIT */
/*
 * The log of a program that stays: lines on standard error or at the end of a file, with the time of day unless the
 * journal adds its own. So many lines a second and no more: who can make us write could else fill a disk.
 */
#ifndef CORRAL_CLI_SERVE_LOG_H
#define CORRAL_CLI_SERVE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"

#define SERVE_LOG_LINES 200 /* in a second */

struct serve_log {
	struct log log; /* first */
	FILE *to;
	bool journal; /* each line begins with its priority, as sd-daemon(3) says, and no time */
	int64_t second;
	unsigned lines, left_out; /* in that second */
};

/* path: NULL for standard error. */
int serve_log_open(struct serve_log *l, const char *path, struct err *err) ATTR_MUST_USE;
void serve_log_close(struct serve_log *l);

#endif
