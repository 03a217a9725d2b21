/* SPDX-License-Identifier: MIT */
/*
 * Refcounts of every width, by themselves: each index of a small block takes each value that matters, is read back, lies
 * where the format says, and leaves every other bit alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "qcow2/engine.h"

#define BYTES 32

/* Bit by bit, without a thought for speed: entries of a byte and more are big-endian, smaller ones begin at the lowest bit. */
static uint64_t slow_get(const uint8_t *block, unsigned order, uint64_t index)
{
	unsigned bits = 1u << order;
	uint64_t value = 0;

	if (order < 3) {
		for (unsigned b = 0; b < bits; b++)
			value |= (uint64_t)(block[(index * bits + b) / 8] >> ((index * bits + b) % 8) & 1) << b;
		return value;
	}
	for (unsigned i = 0; i < bits / 8; i++)
		value = value << 8 | block[index * (bits / 8) + i];
	return value;
}

static uint64_t largest(unsigned order) { return UINT64_MAX >> (64 - (1u << order)); }

/* Every value of up to eight bits; of wider ones those with one bit, all but one, none and all. */
static unsigned values_of(unsigned order, uint64_t *out)
{
	unsigned bits = 1u << order, n = 0;

	if (bits <= 8) {
		for (uint64_t v = 0; v <= largest(order); v++)
			out[n++] = v;
		return n;
	}
	out[n++] = 0;
	out[n++] = largest(order);
	for (unsigned b = 0; b < bits; b++) {
		out[n++] = UINT64_C(1) << b;
		out[n++] = largest(order) ^ UINT64_C(1) << b;
	}
	return n;
}

static void value_is_kept(unsigned order, uint64_t index, uint64_t value, uint8_t background)
{
	uint8_t block[BYTES + 8];
	uint64_t before = largest(order) & (background * UINT64_C(0x0101010101010101));

	memset(block, background, sizeof(block));
	qcow2_refcount_set(block, order, index, value);
	assert_int_equal(qcow2_refcount_get(block, order, index), value);
	assert_int_equal(slow_get(block, order, index), value);
	for (uint64_t i = 0; i < (uint64_t)BYTES * 8 >> order; i++)
		if (i != index)
			assert_int_equal(qcow2_refcount_get(block, order, i), before);
	for (unsigned i = BYTES; i < sizeof(block); i++)
		assert_int_equal(block[i], background);
}

static void test_each_value_at_each_place(void **state)
{
	static const uint8_t backgrounds[] = {0x00, 0xff};
	uint64_t values[512];

	(void)state;
	for (unsigned order = 0; order <= 6; order++) {
		unsigned n = values_of(order, values);

		for (uint64_t index = 0; index < (uint64_t)BYTES * 8 >> order; index++)
			for (unsigned v = 0; v < n; v++)
				for (unsigned b = 0; b < 2; b++)
					value_is_kept(order, index, values[v], backgrounds[b]);
	}
}

/* Counts of references widen as they must, and leave each other alone; the last one counts no further. */
static void test_references_are_counted(void **state)
{
	const uint64_t clusters = 100000, many = 70000;
	struct qcow2_refs refs;

	(void)state;
	assert_int_equal(qcow2_refs_init(&refs, clusters), 0);
	for (uint64_t i = 0; i < clusters; i += 3)
		assert_int_equal(qcow2_refs_add(&refs, i), 0);
	for (uint64_t i = 0; i < many; i++)
		assert_int_equal(qcow2_refs_add(&refs, 40001), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(qcow2_refs_add(&refs, clusters - 1), 0);
	assert_int_equal(qcow2_refs_add(&refs, clusters), 0);
	assert_int_equal(qcow2_refs_add(&refs, UINT64_MAX), 0);
	for (uint64_t i = 0; i < clusters; i++)
		assert_int_equal(
			qcow2_refs_get(&refs, i), (i % 3 == 0) + (i == 40001 ? many : 0) + (i == clusters - 1 ? 2 : 0));
	assert_int_equal(qcow2_refs_get(&refs, clusters), 0);
	qcow2_refs_fini(&refs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_value_at_each_place), cmocka_unit_test(test_references_are_counted)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
