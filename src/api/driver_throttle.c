/* SPDX-License-Identifier: MIT */
/* The driver throttle: I/O limits, given as limits.iops-total and so on. */
#include <errno.h>

#include "api/driver.h"
#include "filter/throttle.h"

static const char *const options[] = {"limits.", "throttle-group", NULL};

static int limit_take(const json_t *of, const char *name, struct throttle_limits *limits, struct err *err)
{
	uint64_t value = 0;
	int ret = options_size(of, name, &value, err);

	if (ret < 0)
		return ret;
	return throttle_set(limits, name, value) < 0 ? err_set(err, -EINVAL, "Invalid parameter 'limits.%s'", name) : 0;
}

static int limits_take(const json_t *tree, struct throttle_limits *limits, struct err *err)
{
	const json_t *of = options_get(tree, "limits");
	const char *name;
	json_t *value;
	int ret = 0;

	if (options_text(tree, "throttle-group")) {
		ret = err_set(err, -EINVAL, "Throttle group '%s' does not exist", options_text(tree, "throttle-group"));
		err_hint(err, "there are no groups: say limits.iops-total and so on");
		return ret;
	}
	json_object_foreach((json_t *)of, name, value) { ret = ret < 0 ? ret : limit_take(of, name, limits, err); }
	return ret < 0 ? ret : throttle_check(limits, err);
}

static int throttle_driver_open(struct co *co, const struct driver_context *context ATTR_UNUSED, const json_t *tree,
	struct node *child, struct node **out, struct err *err)
{
	struct throttle_limits limits = {0};
	struct throttle_group *group;
	int ret = limits_take(tree, &limits, err);

	if (ret < 0)
		return ret;
	group = throttle_group_new(co_sched_of(co), &limits);
	ret = group ? throttle_open(co, child, group, out) : -ENOMEM;
	throttle_group_unref(group);
	return ret < 0 ? err_set(err, ret, "no memory") : 0;
}

const struct driver driver_throttle = {
	.name = "throttle",
	.kind = DRIVER_FILTER,
	.child = "file",
	.options = options,
	.open = throttle_driver_open,
};
