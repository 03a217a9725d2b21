/* SPDX-License-Identifier: MIT */
/*
 * A window on scattered memory: v[0..n) less its first skip bytes, len bytes long. A slice is a new window on the same
 * array: nothing is copied, nothing is owned. Only what hands the vector to the kernel needs it as a plain array.
 */
#ifndef CORRAL_BASE_IOVEC_H
#define CORRAL_BASE_IOVEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct iov {
	const struct iovec *v;
	unsigned n;
	size_t skip; /* < v[0].iov_len unless len is 0 */
	size_t len;
};

/* One contiguous buffer as a vector; lives as long as the enclosing block. */
#define IOV_BUF(buf, bytes)                                                                                            \
	((struct iov){.v = &(struct iovec){.iov_base = (void *)(buf), .iov_len = (bytes)}, .n = 1, .len = (bytes)})

struct iov iov_of(const struct iovec *v, unsigned n);

/* Bytes [off, off + len) of it; they must lie inside. */
struct iov iov_slice(struct iov it, size_t off, size_t len);

/* Writes the window out as at most max plain elements, empty ones left out. Returns their number, *bytes their sum: less
 * than it.len where max is too small. */
unsigned iov_export(struct iov it, struct iovec *out, unsigned max, size_t *bytes);

/* Each copies min(it.len, len) bytes and returns how many. */
size_t iov_copy_in(struct iov it, const void *from, size_t len); /* memory -> vector */
size_t iov_copy_out(struct iov it, void *to, size_t len);        /* vector -> memory */
void iov_fill(struct iov it, int byte);
bool iov_is_zero(struct iov it);

/* Whether every element's address and length is a multiple of align (a power of two). */
bool iov_is_aligned(struct iov it, size_t align);

bool mem_is_zero(const void *p, size_t len);

#endif
