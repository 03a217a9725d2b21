/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a connection, in both directions. Whoever sends takes a deadline with him, which is put off whenever the
 * client has taken another piece: one that doesn't read is told from one that is slow.
 */
#ifndef CORRAL_EXPORT_NBD_CHANNEL_H
#define CORRAL_EXPORT_NBD_CHANNEL_H

#include "export/nbd/tls.h"
#include "io/io.h"

#define NBD_PIECE_BYTES (256u << 10) /* so much must be taken within the patience */

struct nbd_channel {
	struct io_sock *sock;
	struct nbd_tls *tls; /* NULL: bytes are sent as they are */
	uint64_t patience_ns;
	uint64_t deadline_ns; /* of the piece that is being sent; CO_NEVER: none is */
};

/* As io_recv and io_send. One sender at a time. */
ssize_t nbd_channel_recv(struct co *co, struct nbd_channel *c, void *buf, size_t len) ATTR_MUST_USE;
int nbd_channel_send(struct co *co, struct nbd_channel *c, struct iov from) ATTR_MUST_USE;
void nbd_channel_bye(struct co *co, struct nbd_channel *c); /* nothing more will be sent */

#endif
