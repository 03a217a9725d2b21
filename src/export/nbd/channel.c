/* SPDX-License-Identifier: MIT */
/* Receiving and sending; see channel.h. */
#include "export/nbd/channel.h"

#include "base/math.h"

ssize_t nbd_channel_recv(struct co *co, struct nbd_channel *c, void *buf, size_t len)
{
	return io_recv(co, c->sock, buf, len);
}

int nbd_channel_send(struct co *co, struct nbd_channel *c, struct iov from)
{
	int r = 0;

	for (size_t done = 0; done < from.len && r == 0; done += NBD_PIECE_BYTES) {
		c->deadline_ns = co_now(co) + c->patience_ns;
		r = io_send(co, c->sock, iov_slice(from, done, MIN(from.len - done, (size_t)NBD_PIECE_BYTES)));
	}
	c->deadline_ns = CO_NEVER;
	return r;
}
