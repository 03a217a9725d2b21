/* SPDX-License-Identifier: MIT */
/*
 * Programs that stay: going into the background, and telling when they are ready. With fork, the process that was
 * started ends only when the one that serves is ready (status 0) or has ended before it was (its status). To be called
 * before there is an engine, for threads and rings don't survive a fork.
 */
#ifndef CORRAL_CLI_BACKGROUND_H
#define CORRAL_CLI_BACKGROUND_H

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

struct background {
	int ready_fd;         /* -1: nobody waits */
	int null_fd;          /* -1, or what takes the place of the terminal */
	const char *pid_file; /* NULL: none */
	FILE *pid_to;         /* the pid file between prepare and ready */
	bool pid_made;        /* it is ours to remove; false again: it isn't any more */
};

/* In the process that goes on: 0. In the one that only waited it doesn't return. */
int background_begin(struct background *b, bool fork_first, const char *pid_file, struct err *err) ATTR_MUST_USE;

/* Opens what ready will need, for a process that can open nothing any more by then. The pid file is empty until ready. */
int background_prepare(struct background *b, struct err *err) ATTR_MUST_USE;

/* Writes the pid file, prints the line, unless it is NULL, to stdout, lets the waiting process end, and leaves the terminal. */
int background_ready(struct background *b, const char *line, struct err *err) ATTR_MUST_USE;

void background_end(struct background *b); /* removes the pid file */

#endif
