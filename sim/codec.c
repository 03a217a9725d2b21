/* SPDX-License-Identifier: MIT */
/* See codec.h. */
#include "codec.h"

#include <assert.h>
#include <zlib.h>
#if HAVE_ZSTD
#include <zstd.h>
#endif

#define WINDOW_BITS 12

bool sim_codec_there(enum sim_compression type) { return type == SIM_ZLIB || HAVE_ZSTD; }

static size_t deflate_all(const void *from, size_t len, void *to, size_t room)
{
	z_stream z = {.next_in = (Bytef *)from, .avail_in = (uInt)len, .next_out = to, .avail_out = (uInt)room};
	int status = deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, -WINDOW_BITS, 8, Z_DEFAULT_STRATEGY);

	assert(status == Z_OK);
	status = deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return status == Z_STREAM_END ? z.total_out : 0;
}

static bool inflate_all(const void *from, size_t len, void *to, size_t bytes)
{
	z_stream z = {.next_in = (Bytef *)from, .avail_in = (uInt)len, .next_out = to, .avail_out = (uInt)bytes};
	int status = inflateInit2(&z, -WINDOW_BITS);

	assert(status == Z_OK);
	status = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return status == Z_STREAM_END && z.avail_out == 0;
}

#if HAVE_ZSTD
static size_t zstd_all(const void *from, size_t len, void *to, size_t room)
{
	size_t n = ZSTD_compress(to, room, from, len, 1);

	return ZSTD_isError(n) ? 0 : n;
}

static bool unzstd_all(const void *from, size_t len, void *to, size_t bytes)
{
	ZSTD_inBuffer in = {from, len, 0};
	ZSTD_outBuffer out = {to, bytes, 0};
	ZSTD_DStream *d = ZSTD_createDStream();
	size_t status = ZSTD_decompressStream(d, &out, &in);

	assert(d);
	ZSTD_freeDStream(d);
	return !ZSTD_isError(status) && out.pos == bytes;
}
#else
static size_t zstd_all(const void *from, size_t len, void *to, size_t room)
{
	(void)from, (void)len, (void)to, (void)room;
	return 0;
}

static bool unzstd_all(const void *from, size_t len, void *to, size_t bytes)
{
	(void)from, (void)len, (void)to, (void)bytes;
	return false;
}
#endif

size_t sim_encode(enum sim_compression type, const void *from, size_t len, void *to, size_t room)
{
	return type == SIM_ZSTD ? zstd_all(from, len, to, room) : deflate_all(from, len, to, room);
}

bool sim_decode(enum sim_compression type, const void *from, size_t len, void *to, size_t bytes)
{
	return type == SIM_ZSTD ? unzstd_all(from, len, to, bytes) : inflate_all(from, len, to, bytes);
}
