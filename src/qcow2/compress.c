/* SPDX-License-Identifier: MIT */
/*
 * See compress.h. zlib is always there and has the last word on what a stream is; libdeflate reads, and isa-l writes, the
 * same format several times as fast where they are there.
 */
#include "qcow2/compress.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#if HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif
#if HAVE_ISAL
#include <isa-l/igzip_lib.h>
#endif
#if HAVE_ZSTD
#include <zstd.h>
#endif

#include "qcow2/header.h"

#define WINDOW_BITS 12 /* of deflate: 4 KiB */

bool qcow2_codec_known(unsigned type)
{
	return type == QCOW2_COMPRESSION_ZLIB || (type == QCOW2_COMPRESSION_ZSTD && HAVE_ZSTD);
}

/* ---- deflate ---- */

/* A stream that goes on behind the cluster leaves inflate without room: that's a whole cluster too. */
static int zlib_decode(const void *from, size_t len, void *to, size_t cluster)
{
	z_stream z = {.next_in = (Bytef *)from, .avail_in = (uInt)len, .next_out = to, .avail_out = (uInt)cluster};
	int status = inflateInit2(&z, -WINDOW_BITS);

	if (status != Z_OK)
		return -ENOMEM;
	status = inflate(&z, Z_FINISH);
	(void)inflateEnd(&z);
	if (status == Z_MEM_ERROR)
		return -ENOMEM;
	return (status == Z_STREAM_END || status == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

#if HAVE_LIBDEFLATE
/* It refuses a stream that goes on behind the cluster, so only its success counts. */
static int deflate_decode(const void *from, size_t len, void *to, size_t cluster)
{
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	enum libdeflate_result result;

	if (!d)
		return -ENOMEM;
	result = libdeflate_deflate_decompress(d, from, len, to, cluster, NULL);
	libdeflate_free_decompressor(d);
	return result == LIBDEFLATE_SUCCESS ? 0 : zlib_decode(from, len, to, cluster);
}
#else
#define deflate_decode zlib_decode
#endif

#if HAVE_ISAL
#define ISAL_LEVEL 2
#define ISAL_LEVEL_BYTES ISAL_DEF_LVL2_LARGE

static ssize_t deflate_encode(const void *from, size_t cluster, void *to, size_t room)
{
	struct isal_zstream *z = malloc(sizeof(*z) + ISAL_LEVEL_BYTES);
	ssize_t bytes;

	if (!z)
		return -ENOMEM;
	isal_deflate_stateless_init(z);
	z->next_in = (uint8_t *)from;
	z->avail_in = (uint32_t)cluster;
	z->next_out = to;
	z->avail_out = (uint32_t)room;
	z->end_of_stream = 1;
	z->hist_bits = WINDOW_BITS;
	z->level = ISAL_LEVEL;
	z->level_buf = (uint8_t *)(z + 1);
	z->level_buf_size = ISAL_LEVEL_BYTES;
	bytes = isal_deflate_stateless(z) == COMP_OK ? (ssize_t)z->total_out : 0;
	free(z);
	return bytes;
}
#else
static ssize_t deflate_encode(const void *from, size_t cluster, void *to, size_t room)
{
	z_stream z = {.next_in = (Bytef *)from, .avail_in = (uInt)cluster, .next_out = to, .avail_out = (uInt)room};
	int status = deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, 9, Z_DEFAULT_STRATEGY);

	if (status != Z_OK)
		return -ENOMEM;
	status = deflate(&z, Z_FINISH);
	(void)deflateEnd(&z);
	return status == Z_STREAM_END ? (ssize_t)z.total_out : 0;
}
#endif

/* ---- zstd ---- */

#if HAVE_ZSTD
/*
 * Frame by frame, each in one pass from the whole of its input: then what was decoded is itself the window, and there is no
 * other memory, whatever window the frame claims. A cluster may be several frames; some of them may be empty.
 */
static int frames_decode(ZSTD_DCtx *d, const char *from, size_t len, char *to, size_t cluster)
{
	while (cluster > 0) {
		size_t frame = ZSTD_findFrameCompressedSize(from, len);
		size_t got = ZSTD_isError(frame) ? frame : ZSTD_decompressDCtx(d, to, cluster, from, frame);

		if (ZSTD_isError(got))
			return -EIO;
		from += frame;
		len -= frame;
		to += got;
		cluster -= got;
	}
	return 0;
}

static int zstd_decode(const void *from, size_t len, void *to, size_t cluster)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	int rc = d ? frames_decode(d, from, len, to, cluster) : -ENOMEM;

	ZSTD_freeDCtx(d);
	return rc;
}

/* The level of QEMU's; the window is never larger than the cluster. What doesn't fit is an error to the library. */
static ssize_t zstd_encode(const void *from, size_t cluster, void *to, size_t room)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t bytes;

	if (!c)
		return -ENOMEM;
	bytes = ZSTD_compressCCtx(c, to, room, from, cluster, ZSTD_CLEVEL_DEFAULT);
	ZSTD_freeCCtx(c);
	return ZSTD_isError(bytes) ? 0 : (ssize_t)bytes;
}
#else
static int zstd_decode(const void *from, size_t len, void *to, size_t cluster)
{
	(void)from, (void)len, (void)to, (void)cluster;
	return -ENOTSUP;
}

static ssize_t zstd_encode(const void *from, size_t cluster, void *to, size_t room)
{
	(void)from, (void)cluster, (void)to, (void)room;
	return -ENOTSUP;
}
#endif

int qcow2_codec_decode(unsigned type, const void *from, size_t len, void *to, size_t cluster)
{
	return type == QCOW2_COMPRESSION_ZSTD ? zstd_decode(from, len, to, cluster)
					      : deflate_decode(from, len, to, cluster);
}

ssize_t qcow2_codec_encode(unsigned type, const void *from, size_t cluster, void *to, size_t room)
{
	return type == QCOW2_COMPRESSION_ZSTD ? zstd_encode(from, cluster, to, room)
					      : deflate_encode(from, cluster, to, room);
}
