/* SPDX-License-Identifier: MIT */
/*
 * Buffered receiving: one call of the kernel takes what has come, so that many small requests cost one. Small things
 * are looked at where they lie in the buffer; a large payload goes straight to its own memory.
 */
#ifndef CORRAL_EXPORT_NBD_STREAM_H
#define CORRAL_EXPORT_NBD_STREAM_H

#include "export/nbd/channel.h"

#define NBD_STREAM_BYTES (64u << 10)

struct nbd_stream {
	struct nbd_channel *channel;
	uint8_t *buffer;   /* NBD_STREAM_BYTES */
	size_t head, tail; /* received and not yet consumed: [head, tail) */
};

int nbd_stream_init(struct nbd_stream *s, struct nbd_channel *channel) ATTR_MUST_USE; /* -ENOMEM */
void nbd_stream_fini(struct nbd_stream *s);

/* Nothing is received that wasn't consumed. */
static inline bool nbd_stream_empty(const struct nbd_stream *s) { return s->head == s->tail; }

/* Each consumes len bytes, or fails: -ENODATA at the end of the stream, else what the channel said. */
/* *out is valid until the next call; len is at most NBD_STREAM_BYTES. */
int nbd_stream_need(struct co *co, struct nbd_stream *s, size_t len, const void **out) ATTR_MUST_USE;
int nbd_stream_read(struct co *co, struct nbd_stream *s, void *to, size_t len) ATTR_MUST_USE;
int nbd_stream_skip(struct co *co, struct nbd_stream *s, uint64_t len) ATTR_MUST_USE;

#endif
