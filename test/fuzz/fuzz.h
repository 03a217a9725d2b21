/* SPDX-License-Identifier: MIT */
/* A target: libFuzzer calls it with what it thinks up, a unit test with random bytes of a fixed seed. */
#ifndef CORRAL_TEST_FUZZ_H
#define CORRAL_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
