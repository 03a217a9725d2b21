/* SPDX-License-Identifier: MIT */
/* Checked and rounding arithmetic on byte quantities. */
#ifndef CORRAL_BASE_MATH_H
#define CORRAL_BASE_MATH_H

#include <stdbool.h>
#include <stdint.h>

/* Each argument is evaluated once; the counter makes the names differ, so that one may stand in the other. */
#define MATH_PASTE_(a, b) a##b
#define MATH_NAME_(a, b) MATH_PASTE_(a, b)
#define MATH_PICK_(a, less, b, x, y)                                                                                   \
	({                                                                                                             \
		__typeof__(a) x = (a);                                                                                 \
		__typeof__(b) y = (b);                                                                                 \
		x less y ? x : y;                                                                                      \
	})
#define MIN(a, b) MATH_PICK_(a, <, b, MATH_NAME_(pick_a_, __COUNTER__), MATH_NAME_(pick_b_, __COUNTER__))
#define MAX(a, b) MATH_PICK_(a, >, b, MATH_NAME_(pick_a_, __COUNTER__), MATH_NAME_(pick_b_, __COUNTER__))

#define KiB ((uint64_t)1 << 10)
#define MiB ((uint64_t)1 << 20)
#define GiB ((uint64_t)1 << 30)
#define TiB ((uint64_t)1 << 40)

/* These return true where the result does not fit, as the compiler's built-ins do. */
static inline bool add_overflows(uint64_t a, uint64_t b, uint64_t *sum) { return __builtin_add_overflow(a, b, sum); }
static inline bool mul_overflows(uint64_t a, uint64_t b, uint64_t *product)
{
	return __builtin_mul_overflow(a, b, product);
}

/* unit must be a power of two. align_up wraps only above 2^64 - unit. */
static inline uint64_t align_down(uint64_t v, uint64_t unit) { return v & ~(unit - 1); }
static inline uint64_t align_up(uint64_t v, uint64_t unit) { return (v + unit - 1) & ~(unit - 1); }
static inline bool is_aligned(uint64_t v, uint64_t unit) { return (v & (unit - 1)) == 0; }
static inline bool is_power_of_two(uint64_t v) { return v != 0 && (v & (v - 1)) == 0; }
static inline uint64_t div_round_up(uint64_t v, uint64_t by) { return v / by + (v % by != 0); }

/* Whether [a, a + a_len) and [b, b + b_len) share a byte; neither may wrap. */
static inline bool ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a_len != 0 && b_len != 0 && a < b + b_len && b < a + a_len;
}

#endif
