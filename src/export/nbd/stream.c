/* SPDX-License-Identifier: MIT */
/*
 * Buffered receiving; see stream.h. The buffer is compacted only when what is needed doesn't fit behind what is
 * there.
 */
#include "export/nbd/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

/* From this much on it is cheaper to receive in place than to copy, at the price that nothing more comes with it. */
#define NBD_STREAM_DIRECT (16u << 10)

int nbd_stream_init(struct nbd_stream *s, struct nbd_channel *channel)
{
	*s = (struct nbd_stream){.channel = channel, .buffer = malloc(NBD_STREAM_BYTES)};
	return s->buffer ? 0 : -ENOMEM;
}

void nbd_stream_fini(struct nbd_stream *s) { free(s->buffer); }

static int stream_result(ssize_t r) { return r > 0 ? 0 : r < 0 ? (int)r : -ENODATA; }

static void stream_make_room(struct nbd_stream *s, size_t len)
{
	if (s->head == s->tail) {
		s->head = s->tail = 0;
	} else if (s->head + len > NBD_STREAM_BYTES) {
		memmove(s->buffer, s->buffer + s->head, s->tail - s->head);
		s->tail -= s->head;
		s->head = 0;
	}
}

static int stream_fill(struct co *co, struct nbd_stream *s)
{
	ssize_t r = nbd_channel_recv(co, s->channel, s->buffer + s->tail, NBD_STREAM_BYTES - s->tail);

	if (r > 0)
		s->tail += r;
	return stream_result(r);
}

int nbd_stream_need(struct co *co, struct nbd_stream *s, size_t len, const void **out)
{
	assert(len <= NBD_STREAM_BYTES);
	stream_make_room(s, len);
	while (s->tail - s->head < len) {
		int r = stream_fill(co, s);

		if (r < 0)
			return r;
	}
	*out = s->buffer + s->head;
	s->head += len;
	return 0;
}

/* When the buffer has been emptied. */
static int stream_refill(struct co *co, struct nbd_stream *s)
{
	s->head = s->tail = 0;
	return stream_fill(co, s);
}

static size_t stream_take(struct nbd_stream *s, void *to, size_t len)
{
	size_t n = MIN(len, s->tail - s->head);

	if (n > 0)
		memcpy(to, s->buffer + s->head, n);
	s->head += n;
	return n;
}

int nbd_stream_read(struct co *co, struct nbd_stream *s, void *to, size_t len)
{
	uint8_t *at = to;
	size_t n = stream_take(s, at, len);
	int r;

	while (n < len) {
		if (len - n < NBD_STREAM_DIRECT) {
			r = stream_refill(co, s);
			if (r < 0)
				return r;
			n += stream_take(s, at + n, len - n);
		} else {
			ssize_t got = nbd_channel_recv(co, s->channel, at + n, len - n);

			if (got <= 0)
				return stream_result(got);
			n += got;
		}
	}
	return 0;
}

int nbd_stream_skip(struct co *co, struct nbd_stream *s, uint64_t len)
{
	for (;;) {
		size_t n = MIN(len, (uint64_t)(s->tail - s->head));

		s->head += n;
		len -= n;
		if (len == 0)
			return 0;
		int r = stream_refill(co, s);

		if (r < 0)
			return r;
	}
}
