/* SPDX-License-Identifier: MIT */
/*
 * The check: every reference in the image is counted, then the counts are held against the refcounts. It reads the file
 * with its own eyes (nothing is shared with the engine but the header's parser), so that it can find the engine's mistakes
 * too. Lines and totals are those of qemu-img check, but for clusters that serve two purposes, which it doesn't see.
 */
#include "qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/repair.h"

#define PROGRESS_STEPS 1000 /* how often it is told, at most */

void qcow2_check_found(struct qcow2_checker *c, uint64_t *total, const char *format, ...)
{
	char text[ERR_TEXT_BYTES + 64];
	va_list args;

	if (total)
		++*total;
	if (!c->how->say || c->silent)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	c->how->say(c->how->arg, text);
}

int qcow2_check_step(struct qcow2_checker *c, uint64_t clusters)
{
	uint64_t step = c->all / PROGRESS_STEPS + 1, before = c->done / step;

	c->done = MIN(c->done + clusters, c->all);
	if (!c->how->progress || c->done / step == before)
		return 0;
	return c->how->progress(c->how->arg, c->done, c->all) ? 0 : -ECANCELED;
}

/* ---- all of it ---- */

int qcow2_checker_init(struct qcow2_checker *c, struct err *err)
{
	int ret;

	c->cluster_bytes = UINT64_C(1) << c->header.cluster_bits;
	c->dangling = UINT64_MAX;
	c->incomplete = c->unsure = c->rebuild = c->copied_wrong = false;
	c->low = c->high = c->mixed = c->fixable_entries = c->done = 0;
	c->bad_snapshots = 0;
	*c->out = (struct qcow2_check){.total_clusters = div_round_up(c->header.size, c->cluster_bytes)};
	ret = qcow2_counts_init(c, err);
	if (ret == 0)
		ret = qcow2_check_refcounts_init(c, err);
	/* The guest's clusters once; each snapshot's may be fewer or more; then the file's. */
	c->all = c->out->total_clusters * (1 + c->header.snapshots) + c->counts.clusters;
	return ret;
}

void qcow2_checker_fini(struct qcow2_checker *c)
{
	qcow2_check_refcounts_fini(c);
	qcow2_counts_fini(c);
}

int qcow2_check_count_all(struct co *co, struct qcow2_checker *c)
{
	int ret = qcow2_counts_add(c, 0, c->cluster_bytes, QCOW2_ROLE_HEADER, 0);

	if (ret == 0)
		ret = qcow2_check_l1(co, c, c->header.l1, c->header.l1_entries, true);
	if (ret == 0)
		ret = qcow2_check_snapshots(co, c);
	if (ret == 0)
		ret = qcow2_check_reftable(co, c);
	if (ret == 0)
		ret = qcow2_counts_add(c, c->header.crypto.off, c->header.crypto_bytes, QCOW2_ROLE_OTHER, 0);
	if (ret == 0)
		ret = qcow2_check_bitmaps(co, c);
	if (ret == 0)
		ret = qcow2_check_blocks(c);
	return ret == 0 ? qcow2_check_compare(co, c) : ret;
}

static int check(struct co *co, struct qcow2_checker *c, struct err *err)
{
	int ret = qcow2_checker_init(c, err);

	if (ret == 0) {
		ret = qcow2_check_count_all(co, c);
		if (ret == 0)
			ret = qcow2_check_copied(co, c);
		if (ret < 0)
			err_set(err, ret, "the check had to be given up: %s", strerror(-ret));
	}
	qcow2_checker_fini(c);
	return ret;
}

int qcow2_check_image(
	struct co *co, struct node *file, const struct qcow2_check_how *how, struct qcow2_check *out, struct err *err)
{
	AUTO_FREE struct qcow2_checker *c = calloc(1, sizeof(*c));
	int ret;

	*out = (struct qcow2_check){0};
	if (!c)
		return err_set(err, -ENOMEM, "no memory for the check");
	c->file = file;
	c->how = how;
	c->out = out;
	ret = qcow2_header_load_damaged(co, file, QCOW2_INCOMPAT_KNOWN, &c->header, err);
	if (ret < 0)
		return ret;
	return how->fix ? qcow2_repair(co, c, err) : check(co, c, err);
}

int qcow2_check_run(
	struct co *co, struct node *file, qcow2_say *say, void *arg, struct qcow2_check *out, struct err *err)
{
	return qcow2_check_image(co, file, &(struct qcow2_check_how){.say = say, .arg = arg}, out, err);
}
