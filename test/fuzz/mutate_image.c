/* SPDX-License-Identifier: MIT */
/*
 * Bends an image where it hurts. Random bytes hardly ever pass the checks of alignment and range; so most of the time one
 * field of the header, one entry of a table or one refcount becomes something that could be meant.
 */
#include <string.h>

#include "base/endian.h"
#include "base/math.h"
#include "fuzz.h"
#include "image.h"
#include "qcow2/header.h"

#define COMMON_CLUSTER_BITS 16 /* larger ones cost time, and have nothing of their own */

struct bender {
	uint8_t *data;
	size_t size, records; /* where they begin */
	uint64_t state;
	struct qcow2_disk_header header; /* as it is in the input */
	unsigned cluster_bits;
};

static uint32_t below(struct bender *b, uint32_t n)
{
	b->state = b->state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return n ? (uint32_t)(b->state >> 33) % n : 0;
}

static uint32_t records_n(const struct bender *b) { return (uint32_t)((b->size - b->records) / IMAGE_RECORD_BYTES); }

static uint32_t record_number(const uint8_t *record)
{
	return record[0] | record[1] << 8 | record[2] << 16 | (uint32_t)record[3] << 24;
}

/* Where the input has this byte of the image; NULL: nowhere. */
static uint8_t *byte_of(const struct bender *b, uint64_t off, size_t len)
{
	uint32_t n = records_n(b);

	for (uint32_t i = 0; i < n; i++) {
		uint8_t *record = b->data + b->records + (size_t)i * IMAGE_RECORD_BYTES;

		if (record_number(record) == off / FUZZ_SECTOR && off % FUZZ_SECTOR + len <= FUZZ_SECTOR)
			return record + 4 + off % FUZZ_SECTOR;
	}
	return NULL;
}

static void number_put(uint8_t *at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static uint64_t number_get(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

/* The address of a cluster, mostly one that the input has. */
static uint64_t some_cluster(struct bender *b)
{
	uint32_t n = records_n(b);
	uint64_t sector = n && below(b, 8)
		? record_number(b->data + b->records + (size_t)below(b, n) * IMAGE_RECORD_BYTES)
		: below(b, 8200);

	return align_down(sector * FUZZ_SECTOR, UINT64_C(1) << b->cluster_bits);
}

static uint64_t odd_number(struct bender *b, uint64_t old)
{
	switch (below(b, 8)) {
	case 0: return 0;
	case 1: return UINT64_MAX;
	case 2: return old + 1;
	case 3: return old - 1;
	case 4: return old << 1;
	case 5: return old >> 1;
	case 6: return old ^ UINT64_C(1) << below(b, 64);
	default: return below(b, 8200);
	}
}

static uint64_t entry_make(struct bender *b, uint64_t old)
{
	uint64_t address = some_cluster(b);

	switch (below(b, 8)) {
	case 0: return odd_number(b, old);
	case 1: return old ^ UINT64_C(1) << 63;
	case 2: return 1;
	case 3: return address | 1;
	case 4: return UINT64_C(1) << 62 | (uint64_t)below(b, 256) << 54 | (address + below(b, 512));
	case 5: return address;
	default: return address | UINT64_C(1) << 63;
	}
}

static void entry_bend(struct bender *b, uint64_t table, uint64_t entries)
{
	uint8_t *at = byte_of(b, table + 8 * (uint64_t)below(b, (uint32_t)MIN(entries, UINT64_C(1) << 18)), 8);

	if (at)
		number_put(at, entry_make(b, number_get(at, 8)), 8);
}

static uint64_t entry_of(struct bender *b, uint64_t table, uint64_t entries)
{
	for (uint64_t i = 0; i < MIN(entries, UINT64_C(16)); i++) {
		uint8_t *at = byte_of(b, table + 8 * i, 8);

		if (at && number_get(at, 8) != 0 && below(b, 2))
			return number_get(at, 8) & UINT64_C(0x00fffffffffffe00);
	}
	return 0;
}

static void header_bend(struct bender *b)
{
	static const struct {
		uint8_t at, bytes;
	} fields[] = {{4, 4}, {8, 8}, {16, 4}, {20, 4}, {24, 8}, {32, 4}, {36, 4}, {40, 8}, {48, 8}, {56, 4}, {60, 4},
		{64, 8}, {72, 8}, {80, 8}, {88, 8}, {96, 4}, {100, 4}, {104, 1}};
	unsigned i = below(b, ARRAY_ENTRIES(fields));
	uint8_t *at = byte_of(b, fields[i].at, fields[i].bytes);

	if (at)
		number_put(at,
			fields[i].bytes == 8 && below(b, 2) ? some_cluster(b)
							    : odd_number(b, number_get(at, fields[i].bytes)),
			fields[i].bytes);
}

/* Eight bytes anywhere in metadata that has no place of its own here: extensions, snapshots, bitmaps, LUKS. */
static void word_bend(struct bender *b)
{
	uint32_t n = records_n(b), bytes = 1u << below(b, 4);
	uint8_t *at;

	if (n == 0)
		return;
	at = b->data + b->records + (size_t)below(b, n) * IMAGE_RECORD_BYTES + 4 +
		align_down(below(b, FUZZ_SECTOR), bytes);
	number_put(
		at, below(b, 3) ? odd_number(b, number_get(at, bytes)) : entry_make(b, number_get(at, bytes)), bytes);
}

static void list_bend(struct bender *b, uint64_t off)
{
	uint32_t bytes = 1u << below(b, 4);
	uint8_t *at = byte_of(b, off + align_down(below(b, 96), bytes), bytes);

	if (at)
		number_put(at, odd_number(b, number_get(at, bytes)), bytes);
}

/* A sector is taken away, or lies elsewhere. */
static void sector_bend(struct bender *b)
{
	uint32_t n = records_n(b), i = below(b, n);
	uint8_t *record = b->data + b->records + (size_t)i * IMAGE_RECORD_BYTES;

	if (n < 2)
		return;
	if (below(b, 2)) {
		uint64_t sector = some_cluster(b) / FUZZ_SECTOR;

		for (unsigned k = 0; k < 4; k++)
			record[k] = (uint8_t)(sector >> 8 * k);
		return;
	}
	memmove(record, record + IMAGE_RECORD_BYTES, b->size - (size_t)(record - b->data) - IMAGE_RECORD_BYTES);
	b->size -= IMAGE_RECORD_BYTES;
}

static bool begin(struct bender *b)
{
	uint8_t *first;

	if (b->size < IMAGE_HEAD_BYTES)
		return false;
	b->records = IMAGE_HEAD_BYTES + (size_t)(b->data[4] | b->data[5] << 8);
	if (b->records + IMAGE_RECORD_BYTES > b->size)
		return false;
	first = byte_of(b, 0, sizeof(b->header));
	if (!first)
		return false;
	number_put(first, QCOW2_MAGIC, 4);
	memcpy(&b->header, first, sizeof(b->header));
	b->cluster_bits = be32_get(b->header.cluster_bits);
	if (b->cluster_bits < QCOW2_MIN_CLUSTER_BITS || b->cluster_bits > COMMON_CLUSTER_BITS) {
		b->cluster_bits = QCOW2_MIN_CLUSTER_BITS;
		number_put(first + 20, b->cluster_bits, 4);
	}
	return true;
}

static void script_bend(struct bender *b)
{
	size_t n = b->records - IMAGE_HEAD_BYTES;

	if (n > 0)
		b->data[IMAGE_HEAD_BYTES + below(b, (uint32_t)n)] = (uint8_t)below(b, 256);
}

static void bend(struct bender *b)
{
	uint64_t l1 = be64_get(b->header.l1_offset), reftable = be64_get(b->header.reftable_offset);
	uint64_t entries = be32_get(b->header.l1_entries), cluster = UINT64_C(1) << b->cluster_bits;

	switch (below(b, 12)) {
	case 0: header_bend(b); break;
	case 1: entry_bend(b, l1, entries); break;
	case 2:
	case 3: entry_bend(b, entry_of(b, l1, entries), cluster / 8); break;
	case 4: entry_bend(b, reftable, MIN(cluster / 8, UINT64_C(64))); break;
	case 5: list_bend(b, entry_of(b, reftable, 4)); break;
	case 6: list_bend(b, be64_get(b->header.snapshots_offset)); break;
	case 7: list_bend(b, 104); break;
	case 8: sector_bend(b); break;
	case 9:
	case 10: script_bend(b); break;
	default: word_bend(b);
	}
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
{
	struct bender b = {.data = data, .size = size, .state = seed};

	if (below(&b, 8) == 0 || !begin(&b))
		return LLVMFuzzerMutate(data, size, room);
	for (unsigned n = 1 + below(&b, 4); n > 0; n--)
		bend(&b);
	return b.size;
}
