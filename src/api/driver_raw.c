/* SPDX-License-Identifier: MIT */
/* The driver raw: all of its child, or a window of it; guarded where nobody has said that it is raw. */
#include "api/driver.h"
#include "filter/filter.h"

static const char *const options[] = {"offset", "size", NULL};

static int raw_driver_open(struct co *co, const struct driver_context *context, const json_t *tree, struct node *child,
	struct node **out, struct err *err)
{
	struct raw_window window = {.size = RAW_ALL, .guarded = context->probed && context->write};
	int ret = options_size(tree, "offset", &window.off, err);

	if (ret == 0)
		ret = options_size(tree, "size", &window.size, err);
	if (ret < 0)
		return ret;
	if (window.off == 0 && window.size == RAW_ALL && !window.guarded && !child->ops->event) {
		*out = child;
		return 0;
	}
	return raw_open(co, child, &window, out, err);
}

const struct driver driver_raw = {
	.name = "raw",
	.kind = DRIVER_FORMAT,
	.child = "file",
	.options = options,
	.open = raw_driver_open,
};
