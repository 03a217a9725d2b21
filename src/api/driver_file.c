/* SPDX-License-Identifier: MIT */
/* The drivers file and host_device: a file of this host. */
#include <errno.h>
#include <string.h>

#include "api/driver.h"
#include "file/file.h"

static const char *const options[] = {
	"filename", "locking", "aio", "aio-max-batch", "drop-cache", "pr-manager", "x-check-cache-dropped", NULL};

/* "file:x" is x; "host_device:x" the same. */
static int name_parse(const char *name, json_t *tree, struct err *err)
{
	if (options_set(tree, "filename", json_string_nocheck(strchr(name, ':') + 1)) < 0)
		return err_set(err, -ENOMEM, "no memory");
	return 0;
}

/* locking=on is what is done anyway. */
static int locking_take(const json_t *tree, bool *no_lock, struct err *err)
{
	const char *mode = options_text(tree, "locking");

	if (!mode || strcmp(mode, "auto") == 0 || strcmp(mode, "on") == 0)
		return 0;
	if (strcmp(mode, "off") != 0)
		return err_set(err, -EINVAL, "invalid parameter value: %s", mode);
	*no_lock = true;
	return 0;
}

static int storage_open(struct co *co, const struct driver_context *context, const json_t *tree, struct node **out,
	const char *driver, struct err *err)
{
	struct file_open open = {
		.path = options_text(tree, "filename"),
		.beneath = context->beneath,
		.shown = context->shown,
		.write = context->write,
		.direct = context->direct,
		.no_flush = context->no_flush,
		.no_lock = context->no_lock,
	};
	int ret = locking_take(tree, &open.no_lock, err);

	if (ret == 0 && (!open.path || !open.path[0]))
		ret = err_set(err, -EINVAL, "The '%s' block driver requires a file name", driver);
	return ret < 0 ? ret : file_open(co, &open, out, err);
}

static int file_driver_open(struct co *co, const struct driver_context *context, const json_t *tree,
	struct node *child ATTR_UNUSED, struct node **out, struct err *err)
{
	return storage_open(co, context, tree, out, "file", err);
}

static int device_open(struct co *co, const struct driver_context *context, const json_t *tree,
	struct node *child ATTR_UNUSED, struct node **out, struct err *err)
{
	int ret = storage_open(co, context, tree, out, "host_device", err);

	if (ret < 0 || !file_info(*out)->regular)
		return ret;
	(void)!node_close(co, *out);
	return err_set(err, -EINVAL, "'host_device' driver requires '%s' to be either a character or block device",
		options_text(tree, "filename"));
}

static const char *const file_protocols[] = {"file", NULL};
static const char *const device_protocols[] = {"host_device", NULL};

const struct driver driver_file = {
	.name = "file",
	.kind = DRIVER_PROTOCOL,
	.options = options,
	.protocols = file_protocols,
	.parse = name_parse,
	.open = file_driver_open,
};

const struct driver driver_host_device = {
	.name = "host_device",
	.kind = DRIVER_PROTOCOL,
	.options = options,
	.protocols = device_protocols,
	.parse = name_parse,
	.open = device_open,
};
