/* SPDX-License-Identifier: MIT */
/*
 * A storage node that encrypts: what is written to it lies encrypted in its child, at the same place, and what is read is
 * decrypted. It works in sectors of 512 bytes of the child's addresses, each by itself.
 *
 * Zeros in the child aren't zeros here: space that was never written reads as what zeros decrypt to, and so does what lies
 * beyond the child's end, up to which this node never ends: a write there makes the child larger.
 */
#ifndef CORRAL_FILTER_CRYPT_H
#define CORRAL_FILTER_CRYPT_H

#include "crypto/crypto.h"
#include "node/node.h"

/* own: the child is closed with it, once it is open; else it must outlive it. key: of the spec, needed only now; NULL:
 * reading and writing are -ENOKEY. */
int crypt_open(struct co *co, struct node *child, bool own, const struct crypto_spec *spec, const void *key,
	struct node **out) ATTR_MUST_USE;

#endif
