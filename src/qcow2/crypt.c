/* SPDX-License-Identifier: MIT */
/*
 * Opening an encrypted image. With LUKS the guest's data goes through a node (filter/crypt.c) that lies between the image
 * and its file, or its data file, and encrypts by the sector's number in the file; metadata goes to the file as it is. So whatever the engine
 * does with a cluster's data, copy-on-write, resize, is encrypted by the place where it is put, and space that the file
 * knows to be zero is not known to read as zeros (write.c).
 * Source: docs/interop/qcow2.rst, "Full disk encryption header pointer" and "Data encryption".
 */
#include "qcow2/crypt.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "filter/crypt.h"

static int unlock(
	struct co *co, struct qcow2 *q, const struct luks *l, uint8_t key[CRYPTO_MOST_KEY_BYTES], struct err *err)
{
	int rc = crypto_spec_check(&l->spec, err);

	return rc < 0 ? rc : qcow2_luks_unlock(co, q->node.file, &q->header, l, *q->options.secret, key, err);
}

static int unlocked_open(struct co *co, struct qcow2 *q, const struct luks *l, struct err *err)
{
	struct node *apart = q->options.data_file;
	bool locked = !q->options.secret;
	uint8_t key[CRYPTO_MOST_KEY_BYTES];
	int rc = locked ? 0 : unlock(co, q, l, key, err);

	if (rc < 0)
		return rc;
	rc = crypt_open(co, apart ? apart : q->node.file, apart != NULL, &l->spec, locked ? NULL : key, &q->node.data);
	crypto_wipe(key, sizeof(key));
	return rc < 0 ? err_set(err, rc, "the cipher can't be set up: %s", strerror(-rc)) : 0;
}

static int luks_open(struct co *co, struct qcow2 *q, struct err *err)
{
	AUTO_FREE struct luks *l = malloc(sizeof(*l));
	int rc;

	if (!l)
		return err_set(err, -ENOMEM, "no memory for the encryption header");
	rc = qcow2_luks_load(co, q->node.file, &q->header, l, err);
	if (rc == 0)
		rc = unlocked_open(co, q, l, err);
	q->encrypted = rc == 0;
	return rc;
}

int qcow2_crypt_open(struct co *co, struct qcow2 *q, struct err *err)
{
	uint32_t method = q->header.crypt_method;
	int rc = 0;

	if (method != QCOW2_CRYPT_NONE && !q->options.secret && !q->options.locked) {
		rc = err_set(err, -ENOKEY, "Parameter 'encrypt.key-secret' is required for cipher");
		err_hint(err,
			"the image is encrypted (%s): name its passphrase with --object secret,id=ID,file=FILE --key-secret ID",
			method == QCOW2_CRYPT_LUKS ? "LUKS" : "AES");
		return rc;
	}
	if (method == QCOW2_CRYPT_LUKS)
		rc = luks_open(co, q, err);
	else if (method == QCOW2_CRYPT_AES)
		rc = qcow2_aes_open(q, err);
	q->options.secret = NULL;
	return rc;
}
