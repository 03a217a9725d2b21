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

struct create {
	const char *path, *format;
	char *backing, *backing_format, *compat, *preallocation; /* as given, or NULL; owned */
	char *data_file, *compression;                           /* the same */
	bool raw, unsafe, quiet, has_size, has_data_raw;
	uint64_t size, cluster_bytes, refcount_bits;
	struct cli_secrets secrets;
	struct create_encrypt encrypt;
	struct qcow2_create how; /* all of it but the size; its strings are those above */
};

/* 0; 1: help was printed; or negative, explained on stderr. Free it in any case. */
int create_parse(struct create *c, int argc, char **argv) ATTR_MUST_USE;
void create_free(struct create *c);

/* For other commands: what isn't said is as the command line of create has it. */
void create_init(struct create *c);
/* A list as of -o. -EINVAL, told. */
int create_options_add(struct create *c, const char *list) ATTR_MUST_USE;
/* When all is known but the size: -EINVAL, told. */
int create_options_check(struct create *c) ATTR_MUST_USE;

/* Makes the image, over what may be there; unless quiet, tells so. */
int create_run(struct co *co, struct create *c, struct err *err) ATTR_MUST_USE;

#endif
