/* SPDX-License-Identifier: MIT */
/*
 * Sparse bitmaps: an array of pointers to chunks. A chunk that becomes uniform is freed at once, so that uniform chunks
 * always are NULL or `all_ones`, and counting, searching and storing pass over them without a look at their bits.
 */
#include "base/sparse.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"

#define WORD_BITS 64u
#define CHUNK_WORDS (SPARSE_CHUNK_BITS / WORD_BITS)

struct sparse_chunk {
	uint64_t ones;
	uint64_t words[CHUNK_WORDS];
};

static const struct sparse_chunk ones_marker;
#define all_ones ((struct sparse_chunk *)&ones_marker)

static bool is_uniform(const struct sparse_chunk *c) { return c == NULL || c == all_ones; }

static uint64_t chunk_count(uint64_t bits) { return div_round_up(bits, SPARSE_CHUNK_BITS); }

/* How many bits chunk i has: the last one may have fewer. */
static uint64_t chunk_bits(const struct sparse *s, uint64_t i)
{
	return MIN(SPARSE_CHUNK_BITS, s->bits - i * SPARSE_CHUNK_BITS);
}

static uint64_t chunk_ones(const struct sparse *s, uint64_t i)
{
	const struct sparse_chunk *c = s->chunks[i];

	return c == all_ones ? chunk_bits(s, i) : c ? c->ones : 0;
}

/* ---- the budget ---- */

static bool budget_take(struct sparse_budget *b, uint64_t bytes)
{
	if (bytes > b->limit - b->used)
		return false;
	b->used += bytes;
	return true;
}

static void chunk_free(struct sparse *s, uint64_t i)
{
	if (is_uniform(s->chunks[i]))
		return;
	free(s->chunks[i]);
	s->budget->used -= sizeof(struct sparse_chunk);
}

static void chunk_fill(struct sparse *s, uint64_t i, struct sparse_chunk *with)
{
	s->ones -= chunk_ones(s, i);
	chunk_free(s, i);
	s->chunks[i] = with;
	s->ones += chunk_ones(s, i);
}

/* ---- life ---- */

int sparse_init(struct sparse *s, uint64_t bits, struct sparse_budget *budget)
{
	uint64_t bytes = MAX(chunk_count(bits), UINT64_C(1)) * sizeof(*s->chunks);

	*s = (struct sparse){.budget = budget, .bits = bits};
	if (!budget_take(budget, bytes))
		return -ENOMEM;
	s->chunks = calloc(1, bytes);
	if (s->chunks)
		return 0;
	budget->used -= bytes;
	return -ENOMEM;
}

void sparse_fini(struct sparse *s)
{
	if (!s->chunks)
		return;
	for (uint64_t i = 0; i < chunk_count(s->bits); i++)
		chunk_free(s, i);
	s->budget->used -= MAX(chunk_count(s->bits), UINT64_C(1)) * sizeof(*s->chunks);
	free(take(s->chunks));
}

int sparse_resize(struct sparse *s, uint64_t bits)
{
	uint64_t kept = MIN(bits, s->bits), last = kept / SPARSE_CHUNK_BITS;
	struct sparse to;
	int rc = sparse_init(&to, bits, s->budget);

	if (rc)
		return rc;
	/* The chunk that the smaller end cuts is copied bit by bit, as one that is uniform may not be so in the other size. */
	for (uint64_t i = 0; i < last; i++) {
		to.chunks[i] = take(s->chunks[i]);
		to.ones += chunk_ones(&to, i);
	}
	for (uint64_t at = last * SPARSE_CHUNK_BITS; (at = sparse_find(s, at, kept, true)) < kept;) {
		uint64_t end = sparse_find(s, at, kept, false);

		sparse_set(&to, at, end - at);
		at = end;
	}
	sparse_fini(s);
	*s = to;
	return 0;
}

/* ---- ranges ---- */

static void word_change(struct sparse_chunk *c, uint64_t word, uint64_t mask, bool value)
{
	uint64_t before = c->words[word];

	c->words[word] = value ? before | mask : before & ~mask;
	c->ones += (uint64_t)__builtin_popcountll(c->words[word]);
	c->ones -= (uint64_t)__builtin_popcountll(before);
}

/* Bits [first, end) of one chunk that isn't uniform. */
static void bits_change(struct sparse_chunk *c, uint64_t first, uint64_t end, bool value)
{
	while (first < end) {
		uint64_t n = MIN(WORD_BITS - first % WORD_BITS, end - first);
		uint64_t mask = n == WORD_BITS ? UINT64_MAX : (UINT64_C(1) << n) - 1;

		word_change(c, first / WORD_BITS, mask << first % WORD_BITS, value);
		first += n;
	}
}

/* Makes chunk i, which is uniform, one that can be neither. NULL: no memory. */
static struct sparse_chunk *chunk_spread(struct sparse *s, uint64_t i)
{
	uint64_t ones = chunk_ones(s, i);
	struct sparse_chunk *c;

	if (!budget_take(s->budget, sizeof(*c)))
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c) {
		s->budget->used -= sizeof(*c);
		return NULL;
	}
	bits_change(c, 0, ones, true);
	return s->chunks[i] = c;
}

static void chunk_change(struct sparse *s, uint64_t i, uint64_t first, uint64_t end, bool value)
{
	struct sparse_chunk *uniform = value ? all_ones : NULL, *c = s->chunks[i];

	if (c == uniform)
		return;
	if (first == 0 && end == chunk_bits(s, i)) {
		chunk_fill(s, i, uniform);
		return;
	}
	if (is_uniform(c))
		c = chunk_spread(s, i);
	if (!c) {
		chunk_fill(s, i, all_ones);
		return;
	}
	s->ones -= c->ones;
	bits_change(c, first, end, value);
	s->ones += c->ones;
	if (c->ones == 0 || c->ones == chunk_bits(s, i))
		chunk_fill(s, i, uniform);
}

static void change(struct sparse *s, uint64_t first, uint64_t n, bool value)
{
	while (n) {
		uint64_t i = first / SPARSE_CHUNK_BITS, in = first % SPARSE_CHUNK_BITS;
		uint64_t now = MIN(n, SPARSE_CHUNK_BITS - in);

		chunk_change(s, i, in, in + now, value);
		first += now;
		n -= now;
	}
}

void sparse_set(struct sparse *s, uint64_t first, uint64_t n) { change(s, first, n, true); }
void sparse_clear(struct sparse *s, uint64_t first, uint64_t n) { change(s, first, n, false); }

/* ---- looking ---- */

/* The 64 bits from bit on, which is a multiple of 64. */
static uint64_t word_at(const struct sparse *s, uint64_t bit)
{
	const struct sparse_chunk *c = s->chunks[bit / SPARSE_CHUNK_BITS];

	if (c == all_ones)
		return s->bits - bit >= WORD_BITS ? UINT64_MAX : (UINT64_C(1) << (s->bits - bit)) - 1;
	return c ? c->words[bit % SPARSE_CHUNK_BITS / WORD_BITS] : 0;
}

bool sparse_test(const struct sparse *s, uint64_t bit)
{
	return word_at(s, align_down(bit, WORD_BITS)) >> bit % WORD_BITS & 1;
}

uint64_t sparse_find(const struct sparse *s, uint64_t from, uint64_t to, bool value)
{
	const struct sparse_chunk *never = value ? NULL : all_ones;

	while (from < to) {
		uint64_t word;

		if (s->chunks[from / SPARSE_CHUNK_BITS] == never) {
			from = (from / SPARSE_CHUNK_BITS + 1) * SPARSE_CHUNK_BITS;
			continue;
		}
		word = word_at(s, align_down(from, WORD_BITS));
		word = (value ? word : ~word) >> from % WORD_BITS;
		if (word)
			return MIN(from + (uint64_t)__builtin_ctzll(word), to);
		from = align_down(from, WORD_BITS) + WORD_BITS;
	}
	return to;
}

/* ---- bytes ---- */

void sparse_export(const struct sparse *s, uint64_t first, void *out, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
		uint64_t bit = first + at * 8, word = bit < s->bits ? htole64(word_at(s, bit)) : 0;

		memcpy((char *)out + at, &word, MIN(sizeof(word), bytes - at));
	}
}

static void word_add(struct sparse *s, uint64_t bit, uint64_t word)
{
	uint64_t i = bit / SPARSE_CHUNK_BITS;
	struct sparse_chunk *c = s->chunks[i];

	if (c == all_ones)
		return;
	if (!c)
		c = chunk_spread(s, i);
	if (!c) {
		chunk_fill(s, i, all_ones);
		return;
	}
	s->ones -= c->ones;
	word_change(c, bit % SPARSE_CHUNK_BITS / WORD_BITS, word, true);
	s->ones += c->ones;
	if (c->ones == chunk_bits(s, i))
		chunk_fill(s, i, all_ones);
}

void sparse_import(struct sparse *s, uint64_t first, const void *in, size_t bytes)
{
	for (size_t at = 0; at < bytes && first + at * 8 < s->bits; at += sizeof(uint64_t)) {
		uint64_t bit = first + at * 8, word = 0;

		memcpy(&word, (const char *)in + at, MIN(sizeof(word), bytes - at));
		word = le64toh(word);
		if (s->bits - bit < WORD_BITS)
			word &= (UINT64_C(1) << (s->bits - bit)) - 1;
		if (word)
			word_add(s, bit, word);
	}
}
