/* SPDX-License-Identifier: MIT */
/* What image.h says. */
#include "image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

static uint32_t u32_get(const uint8_t *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }

static void u32_put(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

/* For whoever looks into a finding: the image, as a file. */
static void image_save(const char *path)
{
	FILE *file = fopen(path, "w");

	if (!file || fwrite(fuzz_disk_bytes(), 1, fuzz_disk_size(), file) != fuzz_disk_size() || fclose(file) != 0)
		perror(path);
}

void image_lay_out(const uint8_t *data, size_t size, struct script *script)
{
	uint32_t sectors = size >= 4 ? u32_get(data) % (IMAGE_SECTORS + 1) : 0;
	size_t script_bytes = size >= IMAGE_HEAD_BYTES ? (size_t)(data[4] | data[5] << 8) : 0;
	size_t at = MIN(size, (size_t)IMAGE_HEAD_BYTES);

	script->at = data + at;
	script->left = MIN(script_bytes, size - at);
	fuzz_disk_clear((uint64_t)sectors * FUZZ_SECTOR);
	for (at += script->left; sectors > 0 && size - at > 4; at += MIN(size - at, (size_t)IMAGE_RECORD_BYTES)) {
		uint64_t sector = u32_get(data + at) % sectors;

		fuzz_disk_put(sector * FUZZ_SECTOR, data + at + 4, MIN(size - at - 4, (size_t)FUZZ_SECTOR));
	}
	if (getenv("FUZZ_IMAGE"))
		image_save(getenv("FUZZ_IMAGE"));
}

size_t image_pack(const uint8_t *script, size_t script_bytes, uint8_t *out, size_t room)
{
	uint32_t sectors = (uint32_t)(fuzz_disk_size() / FUZZ_SECTOR);
	size_t at = IMAGE_HEAD_BYTES + script_bytes;

	if (room < at)
		return 0;
	memset(out, 0, IMAGE_HEAD_BYTES);
	u32_put(out, sectors);
	out[4] = (uint8_t)script_bytes;
	out[5] = (uint8_t)(script_bytes >> 8);
	memcpy(out + IMAGE_HEAD_BYTES, script, script_bytes);
	for (uint32_t i = 0; i < sectors; i++) {
		const uint8_t *from = fuzz_disk_bytes() + (uint64_t)i * FUZZ_SECTOR;

		if (mem_is_zero(from, FUZZ_SECTOR))
			continue;
		if (room - at < IMAGE_RECORD_BYTES)
			return 0;
		u32_put(out + at, i);
		memcpy(out + at + 4, from, FUZZ_SECTOR);
		at += IMAGE_RECORD_BYTES;
	}
	return at;
}
