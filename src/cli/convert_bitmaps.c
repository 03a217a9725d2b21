/* SPDX-License-Identifier: MIT */
/* corral convert --bitmaps: the source's persistent dirty bitmaps, in qemu-img's words. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/convert.h"

static int list(struct co *co, struct convert *c, struct node *n, struct qcow2_bitmap_status **all, unsigned *count)
{
	return qcow2_bitmap_list(co, n, all, count, &c->err) < 0 ? cli_complain("%s", c->err.text) : 0;
}

int convert_bitmaps_check(struct co *co, struct convert *c, struct node *from)
{
	AUTO_FREE struct qcow2_bitmap_status *all = NULL;
	unsigned n = 0;
	int status;

	if (!node_is_qcow2(from))
		return cli_complain("Source lacks bitmap support");
	status = list(co, c, from, &all, &n);
	for (unsigned i = 0; !status && i < n && !c->skip_broken_bitmaps; i++) {
		if (!all[i].usable)
			status = cli_complain("Cannot copy inconsistent bitmap '%s'\n"
					      "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove'",
				all[i].name);
	}
	return status;
}

/* It is enabled last: what has been written to the target so far is no change of the disk. */
static int copy_one(
	struct co *co, struct convert *c, struct node *from, struct node *to, const struct qcow2_bitmap_status *b)
{
	int ret = qcow2_bitmap_add(co, to, b->name, b->granularity, false, &c->err);

	if (ret < 0)
		return cli_complain("Failed to create bitmap %s: %s", b->name, c->err.text);
	ret = qcow2_bitmap_merge(co, to, b->name, from, b->name, &c->err);
	if (ret == 0 && b->enabled)
		ret = qcow2_bitmap_enable(co, to, b->name, true, &c->err);
	return ret < 0 ? cli_complain("Failed to populate bitmap %s: %s", b->name, c->err.text) : 0;
}

/* Of a disk of another size none fits. */
static int sizes_check(struct node *from, struct node *to, const struct qcow2_bitmap_status *all, unsigned n)
{
	const struct qcow2_bitmap_status *b = NULL;

	for (unsigned i = 0; i < n; i++)
		b = all[i].usable ? &all[i] : b;
	if (!b || from->size == to->size)
		return 0;
	return cli_complain("Failed to populate bitmap %s: Bitmaps are of different sizes (destination size is %" PRIu64
			    ", source size is %" PRIu64 ") and can't be merged",
		b->name, to->size, from->size);
}

int convert_bitmaps_copy(struct co *co, struct convert *c, struct node *from, struct node *to)
{
	AUTO_FREE struct qcow2_bitmap_status *all = NULL;
	unsigned n = 0;
	int status = list(co, c, from, &all, &n);

	if (!status)
		status = sizes_check(from, to, all, n);
	for (unsigned i = 0; !status && i < n; i++) {
		if (all[i].usable)
			status = copy_one(co, c, from, to, &all[i]);
		else
			fprintf(stderr, "corral: warning: Skipping inconsistent bitmap '%s'\n", all[i].name);
	}
	return status;
}
