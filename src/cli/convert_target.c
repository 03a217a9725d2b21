/* SPDX-License-Identifier: MIT */
/* The target of corral convert: made or found, opened, and flushed at the end. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/math.h"
#include "cli/convert.h"
#include "file/file.h"

#define TARGET_CACHE_BYTES (UINT64_C(4) << 20) /* of L2 tables: a copy needs each for a while, and then no more */

/* A block device isn't made; raw data goes to it as it is. */
static int target_is_device(struct co *co, const struct convert *c, bool *device)
{
	struct file_open how = {.path = c->target, .no_lock = true};
	struct node *file;
	struct err err;
	int ret = strcmp(c->format, "raw") == 0 ? file_open(co, &how, &file, &err) : -ENOENT;

	*device = ret == 0 && !file_info(file)->regular;
	return ret == 0 ? node_close(co, file) : 0;
}

int convert_target_make(struct co *co, struct convert *c, uint64_t size, struct convert_target *t)
{
	bool device = false;
	int ret = c->skip_create ? 0 : target_is_device(co, c, &device);

	t->made = !c->skip_create && !device;
	if (ret == 0 && t->made) {
		c->create.size = size;
		ret = create_run(co, &c->create, &c->err);
	}
	return ret < 0 ? cli_complain("%s: error while converting %s: %s", c->target, c->format, c->err.text) : 0;
}

int convert_target_open(struct co *co, struct convert *c, struct convert_target *t)
{
	const struct qcow2_create_luks *luks = c->create.how.luks;
	struct image_open how = {
		.path = c->target,
		.format = c->format,
		.write = true,
		.cache = c->cache_given ? c->cache
			: t->made       ? IMAGE_UNSAFE
					: IMAGE_WRITEBACK,
		.qcow2.l2_cache_bytes = TARGET_CACHE_BYTES,
		.qcow2.keep_leaks = t->made,
	};
	int ret;

	cli_allow_use(&c->allow, &how);
	if (t->made && c->create.backing)
		how.allow_all = !how.allow_none; /* it was named on the command line */
	if (luks) {
		how.secrets = &luks->secret;
		how.secrets_n = 1;
	} else if (cli_secret_use(&c->create.secrets, "convert", &how) < 0) {
		return 1;
	}
	t->flush_late = t->made && !c->cache_given;
	ret = image_open(co, &how, &t->node, &c->err);
	return ret < 0 ? cli_complain("%s", c->err.text) : 0;
}

int convert_target_fits(const struct convert *c, const struct node *to, uint64_t size)
{
	if (to->size < size && c->skip_create)
		return cli_complain("output file is smaller than input file");
	if (to->size < size)
		return cli_complain(
			"'%s' has %" PRIu64 " bytes, of %" PRIu64 " that are needed", c->target, to->size, size);
	if (c->bitmaps && !node_is_qcow2(to))
		return cli_complain("Format driver '%s' does not support bitmaps", c->format);
	if (c->compressed && !to->ops->compress)
		return cli_complain("Compression not supported for this file format");
	return 0;
}

static void honour_flush(struct node *n)
{
	for (; n; n = node_is_file(n) ? NULL : n->file) {
		if (n->data && node_is_file(n->data))
			file_honour_flush(n->data);
		if (node_is_file(n))
			file_honour_flush(n);
	}
}

int convert_target_close(struct co *co, const struct convert *c, struct convert_target *t, int status)
{
	int ret, closed;

	if (t->flush_late && !status)
		honour_flush(t->node);
	ret = status ? 0 : node_flush(co, t->node);
	closed = node_close(co, t->node);
	ret = ret ? ret : closed;
	if (ret < 0 && !status)
		return cli_complain("'%s': what was written may not be on disk: %s", c->target, strerror(-ret));
	return status;
}
