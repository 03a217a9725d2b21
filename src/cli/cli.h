/* SPDX-License-Identifier: MIT */
/*
 * The program corral: a table of commands, one file each. A command gets its own arguments (argv[0] is its name),
 * parses them outside any coroutine, since they may say which engine to make or whether to fork first, and does its
 * work in one coroutine through cli_in_coroutine. It prints its own errors to stderr, each line beginning "corral: ".
 */
#ifndef CORRAL_CLI_CLI_H
#define CORRAL_CLI_CLI_H

#include <stdio.h>

#include "base/err.h"
#include "co/co.h"
#include "io/io.h"

struct command {
	const char *name;
	const char *summary;               /* one line for `corral --help` */
	int (*run)(int argc, char **argv); /* the exit status of the program */
};

int cmd_amend(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_bitmap(int argc, char **argv);
int cmd_commit(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_control(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_dd(int argc, char **argv);
int cmd_measure(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_io(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_map(int argc, char **argv);
int cmd_nbd(int argc, char **argv);
int cmd_rebase(int argc, char **argv);
int cmd_resize(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_serve(int argc, char **argv);

/* The command of that name; NULL: there is none. */
const struct command *cli_command(const char *name);

/* The help of the program, or of the tool of QEMU's as which it was called. */
void cli_help_print(FILE *to);

/* ---- run.c ---- */

/* The engine called `name` ("uring", "threads", "auto"); NULL: what the environment's CORRAL_AIO says, or "auto".
 * -EINVAL: there is none of that name, and stderr says so. */
int cli_engine(const char *name, enum io_engine *out) ATTR_MUST_USE;

/* What -i of QEMU's tools says: threads, io_uring, or native, which is what io_uring is here but for O_DIRECT alone. -EINVAL. */
int cli_aio_parse(const char *mode, enum io_engine *out, bool *native) ATTR_MUST_USE;

/* Makes the engine, runs fn(co, arg) in a coroutine until nothing is alive, frees the engine. What fn returns is the
 * exit status; 1, explained on stderr, if there could be no engine or no coroutine. */
int cli_in_coroutine(enum io_engine engine, int (*fn)(struct co *co, void *arg), void *arg);
/* The same, with the engine that the environment says. */
int cli_run(int (*fn)(struct co *co, void *arg), void *arg);

#endif
