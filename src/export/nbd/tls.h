/* SPDX-License-Identifier: MIT */
/*
 * TLS on a connection, by GnuTLS. The library only ever works on memory: what it sends is gathered and sent afterwards,
 * what it wants to receive and isn't there yet is received and asked for again. So nothing of it waits. Handshakes,
 * which are long computations on deep stacks, run on helper threads.
 *
 * Sources: doc/proto.md of the NetworkBlockDevice project, "TLS support"; the names of the files are those of QEMU and nbdkit.
 */
#ifndef CORRAL_EXPORT_NBD_TLS_H
#define CORRAL_EXPORT_NBD_TLS_H

#include "export/export.h"

struct nbd_tls;

/* -ENOMEM. */
int nbd_tls_new(const struct nbd_tls_creds *creds, struct nbd_tls **out) ATTR_MUST_USE;
void nbd_tls_free(struct nbd_tls *t); /* NULL is fine */

/* 0, or what failed and why. */
int nbd_tls_handshake(struct co *co, struct nbd_tls *t, struct io_sock *sock, struct err *err) ATTR_MUST_USE;
/* As io_recv and io_send, of what is inside. One receiver and one sender at a time. */
ssize_t nbd_tls_recv(struct co *co, struct nbd_tls *t, struct io_sock *sock, void *buf, size_t len) ATTR_MUST_USE;
int nbd_tls_send(struct co *co, struct nbd_tls *t, struct io_sock *sock, struct iov from) ATTR_MUST_USE;
/* Says that nothing more will be sent, if the client still listens. */
void nbd_tls_bye(struct co *co, struct nbd_tls *t, struct io_sock *sock);
/* "TLS1.3, certificate 'CN=...'" or the PSK's user; for the log. */
void nbd_tls_describe(const struct nbd_tls *t, char *text, size_t bytes);

#endif
