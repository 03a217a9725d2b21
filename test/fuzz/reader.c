/* SPDX-License-Identifier: MIT */
/* What reader.h says. */
#include "reader.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#if HAVE_ZSTD
#include <zstd.h>
#endif

static uint64_t number(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes-- > 0)
		v = v << 8 | *p++;
	return v;
}

bool reader_open(struct reader *r, const uint8_t *file, uint64_t file_bytes)
{
	uint64_t incompatible;

	*r = (struct reader){.file = file, .file_bytes = file_bytes};
	if (file_bytes < 112 || number(file, 4) != 0x514649fb)
		return false;
	r->version_2 = number(file + 4, 4) == 2;
	r->cluster_bits = (unsigned)number(file + 20, 4);
	r->size = number(file + 24, 8);
	r->encrypted = number(file + 32, 4) != 0;
	r->l1_entries = (uint32_t)number(file + 36, 4);
	r->l1 = number(file + 40, 8);
	if (r->version_2)
		return true;
	incompatible = number(file + 72, 8);
	r->foreign_data = incompatible >> 2 & 1;
	r->extended = incompatible >> 4 & 1;
	r->zstd = incompatible >> 3 & 1 && file[104] == 1;
	return true;
}

static bool inside(const struct reader *r, uint64_t at, uint64_t bytes)
{
	return at <= r->file_bytes && bytes <= r->file_bytes - at;
}

static bool inflate_it(const uint8_t *from, size_t len, uint8_t *to, size_t cluster, int window)
{
	z_stream z = {.next_in = (Bytef *)from, .avail_in = (uInt)len, .next_out = to, .avail_out = (uInt)cluster};
	int status;

	if (inflateInit2(&z, -window) != Z_OK)
		abort();
	do
		status = inflate(&z, Z_NO_FLUSH);
	while (status == Z_OK && z.avail_out > 0 && z.avail_in > 0);
	inflateEnd(&z);
	return z.avail_out == 0;
}

static bool zstd_it(const uint8_t *from, size_t len, uint8_t *to, size_t cluster)
{
#if HAVE_ZSTD
	ZSTD_DCtx *d = ZSTD_createDCtx();
	ZSTD_inBuffer in = {from, len, 0};
	ZSTD_outBuffer out = {to, cluster, 0};
	size_t status = 1, before;

	do {
		before = in.pos + out.pos;
		status = ZSTD_decompressStream(d, &out, &in);
	} while (!ZSTD_isError(status) && out.pos < cluster && in.pos + out.pos != before);
	ZSTD_freeDCtx(d);
	return !ZSTD_isError(status) && out.pos == cluster;
#else
	(void)from, (void)len, (void)to, (void)cluster;
	return false;
#endif
}

/* How many sectors beyond the first it may take: that is what the upper bits say. */
static enum reader_result compressed_read(
	const struct reader *r, uint64_t entry, uint64_t within, uint8_t *to, size_t len)
{
	unsigned shift = 62 - (r->cluster_bits - 8);
	uint64_t at = entry & ((UINT64_C(1) << shift) - 1), sectors = (entry & ~(UINT64_C(3) << 62)) >> shift;
	size_t cluster = (size_t)1 << r->cluster_bits, bytes = (size_t)((sectors + 1) * 512 - at % 512);
	uint8_t *all;
	bool good;

	if (at >= r->file_bytes)
		return READER_BAD;
	if (bytes > r->file_bytes - at)
		bytes = (size_t)(r->file_bytes - at);
	all = malloc(cluster);
	if (!all)
		abort();
	good = r->zstd ? zstd_it(r->file + at, bytes, all, cluster) : inflate_it(r->file + at, bytes, all, cluster, 15);
	if (good)
		memcpy(to, all + within, len);
	free(all);
	return good ? READER_GOOD : READER_UNSURE;
}

static enum reader_result zeros(uint8_t *to, size_t len)
{
	memset(to, 0, len);
	return READER_GOOD;
}

/* The subcluster's bits: allocated in the low half, zero in the high half. -1: both. */
static int subcluster_state(uint64_t bitmap, unsigned i)
{
	bool allocated = bitmap >> i & 1, zero = bitmap >> (32 + i) & 1;

	return allocated && zero ? -1 : zero ? 2 : allocated ? 1 : 0;
}

static enum reader_result data_read(const struct reader *r, uint64_t host, uint64_t within, uint8_t *to, size_t len)
{
	uint64_t cluster = UINT64_C(1) << r->cluster_bits;

	if (host % cluster != 0 || host == 0)
		return READER_BAD;
	if (!inside(r, host, cluster))
		return READER_UNSURE;
	memcpy(to, r->file + host + within, len);
	return READER_GOOD;
}

static enum reader_result entry_read(
	const struct reader *r, const uint8_t *entry, uint64_t within, uint8_t *to, size_t len)
{
	uint64_t e = number(entry, 8), host = e & UINT64_C(0x00fffffffffffe00);
	int state = host != 0;

	if (e >> 62 & 1)
		return compressed_read(r, e, within, to, len);
	if (e & UINT64_C(0x3f000000000001fe))
		return READER_UNSURE; /* reserved */
	if (r->extended) {
		if (e & 1)
			return READER_UNSURE;
		state = subcluster_state(number(entry + 8, 8), (unsigned)(within >> (r->cluster_bits - 5)));
		if (state < 0 || (state == 1 && host == 0))
			return READER_BAD;
	} else if (e & 1) {
		if (r->version_2)
			return READER_UNSURE;
		state = 2;
	}
	if (state == 1)
		return data_read(r, host, within, to, len);
	return host % (UINT64_C(1) << r->cluster_bits) ? READER_UNSURE : zeros(to, len);
}

enum reader_result reader_read(const struct reader *r, uint64_t off, uint8_t *to, size_t len)
{
	unsigned entry_bytes = r->extended ? 16 : 8;
	uint64_t cluster = UINT64_C(1) << r->cluster_bits, per_table = cluster / entry_bytes;
	uint64_t number_of = off / cluster, l1_index = number_of / per_table, l1, l2;

	if (r->foreign_data || r->encrypted)
		return READER_UNSURE;
	if (l1_index >= r->l1_entries || !inside(r, r->l1 + 8 * l1_index, 8))
		return READER_UNSURE;
	l1 = number(r->file + r->l1 + 8 * l1_index, 8);
	if (l1 & UINT64_C(0x7f000000000001ff))
		return READER_UNSURE;
	l2 = l1 & UINT64_C(0x00fffffffffffe00);
	if (l2 == 0)
		return zeros(to, len);
	if (l2 % cluster)
		return READER_BAD;
	if (!inside(r, l2, cluster))
		return READER_UNSURE;
	return entry_read(r, r->file + l2 + number_of % per_table * entry_bytes, off % cluster, to, len);
}
