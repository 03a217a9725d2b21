/* SPDX-License-Identifier: MIT */
/* First clusters of images, as the engine writes them, and a LUKS header. */
#include <assert.h>
#include <string.h>

#include "base/math.h"
#include "crypto/luks.h"
#include "fuzz.h"
#include "qcow2/header.h"

static size_t luks_seed(uint8_t *out)
{
	static const struct crypto_spec spec = {.alg = CRYPTO_AES_256, .mode = CRYPTO_XTS, .ivgen = CRYPTO_PLAIN64};
	struct luks l = {0};

	luks_lay_out(&l, &spec, CRYPTO_SHA256);
	l.iterations = 1000;
	for (unsigned i = 0; i < 2; i++) {
		l.slot[i].active = true;
		l.slot[i].iterations = 1000;
	}
	luks_format(&l, out);
	return LUKS_HEADER_BYTES;
}

size_t fuzz_seed(unsigned number, uint8_t *out, size_t room)
{
	struct qcow2_header h = {
		.version = number & 1 ? 3 : 2,
		.cluster_bits = number & 2 ? 12 : 14,
		.refcount_order = 4,
		.size = MiB,
		.l1_entries = 8,
		.l1.off = 3 * 65536,
		.reftable.off = 65536,
		.reftable_clusters = 1,
	};
	struct err err;

	if (number == 16)
		return luks_seed(out);
	if (number > 16)
		return 0;
	strcpy(h.backing_name, number & 4 ? "base.img" : "");
	strcpy(h.backing_format, number & 4 ? "raw" : "");
	if (number & 8 && h.version == 3) {
		h.bitmaps = 2;
		h.bitmap_directory.off = 4 * 65536;
		h.bitmap_directory_bytes = 64;
		h.autoclear = QCOW2_AUTOCLEAR_BITMAPS;
		h.incompatible = QCOW2_INCOMPAT_DATA_FILE;
		strcpy(h.data_file, "data.raw");
		h.crypt_method = QCOW2_CRYPT_LUKS;
		h.crypto.off = 5 * 65536;
		h.crypto_bytes = 65536;
	}
	assert(room >= (size_t)1 << h.cluster_bits);
	assert(qcow2_header_format(&h, out, (size_t)1 << h.cluster_bits, &err) == 0);
	return (size_t)1 << h.cluster_bits;
}
