/* SPDX-License-Identifier: MIT */
/* Encryption inside qcow2/: what its files share. */
#ifndef CORRAL_QCOW2_CRYPT_H
#define CORRAL_QCOW2_CRYPT_H

#include "qcow2/engine.h"

/* ---- crypt.c ---- */

/* Unlocks an encrypted image, and makes q->node.data the node that decrypts. Before node_init. */
int qcow2_crypt_open(struct co *co, struct qcow2 *q, struct err *err) ATTR_MUST_USE;

/* ---- aes.c ---- */

int qcow2_aes_open(struct qcow2 *q, struct err *err) ATTR_MUST_USE;
/* Guest bytes that lie at host, encrypted. */
int qcow2_aes_read(struct co *co, struct qcow2 *q, uint64_t host, uint64_t guest, struct iov to) ATTR_MUST_USE;

/* ---- luks.c ---- */

/* The key of the disk, from whichever slot the passphrase opens; *slot (or NULL) is its number. -EACCES: from none. */
int qcow2_luks_unlock(struct co *co, struct node *file, const struct qcow2_header *h, const struct luks *l,
	struct crypto_secret secret, uint8_t key[CRYPTO_MOST_KEY_BYTES], struct err *err) ATTR_MUST_USE;
/* The same with one slot, which need not be the right one: then -EACCES. */
int qcow2_luks_try(struct co *co, struct node *file, const struct qcow2_header *h, const struct luks *l, unsigned slot,
	struct crypto_secret secret, uint8_t key[CRYPTO_MOST_KEY_BYTES], struct err *err) ATTR_MUST_USE;
/* Gives the slot a salt and as many iterations as take so long; fills material (luks_material_bytes) with the key. */
int qcow2_luks_lock(struct co *co, struct luks *l, unsigned slot, struct crypto_secret secret, uint32_t iter_ms,
	const uint8_t *key, void *material, struct err *err) ATTR_MUST_USE;
/* The key's digest, the same way. */
int qcow2_luks_digest(struct co *co, struct luks *l, uint32_t iter_ms, const uint8_t *key, struct err *err)
	ATTR_MUST_USE;

/* ---- luks_create.c ---- */

/* Bytes of the header of such a disk, key material included. */
uint64_t qcow2_luks_bytes(const struct qcow2_create_luks *how);
int qcow2_luks_check(const struct qcow2_create_luks *how, struct err *err) ATTR_MUST_USE;
/* Writes it at `at`, where the file reads zeros. */
int qcow2_luks_write(struct co *co, struct node *file, struct host at, const struct qcow2_create_luks *how,
	struct err *err) ATTR_MUST_USE;

#endif
