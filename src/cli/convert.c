/* SPDX-License-Identifier: MIT */
/*
 * corral convert. The sources are opened before the target is touched; the target is made and filled by the copy engine
 * (job/copy.h). How it is written, and when it is flushed, is in convert_target.c.
 */
#include "cli/convert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "filter/concat.h"

#define SECTOR 512u

/* ---- the sources ---- */

static int source_open(struct co *co, struct convert *c, const char *path, struct node **out)
{
	c->source.how.path = path;
	return cli_source_open(co, &c->common, &c->as_it_was, &c->source, out);
}

static int sources_join(struct co *co, struct convert *c, struct node **parts, struct node **out)
{
	int ret = 0;

	if (c->sources_n == 1)
		*out = parts[0];
	else
		ret = concat_open(co, parts, c->sources_n, out);
	return ret < 0 ? cli_complain("the sources can't be put together: %s", strerror(-ret)) : 0;
}

static int sources_open(struct co *co, struct convert *c, struct node **out)
{
	AUTO_FREE struct node **parts = calloc(c->sources_n, sizeof(struct node *));
	unsigned n = 0;
	int status = parts ? 0 : cli_complain("no memory");

	for (; !status && n < c->sources_n; n++)
		status = source_open(co, c, c->sources[n], &parts[n]);
	if (!status)
		status = sources_join(co, c, parts, out);
	for (unsigned i = 0; status && i < n && parts; i++)
		(void)!node_close(co, parts[i]);
	return status;
}

/* ---- the copy ---- */

int convert_complain(struct convert *c)
{
	if (cli_is_qemu())
		err_hint_cut(&c->err);
	return cli_complain("%s", c->err.text);
}

struct convert_run {
	struct convert *c;
	struct progress progress;
};

static bool show(void *arg, uint64_t done, uint64_t all)
{
	struct convert_run *run = arg;

	progress_show(&run->progress, done, all);
	return true;
}

static void unreadable(void *arg, uint64_t off, uint64_t len, int err)
{
	const struct convert_run *run = arg;

	(void)len;
	if (!run->c->common.quiet)
		fprintf(stderr, "corral: warning: error while reading offset %" PRIu64 ": %s\n", off, strerror(-err));
}

static int copy(struct co *co, struct convert *c, struct node *from, const struct convert_target *t, uint64_t size)
{
	struct convert_run run = {.c = c};
	struct node *backing = t->node->backing;
	struct copy_how how = {
		.from = from,
		.to = t->node,
		.len = size,
		.shared = t->made && backing ? from->backing : NULL,
		.shared_size = backing ? backing->size : 0,
		.requests = c->requests,
		.sparse = c->sparse,
		.target_zero = (t->blank && !backing) || c->target_is_zero,
		.compressed = c->compressed,
		.offload = c->offload,
		.salvage = c->salvage,
		.rate = c->rate,
		.progress = c->common.progress ? show : NULL,
		.unreadable = unreadable,
		.arg = &run,
	};
	struct copy_counts counts;
	int ret;

	progress_begin(&run.progress, c->common.progress && !c->common.quiet, stdout);
	ret = copy_run(co, &how, &counts, &c->err);
	progress_end(&run.progress, ret == 0);
	if (ret < 0)
		return convert_complain(c);
	if (counts.salvage_bytes > 0 && !c->common.quiet)
		fprintf(stderr, "corral: warning: %" PRIu64 " bytes couldn't be read, and are zeros in '%s'\n",
			counts.salvage_bytes, c->target);
	return 0;
}

static int fill(struct co *co, struct convert *c, struct node *from)
{
	uint64_t size = align_up(from->size, SECTOR);
	struct convert_target t = {0};
	int status = convert_target_make(co, c, size, &t);

	if (!status)
		status = convert_target_open(co, c, &t);
	if (status)
		return status;
	status = convert_target_fits(c, t.node, from->size);
	if (!status)
		status = copy(co, c, from, &t, MIN(size, t.node->size));
	if (!status && c->bitmaps)
		status = convert_bitmaps_copy(co, c, from, t.node);
	return convert_target_close(co, c, &t, status);
}

static int run(struct co *co, void *arg)
{
	struct convert *c = arg;
	struct node *from;
	int status = convert_stream_check(c);

	if (status)
		return status;
	if (convert_from_stream(c))
		return convert_stream_in(co, c);
	status = sources_open(co, c, &from);
	if (status)
		return status;
	if (c->bitmaps)
		status = convert_bitmaps_check(co, c, from);
	if (!status)
		status = convert_to_stream(c) ? convert_stream_out(co, c, from) : fill(co, c, from);
	(void)!node_close(co, from);
	return status;
}

int cmd_convert(int argc, char **argv)
{
	enum io_engine engine;
	struct convert *c = malloc(sizeof(*c));
	int status = c ? convert_parse(c, argc, argv) : -ENOMEM;

	if (status == 0)
		status = cli_engine(NULL, &engine) < 0 ? 1 : cli_in_coroutine(engine, run, c);
	else
		status = status > 0 ? 0 : 1;
	if (c)
		convert_free(c);
	free(c);
	return status;
}
