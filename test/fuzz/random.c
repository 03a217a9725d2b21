/* SPDX-License-Identifier: MIT */
/*
 * A fuzzing target with inputs of a fixed seed: FUZZ_ROUNDS of them. Where there are good inputs to begin with, each is
 * one of these, bent a few times; else they are random bytes, of which half are mostly zeros.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#ifndef FUZZ_ROUNDS
#define FUZZ_ROUNDS 20000
#endif
#define BYTES 12000
#define SEEDS 64

static uint64_t state_of = 88172645463325252;

static uint64_t next(void)
{
	state_of ^= state_of << 13;
	state_of ^= state_of >> 7;
	state_of ^= state_of << 17;
	return state_of;
}

static size_t bytes_make(uint8_t *data)
{
	size_t size = next() % BYTES, sparse = next() & 1;

	for (size_t i = 0; i < size; i++) {
		uint64_t r = next();

		data[i] = sparse && r & 0xf00 ? (uint8_t)(r & 1) : (uint8_t)(r >> 24);
	}
	return size;
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room)
{
	uint64_t r = next();
	size_t at = size ? (size_t)(r >> 16) % size : 0, from = size ? (size_t)(r >> 40) % size : 0;

	(void)room;
	if (size == 0)
		return 0;
	switch (r % 8) {
	case 0: data[at] ^= (uint8_t)(1u << (r >> 60 & 7)); break;
	case 1: data[at] = 0xff; break;
	case 2: data[at] = 0; break;
	case 3: return r & 0x100 ? at : size;
	case 4: memmove(data + at, data + from, size - (at > from ? at : from)); break;
	default: data[at] = (uint8_t)(r >> 8); break;
	}
	return size;
}

struct seeds {
	uint8_t *bytes[SEEDS];
	size_t size[SEEDS];
	unsigned n;
};

static void seeds_make(struct seeds *s, uint8_t *scratch)
{
	size_t size;

	while (fuzz_seed && s->n < SEEDS && (size = fuzz_seed(s->n, scratch, FUZZ_SEED_BYTES)) > 0) {
		s->bytes[s->n] = malloc(size);
		assert_non_null(s->bytes[s->n]);
		memcpy(s->bytes[s->n], scratch, size);
		s->size[s->n++] = size;
	}
}

static size_t input_make(const struct seeds *s, uint8_t *data, unsigned round)
{
	size_t size;

	if (s->n == 0)
		return bytes_make(data);
	size = s->size[round % s->n];
	memcpy(data, s->bytes[round % s->n], size);
	for (unsigned n = round < s->n ? 0 : 1 + next() % 4; n > 0; n--)
		size = LLVMFuzzerCustomMutator && next() % 4
			? LLVMFuzzerCustomMutator(data, size, FUZZ_SEED_BYTES, (unsigned)next())
			: LLVMFuzzerMutate(data, size, FUZZ_SEED_BYTES);
	return size;
}

static void survives(void **state)
{
	uint8_t *data = malloc(FUZZ_SEED_BYTES);
	struct seeds seeds = {0};

	(void)state;
	assert_non_null(data);
	seeds_make(&seeds, data);
	for (unsigned round = 0; round < FUZZ_ROUNDS; round++) {
		size_t size = input_make(&seeds, data, round);
		uint8_t *exact = malloc(size + 1); /* a tool that watches memory sees a read past it */

		assert_non_null(exact);
		memcpy(exact, data, size);
		LLVMFuzzerTestOneInput(exact, size);
		free(exact);
	}
	for (unsigned i = 0; i < seeds.n; i++)
		free(seeds.bytes[i]);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(survives)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
