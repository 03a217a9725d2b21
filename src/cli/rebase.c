/* SPDX-License-Identifier: MIT */
/* corral rebase: another backing file for an overlay, with the options and the words of qemu-img rebase. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/driver.h"
#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/open.h"
#include "cli/progress.h"
#include "file/file.h"
#include "job/rebase.h"

static const char help[] =
	"Usage: corral rebase [OPTIONS] -b BACKING -F FORMAT FILE\n"
	"       corral rebase [OPTIONS] -b '' FILE\n"
	"       corral rebase -u [OPTIONS] [-b BACKING -F FORMAT] FILE\n"
	"\n"
	"Gives FILE another backing file, or none. FILE reads as before: where it has nothing of its own, and the old backing\n"
	"file differs from the new one, it gets a copy. At any power cut it reads as before, on the old or on the new one.\n"
	"\n"
	"  -b, --backing BACKING        the new backing file; a relative path is relative to FILE; '': none\n"
	"  -F, -B, --backing-format FORMAT\n"
	"                               of the new backing file; required with one\n"
	"  -u, --backing-unsafe         only change the name: no backing file is looked at. For one that was moved; FILE\n"
	"                               reads something else if the new one isn't the same\n"
	"  -c, --compress               compress what is copied\n"
	"  -f, --format FORMAT          FILE is qcow2 (default: look at it)\n"
	"  -t, --cache MODE             how FILE is written: writeback (default), none, writethrough, directsync, unsafe\n"
	"  -T, --backing-cache MODE     how the new backing file is read\n"
	"  -U, --force-share            take no lock of the new backing file\n"
	"  -p, --progress               show how far it is\n"
	"  -q, --quiet                  print nothing but errors\n"
	"      --image-opts             FILE is a list of options: driver=qcow2,file.filename=...\n"
	"      --allow DIR              a header may name files in DIR, too (none, all; default: the directory of its image)\n"
	"      --data-file FILE         the image's external data file (default: the one that the image names)\n" CLI_KEY_SECRET_HELP
	"  -h, --help                   print this\n"
	"\n"
	"Examples:\n"
	"  corral rebase -b new-base.qcow2 -F qcow2 vm1.qcow2\n"
	"  corral rebase -u -b /images/base.qcow2 -F qcow2 vm1.qcow2      # it was moved there\n"
	"  corral rebase -b '' vm1.qcow2                                  # stands alone from now on\n";

struct rebase_command {
	struct cli_common common;
	struct cli_image image, backing;
	const char *name, *format; /* of the new backing file; NULL: not given */
	bool unsafe, compressed;
	struct node *top; /* the qcow2 image */
	struct progress progress;
	struct err err; /* not on a coroutine's stack */
};

static const struct option long_options[] = {
	{"backing", required_argument, NULL, 'b'},
	{"backing-format", required_argument, NULL, 'F'},
	{"backing-unsafe", no_argument, NULL, 'u'},
	{"compress", no_argument, NULL, 'c'},
	{"cache", required_argument, NULL, 't'},
	{"backing-cache", required_argument, NULL, 'T'},
	{"progress", no_argument, NULL, 'p'},
	{"quiet", no_argument, NULL, 'q'},
	CLI_LONG_IMAGE,
	CLI_LONG_COMMON,
	{0},
};

/* ---- the command line ---- */

static int parse_one(struct rebase_command *r, int option, const char *culprit)
{
	switch (option) {
	case 'b': r->name = optarg; return 0;
	case 'B':
	case 'F': r->format = optarg; return 0;
	case 'u': r->unsafe = true; return 0;
	case 'c': r->compressed = true; return 0;
	case 't': r->image.cache = optarg; return 0;
	case 'T': r->backing.cache = optarg; return 0;
	case 'U': r->backing.how.no_lock = true; return 0;
	default: return cli_option(&r->common, &r->image, option, culprit, help);
	}
}

/* 0; 1: help was printed; or negative. */
static int parse(struct rebase_command *r, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":hf:F:B:b:cupt:T:qU", long_options, NULL)) != -1)
		ret = parse_one(r, option, argv[optind - 1]);
	if (ret != 0)
		return ret;
	if (optind + 1 != argc)
		return cli_usage("rebase", "Expecting one image file name");
	if (!r->unsafe && !r->name)
		return cli_usage("rebase", "Must specify backing file (-b) or use unsafe mode (-u)");
	r->image.how.path = argv[optind];
	return 0;
}

/* ---- what is refused ---- */

static bool stands_on_one(const struct rebase_command *r) { return r->name && r->name[0]; }

static int complain(const struct rebase_command *r, const char *why)
{
	return cli_complain("Could not change the backing file to '%s': %s",
		r->name                 ? r->name
			: cli_is_qemu() ? "(null)"
					: "",
		why);
}

static int complain_of(const struct rebase_command *r, int ret)
{
	if (ret == -ENOSPC || ret == -ENAMETOOLONG)
		return complain(r, "No space left in the file header");
	return complain(r, cli_is_qemu() ? strerror(-ret) : r->err.text);
}

static int format_check(const struct rebase_command *r)
{
	if (!r->format || driver_find(r->format))
		return 0;
	return cli_complain("Invalid format name: '%s'", r->format);
}

/* Whatever else there is to say of the new name, as QEMU's tool does it at the end: here nothing has changed yet. */
static int name_check(struct rebase_command *r)
{
	int ret;

	if (!r->top)
		return complain(r, strerror(ENOTSUP));
	if (stands_on_one(r) && !r->format)
		return complain(r, "backing format must be specified");
	ret = qcow2_backing_check(r->top, stands_on_one(r) ? r->name : NULL, r->format, &r->err);
	return ret < 0 ? complain_of(r, ret) : 0;
}

/* ---- the new backing file ---- */

static int backing_how(struct rebase_command *r, const char *path, struct image_secret objects[CLI_SECRETS])
{
	struct cli_image *b = &r->backing;

	b->how.path = path;
	b->how.format = r->format;
	cli_allow_use(&r->common.allow, &b->how);
	b->how.objects = objects;
	b->how.objects_n = cli_secret_objects(&r->common.secrets, objects);
	return cli_secret_use(&r->common.secrets, "rebase", &b->how);
}

static int backing_open(struct co *co, struct rebase_command *r, const char *top, struct node **out)
{
	AUTO_FREE char *path = image_relative_path(top, r->name);
	struct image_secret objects[CLI_SECRETS];

	if (!path)
		return cli_complain("no memory");
	if (backing_how(r, path, objects) < 0)
		return 1;
	if (image_open_plain(co, &r->backing.how, out, &r->err) == 0)
		return 0;
	return cli_complain("Could not open new backing file '%s': %s", r->name, r->err.text);
}

static bool same_file(struct node *a, struct node *b)
{
	const struct node *fa = image_file_of(a), *fb = image_file_of(b);

	return fa && fb && file_info(fa)->device == file_info(fb)->device &&
		file_info(fa)->inode == file_info(fb)->inode && !image_qcow2_of(a) == !image_qcow2_of(b);
}

/* The layer of the old chain that the new backing file is; NULL: none. */
static struct node *layer_of_chain(const struct node *top, struct node *fresh)
{
	struct node *n = top->backing;

	while (n && !same_file(n, fresh)) {
		n = image_qcow2_of(n);
		n = n ? n->backing : NULL;
	}
	return n;
}

/* ---- the work ---- */

static bool show(void *arg, uint64_t done, uint64_t all)
{
	struct rebase_command *r = arg;

	progress_show(&r->progress, done, all);
	return true;
}

static int switch_over(struct co *co, void *arg, struct err *err)
{
	struct rebase_command *r = arg;

	return qcow2_backing_set(co, r->top, stands_on_one(r) ? r->name : NULL, r->format, err);
}

static int rebase(struct co *co, struct rebase_command *r, struct node *fresh)
{
	struct rebase_how how = {
		.top = r->top,
		.fresh = fresh,
		.compressed = r->compressed,
		.switch_over = switch_over,
		.progress = r->common.progress ? show : NULL,
		.arg = r,
	};
	int ret;

	qcow2_backing_expect(r->top);
	progress_begin(&r->progress, r->common.progress && !r->common.quiet, stdout);
	ret = r->unsafe ? switch_over(co, r, &r->err) : rebase_run(co, &how, &r->err);
	progress_end(&r->progress, ret == 0);
	if (ret == -ENOSPC || ret == -ENAMETOOLONG)
		return complain_of(r, ret);
	return ret < 0 ? cli_complain("%s", r->err.text) : 0;
}

/* The path that relative names are relative to. */
static const char *path_of(const struct rebase_command *r)
{
	const struct node *file = image_file_of(r->top);

	return file ? file_path(file) : r->image.how.path;
}

static int rebase_safely(struct co *co, struct rebase_command *r)
{
	struct node *fresh = NULL, *layer = NULL;
	int status = stands_on_one(r) ? backing_open(co, r, path_of(r), &fresh) : 0;

	if (status)
		return status;
	status = name_check(r);
	if (fresh)
		layer = layer_of_chain(r->top, fresh);
	if (!status)
		status = rebase(co, r, layer ? layer : fresh);
	(void)!node_close(co, fresh);
	return status;
}

static int rebase_open(struct co *co, struct rebase_command *r)
{
	int status = format_check(r);

	if (status)
		return status;
	if (r->top && !r->unsafe)
		return rebase_safely(co, r);
	status = name_check(r);
	return status ? status : rebase(co, r, NULL);
}

/* -T, as cli_image_open takes -t: which comes first. */
static int caches_check(const struct rebase_command *r)
{
	enum image_cache cache;

	if (r->image.cache && image_cache_parse(r->image.cache, &cache) < 0)
		return cli_complain("Invalid cache option: %s", r->image.cache);
	if (r->backing.cache && image_cache_parse(r->backing.cache, &cache) < 0)
		return cli_complain("Invalid source cache option: %s", r->backing.cache);
	return 0;
}

static int run(struct co *co, void *arg)
{
	struct rebase_command *r = arg;
	struct node *n;
	int status = caches_check(r), ret;

	if (status)
		return status;
	if (r->backing.cache)
		(void)!image_cache_parse(r->backing.cache, &r->backing.how.cache);
	r->image.how.write = true;
	r->image.how.no_backing = r->unsafe;
	status = cli_image_open(co, &r->common, &r->image, &n);
	if (status)
		return status;
	r->top = image_qcow2_of(n);
	status = rebase_open(co, r);
	ret = node_close(co, n);
	return ret < 0 && !status ? cli_complain("'%s': %s", r->image.how.path, strerror(-ret)) : status;
}

int cmd_rebase(int argc, char **argv)
{
	struct rebase_command *r = calloc(1, sizeof(*r));
	int status;

	if (!r)
		return cli_complain("no memory");
	r->common.command = "rebase";
	status = parse(r, argc, argv);
	status = status == 0 ? cli_run(run, r) : status < 0;
	cli_common_fini(&r->common);
	free(r);
	return status;
}
