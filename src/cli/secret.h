/* SPDX-License-Identifier: MIT */
/*
 * Passphrases: --object secret,id=ID,file=PATH[,format=raw|base64], as QEMU has it, and --key-secret ID. They come from
 * files or inherited descriptors (/dev/fd/N), never from the command line, which everybody on the machine can read. They
 * are read before anything else begins, and wiped at the end.
 */
#ifndef CORRAL_CLI_SECRET_H
#define CORRAL_CLI_SECRET_H

#include "api/image.h"
#include "base/attr.h"
#include "crypto/crypto.h"

#define CLI_SECRETS 16

struct cli_secret {
	char *id;
	void *bytes;
	size_t len, room;
};

struct cli_secrets {
	struct cli_secret v[CLI_SECRETS];
	unsigned n;
	const char *key_ids[CLI_SECRETS];
	struct crypto_secret keys[CLI_SECRETS];
	unsigned keys_n;
};

/* What the help says of both. */
#define CLI_SECRET_HELP                                                                                                \
	"      --object secret,id=ID,file=PATH[,format=raw|base64]\n"                                                  \
	"                               a passphrase, all of what the file holds; PATH may be /dev/fd/N\n"
#define CLI_KEY_SECRET_HELP                                                                                                \
	CLI_SECRET_HELP                                                                                                    \
	"      --key-secret ID          the one that opens the image, if it is encrypted; given again: those of further\n" \
	"                               encrypted layers below, of which the last one is for all that are left\n"

/* --object: reads it. --key-secret: notes the name. -EINVAL or another error, told. */
int cli_secret_add(struct cli_secrets *s, const char *command, const char *object) ATTR_MUST_USE;
int cli_secret_key(struct cli_secrets *s, const char *command, const char *id) ATTR_MUST_USE;

/* The secret of that name; false: there is none. */
bool cli_secret_find(const struct cli_secrets *s, const char *id, struct crypto_secret *out) ATTR_MUST_USE;
/* When all options are known: what --key-secret has named. -EINVAL, told: no such secret. */
int cli_secret_use(struct cli_secrets *s, const char *command, struct image_open *how) ATTR_MUST_USE;
/* All of them, by ID; how many. */
unsigned cli_secret_objects(const struct cli_secrets *s, struct image_secret out[CLI_SECRETS]);
void cli_secrets_fini(struct cli_secrets *s);

#endif
