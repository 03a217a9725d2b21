/* SPDX-License-Identifier: MIT */
/* corral amend: changes what a qcow2 image is, with the options, words and exit statuses of qemu-img amend. */
#include "cli/amend.h"

#include <errno.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/open.h"
#include "cli/progress.h"

static const char help[] =
	"Usage: corral amend [OPTIONS] -o NAME=VALUE,... FILE\n"
	"\n"
	"Changes options of a qcow2 image that nobody else uses; what it holds stays. Whatever can't be done is refused before\n"
	"anything has changed, and a power cut at any point leaves the old image, the new one, or one on the way, from which\n"
	"the same command goes on.\n"
	"\n"
	"  -o NAME=VALUE,...          what is to change; a comma in a value is written twice\n"
	"        compat=VERSION       1.1, or 0.10, where zero clusters over a backing file need space, and bitmaps are dropped\n"
	"        refcount_bits=N      1, 2, 4, 8, 16, 32 or 64\n"
	"        lazy_refcounts=on|off\n"
	"        size=SIZE            of the disk; a smaller one only with --force: what lies behind it is lost\n"
	"        data_file=NAME       name recorded for the external data file, where there is one\n"
	"        data_file_raw=off    the data file needn't be readable by itself any more\n"
	"        encrypt.state=active with encrypt.new-secret=ID, and encrypt.keyslot=N or the first free one,\n"
	"                             encrypt.iter-time=MS: a new passphrase\n"
	"        encrypt.state=inactive\n"
	"                             with encrypt.old-secret=ID, encrypt.keyslot=N or both: passphrases that go\n"
	"        help                 list all of them, as qemu-img does\n"
	"  -f, --format FORMAT        the image is qcow2 (default: look at it)\n"
	"  -t, --cache MODE           writeback (default), none, writethrough, directsync or unsafe\n"
	"  -p, --progress             show how far it is\n"
	"  -q, --quiet                print nothing but errors\n"
	"      --force                erase the last passphrase, replace one that is active, make the disk smaller\n"
	"      --image-opts           FILE is a list of options: driver=qcow2,file.filename=...\n"
	"      --allow DIR            a header may name files in DIR, too (none, all; default: the directory of its image)\n"
	"      --data-file FILE       the image's external data file (default: the one that the image names)\n" CLI_KEY_SECRET_HELP
	"  -h, --help                 print this\n"
	"\n"
	"Examples:\n"
	"  corral amend -o compat=1.1,lazy_refcounts=on old.qcow2\n"
	"  corral amend --object secret,id=now,file=key0 --object secret,id=new,file=key1 --key-secret now \\\n"
	"      -o encrypt.state=active,encrypt.new-secret=new disk.qcow2\n";

struct amend {
	struct cli_common common;
	struct cli_image image;
	struct amend_options options;
	struct qcow2_amend how;
	struct progress progress;
	uint64_t file_bytes;
	struct err err; /* not on a coroutine's stack */
};

enum { OPT_FORCE = 256 };

static const struct option long_options[] = {
	{"cache", required_argument, NULL, 't'},
	{"progress", no_argument, NULL, 'p'},
	{"quiet", no_argument, NULL, 'q'},
	{"force", no_argument, NULL, OPT_FORCE},
	CLI_LONG_IMAGE,
	CLI_LONG_COMMON,
	{0},
};

static int parse_one(struct amend *a, int option, const char *culprit)
{
	switch (option) {
	case 'o': return amend_options_add(&a->options, optarg);
	case 't': a->image.cache = optarg; return 0;
	case OPT_FORCE: a->options.force = true; return 0;
	default: return cli_option(&a->common, &a->image, option, culprit, help);
	}
}

static int refuse_format(const char *format)
{
	return cli_complain("Format driver '%s' does not support option amendment", format);
}

static int format_help(const char *format)
{
	if (strcmp(format, "qcow2") != 0)
		return refuse_format(format), -ENOTSUP;
	amend_options_help(stdout);
	return 1;
}

/* 0; 1: help was printed; or negative. */
static int parse(struct amend *a, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":ho:f:t:pq", long_options, NULL)) != -1)
		ret = parse_one(a, option, argv[optind - 1]);
	if (ret != 0)
		return ret;
	if (!a->options.lists)
		return cli_usage("amend", "Must specify options (-o)");
	if (a->options.help && a->image.how.format)
		return format_help(a->image.how.format);
	if (optind + 1 != argc)
		return cli_complain("Expecting one image file name"), -EINVAL;
	a->image.how.path = argv[optind];
	return 0;
}

/* In bytes of the file: what a step counts in is its own business. */
static bool show(void *arg, uint64_t done, uint64_t all)
{
	struct amend *a = arg;

	progress_show(
		&a->progress, all ? (uint64_t)((double)a->file_bytes * (double)done / (double)all) : 0, a->file_bytes);
	return true;
}

/* The secret that has opened the image: by --key-secret, or as its options have it. */
static struct crypto_secret unlocking(const struct amend *a)
{
	struct crypto_secret secret = {0};
	json_t *options = NULL;
	const char *id;

	if (a->common.secrets.keys_n > 0)
		return a->common.secrets.keys[0];
	if (!a->image.image_opts || options_parse(a->image.how.path, &options, NULL) < 0)
		return secret;
	id = options_text(options, "encrypt.key-secret");
	if (id && !cli_secret_find(&a->common.secrets, id, &secret))
		secret = (struct crypto_secret){0};
	json_decref(options);
	return secret;
}

/* QEMU's doesn't ask. */
static int shrink_check(const struct amend *a, const struct node *n)
{
	if (!a->how.size || a->how.size >= n->size || a->options.force || cli_is_qemu())
		return 0;
	return cli_usage("amend",
		"the disk has %llu bytes, and what lies behind the new end would be lost; say --force",
		(unsigned long long)n->size);
}

/* QEMU's loses them without a word. */
static void bitmaps_warn(const struct amend *a, uint32_t bitmaps)
{
	if (a->how.version == 2 && bitmaps && !cli_is_qemu())
		fprintf(stderr,
			"corral: warning: version 2 can't have persistent bitmaps; those of the image (%u) are gone\n",
			bitmaps);
}

/* The image is closed in any case. */
static int amend_open(struct co *co, struct amend *a, struct node *n)
{
	uint32_t bitmaps = qcow2_node_header(n)->bitmaps;
	int ret = amend_options_parse(&a->options);

	if (ret == 0)
		ret = amend_options_take(&a->options, &a->common.secrets, unlocking(a), qcow2_node_header(n), &a->how);
	if (ret == 0)
		ret = shrink_check(a, n);
	if (ret < 0) {
		(void)!node_close(co, n);
		return 1;
	}
	a->file_bytes = n->file->size;
	a->how.progress = show;
	a->how.arg = a;
	progress_begin(&a->progress, a->common.progress && !a->common.quiet, stdout);
	ret = qcow2_amend(co, n, &a->how, &a->err);
	progress_end(&a->progress, ret == 0);
	if (ret < 0)
		return cli_complain("%s", a->err.text);
	bitmaps_warn(a, bitmaps);
	return 0;
}

static int run(struct co *co, void *arg)
{
	struct amend *a = arg;
	bool amends = false;
	struct node *n;
	int status;

	a->image.how.write = true;
	status = cli_image_open(co, &a->common, &a->image, &n);
	if (status)
		return status;
	amends = node_is_qcow2(n);
	if (amends && !a->options.help)
		return amend_open(co, a, n);
	if (amends)
		amend_options_help(stdout);
	else
		refuse_format(a->image.how.format ? a->image.how.format : "raw");
	(void)!node_close(co, n);
	return !amends;
}

int cmd_amend(int argc, char **argv)
{
	struct amend a = {.common = {.command = "amend"}};
	int status = parse(&a, argc, argv);

	status = status == 0 ? cli_run(run, &a) : status < 0;
	amend_options_fini(&a.options);
	cli_common_fini(&a.common);
	return status;
}
