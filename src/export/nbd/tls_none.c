/* SPDX-License-Identifier: MIT */
/* Without GnuTLS: there are no credentials, and so nothing else is ever called. */
#include "export/nbd/tls.h"

#include <errno.h>
#include <stdlib.h>

int nbd_tls_creds_new(const struct nbd_tls_options *o, struct nbd_tls_creds **out, struct err *err)
{
	(void)o;
	(void)out;
	return err_set(err, -ENOTSUP, "TLS: this program was built without GnuTLS");
}

void nbd_tls_creds_free(struct nbd_tls_creds *c) { (void)c; }

int nbd_tls_new(const struct nbd_tls_creds *creds, struct nbd_tls **out)
{
	(void)creds;
	(void)out;
	return -ENOTSUP;
}

void nbd_tls_free(struct nbd_tls *t) { (void)t; }

int nbd_tls_handshake(struct co *co, struct nbd_tls *t, struct io_sock *sock, struct err *err)
{
	(void)co;
	(void)t;
	(void)sock;
	return err_set(err, -ENOTSUP, "no TLS");
}

ssize_t nbd_tls_recv(struct co *co, struct nbd_tls *t, struct io_sock *sock, void *buf, size_t len)
{
	(void)co;
	(void)t;
	(void)sock;
	(void)buf;
	(void)len;
	abort();
}

int nbd_tls_send(struct co *co, struct nbd_tls *t, struct io_sock *sock, struct iov from)
{
	(void)co;
	(void)t;
	(void)sock;
	(void)from;
	abort();
}

void nbd_tls_bye(struct co *co, struct nbd_tls *t, struct io_sock *sock)
{
	(void)co;
	(void)t;
	(void)sock;
}

void nbd_tls_describe(const struct nbd_tls *t, char *text, size_t bytes)
{
	(void)t;
	if (bytes > 0)
		text[0] = '\0';
}
