/* SPDX-License-Identifier: MIT */
/*
 * Reading images of the old kind of encryption (crypt_method AES). It is unsafe, the passphrase being the key, and is only
 * read, to get data out: AES-128 in CBC mode, sectors told apart by their number on the guest's disk, not in the file. So
 * this isn't a node below, as with LUKS, but a way to decode clusters.
 * Source: docs/interop/qcow2.rst, "Data encryption"; the key's size is QEMU's.
 */
#include <errno.h>
#include <string.h>

#include "qcow2/crypt.h"

#define KEY_BYTES 16u
#define WINDOW_BYTES UINT64_C(1048576)
#define OFFLOAD_BYTES 65536u

static const struct crypto_spec aes_spec = {.alg = CRYPTO_AES_128, .mode = CRYPTO_CBC, .ivgen = CRYPTO_PLAIN64};

/* Any passphrase will do: whether it is the right one shows when the disk is looked at. */
int qcow2_aes_open(struct qcow2 *q, struct err *err)
{
	const struct crypto_secret *secret = q->options.secret;
	uint8_t key[CRYPTO_MOST_KEY_BYTES] = {0};
	int rc;

	co_mutex_init(&q->aes_lock);
	if (!secret)
		return 0;
	rc = crypto_spec_check(&aes_spec, err);
	if (rc < 0)
		return rc;
	memcpy(key, secret->bytes, MIN(secret->len, (size_t)KEY_BYTES));
	rc = crypto_cipher_new(&aes_spec, key, &q->aes);
	crypto_wipe(key, sizeof(key));
	return rc < 0 ? err_set(err, rc, "the cipher can't be set up: %s", strerror(-rc)) : 0;
}

struct work {
	struct crypto_cipher *cipher;
	uint64_t sector;
	char *buffer;
	size_t bytes;
	int rc;
};

static void decrypt(void *arg)
{
	struct work *w = arg;

	w->rc = crypto_decrypt(w->cipher, w->sector, w->buffer, w->bytes);
}

/* Whole sectors of guest and file, into the buffer. Beyond the file's end there are zeros, encrypted ones so to speak. */
static int sectors_read(struct co *co, struct qcow2 *q, uint64_t guest, uint64_t host, char *buffer, size_t bytes)
{
	struct node *file = q->node.data;
	size_t there = host < file->size ? MIN(bytes, file->size - host) : 0;
	struct work w = {.cipher = q->aes, .sector = guest / CRYPTO_SECTOR, .buffer = buffer, .bytes = bytes};
	int rc = there > 0 ? node_read(co, file, host, IOV_BUF(buffer, there)) : 0;

	memset(buffer + there, 0, bytes - there);
	if (rc)
		return rc;
	co_mutex_lock(co, &q->aes_lock);
	if (bytes < OFFLOAD_BYTES)
		decrypt(&w);
	else
		co_offload(co, decrypt, &w);
	co_mutex_unlock(&q->aes_lock);
	return w.rc;
}

int qcow2_aes_read(struct co *co, struct qcow2 *q, uint64_t host, uint64_t guest, struct iov to)
{
	uint64_t skip = guest % CRYPTO_SECTOR, all = align_up(skip + to.len, CRYPTO_SECTOR);
	size_t window = MIN(all, WINDOW_BYTES);
	void *buffer;
	int rc;

	if (!q->aes)
		return -ENOKEY;
	rc = node_buffer_get(co, &q->node, window, &buffer);
	if (rc)
		return rc;
	for (uint64_t at = 0; !rc && at < all; at += window) {
		uint64_t from = MAX(at, skip), end = MIN(at + window, skip + to.len);

		rc = sectors_read(co, q, guest - skip + at, host - skip + at, buffer, MIN(window, all - at));
		if (!rc)
			iov_copy_in(iov_slice(to, from - skip, end - from), (char *)buffer + (from - at), end - from);
	}
	node_buffer_put(&q->node, buffer, window);
	return rc;
}
