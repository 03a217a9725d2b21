/* SPDX-License-Identifier: MIT */
/*
 * Buffered receiving: one call of the kernel takes what has come, so that many small requests cost one. Small things
 * are looked at where they lie in the buffer; a large payload goes straight to its own memory.
 */
#ifndef CORRAL_EXPORT_NBD_STREAM_H
#define CORRAL_EXPORT_NBD_STREAM_H

#include "base/iovec.h"
#include "export/nbd/channel.h"

#define NBD_STREAM_BYTES (64u << 10)

struct nbd_stream {
	struct nbd_channel *channel;
	uint8_t *buffer;   /* NBD_STREAM_BYTES */
	size_t head, tail; /* received and not yet consumed: [head, tail) */
	uint8_t *early;    /* what comes before all that the channel has, [early_at, early_len); NULL: nothing */
	size_t early_at, early_len;
	uint64_t skip; /* of what comes next, so much is to be thrown away */
};

int nbd_stream_init(struct nbd_stream *s, struct nbd_channel *channel) ATTR_MUST_USE; /* -ENOMEM */
void nbd_stream_fini(struct nbd_stream *s);

/* Nothing is received that wasn't consumed. */
static inline bool nbd_stream_empty(const struct nbd_stream *s) { return s->head == s->tail && !s->early; }

/* Each consumes len bytes, or fails: -ENODATA at the end of the stream, else what the channel said. */
/* *out is valid until the next call; len is at most NBD_STREAM_BYTES. */
int nbd_stream_need(struct co *co, struct nbd_stream *s, size_t len, const void **out) ATTR_MUST_USE;
/* *done: how many of them there were, also after a failure. */
int nbd_stream_read(struct co *co, struct nbd_stream *s, void *to, size_t len, size_t *done) ATTR_MUST_USE;
/* After a failure, the rest is still skipped before anything else is consumed. */
int nbd_stream_skip(struct co *co, struct nbd_stream *s, uint64_t len) ATTR_MUST_USE;

/* What was consumed comes once more, before the rest. -ENOMEM: all of that is lost. */
int nbd_stream_return(struct nbd_stream *s, struct iov bytes) ATTR_MUST_USE;
/* Everything that is received and not consumed, in two pieces. */
void nbd_stream_rest(const struct nbd_stream *s, struct iovec out[2]);

#endif
