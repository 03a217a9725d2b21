/* SPDX-License-Identifier: MIT */
/* corral dd: a piece of a disk becomes an image, with the operands and the words of qemu-img dd. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/driver.h"
#include "base/math.h"
#include "cli/cli.h"
#include "cli/convert.h"
#include "filter/filter.h"

static const char help[] =
	"Usage: corral dd [OPTIONS] [bs=SIZE] [count=N] [skip=N] if=FILE of=FILE\n"
	"\n"
	"Makes an image of a part of a disk.\n"
	"\n"
	"  if=FILE, of=FILE         the image that is read, and the one that is made\n"
	"  bs=SIZE                  of a block (default 512)\n"
	"  count=N                  the part ends N blocks from the start of the disk\n"
	"  skip=N                   it begins N blocks from there\n"
	"  -f, --format FORMAT      FILE is qcow2 or raw (default: look at it)\n"
	"  -O, --output-format FORMAT  the image becomes qcow2 or raw (default)\n"
	"      --image-opts         FILE is a list of options: driver=qcow2,file.filename=...\n"
	"  -U, --force-share        take no lock on what is read: it may be in use\n"
	"      --allow DIR          a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all     ... no file at all; any file\n" CLI_KEY_SECRET_HELP
	"  -h, --help               print this\n";

struct dd {
	struct convert convert; /* of the target */
	struct cli_image in;
	uint64_t bs, count, skip;
	bool has_count;
};

static const struct option long_options[] = {
	{"output-format", required_argument, NULL, 'O'},
	CLI_LONG_IMAGE,
	CLI_LONG_COMMON,
	{0},
};

static int operand_parse(struct dd *d, char *operand)
{
	char *value = strchr(operand, '=');

	if (value)
		*value++ = '\0';
	if (value && strcmp(operand, "if") == 0)
		d->in.how.path = value;
	else if (value && strcmp(operand, "of") == 0)
		d->convert.target = d->convert.create.path = value;
	else if (value && strcmp(operand, "bs") == 0)
		return cli_number_within("bs", value, 1, INT32_MAX, &d->bs);
	else if (value && strcmp(operand, "skip") == 0)
		return cli_number_within("skip", value, 0, INT64_MAX, &d->skip);
	else if (value && strcmp(operand, "count") == 0) {
		d->has_count = true;
		return cli_number_within("count", value, 0, INT64_MAX, &d->count);
	} else {
		cli_complain("unrecognized operand %s", operand);
		return -EINVAL;
	}
	return 0;
}

/* 0; 1: all is done; or negative, told. */
static int parse_one(struct dd *d, int option, const char *culprit)
{
	if (option != 'O')
		return cli_option(&d->convert.common, &d->in, option, culprit, help);
	d->convert.format = d->convert.create.format = optarg;
	return 0;
}

static int parse(struct dd *d, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":f:O:Uh", long_options, NULL)) != -1)
		ret = parse_one(d, option, argv[optind - 1]);
	for (int i = optind; ret == 0 && i < argc; i++)
		ret = operand_parse(d, argv[i]);
	if (ret == 0 && (!d->in.how.path || !d->convert.target)) {
		cli_complain("Must specify both input and output files");
		ret = -EINVAL;
	}
	if (ret == 0 && cli_is_qemu() && !driver_find(d->convert.format)) {
		cli_complain("Unknown file format");
		ret = -EINVAL;
	}
	return ret ? ret : create_options_check(&d->convert.create);
}

/* The part that is meant, as an image of whole sectors. As with qemu-img, count is told from the start of the disk. */
static int window_open(struct co *co, struct dd *d, struct node *whole, struct node **out)
{
	uint64_t size = align_up(whole->size, 512), end, start;
	struct raw_window window;

	if (d->has_count && !mul_overflows(d->count, d->bs, &end))
		size = MIN(size, end);
	if (mul_overflows(d->skip, d->bs, &start) || start > size) {
		cli_complain("%s: cannot skip to specified offset", d->in.how.path);
		start = size;
	}
	window = (struct raw_window){.off = MIN(start, whole->size)};
	window.size = MIN(size - start, whole->size - window.off);
	d->convert.create.size = size - start;
	window.size = align_up(window.size, 512);
	if (window.size > whole->size - window.off)
		window.size = RAW_ALL;
	return raw_open(co, whole, &window, out, &d->convert.err) < 0 ? cli_complain("%s", d->convert.err.text) : 0;
}

static int copy(struct co *co, struct dd *d, struct node *from)
{
	struct convert *c = &d->convert;
	struct convert_target t = {0};
	uint64_t size = c->create.size;
	int status = convert_target_make(co, c, align_up(size, 512), &t);

	if (!status)
		status = convert_target_open(co, c, &t);
	if (status)
		return status;
	if (size > 0) {
		struct copy_how how = {.from = from,
			.to = t.node,
			.len = MIN(t.node->size, size),
			.sparse = COPY_SPARSE_BYTES,
			.target_zero = t.blank};

		if (copy_run(co, &how, NULL, &c->err) < 0)
			status = convert_complain(c);
	}
	return convert_target_close(co, c, &t, status);
}

static int run(struct co *co, void *arg)
{
	struct dd *d = arg;
	struct node *whole, *from;
	int status = cli_image_open(co, &d->convert.common, &d->in, &whole);

	if (status)
		return status;
	status = window_open(co, d, whole, &from);
	if (status) {
		(void)!node_close(co, whole);
		return status;
	}
	status = copy(co, d, from);
	(void)!node_close(co, from);
	return status;
}

int cmd_dd(int argc, char **argv)
{
	enum io_engine engine;
	struct dd *d = calloc(1, sizeof(*d));
	int ret, status = 1;

	if (!d)
		return cli_complain("no memory");
	d->convert.common.command = "dd";
	create_init(&d->convert.create, &d->convert.common.secrets);
	d->convert.create.command = "dd";
	d->convert.create.check_late = true;
	d->convert.format = d->convert.create.format = "raw";
	d->convert.create.quiet = d->convert.create.has_size = true;
	d->bs = 512;
	ret = parse(d, argc, argv);
	if (ret > 0)
		status = 0;
	else if (ret == 0 && cli_engine(NULL, &engine) == 0)
		status = cli_in_coroutine(engine, run, d);
	convert_free(&d->convert);
	free(d);
	return status;
}
