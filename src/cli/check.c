/* SPDX-License-Identifier: MIT */
/* corral check: errors and leaks in an image, told in qemu-img's words and with its exit statuses. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/describe.h"
#include "cli/open.h"

static const char help[] =
	"Usage: corral check [OPTIONS] FILE\n"
	"\n"
	"Reads all metadata of a qcow2 image and tells what is wrong with it. Nothing but FILE is opened, and nothing is\n"
	"changed unless repair is asked for.\n"
	"\n"
	"  -f, --format FORMAT      the image is qcow2 or raw (default: look at it)\n"
	"  -r, --repair WHAT        leaks: give leaked clusters back; all: put everything right that can be. A power cut at any\n"
	"                           point of it does no harm: the next repair goes on\n"
	"  -T, --source-cache MODE  writeback (default), none, writethrough, directsync or unsafe\n"
	"  -p, --progress           show how far it is\n"
	"  -U, --force-share        take no lock: the image may be in use (and what is found may be on its way)\n"
	"  -q, --quiet              no summary; what is found is still told on stderr\n"
	"      --image-opts         FILE is a list of options: driver=qcow2,file.filename=...\n"
	"      --output FORMAT      human (default) or json\n" CLI_SANDBOX_HELP
	"  -h, --help               print this\n"
	"\n"
	"Exit status: 0 the image is fine; 1 it couldn't be checked; 2 it has errors; 3 it has leaked clusters, which waste\n"
	"space and do no harm; 63 the format can't be checked.\n";

#define STATUS_CORRUPT 2
#define STATUS_LEAKS 3
#define STATUS_UNSUPPORTED 63

struct check {
	struct cli_common common;
	struct cli_image image;
	unsigned fix; /* QCOW2_FIX_* */
	bool done;
	struct qcow2_check found;
	uint64_t corruptions_fixed, leaks_fixed;
	struct err err; /* not on a coroutine's stack */
};

static const struct option long_options[] = {
	{"repair", required_argument, NULL, 'r'},
	{"source-cache", required_argument, NULL, 'T'},
	{"progress", no_argument, NULL, 'p'},
	{"quiet", no_argument, NULL, 'q'},
	{"output", required_argument, NULL, CLI_OPT_OUTPUT},
	CLI_LONG_IMAGE,
	CLI_LONG_SANDBOX,
	CLI_LONG_COMMON,
	{0},
};

static int repair_parse(const char *what, unsigned *fix)
{
	if (strcmp(what, "leaks") == 0)
		*fix = QCOW2_FIX_LEAKS;
	else if (strcmp(what, "all") == 0)
		*fix = QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS;
	else
		return cli_usage("check", "Unknown option value for -r (expecting 'leaks' or 'all'): %s", what);
	return 0;
}

static int parse_one(struct check *c, int option, const char *culprit)
{
	switch (option) {
	case 'r': return repair_parse(optarg, &c->fix);
	case 'T':
		c->image.cache = optarg;
		c->image.source = true;
		return 0;
	default: return cli_option(&c->common, &c->image, option, culprit, help);
	}
}

/* 0; 1: help was printed; or negative. */
static int parse(struct check *c, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":hf:r:T:pqU", long_options, NULL)) != -1)
		ret = parse_one(c, option, argv[optind - 1]);
	if (ret != 0)
		return ret;
	if (optind + 1 != argc)
		return cli_usage("check", "Expecting one image file name");
	c->image.how.path = argv[optind];
	c->image.how.write = c->fix != 0;
	return 0;
}

/* ---- what was found ---- */

/* There may be thousands: stderr is buffered (cmd_check), and flushed before anything is said on stdout. */
static void finding_print(void *arg ATTR_UNUSED, const char *text) { fprintf(stderr, "%s\n", text); }

static void unless_zero(json_t *o, const char *key, uint64_t value)
{
	if (value != 0)
		json_object_set_new(o, key, json_integer((json_int_t)value));
}

static void json_print(const struct check *c)
{
	const struct qcow2_check *f = &c->found;
	json_t *o = json_object();

	json_object_set_new(o, "filename", describe_text(c->image.how.path));
	json_object_set_new(o, "format", json_string("qcow2"));
	json_object_set_new(o, "check-errors", json_integer((json_int_t)f->check_errors));
	unless_zero(o, "image-end-offset", f->image_end_offset);
	unless_zero(o, "corruptions", f->corruptions);
	unless_zero(o, "leaks", f->leaks);
	unless_zero(o, "corruptions-fixed", c->corruptions_fixed);
	unless_zero(o, "leaks-fixed", c->leaks_fixed);
	unless_zero(o, "total-clusters", f->total_clusters);
	unless_zero(o, "allocated-clusters", f->allocated_clusters);
	unless_zero(o, "fragmented-clusters", f->fragmented_clusters);
	unless_zero(o, "compressed-clusters", f->compressed_clusters);
	json_dumpf(o, stdout, JSON_INDENT(4));
	putchar('\n');
	json_decref(o);
}

static double percent(uint64_t part, uint64_t whole) { return (double)part * 100.0 / (double)whole; }

static void human_print(const struct qcow2_check *f)
{
	if (f->corruptions == 0 && f->leaks == 0 && f->check_errors == 0)
		puts("No errors were found on the image.");
	if (f->corruptions != 0)
		printf("\n%" PRIu64 " errors were found on the image.\n"
		       "Data may be corrupted, or further writes to the image may corrupt it.\n",
			f->corruptions);
	if (f->leaks != 0)
		printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
		       "This means waste of disk space, but no harm to data.\n",
			f->leaks);
	if (f->check_errors != 0)
		printf("\n%" PRIu64 " internal errors have occurred during the check.\n", f->check_errors);
	if (f->total_clusters != 0 && f->allocated_clusters != 0)
		printf("%" PRIu64 "/%" PRIu64 " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
			f->allocated_clusters, f->total_clusters, percent(f->allocated_clusters, f->total_clusters),
			percent(f->fragmented_clusters, f->allocated_clusters),
			percent(f->compressed_clusters, f->allocated_clusters));
	if (f->image_end_offset != 0)
		printf("Image end offset: %" PRIu64 "\n", f->image_end_offset);
}

static void repaired_print(const struct qcow2_check *f)
{
	fflush(stderr);
	printf("The following inconsistencies were found and repaired:\n\n"
	       "    %" PRIu64 " leaked clusters\n"
	       "    %" PRIu64 " corruptions\n\n"
	       "Double checking the fixed image now...\n",
		f->leaks_fixed, f->corruptions_fixed);
	fflush(stdout);
}

static bool progress_print(void *arg, uint64_t done, uint64_t all)
{
	const struct check *c = arg;

	if (c->common.progress) {
		fflush(stderr);
		printf("    (%3.2f/100%%)\r", all == 0 ? 100.0 : (double)done * 100.0 / (double)all);
		fflush(stdout);
	}
	return true;
}

static void progress_end(const struct check *c)
{
	if (c->common.progress)
		puts("    (100.00/100%)");
}

static int status_of(const struct qcow2_check *f)
{
	if (f->check_errors != 0)
		return cli_complain("the check couldn't read everything: its result is incomplete");
	return f->corruptions != 0 ? STATUS_CORRUPT : f->leaks != 0 ? STATUS_LEAKS : 0;
}

/* ---- checking ---- */

/* What was repaired is checked once more, as if somebody else had done it. */
static int image_check(struct co *co, struct check *c, struct node *file)
{
	struct qcow2_check_how how = {
		.fix = c->fix, .say = finding_print, .progress = c->common.progress ? progress_print : NULL, .arg = c};
	int ret = qcow2_check_image(co, file, &how, &c->found, &c->err);

	if (ret < 0)
		return ret;
	progress_end(c);
	c->corruptions_fixed = c->found.corruptions_fixed;
	c->leaks_fixed = c->found.leaks_fixed;
	if (c->corruptions_fixed == 0 && c->leaks_fixed == 0)
		return 0;
	if (!c->common.json && !c->common.quiet)
		repaired_print(&c->found);
	how.fix = 0;
	ret = qcow2_check_image(co, file, &how, &c->found, &c->err);
	if (ret == 0)
		progress_end(c);
	return ret;
}

static int node_check(struct co *co, struct check *c, struct node *n, const char *driver)
{
	if (strcmp(driver, "qcow2") != 0) {
		cli_complain("This image format does not support checks");
		return STATUS_UNSUPPORTED;
	}
	if (image_check(co, c, n) < 0)
		return cli_complain("Could not open '%s': %s", c->image.how.path, c->err.text);
	c->done = true;
	return 0;
}

static int run(struct co *co, void *arg)
{
	struct check *c = arg;
	const char *driver;
	struct node *n;
	int status = cli_storage_open(co, &c->common, &c->image, &n, &driver);

	if (status)
		return status;
	status = cli_confine(co, &c->common);
	if (!status)
		status = node_check(co, c, n, driver);
	if (node_close(co, n) < 0 && status == 0 && c->fix)
		status = cli_complain("'%s': closing it failed", c->image.how.path);
	return status;
}

static int check(struct check *c)
{
	int status = cli_run(run, c);

	if (!c->done)
		return status;
	fflush(stderr);
	if (c->common.json)
		json_print(c);
	else if (!c->common.quiet)
		human_print(&c->found);
	return status_of(&c->found);
}

int cmd_check(int argc, char **argv)
{
	struct check c = {.common = {.command = "check"}};
	int status = parse(&c, argc, argv);

	setvbuf(stderr, NULL, _IOFBF, BUFSIZ);
	status = status == 0 ? check(&c) : status < 0;
	fflush(stderr);
	cli_common_fini(&c.common);
	return status;
}
