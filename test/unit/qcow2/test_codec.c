/* SPDX-License-Identifier: MIT */
/*
 * The codecs: what they write they read, and QEMU's window is kept; trailing garbage and streams that go on don't matter;
 * damaged streams are errors and nothing worse. Memory is exact, so that the sanitizers and Valgrind see a step too far.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#if HAVE_ZSTD
#include <zstd.h>
#endif

#include "qcow2/compress.h"
#include "qcow2/header.h"

#define MOST (2u << 20)
#define TYPES 2

static const size_t clusters[] = {512, 4096, 65536, MOST};
static unsigned seed = 1;

static void *exact(const void *from, size_t len)
{
	void *p = malloc(len ? len : 1);

	assert_non_null(p);
	if (from)
		memcpy(p, from, len);
	return p;
}

enum content { ZEROS, TEXT, DISTANT, NOISE, CONTENTS };

/* DISTANT repeats itself at 5000 bytes' distance: too far for a window of 4 KiB. */
static unsigned char *content_new(enum content what, size_t len)
{
	unsigned char *p = exact(NULL, len);

	for (size_t i = 0; i < len; i++) {
		switch (what) {
		case ZEROS: p[i] = 0; break;
		case TEXT: p[i] = "the quick brown fox jumps over the lazy dog"[(i * i / 7) % 43]; break;
		case DISTANT: p[i] = i < 5000 ? (unsigned char)rand_r(&seed) : p[i - 5000]; break;
		default: p[i] = (unsigned char)rand_r(&seed); break;
		}
	}
	return p;
}

static int decode_once(unsigned type, const void *from, size_t len, void *to, size_t cluster)
{
	struct qcow2_codec c = {.type = type};
	int rc = qcow2_codec_decode(&c, from, len, to, cluster);

	qcow2_codec_fini(&c);
	return rc;
}

/* The second time with the memory that the first one left. */
static ssize_t encode_once(unsigned type, const void *from, size_t cluster, void *to, size_t room)
{
	struct qcow2_codec c = {.type = type};
	ssize_t n = qcow2_codec_encode(&c, from, cluster, to, room),
		again = qcow2_codec_encode(&c, from, cluster, to, room);

	assert_int_equal(n, again);
	qcow2_codec_fini(&c);
	return n;
}

static bool there(unsigned type) { return qcow2_codec_known(type); }

static int decode(unsigned type, const unsigned char *from, size_t len, unsigned char *to, size_t cluster)
{
	unsigned char *copy = exact(from, len);
	int rc = decode_once(type, copy, len, to, cluster);

	free(copy);
	return rc;
}

static void round_trip(unsigned type, enum content what, size_t cluster)
{
	unsigned char *data = content_new(what, cluster), *to = exact(NULL, cluster),
		      *packed = exact(NULL, cluster + 512);
	ssize_t n = encode_once(type, data, cluster, packed, cluster - 1);

	assert_true(n >= 0 && (size_t)n < cluster);
	if (what == NOISE)
		assert_int_equal(n, 0);
	if (what == ZEROS || what == TEXT)
		assert_true(n > 0);
	if (n > 0) {
		memset(packed + n, 0xdb, 512);
		for (unsigned trailing = 0; trailing <= 512; trailing += 256) {
			memset(to, 0xee, cluster);
			assert_int_equal(decode(type, packed, (size_t)n + trailing, to, cluster), 0);
			assert_memory_equal(to, data, cluster);
		}
		assert_int_equal(
			decode(type, packed, (size_t)n, to, cluster / 2), type == QCOW2_COMPRESSION_ZLIB ? 0 : -EIO);
	}
	free(data);
	free(to);
	free(packed);
}

static void test_what_is_written_is_read(void **state)
{
	(void)state;
	for (unsigned type = 0; type < TYPES; type++)
		for (unsigned i = 0; there(type) && i < sizeof(clusters) / sizeof(*clusters); i++)
			for (unsigned what = 0; what < CONTENTS; what++)
				round_trip(type, (enum content)what, clusters[i]);
}

/* Piece by piece, so that inflate has nothing but its window of 4 KiB to look back to. */
static void test_window_is_that_of_qemu(void **state)
{
	unsigned char *data = content_new(DISTANT, 65536), *packed = exact(NULL, 65536), piece[100];
	ssize_t n;
	z_stream z = {.next_in = packed};
	size_t at = 0;
	int status = Z_OK;

	(void)state;
	for (size_t i = 30000; i < 65536; i++) /* so that it shrinks at all, if not by much */
		data[i] = i % 3000 ? data[i - 1] : (unsigned char)i;
	n = encode_once(QCOW2_COMPRESSION_ZLIB, data, 65536, packed, 65535);
	assert_true(n > 0);
	z.avail_in = (uInt)n;
	assert_int_equal(inflateInit2(&z, -12), Z_OK);
	while (status == Z_OK) {
		z.next_out = piece;
		z.avail_out = sizeof(piece);
		status = inflate(&z, Z_SYNC_FLUSH);
		assert_true(status == Z_OK || status == Z_STREAM_END);
		assert_memory_equal(data + at, piece, sizeof(piece) - z.avail_out);
		at += sizeof(piece) - z.avail_out;
	}
	assert_int_equal(at, 65536);
	inflateEnd(&z);
	free(data);
	free(packed);
}

/* Whatever is cut off or bent: the cluster, or -EIO. */
static void test_damage_is_survived(void **state)
{
	const size_t cluster = 4096;
	unsigned char *data = content_new(TEXT, cluster), *packed = exact(NULL, cluster), *to = exact(NULL, cluster);

	(void)state;
	for (unsigned type = 0; type < TYPES; type++) {
		ssize_t n = there(type) ? encode_once(type, data, cluster, packed, cluster) : 0;

		for (ssize_t len = 0; len < n; len++) {
			int rc = decode(type, packed, (size_t)len, to, cluster);

			assert_true(rc == -EIO || (rc == 0 && memcmp(to, data, cluster) == 0));
		}
		for (unsigned i = 0; n > 0 && i < 20000; i++) {
			unsigned char bent[4096];

			memcpy(bent, packed, (size_t)n);
			for (unsigned k = 0; k <= i % 4; k++)
				bent[(unsigned)rand_r(&seed) % (unsigned)n] = (unsigned char)rand_r(&seed);
			assert_true(decode(type, bent, (size_t)n, to, cluster) <= 0);
		}
		for (unsigned i = 0; there(type) && i < 2000; i++) {
			unsigned char *noise = content_new(NOISE, 600);

			assert_true(decode(type, noise, 600, to, cluster) <= 0);
			free(noise);
		}
	}
	free(data);
	free(packed);
	free(to);
}

/* A stream that ends before the cluster is full. */
static void test_too_little_is_an_error(void **state)
{
	unsigned char *data = content_new(TEXT, 4096), packed[4096], to[8192];

	(void)state;
	for (unsigned type = 0; type < TYPES; type++) {
		ssize_t n = there(type) ? encode_once(type, data, 4096, packed, 4096) : 0;

		if (n > 0)
			assert_int_equal(decode(type, packed, (size_t)n, to, 8192), -EIO);
	}
	free(data);
}

#if HAVE_ZSTD
static size_t frame_put(void *to, size_t room, const void *from, size_t len, int window_log)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t n;

	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log)));
	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0)));
	n = ZSTD_compress2(c, to, room, from, len);
	assert_false(ZSTD_isError(n));
	ZSTD_freeCCtx(c);
	return n;
}
#endif

/* Several frames make a cluster, some hold nothing; the window that one claims costs nothing. */
static void test_zstd_frames(void **state)
{
	(void)state;
#if HAVE_ZSTD
	static const unsigned char nothing[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
	unsigned char *data = content_new(TEXT, 4096), packed[8192], to[4096];
	size_t n = frame_put(packed, sizeof(packed), data, 1000, 10);

	memcpy(packed + n, nothing, sizeof(nothing));
	n += sizeof(nothing);
	n += frame_put(packed + n, sizeof(packed) - n, data + 1000, 3096, 30);
	assert_int_equal(decode(QCOW2_COMPRESSION_ZSTD, packed, n, to, 4096), 0);
	assert_memory_equal(to, data, 4096);
	assert_int_equal(decode(QCOW2_COMPRESSION_ZSTD, packed, n - 1, to, 4096), -EIO);
	free(data);
#else
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_window_is_that_of_qemu),
		cmocka_unit_test(test_damage_is_survived),
		cmocka_unit_test(test_too_little_is_an_error),
		cmocka_unit_test(test_zstd_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
