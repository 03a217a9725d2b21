/* SPDX-License-Identifier: MIT */
/* corral commit: what an overlay has goes into its backing file, with the options and the words of qemu-img commit. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/open.h"
#include "cli/progress.h"
#include "file/file.h"
#include "job/commit.h"

static const char help[] =
	"Usage: corral commit [OPTIONS] FILE\n"
	"\n"
	"Writes what FILE has into its backing file, and empties FILE. A backing file that is smaller grows. At any power cut\n"
	"FILE reads as before.\n"
	"\n"
	"  -b, --base BASE          into this layer of the chain, as it is named there; FILE keeps what it has\n"
	"  -d, --drop               FILE keeps what it has: it is about to be deleted\n"
	"  -f, --format FORMAT      FILE is qcow2 or raw (default: look at it)\n"
	"      --image-opts         FILE is a list of options: driver=qcow2,file.filename=...\n"
	"  -r, --rate-limit RATE    bytes to be written in a second\n"
	"  -t, --cache CACHE        how images are written: writeback (default), none, writethrough, directsync or unsafe\n"
	"      --allow DIR          a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all     ... no file at all; any file\n" CLI_KEY_SECRET_HELP
	"  -p, --progress           show how far it is\n"
	"  -q, --quiet              print nothing but errors\n"
	"  -h, --help               print this\n";

struct commit {
	struct cli_common common;
	struct cli_image image;
	const char *base;
	bool drop;
	uint64_t rate;
	struct progress progress;
	struct err err;
};

static const struct option long_options[] = {
	{"base", required_argument, NULL, 'b'},
	{"drop", no_argument, NULL, 'd'},
	{"rate-limit", required_argument, NULL, 'r'},
	{"cache", required_argument, NULL, 't'},
	{"progress", no_argument, NULL, 'p'},
	{"quiet", no_argument, NULL, 'q'},
	CLI_LONG_IMAGE,
	CLI_LONG_COMMON,
	{0},
};

/* 0; 1: all is done; or negative, told. */
static int parse_one(struct commit *c, int option, const char *culprit)
{
	switch (option) {
	case 'b': c->base = optarg; return 0;
	case 'd': c->drop = true; return 0;
	case 'r': return cli_number_parse("rate limit", optarg, &c->rate);
	case 't': c->image.cache = optarg; return 0;
	default: return cli_option(&c->common, &c->image, option, culprit, help);
	}
}

static int parse(struct commit *c, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":b:df:r:t:pqh", long_options, NULL)) != -1)
		ret = parse_one(c, option, argv[optind - 1]);
	if (ret)
		return ret;
	if (optind != argc - 1)
		return cli_usage("commit", "Expecting one image file name");
	c->image.how.path = argv[optind];
	return 0;
}

/* ---- which layer ---- */

/* Whether the base is what a header at `path` calls `name`: by the same words, or as the file that they mean. */
static bool is_base(const char *base, const char *name, const char *path)
{
	AUTO_FREE char *real = io_realpath(path), *real_base = io_realpath(base);

	return strcmp(base, name) == 0 || strcmp(base, path) == 0 ||
		(real && real_base && strcmp(real, real_base) == 0);
}

/* The number of the layer that -b names, by following the names from the top; 0: there is none. */
static unsigned layer_find(const struct commit *c, struct node *n)
{
	const struct node *file = image_file_of(n);
	char *path = strdup(file ? file_path(file) : c->image.how.path);
	unsigned layer = 0, found = 0;

	n = image_qcow2_of(n);
	while (path && n && !found && n->backing) {
		const char *name = qcow2_node_header(n)->backing_name;
		char *below = image_relative_path(path, name);

		layer++;
		if (below && is_base(c->base, name, below))
			found = layer;
		free(path);
		path = below;
		n = image_qcow2_of(n->backing);
	}
	free(path);
	return found;
}

/* What -b means is found out by reading; then the chain is opened again, for writing. */
static int layer_choose(struct co *co, struct commit *c)
{
	struct cli_image look = c->image;
	struct node *n;
	int status;

	c->image.how.write_layer = 1;
	if (!c->base)
		return 0;
	look.how.write = false;
	status = cli_image_open(co, &c->common, &look, &n);
	if (status)
		return status;
	c->image.how.write_layer = layer_find(c, n);
	(void)!node_close(co, n);
	if (c->image.how.write_layer)
		return 0;
	return cli_complain("Did not find '%s' in the backing chain of '%s'", c->base, c->image.how.path);
}

static struct node *layer_of(struct node *n, unsigned layer)
{
	for (; n && layer > 0; layer--) {
		struct node *image = image_qcow2_of(n);

		n = image ? image->backing : NULL;
	}
	return n;
}

/* ---- committing ---- */

static bool show(void *arg, uint64_t done, uint64_t all)
{
	struct commit *c = arg;

	progress_show(&c->progress, done, all);
	return true;
}

static int commit(struct co *co, struct commit *c, struct node *n)
{
	struct node *top = image_qcow2_of(n);
	struct commit_how how = {
		.top = top,
		.base = layer_of(n, c->image.how.write_layer),
		.keep = c->drop || c->base,
		.rate = c->rate,
		.progress = c->common.progress ? show : NULL,
		.arg = c,
	};
	int ret;

	if (!how.base)
		return cli_complain("Image does not have a backing file");
	progress_begin(&c->progress, c->common.progress && !c->common.quiet, stdout);
	ret = commit_run(co, &how, &c->err);
	progress_end(&c->progress, ret == 0);
	if (ret < 0)
		return cli_complain("%s", c->err.text);
	if (!c->common.quiet)
		puts("Image committed.");
	return 0;
}

static int run(struct co *co, void *arg)
{
	struct commit *c = arg;
	struct node *n;
	int status = layer_choose(co, c), ret;

	if (!status)
		status = cli_image_open(co, &c->common, &c->image, &n);
	if (status)
		return status;
	status = commit(co, c, n);
	ret = node_close(co, n);
	return ret < 0 && !status ? cli_complain("'%s': %s", c->image.how.path, strerror(-ret)) : status;
}

int cmd_commit(int argc, char **argv)
{
	struct commit c = {.common.command = "commit", .image.how.write = true};
	enum io_engine engine;
	int ret = parse(&c, argc, argv), status = 1;

	if (ret > 0)
		status = 0;
	else if (ret == 0 && cli_engine(NULL, &engine) == 0)
		status = cli_in_coroutine(engine, run, &c);
	cli_common_fini(&c.common);
	return status;
}
