/* SPDX-License-Identifier: MIT */
/* Receiving and sending; see channel.h. */
#include "export/nbd/channel.h"

#include "base/math.h"

ssize_t nbd_channel_recv(struct co *co, struct nbd_channel *c, void *buf, size_t len)
{
	return c->tls ? nbd_tls_recv(co, c->tls, c->sock, buf, len) : io_recv(co, c->sock, buf, len);
}

static int piece_send(struct co *co, struct nbd_channel *c, struct iov from)
{
	return c->tls ? nbd_tls_send(co, c->tls, c->sock, from) : io_send(co, c->sock, from);
}

void nbd_channel_bye(struct co *co, struct nbd_channel *c)
{
	c->deadline_ns = co_now(co) + c->patience_ns;
	if (c->tls)
		nbd_tls_bye(co, c->tls, c->sock);
	c->deadline_ns = CO_NEVER;
}

int nbd_channel_send(struct co *co, struct nbd_channel *c, struct iov from)
{
	int r = 0;

	for (size_t done = 0; done < from.len && r == 0; done += NBD_PIECE_BYTES) {
		c->deadline_ns = co_now(co) + c->patience_ns;
		r = piece_send(co, c, iov_slice(from, done, MIN(from.len - done, (size_t)NBD_PIECE_BYTES)));
	}
	c->deadline_ns = CO_NEVER;
	return r;
}
