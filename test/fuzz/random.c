/* SPDX-License-Identifier: MIT */
/* A fuzzing target with random bytes of a fixed seed: FUZZ_ROUNDS inputs, of which half are mostly zeros. */
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

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void survives(void **state)
{
	uint8_t *data = malloc(BYTES);
	uint64_t x = 88172645463325252;

	(void)state;
	assert_non_null(data);
	for (unsigned round = 0; round < FUZZ_ROUNDS; round++) {
		size_t size = next(&x) % BYTES, sparse = round & 1;

		for (size_t i = 0; i < size; i++) {
			uint64_t r = next(&x);

			data[i] = sparse && r & 0xf00 ? (uint8_t)(r & 1) : (uint8_t)(r >> 24);
		}
		LLVMFuzzerTestOneInput(data, size);
	}
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(survives)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
