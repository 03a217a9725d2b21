/* SPDX-License-Identifier: MIT */
/*
 * The simulator's own random numbers: xoshiro256** seeded by splitmix64. Everything that a run decides comes from one seed
 * through streams of these, so that the same seed gives the same run on every machine and compiler. Never call two of
 * these functions in one expression: the order of evaluation would be the compiler's choice.
 */
#ifndef CORRAL_SIM_PRNG_H
#define CORRAL_SIM_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct sim_rng {
	uint64_t s[4];
};

static inline uint64_t sim_mix(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Different streams of one seed are independent: what one draws doesn't disturb the others. */
static inline void sim_rng_init(struct sim_rng *r, uint64_t seed, uint64_t stream)
{
	uint64_t state = seed;
	uint64_t salt = stream + 1;

	state = sim_mix(&state) ^ sim_mix(&salt);
	for (unsigned i = 0; i < 4; i++)
		r->s[i] = sim_mix(&state);
}

static inline uint64_t sim_rotate(uint64_t x, unsigned by) { return (x << by) | (x >> (64 - by)); }

static inline uint64_t sim_rng_next(struct sim_rng *r)
{
	uint64_t result = sim_rotate(r->s[1] * 5, 7) * 9;
	uint64_t t = r->s[1] << 17;

	r->s[2] ^= r->s[0];
	r->s[3] ^= r->s[1];
	r->s[1] ^= r->s[2];
	r->s[0] ^= r->s[3];
	r->s[2] ^= t;
	r->s[3] = sim_rotate(r->s[3], 45);
	return result;
}

/* 0 to n - 1; n is 1 or more. */
static inline uint32_t sim_below(struct sim_rng *r, uint32_t n)
{
	return (uint32_t)(((sim_rng_next(r) >> 32) * n) >> 32);
}

/* lo to hi, both included. */
static inline uint64_t sim_between(struct sim_rng *r, uint64_t lo, uint64_t hi)
{
	return hi == lo ? lo : lo + sim_rng_next(r) % (hi - lo + 1);
}

/* True once in `in` times; 0 is never. */
static inline bool sim_one_in(struct sim_rng *r, uint32_t in) { return in != 0 && sim_below(r, in) == 0; }

#endif
