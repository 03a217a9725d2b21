/* SPDX-License-Identifier: MIT */
/* Encryption as corral create is asked for it: qemu-img's options and words. */
#include "cli/create_encrypt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/options.h"

static const char *const names[ENCRYPT_OPTIONS] = {"encrypt.format", "encrypt.key-secret", "encrypt.cipher-alg",
	"encrypt.cipher-mode", "encrypt.ivgen-alg", "encrypt.ivgen-hash-alg", "encrypt.hash-alg", "encrypt.iter-time"};

int create_encrypt_set(struct create_encrypt *e, const char *name, const char *value)
{
	unsigned i = 0;

	if (strcmp(name, "encryption") == 0)
		return strcmp(value, "off") == 0
			? 0
			: cli_usage("create",
				  "encryption=on is AES of a kind that isn't made any more; use encrypt.format=luks");
	while (i < ENCRYPT_OPTIONS && strcmp(name, names[i]) != 0)
		i++;
	if (i == ENCRYPT_OPTIONS)
		return 1;
	free(e->given[i]);
	e->given[i] = strdup(value);
	return e->given[i] ? 0 : -ENOMEM;
}

static int refuse(const struct create_encrypt *e, enum create_encrypt_option option, struct err *err)
{
	return err_set(err, -EINVAL, "Parameter '%s' does not accept value '%s'", names[option], e->given[option]);
}

static int algorithms_take(struct create_encrypt *e, struct err *err)
{
	struct crypto_spec *spec = &e->luks.spec;
	char **given = e->given;

	if (given[ENCRYPT_CIPHER_ALG])
		spec->alg = crypto_alg_find(given[ENCRYPT_CIPHER_ALG]);
	if (spec->alg == CRYPTO_ALGS)
		return refuse(e, ENCRYPT_CIPHER_ALG, err);
	if (given[ENCRYPT_CIPHER_MODE])
		spec->mode = crypto_mode_find(given[ENCRYPT_CIPHER_MODE]);
	if (spec->mode == CRYPTO_MODES)
		return refuse(e, ENCRYPT_CIPHER_MODE, err);
	if (given[ENCRYPT_IVGEN_ALG])
		spec->ivgen = crypto_ivgen_find(given[ENCRYPT_IVGEN_ALG]);
	if (spec->ivgen == CRYPTO_IVGENS)
		return refuse(e, ENCRYPT_IVGEN_ALG, err);
	spec->has_iv_hash = given[ENCRYPT_IVGEN_HASH_ALG] || spec->ivgen == CRYPTO_ESSIV;
	spec->iv_hash = CRYPTO_SHA256;
	if (given[ENCRYPT_IVGEN_HASH_ALG])
		spec->iv_hash = crypto_hash_find(given[ENCRYPT_IVGEN_HASH_ALG]);
	if (spec->iv_hash == CRYPTO_HASHES)
		return refuse(e, ENCRYPT_IVGEN_HASH_ALG, err);
	if (given[ENCRYPT_HASH_ALG])
		e->luks.hash = crypto_hash_find(given[ENCRYPT_HASH_ALG]);
	return e->luks.hash == CRYPTO_HASHES ? refuse(e, ENCRYPT_HASH_ALG, err) : 0;
}

static int time_take(struct create_encrypt *e, struct err *err)
{
	uint64_t ms;

	if (!e->given[ENCRYPT_ITER_TIME])
		return 0;
	if (cli_size_parse(e->given[ENCRYPT_ITER_TIME], &ms) < 0 || ms > UINT32_MAX)
		return refuse(e, ENCRYPT_ITER_TIME, err);
	if (ms == 0)
		return err_set(err, -EINVAL, "encrypt.iter-time is a number of milliseconds, at least 1");
	e->luks.iter_ms = (uint32_t)ms;
	return 0;
}

static int format_check(const struct create_encrypt *e, struct err *err)
{
	bool others = false;

	for (unsigned i = ENCRYPT_FORMAT + 1; i < ENCRYPT_OPTIONS; i++)
		others |= e->given[i] != NULL;
	if (!e->given[ENCRYPT_FORMAT])
		return others ? err_set(err, -EINVAL, "Parameter 'encrypt.format' is missing") : 0;
	if (strcmp(e->given[ENCRYPT_FORMAT], "aes") == 0)
		return err_set(err, -EINVAL,
			"encrypt.format=aes is unsafe and isn't made any more, only read; use encrypt.format=luks");
	if (strcmp(e->given[ENCRYPT_FORMAT], "luks") != 0)
		return refuse(e, ENCRYPT_FORMAT, err);
	if (!e->given[ENCRYPT_KEY_SECRET])
		return err_set(err, -EINVAL, "Parameter 'encrypt.key-secret' is required for cipher");
	return 0;
}

int create_encrypt_take(struct create_encrypt *e, const struct cli_secrets *secrets,
	const struct qcow2_create_luks **out, struct err *err)
{
	int ret = format_check(e, err);

	*out = NULL;
	if (ret < 0 || !e->given[ENCRYPT_FORMAT])
		return ret;
	e->luks = (struct qcow2_create_luks)QCOW2_LUKS_DEFAULT;
	if (!cli_secret_find(secrets, e->given[ENCRYPT_KEY_SECRET], &e->luks.secret))
		return err_set(err, -EINVAL, "No secret with id '%s'", e->given[ENCRYPT_KEY_SECRET]);
	ret = algorithms_take(e, err);
	if (ret == 0)
		ret = time_take(e, err);
	if (ret == 0)
		*out = &e->luks;
	return ret;
}

void create_encrypt_print(const struct create_encrypt *e)
{
	for (unsigned i = 0; i < ENCRYPT_OPTIONS; i++) {
		if (e->given[i])
			printf(" %s=%s", names[i], e->given[i]);
	}
}

void create_encrypt_fini(struct create_encrypt *e)
{
	for (unsigned i = 0; i < ENCRYPT_OPTIONS; i++)
		free(e->given[i]);
}
