/* SPDX-License-Identifier: MIT */
/* corral compare: whether two images hold the same disk, with the words and the exit status of qemu-img compare. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/secret.h"
#include "job/compare.h"

static const char help[] =
	"Usage: corral compare [OPTIONS] FILE1 FILE2\n"
	"\n"
	"Tells whether two images hold the same disk, whatever their formats. What one disk has beyond the end of the other must\n"
	"be zeros.\n"
	"\n"
	"  -f, --a-format FORMAT    FILE1 is qcow2 or raw (default: look at it)\n"
	"  -F, --b-format FORMAT    FILE2 is\n"
	"  -s, --strict             the sizes must be the same, and what is allocated\n"
	"  -T, --cache CACHE        how they are read (default writeback)\n"
	"  -U, --force-share        take no lock: the images may be in use\n"
	"      --allow DIR          a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all     ... no file at all; any file\n" CLI_KEY_SECRET_HELP
	"  -p, --progress           show how far it is\n"
	"  -q, --quiet              print nothing but errors\n"
	"  -h, --help               print this\n"
	"\n"
	"Exit status: 0 they are the same; 1 they differ; 2 or more: they couldn't be compared.\n";

enum { STATUS_SAME, STATUS_DIFFERENT, STATUS_ERROR, STATUS_MAP, STATUS_READ };

struct compare {
	struct image_open image[2];
	struct cli_allow allow;
	struct cli_secrets secrets;
	bool strict, quiet, shown;
	struct progress progress;
	struct err err;
};

enum { OPT_ALLOW = 256, OPT_OBJECT, OPT_KEY_SECRET };

static const struct option long_options[] = {
	{"a-format", required_argument, NULL, 'f'},
	{"b-format", required_argument, NULL, 'F'},
	{"strict", no_argument, NULL, 's'},
	{"cache", required_argument, NULL, 'T'},
	{"force-share", no_argument, NULL, 'U'},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{"object", required_argument, NULL, OPT_OBJECT},
	{"key-secret", required_argument, NULL, OPT_KEY_SECRET},
	{"progress", no_argument, NULL, 'p'},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int set_cache(struct compare *c, const char *name)
{
	enum image_cache cache;

	if (image_cache_parse(name, &cache) < 0) {
		cli_complain("Invalid source cache option: %s", name);
		return -EPERM;
	}
	c->image[0].cache = c->image[1].cache = cache;
	return 0;
}

static int parse_one(struct compare *c, int option, const char *culprit)
{
	switch (option) {
	case 'f': c->image[0].format = optarg; return 0;
	case 'F': c->image[1].format = optarg; return 0;
	case 's': c->strict = true; return 0;
	case 'T': return set_cache(c, optarg);
	case 'U': c->image[0].no_lock = c->image[1].no_lock = true; return 0;
	case 'p': c->shown = true; return 0;
	case 'q': c->quiet = true; return 0;
	case OPT_ALLOW: return cli_allow_add(&c->allow, "compare", optarg);
	case OPT_OBJECT: return cli_secret_add(&c->secrets, "compare", optarg);
	case OPT_KEY_SECRET: return cli_secret_key(&c->secrets, "compare", optarg);
	case ':': return cli_usage("compare", "missing argument for option '%s'", culprit);
	default: return cli_usage("compare", "unrecognized option '%s'", culprit);
	}
}

/* 0; 1: help was printed; or negative: -EINVAL where the arguments make no sense, which has a status of its own. */
static int parse(struct compare *c, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while ((option = getopt_long(argc, argv, ":f:F:sT:Upqh", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		ret = parse_one(c, option, argv[optind - 1]);
		if (ret < 0)
			return ret;
	}
	if (optind != argc - 2)
		return cli_usage("compare", "Expecting two image file names");
	for (unsigned i = 0; i < 2 && ret == 0; i++) {
		c->image[i].path = argv[optind + (int)i];
		cli_allow_use(&c->allow, &c->image[i]);
		ret = cli_secret_use(&c->secrets, "compare", &c->image[i]);
	}
	return ret;
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
	if (!c->quiet)
		puts(text);
	return status;
}

static int tell_found(const struct compare *c, const struct compare_result *r)
{
	if (r->found == COMPARE_SAME)
		return tell(c, STATUS_SAME, "Images are identical.");
	if (!c->quiet && r->found == COMPARE_CONTENT)
		printf("Content mismatch at offset %" PRIu64 "!\n", r->off);
	else if (!c->quiet)
		printf("Strict mode: Offset %" PRIu64 " block status mismatch!\n", r->off);
	return STATUS_DIFFERENT;
}

static int tell_error(const struct compare *c, const struct compare_result *r, int ret)
{
	if (r->map)
		cli_complain("Sector allocation test failed for %s at offset %" PRIu64 ": %s", c->image[r->which].path,
			r->off, strerror(-ret));
	else
		cli_complain("Error while reading offset %" PRIu64 " of %s: %s", r->off, c->image[r->which].path,
			strerror(-ret));
	return r->map ? STATUS_MAP : STATUS_READ;
}

static int compare_both(struct co *co, struct compare *c, struct node *const n[2])
{
	struct compare_how how = {.n = {n[0], n[1]}, .strict = c->strict, .progress = show, .arg = c};
	struct compare_result result;
	int ret;

	if (n[0]->size != n[1]->size && c->strict)
		return tell(c, STATUS_DIFFERENT, "Strict mode: Image size mismatch!");
	progress_begin(&c->progress, c->shown && !c->quiet, stdout);
	ret = compare_run(co, &how, &result);
	progress_end(&c->progress, ret == 0 && result.found == COMPARE_SAME);
	if (ret < 0)
		return tell_error(c, &result, ret);
	if (n[0]->size != n[1]->size && (result.found == COMPARE_SAME || result.off >= MIN(n[0]->size, n[1]->size)))
		(void)tell(c, 0, "Warning: Image size mismatch!");
	return tell_found(c, &result);
}

static int open_one(struct co *co, struct compare *c, unsigned i, struct node **out)
{
	if (image_open(co, &c->image[i], out, &c->err) == 0)
		return 0;
	cli_complain("%s", c->err.text);
	return STATUS_ERROR;
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
		status = compare_both(co, c, n);
		(void)!node_close(co, n[1]);
	}
	(void)!node_close(co, n[0]);
	return status;
}

int cmd_compare(int argc, char **argv)
{
	struct compare c = {0};
	enum io_engine engine;
	int ret = parse(&c, argc, argv), status = STATUS_ERROR;

	if (ret > 0 || ret == -EINVAL)
		status = ret > 0 ? 0 : 1;
	else if (ret == 0 && cli_engine(NULL, &engine) == 0)
		status = cli_in_coroutine(engine, run, &c);
	cli_secrets_fini(&c.secrets);
	return status;
}
