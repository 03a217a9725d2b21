/* SPDX-License-Identifier: MIT */
/* Compressed clusters of both kinds. */
#include <assert.h>
#include <stdlib.h>

#include "fuzz.h"
#include "qcow2/compress.h"

size_t fuzz_seed(unsigned number, uint8_t *out, size_t room)
{
	struct qcow2_codec codec = {.type = number & 1};
	unsigned cluster = 512u << number / 2 % 8;
	uint8_t *from;
	ssize_t n;

	if (number >= 32)
		return 0;
	from = malloc(cluster);
	assert(from && room > cluster + 2);
	for (unsigned i = 0; i < cluster; i++)
		from[i] = (uint8_t)(number >= 16 ? i * i >> 5 : i >> 4);
	out[0] = (uint8_t)(number & 15);
	out[1] = (uint8_t)number;
	n = qcow2_codec_known(codec.type) ? qcow2_codec_encode(&codec, from, cluster, out + 2, cluster) : 0;
	qcow2_codec_fini(&codec);
	free(from);
	assert(n >= 0);
	return (size_t)n + 2;
}
