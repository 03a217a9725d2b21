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
static int deflate_decode(struct qcow2_codec *c, const void *from, size_t len, void *to, size_t cluster)
{
	enum libdeflate_result result;

	if (!c->decoder)
		c->decoder = libdeflate_alloc_decompressor();
	if (!c->decoder)
		return -ENOMEM;
	result = libdeflate_deflate_decompress(c->decoder, from, len, to, cluster, NULL);
	return result == LIBDEFLATE_SUCCESS ? 0 : zlib_decode(from, len, to, cluster);
}

static void deflate_decoder_free(struct qcow2_codec *c)
{
	if (c->decoder)
		libdeflate_free_decompressor(c->decoder);
}
#else
static int deflate_decode(struct qcow2_codec *c, const void *from, size_t len, void *to, size_t cluster)
{
	(void)c;
	return zlib_decode(from, len, to, cluster);
}

static void deflate_decoder_free(struct qcow2_codec *c) { (void)c; }
#endif

#if HAVE_ISAL
#define ISAL_LEVEL 2
#define ISAL_LEVEL_BYTES ISAL_DEF_LVL2_LARGE

static ssize_t deflate_encode(struct qcow2_codec *c, const void *from, size_t cluster, void *to, size_t room)
{
	struct isal_zstream *z = c->encoder ? c->encoder : malloc(sizeof(*z) + ISAL_LEVEL_BYTES);

	c->encoder = z;
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
	return isal_deflate_stateless(z) == COMP_OK ? (ssize_t)z->total_out : 0;
}
#else
static ssize_t deflate_encode(struct qcow2_codec *c, const void *from, size_t cluster, void *to, size_t room)
{
	z_stream z = {.next_in = (Bytef *)from, .avail_in = (uInt)cluster, .next_out = to, .avail_out = (uInt)room};
	int status;

	(void)c;
	status = deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, 9, Z_DEFAULT_STRATEGY);

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

static int zstd_decode(struct qcow2_codec *c, const void *from, size_t len, void *to, size_t cluster)
{
	if (!c->decoder)
		c->decoder = ZSTD_createDCtx();
	return c->decoder ? frames_decode(c->decoder, from, len, to, cluster) : -ENOMEM;
}

/*
 * Level 1 takes two thirds of the time of QEMU's level 3, and a twentieth more space. The window is never larger than the
 * cluster. What doesn't fit is an error to the library.
 */
#define ZSTD_LEVEL 1

static ssize_t zstd_encode(struct qcow2_codec *c, const void *from, size_t cluster, void *to, size_t room)
{
	size_t bytes;

	if (!c->encoder)
		c->encoder = ZSTD_createCCtx();
	if (!c->encoder)
		return -ENOMEM;
	bytes = ZSTD_compressCCtx(c->encoder, to, room, from, cluster, ZSTD_LEVEL);
	return ZSTD_isError(bytes) ? 0 : (ssize_t)bytes;
}

static void zstd_fini(struct qcow2_codec *c)
{
	ZSTD_freeDCtx(c->decoder);
	ZSTD_freeCCtx(c->encoder);
}
#else
static int zstd_decode(struct qcow2_codec *c, const void *from, size_t len, void *to, size_t cluster)
{
	(void)c, (void)from, (void)len, (void)to, (void)cluster;
	return -ENOTSUP;
}

static ssize_t zstd_encode(struct qcow2_codec *c, const void *from, size_t cluster, void *to, size_t room)
{
	(void)c, (void)from, (void)cluster, (void)to, (void)room;
	return -ENOTSUP;
}

static void zstd_fini(struct qcow2_codec *c) { (void)c; }
#endif

int qcow2_codec_decode(struct qcow2_codec *c, const void *from, size_t len, void *to, size_t cluster)
{
	return c->type == QCOW2_COMPRESSION_ZSTD ? zstd_decode(c, from, len, to, cluster)
						 : deflate_decode(c, from, len, to, cluster);
}

ssize_t qcow2_codec_encode(struct qcow2_codec *c, const void *from, size_t cluster, void *to, size_t room)
{
	return c->type == QCOW2_COMPRESSION_ZSTD ? zstd_encode(c, from, cluster, to, room)
						 : deflate_encode(c, from, cluster, to, room);
}

void qcow2_codec_fini(struct qcow2_codec *c)
{
	if (c->type == QCOW2_COMPRESSION_ZSTD) {
		zstd_fini(c);
	} else {
		deflate_decoder_free(c);
		free(c->encoder);
	}
	c->encoder = c->decoder = NULL;
}
