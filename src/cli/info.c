/* SPDX-License-Identifier: MIT */
/* corral info: what an image is. Nothing but the image itself is opened, unless the whole chain is asked for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/describe.h"
#include "cli/open.h"
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
	"  -t, --cache MODE         writeback (default), none, writethrough, directsync or unsafe\n"
	"      --image-opts         FILE is a list of options: driver=qcow2,file.filename=...\n"
	"      --output FORMAT      human (default) or json\n" CLI_SANDBOX_HELP
	"  -h, --help               print this\n"
	"\n"
	"Examples:\n"
	"  corral info vm1.qcow2\n"
	"  corral info --output json vm1.qcow2 | jq '.\"virtual-size\"'\n";

struct info {
	struct cli_common common;
	struct cli_image image;
	bool chain;
	json_t *found;  /* array: the layers */
	struct err err; /* here, since a coroutine's stack is small */
};

enum { OPT_CHAIN = 256 };

static const struct option long_options[] = {
	{"backing-chain", no_argument, NULL, OPT_CHAIN},
	{"cache", required_argument, NULL, 't'},
	{"output", required_argument, NULL, CLI_OPT_OUTPUT},
	CLI_LONG_IMAGE,
	CLI_LONG_SANDBOX,
	CLI_LONG_COMMON,
	{0},
};

static int parse_one(struct info *in, int option, const char *culprit)
{
	switch (option) {
	case OPT_CHAIN: in->chain = true; return 0;
	case 't': in->image.cache = optarg; return 0;
	default: return cli_option(&in->common, &in->image, option, culprit, help);
	}
}

/* 0; 1: help was printed; or negative. */
static int parse(struct info *in, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":f:t:hU", long_options, NULL)) != -1)
		ret = parse_one(in, option, argv[optind - 1]);
	if (ret != 0)
		return ret;
	if (optind + 1 != argc)
		return cli_usage("info", "Expecting one image file name");
	if (in->common.sandbox != CLI_SANDBOX_OFF && in->chain && cli_is_qemu())
		return cli_usage("info", "--sandbox and --backing-chain are mutually exclusive");
	in->image.how.path = argv[optind];
	in->image.how.no_data = true;
	in->image.how.qcow2.locked = true;
	return 0;
}

/* ---- one image ---- */

/* Of a qcow2 image in `file`, or of a node of another driver. */
static int node_describe(struct co *co, struct info *in, struct node *n, const char *driver, const char *name)
{
	AUTO_FREE struct qcow2_header *header = NULL;
	json_t *image;

	if (strcmp(driver, "qcow2") == 0) {
		header = malloc(sizeof(*header));
		if (!header)
			return err_set(&in->err, -ENOMEM, "no memory");
		if (qcow2_header_load(co, n, QCOW2_INCOMPAT_KNOWN, header, &in->err) < 0)
			return in->err.code;
	}
	image = describe_image(co, name, n, driver, header, &in->err);
	if (!image)
		return -EINVAL;
	return json_array_append_new(in->found, image);
}

static int one_describe(struct co *co, struct info *in)
{
	AUTO_FREE char *name = NULL;
	const char *driver;
	struct node *n;
	int status = cli_storage_open(co, &in->common, &in->image, &n, &driver), ret;

	if (status)
		return status;
	name = cli_image_name(&in->image, n);
	status = in->chain ? 0 : cli_confine(co, &in->common);
	ret = status ? 0 : node_describe(co, in, n, driver, name ? name : in->image.how.path);
	(void)!node_close(co, n);
	if (status)
		return status;
	return ret < 0 ? cli_complain("Could not open '%s': %s", in->image.how.path, in->err.text) : 0;
}

/* ---- the whole chain ---- */

static int layer_describe(struct co *co, struct info *in, struct node *layer)
{
	struct node *image = image_qcow2_of(layer);
	const struct node *file = image_file_of(layer);

	return node_describe(co, in, image ? image->file : layer, image ? "qcow2" : "raw", file ? file_path(file) : "");
}

static int chain_describe(struct co *co, struct info *in)
{
	struct node *top, *n;
	int status = cli_image_open(co, &in->common, &in->image, &top), ret = 0;

	if (status)
		return status;
	status = cli_confine(co, &in->common);
	for (n = status ? NULL : top; n && ret == 0; n = image_qcow2_of(n) ? image_qcow2_of(n)->backing : NULL)
		ret = layer_describe(co, in, n);
	(void)!node_close(co, top);
	if (status)
		return status;
	return ret < 0 ? cli_complain("Could not open '%s': %s", in->image.how.path, in->err.text) : 0;
}

static void print(const struct info *in)
{
	const json_t *image;
	size_t i;

	if (in->common.json) {
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

/* QEMU's way: each layer is opened for itself, by the name that the one above has for it. */
static int names_describe(struct co *co, struct info *in)
{
	int status = one_describe(co, in);

	while (!status) {
		const json_t *above = json_array_get(in->found, json_array_size(in->found) - 1);
		const char *name = json_string_value(json_object_get(above, "full-backing-filename"));

		if (!name)
			break;
		if (json_array_size(in->found) == NODE_MAX_DEPTH)
			return cli_complain("Backing file '%s' creates an infinite loop.", name);
		in->image.how.path = name;
		in->image.how.format = json_string_value(json_object_get(above, "backing-filename-format"));
		in->image.image_opts = false;
		status = one_describe(co, in);
	}
	return status;
}

static int run(struct co *co, void *arg)
{
	struct info *in = arg;

	if (!in->chain)
		return one_describe(co, in);
	return cli_is_qemu() ? names_describe(co, in) : chain_describe(co, in);
}

int cmd_info(int argc, char **argv)
{
	struct info in = {.common = {.command = "info"}, .found = json_array()};
	int status = parse(&in, argc, argv);

	if (status == 0) {
		status = cli_run(run, &in);
		if (status == 0)
			print(&in);
	} else {
		status = status < 0;
	}
	json_decref(in.found);
	cli_common_fini(&in.common);
	return status;
}
