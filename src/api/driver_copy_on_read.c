/* SPDX-License-Identifier: MIT */
/* The driver copy-on-read. */
#include <errno.h>

#include "api/driver.h"
#include "filter/copy_on_read.h"

static int cor_driver_open(struct co *co, const struct driver_context *context, const json_t *tree ATTR_UNUSED,
	struct node *child, struct node **out, struct err *err)
{
	int ret;

	if (!context->write)
		return err_set(err, -EACCES, "copy-on-read needs an image that is open for writing");
	ret = copy_on_read_open(co, child, out);
	return ret < 0 ? err_set(err, ret, "no memory") : 0;
}

const struct driver driver_copy_on_read = {
	.name = "copy-on-read",
	.kind = DRIVER_FILTER,
	.child = "file",
	.open = cor_driver_open,
};
