/* SPDX-License-Identifier: MIT */
/* corral amend inside: what was asked for. */
#ifndef CORRAL_CLI_AMEND_H
#define CORRAL_CLI_AMEND_H

#include <stdbool.h>
#include <stdio.h>

#include "cli/secret.h"
#include "qcow2/qcow2.h"

enum amend_option { /* in the order in which they are listed */
	AMEND_BACKING_FILE,
	AMEND_BACKING_FMT,
	AMEND_COMPAT,
	AMEND_DATA_FILE,
	AMEND_DATA_FILE_RAW,
	AMEND_ITER_TIME,
	AMEND_KEYSLOT,
	AMEND_NEW_SECRET,
	AMEND_OLD_SECRET,
	AMEND_STATE,
	AMEND_LAZY_REFCOUNTS,
	AMEND_REFCOUNT_BITS,
	AMEND_SIZE,
	AMEND_OPTIONS
};

struct amend_options {
	char *lists;                    /* all of -o, joined by commas; owned, NULL: none */
	char *given[AMEND_OPTIONS];     /* owned; NULL: not given */
	uint64_t number[AMEND_OPTIONS]; /* of those that are numbers, sizes or switches (0, 1) */
	bool help;
	bool force;
	struct qcow2_luks_change luks;
};

/* A list of -o: notes it, and whether it asks for help. Negative, told. */
int amend_options_add(struct amend_options *o, const char *list) ATTR_MUST_USE;
/* Looks at what the lists hold. Negative, told. */
int amend_options_parse(struct amend_options *o) ATTR_MUST_USE;
/* What they ask for of an image with that header; unlock: the secret that opened it. Negative, told. */
int amend_options_take(struct amend_options *o, const struct cli_secrets *secrets, struct crypto_secret unlock,
	const struct qcow2_header *h, struct qcow2_amend *out) ATTR_MUST_USE;
void amend_options_help(FILE *to);
void amend_options_fini(struct amend_options *o);

#endif
