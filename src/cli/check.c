/* SPDX-License-Identifier: MIT */
/* corral check: errors and leaks in an image, told in qemu-img's words and with its exit statuses. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/describe.h"
#include "cli/options.h"
#include "file/file.h"

static const char help[] =
	"Usage: corral check [OPTIONS] FILE\n"
	"\n"
	"Reads all metadata of a qcow2 image and tells what is wrong with it. Nothing but FILE is opened, and nothing is\n"
	"changed unless repair is asked for.\n"
	"\n"
	"  -f, --format FORMAT      the image is qcow2 or raw (default: look at it)\n"
	"  -r, --repair WHAT        leaks: give leaked clusters back; all: put everything right that can be. A power cut at any\n"
	"                           point of it does no harm: the next repair goes on\n"
	"  -p, --progress           show how far it is\n"
	"  -U, --force-share        take no lock: the image may be in use (and what is found may be on its way)\n"
	"  -q, --quiet              no summary; what is found is still told on stderr\n"
	"      --output FORMAT      human (default) or json\n"
	"  -h, --help               print this\n"
	"\n"
	"Exit status: 0 the image is fine; 1 it couldn't be checked; 2 it has errors; 3 it has leaked clusters, which waste\n"
	"space and do no harm; 63 the format can't be checked.\n";

#define STATUS_CORRUPT 2
#define STATUS_LEAKS 3
#define STATUS_UNSUPPORTED 63

struct check {
	const char *path, *format;
	bool no_lock, quiet, json, progress;
	unsigned fix; /* QCOW2_FIX_* */
	bool done;
	struct qcow2_check found;
	uint64_t corruptions_fixed, leaks_fixed;
	struct err err; /* not on a coroutine's stack */
};

enum { OPT_OUTPUT = 256 };

static const struct option long_options[] = {
	{"format", required_argument, NULL, 'f'},
	{"repair", required_argument, NULL, 'r'},
	{"progress", no_argument, NULL, 'p'},
	{"force-share", no_argument, NULL, 'U'},
	{"quiet", no_argument, NULL, 'q'},
	{"output", required_argument, NULL, OPT_OUTPUT},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int repair_parse(const char *what, unsigned *fix)
{
	if (strcmp(what, "leaks") == 0)
		*fix = QCOW2_FIX_LEAKS;
	else if (strcmp(what, "all") == 0)
		*fix = QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS;
	else
		return cli_usage("check", "-r expects 'leaks' or 'all', not '%s'", what);
	return 0;
}

static int parse_one(struct check *c, int option, const char *culprit)
{
	switch (option) {
	case 'f': c->format = optarg; return 0;
	case 'r': return repair_parse(optarg, &c->fix);
	case 'p': c->progress = true; return 0;
	case 'U': c->no_lock = true; return 0;
	case 'q': c->quiet = true; return 0;
	case OPT_OUTPUT: return cli_output_parse("check", optarg, &c->json);
	case ':': return cli_usage("check", "an argument is missing after '%s'", culprit);
	default: return cli_usage("check", "unknown option '%s'", culprit);
	}
}

/* 0; 1: help was printed; or negative. */
static int parse(struct check *c, int argc, char **argv)
{
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, ":f:r:pUqh", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (parse_one(c, option, argv[optind - 1]) < 0)
			return -EINVAL;
	}
	if (optind + 1 != argc)
		return cli_usage("check", optind == argc ? "which image?" : "one image at a time");
	if (c->fix && c->no_lock)
		return cli_usage(
			"check", "an image that may be in use can't be repaired: -r and -U exclude each other");
	c->path = argv[optind];
	return 0;
}

/* ---- what was found ---- */

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

	json_object_set_new(o, "filename", describe_text(c->path));
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

	if (c->progress) {
		printf("    (%3.2f/100%%)\r", all == 0 ? 100.0 : (double)done * 100.0 / (double)all);
		fflush(stdout);
	}
	return true;
}

static void progress_end(const struct check *c)
{
	if (c->progress)
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
		.fix = c->fix, .say = finding_print, .progress = c->progress ? progress_print : NULL, .arg = c};
	int ret = qcow2_check_image(co, file, &how, &c->found, &c->err);

	if (ret < 0)
		return ret;
	progress_end(c);
	c->corruptions_fixed = c->found.corruptions_fixed;
	c->leaks_fixed = c->found.leaks_fixed;
	if (c->corruptions_fixed == 0 && c->leaks_fixed == 0)
		return 0;
	if (!c->json && !c->quiet)
		repaired_print(&c->found);
	how.fix = 0;
	ret = qcow2_check_image(co, file, &how, &c->found, &c->err);
	if (ret == 0)
		progress_end(c);
	return ret;
}

static int file_check(struct co *co, struct check *c, struct node *file)
{
	const char *format = c->format;
	int ret = format ? 0 : image_probe(co, file, &format);

	if (ret < 0)
		return cli_complain("'%s': can't be read: %s", c->path, strerror(-ret));
	if (strcmp(format, "raw") == 0) {
		cli_complain("This image format does not support checks");
		return STATUS_UNSUPPORTED;
	}
	if (strcmp(format, "qcow2") != 0)
		return cli_complain("the format '%s' isn't supported; there are qcow2 and raw", format);
	if (image_check(co, c, file) < 0)
		return cli_complain("'%s': %s", c->path, c->err.text);
	c->done = true;
	return 0;
}

static int run(struct co *co, void *arg)
{
	struct check *c = arg;
	struct file_open open = {.path = c->path, .write = c->fix != 0, .no_lock = c->no_lock};
	struct node *file;
	int status;

	if (file_open(co, &open, &file, &c->err) < 0)
		return cli_complain("%s", c->err.text);
	status = file_check(co, c, file);
	if (node_close(co, file) < 0 && status == 0 && c->fix)
		status = cli_complain("'%s': closing it failed", c->path);
	return status;
}

int cmd_check(int argc, char **argv)
{
	struct check c = {0};
	enum io_engine engine;
	int status = parse(&c, argc, argv);

	if (status != 0)
		return status > 0 ? 0 : 1;
	if (cli_engine(NULL, &engine) < 0)
		return 1;
	status = cli_in_coroutine(engine, run, &c);
	if (!c.done)
		return status;
	if (c.json)
		json_print(&c);
	else if (!c.quiet)
		human_print(&c.found);
	return status_of(&c.found);
}
