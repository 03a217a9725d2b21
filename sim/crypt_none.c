/* SPDX-License-Identifier: MIT */
/* A build without libgcrypt: no image is encrypted. */
#include "crypt.h"

#include <assert.h>

bool sim_crypt_available(void) { return false; }
void sim_crypt_header(uint8_t header[SIM_CRYPT_BYTES] __attribute__((unused))) { assert(false); }
void sim_encrypt(uint64_t sector __attribute__((unused)), uint8_t *bytes __attribute__((unused))) { assert(false); }
void sim_decrypt(uint64_t sector __attribute__((unused)), const uint8_t *from __attribute__((unused)),
	uint8_t *to __attribute__((unused)))
{
	assert(false);
}
