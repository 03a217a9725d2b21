/* SPDX-License-Identifier: MIT */
/* corral compare: whether two images hold the same disk, with the words and the exit status of qemu-img compare. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "cli/cli.h"
#include "cli/open.h"
#include "cli/progress.h"
#include "job/compare.h"

static const char help[] =
	"Usage: corral compare [OPTIONS] FILE1 FILE2\n"
	"\n"
	"Tells whether two images hold the same disk, whatever their formats. What one disk has beyond the end of the other must\n"
	"be zeros.\n"
	"\n"
	"  -f, --a-format FORMAT    FILE1 is qcow2 or raw (default: look at it)\n"
	"  -F, --b-format FORMAT    FILE2 is\n"
	"      --image-opts         FILE1 and FILE2 are lists of options: driver=qcow2,file.filename=...\n"
	"  -s, --strict             the sizes must be the same, and what is allocated\n"
	"  -T, --cache CACHE        how they are read (default writeback)\n"
	"  -U, --force-share        take no lock: the images may be in use\n"
	"      --allow DIR          a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all     ... no file at all; any file\n" CLI_KEY_SECRET_HELP
	"  -p, --progress           show how far it is\n"
	"  -q, --quiet              print nothing but errors\n" CLI_SANDBOX_HELP
	"  -h, --help               print this\n"
	"\n"
	"Exit status: 0 they are the same; 1 they differ; 2 or more: they couldn't be compared.\n";

#define SECTOR UINT64_C(512)

enum { STATUS_SAME, STATUS_DIFFERENT, STATUS_ERROR, STATUS_MAP, STATUS_READ };

struct compare {
	struct cli_common common;
	struct cli_image image[2];
	bool strict;
	struct progress progress;
};

static const struct option long_options[] = {
	{"a-format", required_argument, NULL, 'f'},
	{"b-format", required_argument, NULL, 'F'},
	{"strict", no_argument, NULL, 's'},
	{"cache", required_argument, NULL, 'T'},
	{"progress", no_argument, NULL, 'p'},
	{"quiet", no_argument, NULL, 'q'},
	CLI_LONG_IMAGE,
	CLI_LONG_SANDBOX,
	CLI_LONG_COMMON,
	{0},
};

/* 0; 1: all is done; or negative, told: -EPERM has another exit status. */
static int parse_one(struct compare *c, int option, const char *culprit)
{
	switch (option) {
	case 'F': c->image[1].how.format = optarg; return 0;
	case 's': c->strict = true; return 0;
	case 'T': c->image[0].cache = optarg; return 0;
	case CLI_OPT_OBJECT: return cli_secret_add(&c->common.secrets, "compare", optarg) < 0 ? -EPERM : 0;
	default: return cli_option(&c->common, &c->image[0], option, culprit, help);
	}
}

/* What was said of both. */
static void images_take(struct compare *c, char *const names[2])
{
	const char *format = c->image[1].how.format;

	c->image[0].source = true;
	c->image[1] = c->image[0];
	c->image[1].how.format = format;
	for (unsigned i = 0; i < 2; i++)
		c->image[i].how.path = names[i];
}

static int parse(struct compare *c, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":f:F:sT:Upqh", long_options, NULL)) != -1)
		ret = parse_one(c, option, argv[optind - 1]);
	if (ret)
		return ret;
	if (optind != argc - 2)
		return cli_usage("compare", "Expecting two image file names");
	images_take(c, argv + optind);
	return 0;
}

/* ---- comparing ---- */

static bool show(void *arg, uint64_t done, uint64_t all)
{
	struct compare *c = arg;

	progress_show(&c->progress, done, all);
	return true;
}

static int tell(const struct compare *c, int status, const char *text)
{
	if (!c->common.quiet)
		puts(text);
	return status;
}

static int tell_found(const struct compare *c, const struct compare_result *r)
{
	if (r->found == COMPARE_SAME)
		return tell(c, STATUS_SAME, "Images are identical.");
	if (!c->common.quiet && r->found == COMPARE_CONTENT)
		printf("Content mismatch at offset %" PRIu64 "!\n", r->off);
	else if (!c->common.quiet)
		printf("Strict mode: Offset %" PRIu64 " block status mismatch!\n", r->off);
	return STATUS_DIFFERENT;
}

static int tell_error(const struct compare *c, const struct compare_result *r, int ret)
{
	if (r->map)
		cli_complain("Sector allocation test failed for %s at offset %" PRIu64 ": %s",
			c->image[r->which].how.path, r->off, strerror(-ret));
	else
		cli_complain("Error while reading offset %" PRIu64 " of %s: %s", r->off, c->image[r->which].how.path,
			strerror(-ret));
	return r->map ? STATUS_MAP : STATUS_READ;
}

/* Sizes are told in whole sectors. */
static int compare_both(struct co *co, struct compare *c, struct node *const n[2])
{
	struct compare_how how = {.n = {n[0], n[1]}, .strict = c->strict, .progress = show, .arg = c};
	uint64_t size[2] = {align_up(n[0]->size, SECTOR), align_up(n[1]->size, SECTOR)};
	struct compare_result result;
	int ret;

	if (size[0] != size[1] && c->strict)
		return tell(c, STATUS_DIFFERENT, "Strict mode: Image size mismatch!");
	progress_begin(&c->progress, c->common.progress && !c->common.quiet, stdout);
	ret = compare_run(co, &how, &result);
	progress_end(&c->progress, ret == 0 && result.found == COMPARE_SAME);
	if (ret < 0)
		return tell_error(c, &result, ret);
	if (size[0] != size[1] && (result.found == COMPARE_SAME || result.off >= MIN(size[0], size[1])))
		(void)tell(c, 0, "Warning: Image size mismatch!");
	return tell_found(c, &result);
}

static int open_one(struct co *co, struct compare *c, unsigned i, struct node **out)
{
	return cli_image_open(co, &c->common, &c->image[i], out) ? STATUS_ERROR : 0;
}

static int run(struct co *co, void *arg)
{
	struct compare *c = arg;
	struct node *n[2];
	int status = open_one(co, c, 0, &n[0]);

	if (status)
		return status;
	status = open_one(co, c, 1, &n[1]);
	if (!status) {
		status = cli_confine(co, &c->common) ? STATUS_ERROR : compare_both(co, c, n);
		(void)!node_close(co, n[1]);
	}
	(void)!node_close(co, n[0]);
	return status;
}

int cmd_compare(int argc, char **argv)
{
	struct compare c = {.common.command = "compare"};
	enum io_engine engine;
	int ret = parse(&c, argc, argv), status = STATUS_ERROR;

	if (ret && ret != -EPERM)
		status = ret > 0 ? 0 : 1;
	else if (ret == 0 && cli_engine(NULL, &engine) == 0)
		status = cli_in_coroutine(engine, run, &c);
	cli_common_fini(&c.common);
	return status;
}
