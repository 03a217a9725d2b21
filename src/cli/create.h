/* SPDX-License-Identifier: MIT */
/* Making an image, for the commands that do: what was asked for, and the doing. */
#ifndef CORRAL_CLI_CREATE_H
#define CORRAL_CLI_CREATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "cli/create_encrypt.h"
#include "co/co.h"
#include "qcow2/qcow2.h"

#define CREATE_LISTS 32 /* times -o */

struct create {
	const char *command; /* of corral, that is told about; NULL: create */
	const char *path, *format;
	const char *lists[CREATE_LISTS]; /* -o, to be read when all else is known */
	unsigned lists_n;
	char of_qcow2[64]; /* the first option that raw hasn't, or "" */
	bool check_late;   /* as qemu-img: what the format says of the options comes after the line that tells them */
	char *backing, *backing_format, *compat, *preallocation; /* as given, or NULL; owned */
	char *data_file, *compression;                           /* the same */
	char *file;                                              /* that the path means; NULL: other storage; owned */
	bool fixed; /* the storage keeps its size, and what is in it; known when create_run has ended */
	bool raw, unsafe, quiet, has_size, has_data_raw;
	uint64_t size, cluster_bytes, refcount_bits;
	struct cli_secrets *secrets; /* the command's */
	struct create_encrypt encrypt;
	struct qcow2_create how; /* all of it but the size; its strings are those above */
};

/* 0; 1: help was printed; or negative, explained on stderr. Free it in any case. */
int create_parse(struct create *c, struct cli_secrets *secrets, int argc, char **argv) ATTR_MUST_USE;
void create_free(struct create *c);

/* For other commands: what isn't said is as the command line of create has it. */
void create_init(struct create *c, struct cli_secrets *secrets);
/* A list as of -o. -EINVAL, told. */
int create_options_add(struct create *c, const char *list) ATTR_MUST_USE;
/* The same in two steps: all lists are kept, then read. */
int create_options_note(struct create *c, const char *list) ATTR_MUST_USE;
int create_lists_take(struct create *c) ATTR_MUST_USE;
/* Whether a list that was noted asks which options there are; telling it: 1, or negative where the format is unknown.
 * with_file: those of the file that it lies in, too. */
bool create_help_wanted(const struct create *c);
int create_help_print(struct create *c, bool with_file) ATTR_MUST_USE;
/* When all is known but the size: -EINVAL, told. */
int create_options_check(struct create *c) ATTR_MUST_USE;

/* What is wrong with it; -EINVAL. In qemu-img's form it names the file. */
int create_refuse(const struct create *c, const char *format, ...) ATTR_PRINTF(2, 3);
/* What the format says of the options. */
int create_values_check(struct create *c, struct err *err) ATTR_MUST_USE;

/* Makes the image, over what may be there; unless quiet, tells so. */
int create_run(struct co *co, struct create *c, struct err *err) ATTR_MUST_USE;

#endif
