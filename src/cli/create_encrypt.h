/* SPDX-License-Identifier: MIT */
/* The options encrypt.* of corral create. */
#ifndef CORRAL_CLI_CREATE_ENCRYPT_H
#define CORRAL_CLI_CREATE_ENCRYPT_H

#include "cli/secret.h"
#include "qcow2/qcow2.h"

enum create_encrypt_option { /* in the order in which they are printed */
	ENCRYPT_FORMAT,
	ENCRYPT_KEY_SECRET,
	ENCRYPT_CIPHER_ALG,
	ENCRYPT_CIPHER_MODE,
	ENCRYPT_IVGEN_ALG,
	ENCRYPT_IVGEN_HASH_ALG,
	ENCRYPT_HASH_ALG,
	ENCRYPT_ITER_TIME,
	ENCRYPT_OPTIONS
};

struct create_encrypt {
	char *given[ENCRYPT_OPTIONS]; /* owned; NULL: not given */
	struct qcow2_create_luks luks;
};

/* 1: it isn't one of them. 0, or negative, told. */
int create_encrypt_set(struct create_encrypt *e, const char *name, const char *value) ATTR_MUST_USE;
/* When all are known. *out is NULL or points into e. Negative, told. */
int create_encrypt_take(struct create_encrypt *e, const struct cli_secrets *secrets,
	const struct qcow2_create_luks **out, struct err *err) ATTR_MUST_USE;
void create_encrypt_print(const struct create_encrypt *e); /* " name=value" each */
void create_encrypt_fini(struct create_encrypt *e);

#endif
