/* SPDX-License-Identifier: MIT */
/* corral resize: another size for a disk, with the options and the words of qemu-img resize. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "cli/cli.h"
#include "cli/open.h"
#include "qcow2/preallocate.h"

static const char help[] =
	"Usage: corral resize [OPTIONS] FILE [+|-]SIZE\n"
	"\n"
	"Makes the disk larger or smaller. SIZE is a number of bytes, or one with a suffix k, M, G, T, P or E; with + or - it is\n"
	"what is added to the size that the disk has, or taken from it. What is added reads zeros.\n"
	"\n"
	"      --shrink             the disk may become smaller: what lies behind its new end is lost\n"
	"      --preallocation MODE  space for what is added: off (default), metadata, falloc, full\n"
	"  -f, --format FORMAT      the image is qcow2 or raw (default: look at it; raw must be said)\n"
	"      --image-opts         FILE is a list of options: driver=qcow2,file.filename=...\n" CLI_KEY_SECRET_HELP
	"      --allow DIR          a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all     ... no file at all; any file\n"
	"      --data-file FILE     the image's external data file (default: the one that the image names)\n"
	"  -q, --quiet              print nothing but errors\n"
	"  -h, --help               print this\n"
	"\n"
	"Examples:\n"
	"  corral resize vm1.qcow2 +20G\n"
	"  corral resize --shrink vm1.qcow2 10G\n";

struct resize {
	struct cli_common common;
	struct cli_image image;
	const char *text; /* of the size, less its sign */
	char sign;        /* '+', '-' or 0 */
	uint64_t number;
	bool shrink;
};

enum { OPT_SHRINK = 256, OPT_PREALLOCATION };

static const struct option long_options[] = {
	{"shrink", no_argument, NULL, OPT_SHRINK},
	{"preallocation", required_argument, NULL, OPT_PREALLOCATION},
	{"quiet", no_argument, NULL, 'q'},
	CLI_LONG_IMAGE,
	CLI_LONG_COMMON,
	{0},
};

/* ---- options ---- */

static int parse_preallocation(struct resize *r, const char *mode)
{
	static const char *const modes[] = {
		[QCOW2_PREALLOCATE_OFF] = "off",
		[QCOW2_PREALLOCATE_METADATA] = "metadata",
		[QCOW2_PREALLOCATE_FALLOC] = "falloc",
		[QCOW2_PREALLOCATE_FULL] = "full",
	};

	for (unsigned i = 0; i < ARRAY_ENTRIES(modes); i++) {
		if (strcmp(modes[i], mode) == 0) {
			r->image.how.qcow2.growth = (enum qcow2_preallocation)i;
			return 0;
		}
	}
	cli_complain("Invalid preallocation mode '%s'", mode);
	return -EINVAL;
}

static int parse_one(struct resize *r, int option, const char *culprit)
{
	switch (option) {
	case OPT_SHRINK: r->shrink = true; return 0;
	case OPT_PREALLOCATION: return parse_preallocation(r, optarg);
	default: return cli_option(&r->common, &r->image, option, culprit, help);
	}
}

static int parse_size(struct resize *r, const char *text)
{
	int ret;

	r->sign = *text == '+' || *text == '-' ? *text : '\0';
	r->text = text + (r->sign != '\0');
	ret = cli_size_parse(r->text, &r->number);
	if (ret == -ERANGE)
		cli_complain("Value '%s' is out of range for parameter 'size'", r->text);
	else if (ret < 0)
		cli_complain("Parameter 'size' expects a non-negative number below 2^64\n"
			     "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
			     "and exabytes, respectively.");
	return ret;
}

/* 0; 1: help was printed; or negative. The size is the last argument, and no option, whatever it begins with. */
static int parse(struct resize *r, int argc, char **argv)
{
	int option, last = argc - 1, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc > 2 ? last : argc, argv, ":f:hq", long_options, NULL)) != -1)
		ret = parse_one(r, option, argv[optind - 1]);
	if (ret != 0)
		return ret;
	if (argc < 3)
		return cli_usage("resize", "Not enough arguments");
	if (optind + 1 != last)
		return cli_usage("resize", "Expecting image file name and size");
	r->image.how.path = argv[optind];
	return parse_size(r, argv[argc - 1]);
}

/* ---- resizing ---- */

static uint64_t new_size(const struct resize *r, uint64_t now)
{
	uint64_t sum;

	if (r->sign == '-')
		return r->number < now ? now - r->number : 0;
	if (r->sign == '+')
		return add_overflows(now, r->number, &sum) || sum > INT64_MAX ? 0 : sum;
	return r->number;
}

/* What may be known to be wrong before anything changes. */
static int check(const struct resize *r, struct node *top, uint64_t size)
{
	struct node *n = image_qcow2_of(top);
	enum qcow2_preallocation growth = r->image.how.qcow2.growth;

	if (size == 0)
		return cli_complain("New image size must be positive");
	if (size <= top->size && growth != QCOW2_PREALLOCATE_OFF)
		return cli_complain("Preallocation can only be used for growing images");
	if (size < top->size && !r->shrink) {
		cli_complain("Use the --shrink option to perform a shrink operation.");
		return cli_complain("warning: Shrinking an image will delete all data beyond the shrunken image's end. "
				    "Before performing such an operation, make sure there is no important data there.");
	}
	if (!n && growth == QCOW2_PREALLOCATE_METADATA)
		return cli_complain("Unsupported preallocation mode: metadata");
	if (n && size % 512 != 0)
		return cli_complain("The new size must be a multiple of 512");
	if (n && qcow2_node_header(n)->version < 3 && qcow2_node_header(n)->snapshots)
		return cli_complain("Can't resize a v2 image which has snapshots");
	return 0;
}

static int complain(const struct resize *r, int ret)
{
	switch (-ret) {
	case EFBIG: return cli_complain("Failed to grow the L1 table: %s", strerror(EFBIG));
	case ENOTSUP:
		return cli_complain(
			"'%s' can't have this size (a device has its own; a snapshot that doesn't record its "
			"disk's size would be cut off)",
			r->image.how.path);
	default: return cli_complain("'%s' couldn't be resized: %s", r->image.how.path, strerror(-ret));
	}
}

/* A raw image is its file: it gets the space itself. */
static int resize(struct co *co, const struct resize *r, struct node *top, uint64_t size)
{
	uint64_t before = top->size;
	int ret = node_resize(co, top, size);

	if (ret < 0 || image_qcow2_of(top) || size <= before)
		return ret;
	ret = qcow2_space_fill(co, top, before, size - before, r->image.how.qcow2.growth);
	if (ret < 0)
		(void)!node_resize(co, top, before);
	return ret;
}

static int run(struct co *co, void *arg)
{
	struct resize *r = arg;
	struct node *top;
	uint64_t size;
	int status = cli_image_open(co, &r->common, &r->image, &top), ret;

	if (status)
		return status;
	size = new_size(r, top->size);
	status = check(r, top, size);
	ret = status ? 0 : resize(co, r, top, size);
	if (ret < 0)
		status = complain(r, ret);
	ret = node_close(co, top);
	if (ret < 0 && !status)
		status = cli_complain(
			"'%s': what was written may not be on disk: %s", r->image.how.path, strerror(-ret));
	if (!status && !r->common.quiet)
		puts("Image resized.");
	return status;
}

int cmd_resize(int argc, char **argv)
{
	struct resize r = {.common = {.command = "resize"}, .image.how.write = true};
	int status = parse(&r, argc, argv);

	status = status == 0 ? cli_run(run, &r) : status < 0;
	cli_common_fini(&r.common);
	return status;
}
