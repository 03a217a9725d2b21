/* SPDX-License-Identifier: MIT */
/*
 * One connection to an NBD server: a handle of libnbd, and two coroutines that wait for its socket, one to read and one
 * to write. A request is submitted by whoever makes it, who then sleeps until it is complete.
 */
#ifndef CORRAL_NBD_LINK_H
#define CORRAL_NBD_LINK_H

#include <libnbd.h>

#include "co/sync.h"
#include "nbd/nbd.h"

struct nbd_link {
	struct nbd_handle *handle;
	bool dead;
	unsigned in_flight;
	int fd;                 /* the socket, by a number of our own: libnbd closes its one when the connection ends */
	struct co_queue turned; /* for the two: what libnbd waits for may have changed */
	struct co_group pollers;
};

struct nbd_info { /* of the export */
	uint64_t size;
	uint32_t align;       /* of requests */
	uint64_t max_payload; /* of reads and writes */
	bool read_only, can_flush, can_fua, can_trim, can_zero, can_fast_zero, can_status, multi;
};

struct nbd_command { /* a request; read: into to, write: from `from` */
	enum nbd_kind { NBD_READ, NBD_WRITE, NBD_ZERO, NBD_TRIM, NBD_FLUSH, NBD_STATUS } kind;
	uint64_t off, len;
	void *buffer;
	uint32_t flags; /* libnbd's */

	uint64_t run;       /* status: bytes that are alike, */
	uint32_t run_flags; /* and what they are */
	int error;          /* errno, once it is done */
	bool done;
	struct co_queue wake;
};

/* *c is zeros. On a failure there is nothing to close. */
int nbd_link_open(struct co *co, struct nbd_link *c, const struct nbd_address *address, struct err *err) ATTR_MUST_USE;
void nbd_link_close(struct co *co, struct nbd_link *c); /* nobody uses it any more */
void nbd_link_info(const struct nbd_link *c, struct nbd_info *out);
/* 0 or a negative errno; c->dead tells whether it is because there is no connection any more. */
int nbd_link_do(struct co *co, struct nbd_link *c, struct nbd_command *cmd) ATTR_MUST_USE;

#endif
