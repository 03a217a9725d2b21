/* SPDX-License-Identifier: MIT */
/* From a command's arguments to its coroutine: which engine, made, run and freed around one function. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"

int cli_engine(const char *name, enum io_engine *out)
{
	const char *asked = name ? name : getenv("CORRAL_AIO");

	if (!asked || strcmp(asked, "auto") == 0) {
		*out = IO_AUTO;
	} else if (strcmp(asked, "uring") == 0) {
		*out = IO_URING;
	} else if (strcmp(asked, "threads") == 0) {
		*out = IO_THREADS;
	} else {
		fprintf(stderr, "corral: %s: no engine of the name '%s'; there are uring, threads and auto\n",
			name ? "--aio" : "CORRAL_AIO", asked);
		return -EINVAL;
	}
	return 0;
}

int cli_aio_parse(const char *mode, enum io_engine *out, bool *native)
{
	if (strcmp(mode, "threads") == 0)
		*out = IO_THREADS;
	else if (strcmp(mode, "io_uring") == 0)
		*out = IO_URING;
	else if (strcmp(mode, "native") == 0)
		*native = true;
	else
		return cli_complain("Invalid aio option: %s", mode), -EINVAL;
	return 0;
}

struct cli_run {
	int (*fn)(struct co *co, void *arg);
	void *arg;
	int status;
};

static void cli_entry(struct co *co, void *arg)
{
	struct cli_run *run = arg;

	run->status = run->fn(co, run->arg);
}

int cli_in_coroutine(enum io_engine engine, int (*fn)(struct co *co, void *arg), void *arg)
{
	struct cli_run run = {.fn = fn, .arg = arg, .status = 1};
	struct err err = {0};
	struct io *io;

	if (io_new(&io, engine, NULL, &err) < 0) {
		fprintf(stderr, "corral: %s\n", err.text);
		return 1;
	}
	int r = co_main(io_sched(io), "main", cli_entry, &run);

	if (r < 0)
		fprintf(stderr, "corral: can't start: %s\n", strerror(-r));
	io_free(io);
	return run.status;
}

int cli_run(int (*fn)(struct co *co, void *arg), void *arg)
{
	enum io_engine engine;

	return cli_engine(NULL, &engine) < 0 ? 1 : cli_in_coroutine(engine, fn, arg);
}
