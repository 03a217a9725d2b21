/* SPDX-License-Identifier: MIT */
/* corral info: what an image is. Nothing but the image itself is opened, unless the whole chain is asked for. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/describe.h"
#include "cli/options.h"
#include "file/file.h"

static const char help[] =
	"Usage: corral info [OPTIONS] FILE\n"
	"\n"
	"Shows the format, sizes and other properties of a disk image. Only FILE is opened, read only; what it names\n"
	"is shown, not followed, unless --backing-chain asks for it.\n"
	"\n"
	"  -f, --format FORMAT      the image is qcow2 or raw (default: look at it)\n"
	"  -U, --force-share        take no lock: the image may be in use\n"
	"      --backing-chain      show every layer of the backing chain\n"
	"      --allow DIR          with --backing-chain: a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all     ... no file at all; any file\n"
	"      --output FORMAT      human (default) or json\n"
	"  -h, --help               print this\n"
	"\n"
	"Examples:\n"
	"  corral info vm1.qcow2\n"
	"  corral info --output json vm1.qcow2 | jq '.\"virtual-size\"'\n";

struct info {
	struct image_open image;
	struct cli_allow allow;
	bool chain, json;
	json_t *found;  /* array: the layers */
	struct err err; /* here, since a coroutine's stack is small */
};

enum { OPT_CHAIN = 256, OPT_ALLOW, OPT_OUTPUT };

static const struct option long_options[] = {
	{"format", required_argument, NULL, 'f'},
	{"force-share", no_argument, NULL, 'U'},
	{"backing-chain", no_argument, NULL, OPT_CHAIN},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{"output", required_argument, NULL, OPT_OUTPUT},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int parse_one(struct info *in, int option, const char *culprit)
{
	switch (option) {
	case 'f': in->image.format = optarg; return 0;
	case 'U': in->image.no_lock = true; return 0;
	case OPT_CHAIN: in->chain = true; return 0;
	case OPT_ALLOW: return cli_allow_add(&in->allow, "info", optarg);
	case OPT_OUTPUT: return cli_output_parse("info", optarg, &in->json);
	case ':': return cli_usage("info", "an argument is missing after '%s'", culprit);
	default: return cli_usage("info", "unknown option '%s'", culprit);
	}
}

/* 0; 1: help was printed; or negative. */
static int parse(struct info *in, int argc, char **argv)
{
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, ":f:Uh", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (parse_one(in, option, argv[optind - 1]) < 0)
			return -EINVAL;
	}
	if (optind + 1 != argc)
		return cli_usage("info", optind == argc ? "which image?" : "one image at a time");
	in->image.path = argv[optind];
	in->image.qcow2.locked = true;
	cli_allow_use(&in->allow, &in->image);
	return 0;
}

/* ---- one image ---- */

#define KNOWN_FEATURES                                                                                                 \
	(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_COMPRESSION |       \
		QCOW2_INCOMPAT_EXTENDED_L2)

static int file_describe(struct co *co, struct info *in, struct node *file, struct err *err)
{
	AUTO_FREE struct qcow2_header *header = NULL;
	const char *format = in->image.format;
	json_t *image;
	int ret = format ? 0 : image_probe(co, file, &format);

	if (ret < 0)
		return err_set(err, ret, "can't be read: %s", strerror(-ret));
	if (strcmp(format, "qcow2") == 0) {
		header = malloc(sizeof(*header));
		if (!header)
			return err_set(err, -ENOMEM, "no memory");
		ret = qcow2_header_load(co, file, KNOWN_FEATURES, header, err);
		if (ret < 0)
			return ret;
	} else if (strcmp(format, "raw") != 0) {
		return err_set(err, -ENOTSUP, "the format '%s' isn't supported; there are qcow2 and raw", format);
	}
	image = describe_image(co, in->image.path, file, file_info(file)->allocated, header, err);
	if (!image)
		return -EINVAL;
	json_array_append_new(in->found, image);
	return 0;
}

static int one_describe(struct co *co, struct info *in, struct err *err)
{
	struct file_open open = {.path = in->image.path, .no_lock = in->image.no_lock};
	struct node *file;
	int ret = file_open(co, &open, &file, err);

	if (ret < 0)
		return ret;
	ret = file_describe(co, in, file, err);
	(void)!node_close(co, file);
	if (ret < 0)
		err_prefix(err, "'%s'", in->image.path);
	return ret;
}

/* ---- the whole chain ---- */

static int chain_describe(struct co *co, struct info *in, struct node *top, struct err *err)
{
	AUTO_FREE char *path = strdup(in->image.path);

	for (struct node *n = top; n && path; n = n->backing) {
		const struct qcow2_header *header = node_is_qcow2(n) ? qcow2_node_header(n) : NULL;
		struct node *file = header ? n->file : n;
		json_t *image = describe_image(co, path, file, file_info(file)->allocated, header, err);
		char *below = header ? image_relative_path(path, header->backing_name) : NULL;

		free(path);
		path = below;
		if (!image)
			return -EINVAL;
		json_array_append_new(in->found, image);
	}
	return 0;
}

static int all_describe(struct co *co, struct info *in, struct err *err)
{
	struct node *top;
	int ret = image_open(co, &in->image, &top, err);

	if (ret < 0)
		return ret;
	ret = chain_describe(co, in, top, err);
	(void)!node_close(co, top);
	return ret;
}

static void print(const struct info *in)
{
	const json_t *image;
	size_t i;

	if (in->json) {
		json_dumpf(in->chain ? in->found : json_array_get(in->found, 0), stdout, JSON_INDENT(4));
		putchar('\n');
		return;
	}
	json_array_foreach(in->found, i, image)
	{
		if (i > 0)
			putchar('\n');
		describe_print(image);
	}
}

static int run(struct co *co, void *arg)
{
	struct info *in = arg;

	if ((in->chain ? all_describe(co, in, &in->err) : one_describe(co, in, &in->err)) < 0)
		return cli_complain("%s", in->err.text);
	return 0;
}

int cmd_info(int argc, char **argv)
{
	struct info in = {0};
	enum io_engine engine;
	int ret = parse(&in, argc, argv);

	if (ret != 0)
		return ret > 0 ? 0 : 1;
	if (cli_engine(NULL, &engine) < 0)
		return 1;
	in.found = json_array();
	ret = cli_in_coroutine(engine, run, &in);
	if (ret == 0)
		print(&in);
	json_decref(in.found);
	return ret;
}
