/* SPDX-License-Identifier: MIT */
/*
 * A large bitmap of which most is all zeros or all ones: only what is neither takes memory.
 *
 * It never loses a one. Setting and clearing can't fail: where there is no memory for what is to be said, or the budget is
 * used up, a whole chunk becomes ones. So it suits sets of which too much may be claimed and never too little (what must
 * be copied).
 */
#ifndef CORRAL_BASE_SPARSE_H
#define CORRAL_BASE_SPARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

#define SPARSE_CHUNK_BITS UINT64_C(32768)

struct sparse_budget { /* of bytes, for several of them */
	uint64_t used, limit;
};

struct sparse_chunk;

struct sparse {
	struct sparse_chunk **chunks; /* NULL: zeros; a special one: ones */
	uint64_t bits;
	uint64_t ones; /* how many are set */
	struct sparse_budget *budget;
};

/* All zeros. -ENOMEM: also where the budget doesn't allow for it; then, as after sparse_fini, there is nothing to free. */
int sparse_init(struct sparse *s, uint64_t bits, struct sparse_budget *budget) ATTR_MUST_USE;
void sparse_fini(struct sparse *s);
/* New bits are zeros; those behind a smaller size are gone. -ENOMEM: nothing has changed. */
int sparse_resize(struct sparse *s, uint64_t bits) ATTR_MUST_USE;

/* [first, first + n) lies inside. */
void sparse_set(struct sparse *s, uint64_t first, uint64_t n);
void sparse_clear(struct sparse *s, uint64_t first, uint64_t n);
bool sparse_test(const struct sparse *s, uint64_t bit);
/* The first bit of [from, to) that has the value; `to` if there is none. */
uint64_t sparse_find(const struct sparse *s, uint64_t from, uint64_t to, bool value);

/* A piece as bytes, the lowest bit of each first; `first` is a multiple of 64. Bits beyond the end are zeros in what is
 * exported, and ignored in what is imported, which adds its ones. */
void sparse_export(const struct sparse *s, uint64_t first, void *out, size_t bytes);
void sparse_import(struct sparse *s, uint64_t first, const void *in, size_t bytes);

#endif
