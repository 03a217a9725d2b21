/* SPDX-License-Identifier: MIT */
/* corral bitmap: the persistent dirty bitmaps of an image, with qemu-img's options, words and exit statuses. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/open.h"

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
	"      --image-opts         FILE is a list of options: driver=qcow2,file.filename=...\n" CLI_KEY_SECRET_HELP
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
	struct cli_common common;
	struct cli_image image, source;
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
	CLI_LONG_IMAGE,
	CLI_LONG_COMMON,
	{0},
};

static int parse_one(struct bitmap *b, int option, const char *culprit)
{
	if (option >= OPT_ACTION && option <= OPT_ACTION + MERGE) {
		enum action_kind kind = (enum action_kind)(option - OPT_ACTION);

		b->actions[b->count++] = (struct action){kind, optarg};
		b->adds |= kind == ADD;
		b->merges |= kind == MERGE;
		return 0;
	}
	switch (option) {
	case 'b': b->source.how.path = optarg; return 0;
	case 'F': b->source.how.format = optarg; return 0;
	case 'g': return cli_number_parse("granularity", optarg, &b->granularity);
	default: return cli_option(&b->common, &b->image, option, culprit, help);
	}
}

static int together_check(const struct bitmap *b)
{
	if (b->count == 0)
		return cli_complain("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
	if (b->granularity && !b->adds)
		return cli_complain("granularity only supported with --add");
	if (b->source.how.format && !b->source.how.path)
		return cli_complain("-F only supported with -b");
	if (b->source.how.path && !b->merges)
		return cli_complain("Merge bitmap source file only supported with --merge");
	return 0;
}

/* 0; 1: help was printed; or negative. */
static int parse(struct bitmap *b, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":b:f:F:g:hU", long_options, NULL)) != -1)
		ret = parse_one(b, option, argv[optind - 1]);
	if (ret != 0)
		return ret;
	if (optind != argc - 2) {
		cli_complain("Expecting filename and bitmap name");
		return -EINVAL;
	}
	b->image.how.path = argv[optind];
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

/* *qcow2: its image, to be changed. */
static int image_take(struct co *co, struct bitmap *b, struct cli_image *image, struct node **out, struct node **qcow2)
{
	int status = cli_image_open(co, &b->common, image, out);

	if (status)
		return status;
	*qcow2 = image_qcow2_of(*out);
	if (*qcow2)
		return 0;
	(void)!node_close(co, *out);
	if (image == &b->source)
		return cli_complain("Operation merge on bitmap %s failed: Dirty bitmap '%s' not found", b->name,
			b->actions[b->count - 1].source);
	return cli_complain("Operation %s on bitmap %s failed: Can't store persistent bitmaps to %s: %s",
		action_names[b->actions[0].kind], b->name, image->how.path, strerror(ENOTSUP));
}

static int actions_run(struct co *co, struct bitmap *b, struct node *n)
{
	struct node *source = NULL, *qcow2 = NULL;
	int status = b->source.how.path ? image_take(co, b, &b->source, &source, &qcow2) : 0;

	if (status)
		return status;
	status = act_all(co, b, n, qcow2);
	(void)!node_close(co, source);
	return status;
}

static int run(struct co *co, void *arg)
{
	struct bitmap *b = arg;
	struct node *n, *qcow2;
	int status = image_take(co, b, &b->image, &n, &qcow2), closed;

	if (status)
		return status;
	status = actions_run(co, b, qcow2);
	closed = node_close(co, n);
	if (closed < 0 && !status)
		status = cli_complain("%s: the bitmap may not be stored: %s", b->image.how.path, strerror(-closed));
	return status;
}

int cmd_bitmap(int argc, char **argv)
{
	AUTO_FREE struct action *actions = calloc((size_t)argc, sizeof(*actions));
	struct bitmap b = {
		.common = {.command = "bitmap"},
		.image.how = {.write = true, .no_backing = true},
		.source.how = {.no_backing = true},
		.actions = actions,
	};
	int status = actions ? parse(&b, argc, argv) : -ENOMEM;

	status = status == 0 ? cli_run(run, &b) : status < 0;
	cli_common_fini(&b.common);
	return status;
}
