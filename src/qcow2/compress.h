/* SPDX-License-Identifier: MIT */
/*
 * The codecs of compressed clusters: pure functions over memory, no yields; to be called through co_offload.
 * Source: docs/interop/qcow2.rst, "Compressed Clusters Descriptor" and "compression_type": raw deflate (RFC 1951, no zlib
 * header) or zstd. QEMU's deflate has a window of 4 KiB, and so must what it is to read.
 *
 * A codec keeps the memory that its library works in, half a MiB or so, from one cluster to the next. One thread at a time
 * uses it; whoever does that once begins with {.type = ...} on his stack.
 */
#ifndef CORRAL_QCOW2_COMPRESS_H
#define CORRAL_QCOW2_COMPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/attr.h"

struct qcow2_codec {
	unsigned type;           /* of a header, QCOW2_COMPRESSION_* */
	void *encoder, *decoder; /* NULL until they are needed */
};

void qcow2_codec_fini(struct qcow2_codec *c);

/* type: of a header, QCOW2_COMPRESSION_*. Whether this build can deal with it. */
bool qcow2_codec_known(unsigned type);

/*
 * Exactly one cluster from at most len bytes. Behind the end of the stream there may be anything, and the stream may go on
 * when the cluster is full; one that is damaged or gives less is -EIO. Memory is bounded whatever it claims. -ENOMEM.
 */
int qcow2_codec_decode(struct qcow2_codec *c, const void *from, size_t len, void *to, size_t cluster) ATTR_MUST_USE;

/* How many bytes it became; 0: more than room. -ENOMEM. */
ssize_t qcow2_codec_encode(struct qcow2_codec *c, const void *from, size_t cluster, void *to, size_t room)
	ATTR_MUST_USE;

#endif
