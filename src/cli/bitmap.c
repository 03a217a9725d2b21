/* SPDX-License-Identifier: MIT */
/* corral bitmap: the persistent dirty bitmaps of an image, with qemu-img's options, words and exit statuses. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/options.h"

static const char help[] =
	"Usage: corral bitmap (--add | --remove | --clear | --enable | --disable | --merge SOURCE)... [OPTIONS] FILE BITMAP\n"
	"\n"
	"Changes the persistent bitmap BITMAP of the qcow2 image FILE, by one or more actions in the order given. A bitmap says\n"
	"which parts of the disk were written since it was added or cleared, for as long as it was enabled.\n"
	"\n"
	"      --add                make it, enabled and empty\n"
	"      --remove             remove it\n"
	"      --clear              let it say that nothing was written\n"
	"      --enable             let it follow all changes from now on\n"
	"      --disable            let it stay as it is\n"
	"      --merge SOURCE       add what the bitmap SOURCE says\n"
	"  -b, --source-file FILE   ... of this image (default: of the same)\n"
	"  -F, --source-format FMT  ... in this format (default: look at it)\n"
	"  -g, --granularity BYTES  with --add: how much of the disk a bit stands for; a power of two from 512 (default: the\n"
	"                           cluster size, but 4k to 64k)\n"
	"  -f, --format FORMAT      the image is qcow2 (default: look at it)\n"
	"  -h, --help               print this\n"
	"\n"
	"Examples:\n"
	"  corral bitmap --add vm1.qcow2 daily\n"
	"  corral bitmap --merge daily --clear vm1.qcow2 weekly\n";

enum action_kind { ADD, REMOVE, CLEAR, ENABLE, DISABLE, MERGE };

static const char *const action_names[] = {"add", "remove", "clear", "enable", "disable", "merge"};

struct action {
	enum action_kind kind;
	const char *source;
};

struct bitmap {
	struct image_open image, source;
	const char *name;
	struct action *actions;
	unsigned count;
	bool adds, merges;
	uint64_t granularity;
	struct err err; /* here, since a coroutine's stack is small */
};

enum { OPT_ACTION = 256 };

static const struct option long_options[] = {
	{"add", no_argument, NULL, OPT_ACTION + ADD},
	{"remove", no_argument, NULL, OPT_ACTION + REMOVE},
	{"clear", no_argument, NULL, OPT_ACTION + CLEAR},
	{"enable", no_argument, NULL, OPT_ACTION + ENABLE},
	{"disable", no_argument, NULL, OPT_ACTION + DISABLE},
	{"merge", required_argument, NULL, OPT_ACTION + MERGE},
	{"source-file", required_argument, NULL, 'b'},
	{"source-format", required_argument, NULL, 'F'},
	{"granularity", required_argument, NULL, 'g'},
	{"format", required_argument, NULL, 'f'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int granularity_parse(struct bitmap *b, const char *text)
{
	if (cli_size_parse(text, &b->granularity) == 0 && b->granularity > 0)
		return 0;
	cli_complain("Invalid granularity specified. You may use k, M, G, T, P or E suffixes for");
	cli_complain("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
	return -EINVAL;
}

static int parse_one(struct bitmap *b, int option, const char *culprit)
{
	if (option >= OPT_ACTION) {
		enum action_kind kind = (enum action_kind)(option - OPT_ACTION);

		b->actions[b->count++] = (struct action){kind, optarg};
		b->adds |= kind == ADD;
		b->merges |= kind == MERGE;
		return 0;
	}
	switch (option) {
	case 'b': b->source.path = optarg; return 0;
	case 'F': b->source.format = optarg; return 0;
	case 'g': return granularity_parse(b, optarg);
	case 'f': b->image.format = optarg; return 0;
	case ':': return cli_usage("bitmap", "an argument is missing after '%s'", culprit);
	default: return cli_usage("bitmap", "unknown option '%s'", culprit);
	}
}

static int together_check(const struct bitmap *b)
{
	if (b->count == 0)
		return cli_complain("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
	if (b->granularity && !b->adds)
		return cli_complain("granularity only supported with --add");
	if (b->source.format && !b->source.path)
		return cli_complain("-F only supported with -b");
	if (b->source.path && !b->merges)
		return cli_complain("Merge bitmap source file only supported with --merge");
	return 0;
}

/* 0; 1: help was printed; or negative. */
static int parse(struct bitmap *b, int argc, char **argv)
{
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, ":b:F:g:f:h", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (parse_one(b, option, argv[optind - 1]) < 0)
			return -EINVAL;
	}
	if (optind != argc - 2) {
		cli_complain("Expecting filename and bitmap name");
		return -EINVAL;
	}
	b->image.path = argv[optind];
	b->name = argv[optind + 1];
	return together_check(b) ? -EINVAL : 0;
}

/* ---- actions ---- */

static int act(struct co *co, const struct bitmap *b, const struct action *a, struct node *n, struct node *source,
	struct err *err)
{
	switch (a->kind) {
	case ADD: return qcow2_bitmap_add(co, n, b->name, b->granularity, true, err);
	case REMOVE: return qcow2_bitmap_remove(co, n, b->name, err);
	case CLEAR: return qcow2_bitmap_clear(co, n, b->name, err);
	case ENABLE: return qcow2_bitmap_enable(co, n, b->name, true, err);
	case DISABLE: return qcow2_bitmap_enable(co, n, b->name, false, err);
	default: return qcow2_bitmap_merge(co, n, b->name, source ? source : n, a->source, err);
	}
}

static int act_all(struct co *co, struct bitmap *b, struct node *n, struct node *source)
{
	for (unsigned i = 0; i < b->count; i++) {
		if (act(co, b, &b->actions[i], n, source, &b->err) < 0)
			return cli_complain("Operation %s on bitmap %s failed: %s", action_names[b->actions[i].kind],
				b->name, b->err.text);
	}
	return 0;
}

static int image_take(struct co *co, struct bitmap *b, const struct image_open *how, struct node **out)
{
	if (image_open(co, how, out, &b->err) < 0)
		return cli_complain("Could not open '%s': %s", how->path, b->err.text);
	if (node_is_qcow2(*out))
		return 0;
	(void)!node_close(co, *out);
	return cli_complain("Could not use '%s': bitmaps are stored in qcow2 images", how->path);
}

static int run(struct co *co, void *arg)
{
	struct bitmap *b = arg;
	struct node *n, *source = NULL;
	int status = image_take(co, b, &b->image, &n), closed;

	if (status)
		return status;
	if (b->source.path)
		status = image_take(co, b, &b->source, &source);
	if (!status)
		status = act_all(co, b, n, source);
	if (source)
		(void)!node_close(co, source);
	closed = node_close(co, n);
	if (closed < 0 && !status)
		status = cli_complain("%s: the bitmap may not be stored: %s", b->image.path, strerror(-closed));
	return status;
}

int cmd_bitmap(int argc, char **argv)
{
	AUTO_FREE struct action *actions = calloc((size_t)argc, sizeof(*actions));
	struct bitmap b = {
		.image = {.write = true, .no_backing = true}, .source = {.no_backing = true}, .actions = actions};
	enum io_engine engine;
	int ret = actions ? parse(&b, argc, argv) : -ENOMEM;

	if (ret != 0)
		return ret > 0 ? 0 : 1;
	return cli_engine(NULL, &engine) < 0 ? 1 : cli_in_coroutine(engine, run, &b);
}
