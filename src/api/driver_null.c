/* SPDX-License-Identifier: MIT */
/* The driver null-co: storage that keeps nothing. Reads give zeros unless it is told otherwise. */
#include <errno.h>

#include "api/driver.h"
#include "filter/null.h"

static const char *const options[] = {"size", "latency-ns", "read-zeroes", "filename", NULL};
static const char *const protocols[] = {"null-co", NULL};

/* "null-co://" says nothing more. */
static int name_parse(const char *name ATTR_UNUSED, json_t *tree ATTR_UNUSED, struct err *err ATTR_UNUSED) { return 0; }

static int null_driver_open(struct co *co, const struct driver_context *context, const json_t *tree,
	struct node *child ATTR_UNUSED, struct node **out, struct err *err)
{
	struct null_open open = {.size = NULL_BYTES};
	bool zeroes = true;
	int ret = options_size(tree, "size", &open.size, err);

	if (ret == 0)
		ret = options_size(tree, "latency-ns", &open.latency_ns, err);
	if (ret == 0)
		ret = options_bool(tree, "read-zeroes", &zeroes, err);
	if (ret < 0)
		return ret;
	open.unread = !zeroes;
	ret = null_open(co, &open, out);
	if (ret < 0)
		return err_set(err, ret, "no memory");
	(*out)->read_only = !context->write;
	return 0;
}

const struct driver driver_null = {
	.name = "null-co",
	.kind = DRIVER_PROTOCOL,
	.options = options,
	.protocols = protocols,
	.parse = name_parse,
	.open = null_driver_open,
};
