/* SPDX-License-Identifier: MIT */
/* A target: libFuzzer calls it with what it thinks up, a unit test with inputs of a fixed seed. */
#ifndef CORRAL_TEST_FUZZ_H
#define CORRAL_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bends an input in place, within room; its new length. libFuzzer's, or the unit test's. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);
/* What a target may have to bend its inputs with more sense. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed) __attribute__((weak));

/* Good inputs to begin with, which are made rather than kept: the one of this number; 0: there is none. */
#define FUZZ_SEED_BYTES (768u << 10) /* room that is enough */
size_t fuzz_seed(unsigned number, uint8_t *out, size_t room) __attribute__((weak));

#endif
