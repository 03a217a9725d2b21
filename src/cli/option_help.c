/* SPDX-License-Identifier: MIT */
/* The table of options. Scripts look into it for what they may ask for, so it has qemu-img's form. */
#include "cli/option_help.h"

#include <string.h>

#include "base/attr.h"

#define QCOW2 (1u << 0)
#define RAW (1u << 1)
#define FILE_BELOW (1u << 2)

struct option_row {
	unsigned of;
	const char *name, *type, *about;
};

static const struct option_row rows[] = {
	{QCOW2, "backing_file", "str", "File name of a base image"},
	{QCOW2, "backing_fmt", "str", "Image format of the base image"},
	{QCOW2, "cluster_size", "size", "qcow2 cluster size"},
	{QCOW2, "compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])"},
	{QCOW2, "compression_type", "str", "Compression method used for image cluster compression"},
	{QCOW2, "data_file", "str", "File name of an external data file"},
	{QCOW2, "data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image"},
	{QCOW2, "encrypt.cipher-alg", "str", "Name of encryption cipher algorithm"},
	{QCOW2, "encrypt.cipher-mode", "str", "Name of encryption cipher mode"},
	{QCOW2, "encrypt.format", "str", "Encrypt the image, format choices: 'aes', 'luks'"},
	{QCOW2, "encrypt.hash-alg", "str", "Name of encryption hash algorithm"},
	{QCOW2, "encrypt.iter-time", "num", "Time to spend in PBKDF in milliseconds"},
	{QCOW2, "encrypt.ivgen-alg", "str", "Name of IV generator algorithm"},
	{QCOW2, "encrypt.ivgen-hash-alg", "str", "Name of IV generator hash algorithm"},
	{QCOW2, "encrypt.key-secret", "str", "ID of secret providing qcow AES key or LUKS passphrase"},
	{QCOW2, "encryption", "bool (on/off)",
		"Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"},
	{QCOW2, "extended_l2", "bool (on/off)", "Extended L2 tables"},
	{FILE_BELOW, "extent_size_hint", "size", "Extent size hint for the image file, 0 to disable"},
	{QCOW2, "lazy_refcounts", "bool (on/off)", "Postpone refcount updates"},
	{FILE_BELOW, "nocow", "bool (on/off)", "Turn off copy-on-write (valid only on btrfs)"},
	{QCOW2, "preallocation", "str", "Preallocation mode (allowed values: off, metadata, falloc, full)"},
	{FILE_BELOW, "preallocation", "str", "Preallocation mode (allowed values: off, falloc, full)"},
	{QCOW2, "refcount_bits", "num", "Width of a reference count entry in bits"},
	{QCOW2 | RAW, "size", "size", "Virtual disk size"},
};

static void row_print(FILE *to, const struct option_row *row)
{
	int n = fprintf(to, "  %s=<%s>", row->name, row->type);

	fprintf(to, "%*s - %s\n", n < 24 ? 24 - n : 0, "", row->about);
}

void option_help_print(FILE *to, const char *format, bool with_file)
{
	unsigned own = strcmp(format, "qcow2") == 0 ? QCOW2 : RAW;
	bool preallocation = false;

	if (with_file)
		fputs("Supported options:\n", to);
	else
		fprintf(to, "Supported %s options:\n", format);
	for (unsigned i = 0; i < ARRAY_ENTRIES(rows); i++) {
		bool twice = preallocation && strcmp(rows[i].name, "preallocation") == 0;

		if (!(rows[i].of & (own | (with_file ? FILE_BELOW : 0))) || twice)
			continue;
		preallocation |= strcmp(rows[i].name, "preallocation") == 0;
		row_print(to, &rows[i]);
	}
	if (!with_file)
		fputs("\nThe protocol level may support further options.\n"
		      "Specify the target filename to include those options.\n",
			to);
}
