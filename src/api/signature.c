/* SPDX-License-Identifier: MIT */
/*
 * Magic numbers, from the specifications of the formats. A file can be several things at once (that is the point of an
 * attack), so formats that refer to other files come first.
 */
#include "api/signature.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "node/node.h"

struct magic {
	const char *format;
	bool refers;
	size_t at;
	const char *bytes;
	size_t len;
};

#define MAGIC(format, refers, at, bytes)                                                                               \
	{                                                                                                              \
		format, refers, at, bytes, sizeof(bytes) - 1                                                           \
	}

static const struct magic magics[] = {
	MAGIC("qcow", true, 0, "QFI\xfb\0\0\0\1"),
	MAGIC("qcow2", true, 0, "QFI\xfb"),
	MAGIC("qed", true, 0, "QED\0"),
	MAGIC("vmdk", true, 0, "KDMV"),
	MAGIC("vmdk", true, 0, "COWD"),
	MAGIC("vmdk", true, 0, "# Disk DescriptorFile"),
	MAGIC("vhdx", true, 0, "vhdxfile"),
	MAGIC("vpc", true, 0, "conectix"),
	MAGIC("vdi", true, 64, "\x7f\x10\xda\xbe"),
	MAGIC("parallels", true, 0, "WithoutFreeSpace"),
	MAGIC("parallels", true, 0, "WithouFreSpacExt"),
	MAGIC("luks", false, 0, "LUKS\xba\xbe"),
};

static bool has(const void *bytes, size_t len, size_t at, const char *magic, size_t magic_len)
{
	return at + magic_len <= len && memcmp((const char *)bytes + at, magic, magic_len) == 0;
}

/* Of a disk as it is: they may be there together, and say nothing of other files. */
static const char *layout_of(const void *bytes, size_t len)
{
	if (has(bytes, len, 512, "EFI PART", 8))
		return "gpt";
	if (has(bytes, len, 32769, "CD001", 5))
		return "iso9660";
	return has(bytes, len, 510, "\x55\xaa", 2) ? "mbr" : NULL;
}

void signature_parse(const void *bytes, size_t len, struct signature *out)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(magics); i++) {
		const struct magic *m = &magics[i];

		if (has(bytes, len, m->at, m->bytes, m->len)) {
			*out = (struct signature){.format = m->format, .refers = m->refers};
			return;
		}
	}
	*out = (struct signature){.format = "raw", .layout = layout_of(bytes, len)};
}

int signature_read(struct co *co, struct node *file, struct signature *out)
{
	size_t len = MIN(file->size, (uint64_t)SIGNATURE_BYTES);
	AUTO_FREE void *bytes = malloc(SIGNATURE_BYTES);
	int rc = bytes ? node_read(co, file, 0, IOV_BUF(bytes, len)) : -ENOMEM;

	if (rc == 0)
		signature_parse(bytes, len, out);
	return rc;
}
