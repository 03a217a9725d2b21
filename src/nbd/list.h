/* SPDX-License-Identifier: MIT */
/* What an NBD server has to offer. It blocks, and is for programs that do nothing else meanwhile: outside of any coroutine. */
#ifndef CORRAL_NBD_LIST_H
#define CORRAL_NBD_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "nbd/nbd.h"

struct nbd_list_tls { /* on: TLS, and nothing else */
	bool on;
	const char *dir;      /* of certificates; or NULL */
	const char *psk_file; /* or NULL */
	const char *username; /* of a shared key; or NULL */
};

struct nbd_listed {                     /* an export; the strings are its owner's, who is nbd_list */
	const char *name, *description; /* NULL: none */
	bool known;                     /* the server told of what follows */
	uint64_t size;
	uint16_t flags;                           /* of the protocol */
	uint64_t block_min, block_opt, block_max; /* 0: not told */
	const char *const *contexts;
	unsigned contexts_n;
};

/* fn is told of each, with the number of all of them; n is 0 where there is none, once, with NULL. Errors are explained. */
int nbd_list(const struct nbd_address *address, const struct nbd_list_tls *tls,
	void (*fn)(void *arg, const struct nbd_listed *e, unsigned n), void *arg, struct err *err) ATTR_MUST_USE;

#endif
