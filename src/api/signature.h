/* SPDX-License-Identifier: MIT */
/* What kind of file something is, by its first bytes: for those who must know before they open it as anything. */
#ifndef CORRAL_API_SIGNATURE_H
#define CORRAL_API_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "co/co.h"

struct node;

struct signature {
	const char *format; /* "qcow2", "vmdk", ...; "raw": none is known */
	bool refers;        /* files of this format may refer to others */
	const char *layout; /* of raw: "mbr", "gpt", "iso9660", or NULL */
};

/* Pure: the first len bytes of a file. 33 KiB are enough for all of them. */
#define SIGNATURE_BYTES (33u << 10)
void signature_parse(const void *bytes, size_t len, struct signature *out);
/* Negative errno: the file can't be read. */
int signature_read(struct co *co, struct node *file, struct signature *out) ATTR_MUST_USE;

#endif
