/* SPDX-License-Identifier: MIT */
/*
 * An input that stands for an image and what is done to it, small where the image is sparse. Integers are little-endian:
 *
 *     u32   length of the file in sectors of 512 bytes
 *     u16   length of the script
 *     u16   not used
 *     the script; then sectors: each its number in the file (u32), and 512 bytes
 */
#ifndef CORRAL_TEST_FUZZ_IMAGE_H
#define CORRAL_TEST_FUZZ_IMAGE_H

#include "world.h"

#define IMAGE_HEAD_BYTES 8u
#define IMAGE_RECORD_BYTES (4u + FUZZ_SECTOR)
#define IMAGE_SECTORS (uint32_t)(4 * MiB / FUZZ_SECTOR) /* of the file at most: some thousand inputs a second */

struct script { /* what is left of it */
	const uint8_t *at;
	size_t left;
};

/* The next byte; 0 at the end. */
static inline uint8_t script_byte(struct script *s)
{
	if (s->left == 0)
		return 0;
	s->left--;
	return *s->at++;
}

static inline uint32_t script_u24(struct script *s)
{
	uint32_t low = script_byte(s), middle = script_byte(s);

	return low | middle << 8 | (uint32_t)script_byte(s) << 16;
}

/* Lays the image out on the disk. */
void image_lay_out(const uint8_t *data, size_t size, struct script *script);
/* The other way round: what is on the disk, with a script; its length, or 0 if there isn't room. */
size_t image_pack(const uint8_t *script, size_t script_bytes, uint8_t *out, size_t room);

#endif
