/* SPDX-License-Identifier: MIT */
/*
 * Encryption as the simulator has it: images are made with it, and what a power cut leaves is judged decrypted. It shares
 * no code with the engine; both call libgcrypt. Sectors are encrypted with AES-128 in XTS mode, the number of the sector
 * in the file as the tweak; the key is the same for all images. Its LUKS header has one slot, of one stripe, and a single
 * iteration everywhere: as little to compute as there can be.
 */
#ifndef CORRAL_SIM_CRYPT_H
#define CORRAL_SIM_CRYPT_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_CRYPT_BYTES 2048 /* of the header, key material included */
#define SIM_PASSPHRASE "correct horse"

bool sim_crypt_available(void); /* else nothing below may be called */
void sim_crypt_header(uint8_t header[SIM_CRYPT_BYTES]);
void sim_encrypt(uint64_t sector, uint8_t *bytes);
void sim_decrypt(uint64_t sector, const uint8_t *from, uint8_t *to);

#endif
