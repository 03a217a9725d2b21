/* SPDX-License-Identifier: MIT */
/*
 * A second reader of qcow2, written from the specification and sharing nothing with the engine: no caches, no coroutines,
 * one look-up after the other over the bytes of the whole file in memory. Source: QEMU's docs/interop/qcow2.rst.
 */
#ifndef CORRAL_TEST_FUZZ_READER_H
#define CORRAL_TEST_FUZZ_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reader {
	const uint8_t *file;
	uint64_t file_bytes;
	uint64_t size, l1;
	uint32_t l1_entries;
	unsigned cluster_bits;
	bool version_2, extended, zstd, foreign_data, encrypted;
};

bool reader_open(struct reader *r, const uint8_t *file, uint64_t file_bytes);

enum reader_result {
	READER_GOOD,   /* `to` holds what the disk has there */
	READER_BAD,    /* no reading of the specification gives these bytes a meaning */
	READER_UNSURE, /* programs may differ */
};

/* At most to the end of a sector of 512 bytes. Unallocated reads zeros. */
enum reader_result reader_read(const struct reader *r, uint64_t off, uint8_t *to, size_t len);

#endif
