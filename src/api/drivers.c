/* SPDX-License-Identifier: MIT */
/* The table of drivers, and what is looked up in it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/driver.h"

/* In alphabetical order. */
static const struct driver *const drivers[] = {
	&driver_blkdebug,
	&driver_copy_on_read,
	&driver_file,
	&driver_host_device,
	&driver_nbd,
	&driver_null,
	&driver_qcow2,
	&driver_raw,
	&driver_throttle,
};

/* What all of them take; image.c makes the context of it. */
static const char *const common_options[] = {"driver", "node-name", "read-only", "auto-read-only", "cache.direct",
	"cache.no-flush", "force-share", "discard", "detect-zeroes", NULL};

const struct driver *driver_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(drivers); i++) {
		if (strcmp(drivers[i]->name, name) == 0)
			return drivers[i];
	}
	return NULL;
}

const char *driver_name(unsigned i) { return i < ARRAY_ENTRIES(drivers) ? drivers[i]->name : NULL; }

static bool has_protocol(const struct driver *driver, const char *name, size_t len)
{
	for (const char *const *p = driver->protocols; p && *p; p++) {
		if (strlen(*p) == len && memcmp(*p, name, len) == 0)
			return true;
	}
	return false;
}

const struct driver *driver_of_protocol(const char *name, size_t len)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(drivers); i++) {
		if (has_protocol(drivers[i], name, len))
			return drivers[i];
	}
	return NULL;
}

/* ---- what a driver takes ---- */

static bool listed(const char *const *list, const char *name)
{
	for (; list && *list; list++) {
		size_t len = strlen(*list);

		if ((*list)[len - 1] == '.' ? strncmp(*list, name, len) == 0 : strcmp(*list, name) == 0)
			return true;
	}
	return false;
}

static int name_check(const struct driver *driver, bool format, const char *name, struct err *err)
{
	if (listed(common_options, name) || listed(driver->options, name))
		return 0;
	return format
		? err_set(err, -EINVAL, "Block format '%s' does not support the option '%s'", driver->name, name)
		: err_set(err, -EINVAL, "Block protocol '%s' doesn't support the option '%s'", driver->name, name);
}

static int member_check(const struct driver *driver, bool format, const char *key, const json_t *value, struct err *err)
{
	const char *below;
	json_t *child;
	int ret = 0;

	if (json_is_null(value) || (driver->child && json_is_object(value) && strcmp(key, driver->child) == 0))
		return 0;
	if (!json_is_object(value))
		return name_check(driver, format, key, err);
	json_object_foreach((json_t *)value, below, child)
	{
		char name[128];

		snprintf(name, sizeof(name), "%s.%s", key, below);
		ret = ret < 0 ? ret : name_check(driver, format, name, err);
	}
	return ret;
}

int driver_options_check(const struct driver *driver, bool format, const json_t *options, struct err *err)
{
	const char *key;
	json_t *value;
	int ret = 0;

	json_object_foreach((json_t *)options, key, value)
	{
		ret = ret < 0 ? ret : member_check(driver, format, key, value, err);
	}
	return ret;
}
