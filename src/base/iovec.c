/* SPDX-License-Identifier: MIT */
/*
 * Windows on scattered memory. Every window that leaves this file begins inside its first element (skip is less than
 * that element's length) unless it is empty, so a walk needs no search for its start.
 */
#include "base/iovec.h"

#include <assert.h>
#include <string.h>

/* The contiguous piece that the window begins with. Neither the window nor the piece is empty. */
static struct iovec piece_first(struct iov it)
{
	size_t room = it.v[0].iov_len - it.skip;

	return (struct iovec){
		.iov_base = (char *)it.v[0].iov_base + it.skip,
		.iov_len = room < it.len ? room : it.len,
	};
}

/* The window less its first piece, which is the rest of an element or all of the window. */
static struct iov piece_drop(struct iov it, size_t bytes)
{
	it.len -= bytes;
	it.skip = 0;
	do {
		it.v++;
		it.n--;
	} while (it.len != 0 && it.v[0].iov_len == 0);
	return it;
}

#define for_each_piece(piece, it)                                                                                      \
	for (struct iovec piece; (it).len != 0 && (piece = piece_first(it), true); (it) = piece_drop(it, piece.iov_len))

/* Moves the start of the window off bytes on, past elements that lie wholly before it. */
static struct iov iov_advance(struct iov it, size_t off)
{
	it.len -= off;
	if (it.len == 0)
		return (struct iov){.v = it.v};
	it.skip += off;
	while (it.skip >= it.v[0].iov_len) {
		it.skip -= it.v[0].iov_len;
		it.v++;
		it.n--;
	}
	return it;
}

struct iov iov_of(const struct iovec *v, unsigned n)
{
	struct iov it = {.v = v, .n = n};

	for (unsigned i = 0; i < n; i++)
		it.len += v[i].iov_len;
	return iov_advance(it, 0);
}

struct iov iov_slice(struct iov it, size_t off, size_t len)
{
	assert(off <= it.len && len <= it.len - off);
	it.len = off + len;
	return iov_advance(it, off);
}

unsigned iov_export(struct iov it, struct iovec *out, unsigned max, size_t *bytes)
{
	unsigned used = 0;

	*bytes = 0;
	for_each_piece(piece, it) {
		if (used == max)
			break;
		out[used++] = piece;
		*bytes += piece.iov_len;
	}
	return used;
}

size_t iov_copy_in(struct iov it, const void *from, size_t len)
{
	const char *at = from;

	if (len < it.len)
		it.len = len;
	for_each_piece(piece, it) {
		memcpy(piece.iov_base, at, piece.iov_len);
		at += piece.iov_len;
	}
	return (size_t)(at - (const char *)from);
}

size_t iov_copy_out(struct iov it, void *to, size_t len)
{
	char *at = to;

	if (len < it.len)
		it.len = len;
	for_each_piece(piece, it) {
		memcpy(at, piece.iov_base, piece.iov_len);
		at += piece.iov_len;
	}
	return (size_t)(at - (char *)to);
}

void iov_fill(struct iov it, int byte)
{
	for_each_piece(piece, it)
		memset(piece.iov_base, byte, piece.iov_len);
}

bool iov_is_zero(struct iov it)
{
	for_each_piece(piece, it) {
		if (!mem_is_zero(piece.iov_base, piece.iov_len))
			return false;
	}
	return true;
}

bool iov_is_aligned(struct iov it, size_t align)
{
	for_each_piece(piece, it) {
		if ((((uintptr_t)piece.iov_base | piece.iov_len) & (align - 1)) != 0)
			return false;
	}
	return true;
}

/* Blocks of a cache line, so that the compiler can use wide registers and data is found out at its first line. */
bool mem_is_zero(const void *p, size_t len)
{
	const unsigned char *at = p;

	for (; len >= 64; at += 64, len -= 64) {
		uint64_t word[8], any = 0;

		memcpy(word, at, sizeof(word));
		for (unsigned i = 0; i < 8; i++)
			any |= word[i];
		if (any != 0)
			return false;
	}
	for (; len != 0; at++, len--) {
		if (*at != 0)
			return false;
	}
	return true;
}
