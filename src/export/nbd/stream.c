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

#include "base/cleanup.h"
#include "base/math.h"

/* From this much on it is cheaper to receive in place than to copy, at the price that nothing more comes with it. */
#define NBD_STREAM_DIRECT (16u << 10)

int nbd_stream_init(struct nbd_stream *s, struct nbd_channel *channel)
{
	*s = (struct nbd_stream){.channel = channel, .buffer = malloc(NBD_STREAM_BYTES)};
	return s->buffer ? 0 : -ENOMEM;
}

void nbd_stream_fini(struct nbd_stream *s)
{
	free(s->buffer);
	free(s->early);
}

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

static size_t early_take(struct nbd_stream *s, void *to, size_t len)
{
	size_t n = MIN(len, s->early_len - s->early_at);

	memcpy(to, s->early + s->early_at, n);
	s->early_at += n;
	if (s->early_at == s->early_len)
		free(take(s->early));
	return n;
}

static ssize_t stream_recv(struct co *co, struct nbd_stream *s, void *to, size_t len)
{
	return s->early ? (ssize_t)early_take(s, to, len) : nbd_channel_recv(co, s->channel, to, len);
}

static int stream_fill(struct co *co, struct nbd_stream *s)
{
	ssize_t r = stream_recv(co, s, s->buffer + s->tail, NBD_STREAM_BYTES - s->tail);

	if (r > 0)
		s->tail += r;
	return stream_result(r);
}

/* When the buffer has been emptied. */
static int stream_refill(struct co *co, struct nbd_stream *s)
{
	s->head = s->tail = 0;
	return stream_fill(co, s);
}

static int stream_drain(struct co *co, struct nbd_stream *s)
{
	int r = 0;

	while (r == 0 && s->skip > 0) {
		size_t n = MIN(s->skip, (uint64_t)(s->tail - s->head));

		s->head += n;
		s->skip -= n;
		if (s->skip > 0)
			r = stream_refill(co, s);
	}
	return r;
}

int nbd_stream_need(struct co *co, struct nbd_stream *s, size_t len, const void **out)
{
	int r = stream_drain(co, s);

	assert(len <= NBD_STREAM_BYTES);
	stream_make_room(s, len);
	while (r == 0 && s->tail - s->head < len)
		r = stream_fill(co, s);
	if (r < 0)
		return r;
	*out = s->buffer + s->head;
	s->head += len;
	return 0;
}

static size_t stream_take(struct nbd_stream *s, void *to, size_t len)
{
	size_t n = MIN(len, s->tail - s->head);

	if (n > 0)
		memcpy(to, s->buffer + s->head, n);
	s->head += n;
	return n;
}

/* One more piece: straight to its place, or by way of the buffer. */
static int stream_read_more(struct co *co, struct nbd_stream *s, void *to, size_t len, size_t *got)
{
	ssize_t r;

	if (len < NBD_STREAM_DIRECT) {
		r = stream_refill(co, s);
		*got = r == 0 ? stream_take(s, to, len) : 0;
		return (int)r;
	}
	r = stream_recv(co, s, to, len);
	*got = r > 0 ? (size_t)r : 0;
	return stream_result(r);
}

int nbd_stream_read(struct co *co, struct nbd_stream *s, void *to, size_t len, size_t *done)
{
	int r = stream_drain(co, s);
	size_t got;

	*done = r == 0 ? stream_take(s, to, len) : 0;
	while (r == 0 && *done < len) {
		r = stream_read_more(co, s, (uint8_t *)to + *done, len - *done, &got);
		*done += got;
	}
	return r;
}

int nbd_stream_skip(struct co *co, struct nbd_stream *s, uint64_t len)
{
	s->skip += len;
	return stream_drain(co, s);
}

/* ---- what goes elsewhere ---- */

void nbd_stream_rest(const struct nbd_stream *s, struct iovec out[2])
{
	out[0] = (struct iovec){s->buffer + s->head, s->tail - s->head};
	out[1] = (struct iovec){s->early ? s->early + s->early_at : NULL, s->early ? s->early_len - s->early_at : 0};
}

int nbd_stream_return(struct nbd_stream *s, struct iov bytes)
{
	struct iovec rest[2];
	uint8_t *early;

	nbd_stream_rest(s, rest);
	early = malloc(MAX(bytes.len + rest[0].iov_len + rest[1].iov_len, (size_t)1));
	if (!early)
		return -ENOMEM;
	s->early_len = iov_copy_out(bytes, early, bytes.len);
	for (unsigned i = 0; i < 2; i++) {
		if (rest[i].iov_len > 0)
			memcpy(early + s->early_len, rest[i].iov_base, rest[i].iov_len);
		s->early_len += rest[i].iov_len;
	}
	free(s->early);
	s->early = early;
	s->early_at = 0;
	if (s->early_len == 0)
		free(take(s->early));
	s->head = s->tail = 0;
	return 0;
}
