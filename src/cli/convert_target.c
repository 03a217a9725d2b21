/* SPDX-License-Identifier: MIT */
/* The target of corral convert: made or found, opened, and flushed at the end. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/math.h"
#include "cli/convert.h"

#define TARGET_CACHE_BYTES (UINT64_C(4) << 20) /* of L2 tables: a copy needs each for a while, and then no more */

int convert_target_make(struct co *co, struct convert *c, uint64_t size, struct convert_target *t)
{
	int ret = 0;

	if (!c->skip_create) {
		c->create.size = size;
		ret = create_run(co, &c->create, &c->err);
	}
	t->made = !c->skip_create;
	t->blank = t->made && !(c->create.raw && c->create.fixed);
	if (ret == 0)
		return 0;
	if (cli_is_qemu())
		err_hint_cut(&c->err);
	return c->common.command[0] == 'd'
		? cli_complain("%s: error while creating output image: %s", c->target, c->err.text)
		: cli_complain("%s: error while converting %s: %s", c->target, c->create.format, c->err.text);
}

/*
 * What a crash would leave of an image that is made here is of no use anyway: so no order is kept in it, and by default
 * nothing is flushed, as with qemu-img. One that was there before is written as any image is.
 */
int convert_target_open(struct co *co, struct convert *c, struct convert_target *t)
{
	const struct qcow2_create_luks *luks = c->create.how.luks;
	struct cli_image *image = &c->image;

	image->how.path = c->target;
	image->how.format = c->format;
	image->how.write = true;
	image->how.cache = t->blank ? IMAGE_UNSAFE : IMAGE_WRITEBACK;
	image->how.qcow2.l2_cache_bytes = TARGET_CACHE_BYTES;
	image->how.qcow2.keep_leaks = t->made;
	image->trusted = t->made && c->create.backing;
	image->secret = t->made && luks ? &luks->secret : NULL;
	return cli_image_open(co, &c->common, image, &t->node);
}

int convert_target_fits(const struct convert *c, const struct node *to, uint64_t size)
{
	if (to->size < size && c->skip_create)
		return cli_complain("output file is smaller than input file");
	if (to->size < size)
		return cli_complain(
			"'%s' has %" PRIu64 " bytes, of %" PRIu64 " that are needed", c->target, to->size, size);
	if (c->bitmaps && (!node_is_qcow2(to) || qcow2_node_header(to)->version < 3))
		return cli_complain("Format driver '%s' does not support bitmaps", c->create.format);
	if (c->compressed && !to->ops->compress)
		return cli_complain("Compression not supported for this file format");
	return 0;
}

int convert_target_close(struct co *co, const struct convert *c, struct convert_target *t, int status)
{
	int ret, closed;

	ret = status ? 0 : node_flush(co, t->node);
	closed = node_close(co, t->node);
	ret = ret ? ret : closed;
	if (ret < 0 && !status)
		return cli_complain("'%s': what was written may not be on disk: %s", c->target, strerror(-ret));
	return status;
}
