/* SPDX-License-Identifier: MIT */
/* Any bytes as a compressed cluster; and any bytes compressed, which must come back as they were. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "fuzz.h"
#include "qcow2/compress.h"

static void both_ways(struct qcow2_codec *c, const uint8_t *data, size_t size, size_t cluster)
{
	uint8_t *from = calloc(1, cluster), *packed = malloc(cluster), *back = malloc(cluster);
	ssize_t n;

	assert(from && packed && back);
	for (size_t at = 0; size > 0 && at < cluster; at += size)
		memcpy(from + at, data, MIN(size, cluster - at));
	n = qcow2_codec_encode(c, from, cluster, packed, cluster - 1);
	assert(n >= 0 && (size_t)n < cluster);
	if (n > 0) {
		assert(qcow2_codec_decode(c, packed, (size_t)n, back, cluster) == 0);
		assert(memcmp(from, back, cluster) == 0);
	}
	free(from);
	free(packed);
	free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_codec codec = {0};
	unsigned cluster;
	uint8_t *to;
	int rc;

	if (size < 2)
		return 0;
	codec.type = data[0] & 1;
	cluster = 512u << data[0] / 2 % 8;
	to = malloc(cluster);
	assert(to);
	rc = qcow2_codec_decode(&codec, data + 2, size - 2, to, cluster);
	assert(rc == 0 || rc == -EIO);
	free(to);
	if (data[1] % 8 == 0)
		both_ways(&codec, data + 2, size - 2, cluster);
	qcow2_codec_fini(&codec);
	return 0;
}
