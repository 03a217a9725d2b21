/* SPDX-License-Identifier: MIT */
/* The driver blkdebug: limits and rules, from options and from a file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/driver.h"
#include "base/cleanup.h"
#include "filter/blkdebug.h"
#include "io/io.h"

#define CONFIG_BYTES 65536u

static const char *const options[] = {"config", "align", "max-transfer", "opt-write-zero", "max-write-zero",
	"opt-discard", "max-discard", "inject-error.", "set-state.", "take-child-perms.", "unshare-child-perms.", NULL};
static const char *const protocols[] = {"blkdebug", NULL};

/* "blkdebug:CONFIG:IMAGE"; an empty CONFIG is none. */
static int name_parse(const char *name, json_t *tree, struct err *err)
{
	const char *config = strchr(name, ':') + 1, *colon = strchr(config, ':');
	json_t *image;
	int ret;

	if (!colon)
		return err_set(err, -EINVAL, "blkdebug requires both config file and image path");
	if (colon > config && options_set(tree, "config", json_stringn_nocheck(config, (size_t)(colon - config))) < 0)
		return err_set(err, -ENOMEM, "no memory");
	ret = options_of_name(colon + 1, &image, err);
	if (ret == 0 && options_set(tree, "image", image) < 0)
		ret = err_set(err, -ENOMEM, "no memory");
	return ret;
}

/* ---- the file ---- */

static int text_read(struct co *co, struct io_file *f, char **text)
{
	uint64_t bytes = io_file_info(f)->size;

	if (bytes >= CONFIG_BYTES)
		return -EFBIG;
	*text = calloc(1, bytes + 1);
	return *text ? io_file_read(co, f, 0, IOV_BUF(*text, bytes)) : -ENOMEM;
}

static int file_take(struct co *co, const char *path, struct blkdebug_config *config, struct err *err)
{
	AUTO_FREE char *text = NULL;
	struct io_open open = {.path = path};
	struct io_file *f;
	int ret = io_file_open(co, &open, &f, NULL);

	if (ret == 0) {
		ret = text_read(co, f, &text);
		io_file_close(co, f);
	}
	if (ret < 0)
		return err_set(err, ret, "Could not read blkdebug config file: %s", strerror(-ret));
	ret = blkdebug_config_text(config, text, err);
	if (ret < 0)
		err_prefix(err, "Could not parse blkdebug config file");
	return ret;
}

/* ---- options ---- */

static int leaf_take(struct blkdebug_config *config, const char *name, const json_t *value, struct err *err)
{
	char number[32];
	const char *text = json_string_value(value);
	int ret;

	if (json_is_boolean(value))
		text = json_is_true(value) ? "on" : "off";
	if (json_is_integer(value)) {
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		text = number;
	}
	ret = text ? blkdebug_config_set(config, name, text, err) : -ENOENT;
	return ret == -ENOENT ? err_set(err, -EINVAL, "Invalid parameter '%s'", name) : ret;
}

/* rules: {"0": {"event": ...}, ...} */
static int rules_take(struct blkdebug_config *config, const char *action, const json_t *rules, struct err *err)
{
	const char *number, *key;
	json_t *rule, *value;
	int ret = 0;

	json_object_foreach((json_t *)rules, number, rule)
	{
		json_object_foreach(rule, key, value)
		{
			char name[128];

			snprintf(name, sizeof(name), "%s.%s.%s", action, number, key);
			ret = ret < 0 ? ret : leaf_take(config, name, value, err);
		}
	}
	return ret;
}

static int limits_take(struct blkdebug_config *config, const json_t *tree, struct err *err)
{
	int ret = 0;

	for (const char *const *name = options + 1; ret == 0 && (*name)[strlen(*name) - 1] != '.'; name++) {
		const json_t *value = options_get(tree, *name);

		if (value)
			ret = leaf_take(config, *name, value, err);
	}
	return ret;
}

static int config_take(struct co *co, const json_t *tree, struct blkdebug_config *config, struct err *err)
{
	const char *path = options_text(tree, "config");
	int ret = path ? file_take(co, path, config, err) : 0;

	if (ret == 0)
		ret = limits_take(config, tree, err);
	if (ret == 0)
		ret = rules_take(config, "inject-error", options_get(tree, "inject-error"), err);
	if (ret == 0)
		ret = rules_take(config, "set-state", options_get(tree, "set-state"), err);
	return ret;
}

static int blkdebug_driver_open(struct co *co, const struct driver_context *context ATTR_UNUSED, const json_t *tree,
	struct node *child, struct node **out, struct err *err)
{
	struct blkdebug_config config;
	int ret;

	blkdebug_config_init(&config);
	ret = config_take(co, tree, &config, err);
	if (ret == 0)
		ret = blkdebug_open(co, child, &config, out, err);
	blkdebug_config_fini(&config);
	return ret;
}

const struct driver driver_blkdebug = {
	.name = "blkdebug",
	.kind = DRIVER_FILTER,
	.child = "image",
	.options = options,
	.protocols = protocols,
	.parse = name_parse,
	.open = blkdebug_driver_open,
};
