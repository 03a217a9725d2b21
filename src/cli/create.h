/* SPDX-License-Identifier: MIT */
/* corral create inside: what was asked for. */
#ifndef CORRAL_CLI_CREATE_H
#define CORRAL_CLI_CREATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "cli/create_encrypt.h"
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

#endif
