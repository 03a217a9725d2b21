/* SPDX-License-Identifier: MIT */
/* What `corral info` says about an image: gathered as JSON of qemu-img's schema, printed as that or for people. */
#ifndef CORRAL_CLI_DESCRIBE_H
#define CORRAL_CLI_DESCRIBE_H

#include <jansson.h>

#include "node/node.h"
#include "qcow2/qcow2.h"

/*
 * filename: what to call it. n: what it lies in, if it is qcow2, whose header is then given; else itself, opened by the
 * driver. Returns a new object; NULL: it can't be read, or no memory, explained.
 */
json_t *describe_image(struct co *co, const char *filename, struct node *n, const char *driver,
	const struct qcow2_header *header, struct err *err);
/* The snapshots alone: a new array. */
int describe_snapshots(struct co *co, struct node *file, const struct qcow2_header *h, json_t **out, struct err *err)
	ATTR_MUST_USE;
void describe_snapshots_print(const json_t *snapshots);
/* describe_luks.c: adds what is known of an image's encryption, if it is encrypted, to `data`. */
int describe_encryption(struct co *co, json_t *data, struct node *file, const struct qcow2_header *h, struct err *err)
	ATTR_MUST_USE;
/* As qemu-img info prints it. */
void describe_print(const json_t *image);
void describe_specific_print(const json_t *image); /* of it, what only its format has */

/* A string of outside origin: what isn't UTF-8 is replaced. */
json_t *describe_text(const char *text);

#endif
