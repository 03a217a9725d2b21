/* SPDX-License-Identifier: MIT */
/* corral amend: changes what a qcow2 image is, with the options, words and exit statuses of qemu-img amend. */
#include "cli/amend.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "api/image.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "file/file.h"

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
	"      --allow DIR            a header may name files in DIR, too (none, all; default: the directory of its image)\n" CLI_KEY_SECRET_HELP
	"  -h, --help                 print this\n"
	"\n"
	"Examples:\n"
	"  corral amend -o compat=1.1,lazy_refcounts=on old.qcow2\n"
	"  corral amend --object secret,id=now,file=key0 --object secret,id=new,file=key1 --key-secret now \\\n"
	"      -o encrypt.state=active,encrypt.new-secret=new disk.qcow2\n";

struct amend {
	struct image_open image;
	struct cli_allow allow;
	struct cli_secrets secrets;
	struct amend_options options;
	struct qcow2_amend how;
	struct progress progress;
	bool shown, quiet;
	uint64_t file_bytes;
	struct err err; /* not on a coroutine's stack */
};

enum { OPT_FORCE = 256, OPT_ALLOW, OPT_OBJECT, OPT_KEY_SECRET };

static const struct option long_options[] = {
	{"format", required_argument, NULL, 'f'},
	{"cache", required_argument, NULL, 't'},
	{"progress", no_argument, NULL, 'p'},
	{"quiet", no_argument, NULL, 'q'},
	{"force", no_argument, NULL, OPT_FORCE},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{"object", required_argument, NULL, OPT_OBJECT},
	{"key-secret", required_argument, NULL, OPT_KEY_SECRET},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int parse_cache(struct amend *a)
{
	if (image_cache_parse(optarg, &a->image.cache) == 0)
		return 0;
	cli_complain("Invalid cache option: %s", optarg);
	return -EINVAL;
}

static int parse_one(struct amend *a, int option, const char *culprit)
{
	switch (option) {
	case 'f': a->image.format = optarg; return 0;
	case 'o': return amend_options_add(&a->options, optarg);
	case 't': return parse_cache(a);
	case 'p': a->shown = true; return 0;
	case 'q': a->quiet = true; return 0;
	case OPT_FORCE: a->options.force = true; return 0;
	case OPT_ALLOW: return cli_allow_add(&a->allow, "amend", optarg);
	case OPT_OBJECT: return cli_secret_add(&a->secrets, "amend", optarg);
	case OPT_KEY_SECRET: return cli_secret_key(&a->secrets, "amend", optarg);
	case ':': return cli_usage("amend", "missing argument for option '%s'", culprit);
	default: return cli_usage("amend", "unrecognized option '%s'", culprit);
	}
}

static int refuse_format(const char *format)
{
	cli_complain("Format driver '%s' does not support option amendment", format);
	return -ENOTSUP;
}

/* 0; 1: help was printed; or negative. */
static int parse(struct amend *a, int argc, char **argv)
{
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, ":f:o:t:pqh", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (parse_one(a, option, argv[optind - 1]) < 0)
			return -EINVAL;
	}
	if (!a->options.any)
		return cli_usage("amend", "Must specify options (-o)");
	if (a->options.help && a->image.format && strcmp(a->image.format, "qcow2") == 0) {
		amend_options_help(stdout);
		return 1;
	}
	if (optind + 1 != argc)
		return cli_usage("amend", "Expecting one image file name");
	a->image.path = argv[optind];
	cli_allow_use(&a->allow, &a->image);
	return cli_secret_use(&a->secrets, "amend", &a->image);
}

/* In bytes of the file: what a step counts in is its own business. */
static bool show(void *arg, uint64_t done, uint64_t all)
{
	struct amend *a = arg;

	progress_show(
		&a->progress, all ? (uint64_t)((double)a->file_bytes * (double)done / (double)all) : 0, a->file_bytes);
	return true;
}

/* The image is closed in any case. */
static int amend_open(struct co *co, struct amend *a, struct node *n)
{
	int ret = amend_options_take(&a->options, &a->secrets, qcow2_node_header(n), &a->how);

	if (ret == 0 && a->how.size && a->how.size < n->size && !a->options.force)
		ret = cli_usage("amend",
			"the disk has %llu bytes, and what lies behind the new end would be lost; say --force",
			(unsigned long long)n->size);
	if (ret < 0) {
		(void)!node_close(co, n);
		return 1;
	}
	a->file_bytes = n->file->size;
	a->how.progress = show;
	a->how.arg = a;
	progress_begin(&a->progress, a->shown && !a->quiet, stdout);
	ret = qcow2_amend(co, n, &a->how, &a->err);
	progress_end(&a->progress, ret == 0);
	return ret < 0 ? cli_complain("%s", a->err.text) : 0;
}

static int run(struct co *co, void *arg)
{
	struct amend *a = arg;
	struct node *n;

	a->image.write = true;
	if (image_open(co, &a->image, &n, &a->err) < 0)
		return cli_complain("%s", a->err.text);
	if (node_is_qcow2(n) && !a->options.help)
		return amend_open(co, a, n);
	if (node_is_qcow2(n))
		amend_options_help(stdout);
	else
		refuse_format("raw");
	(void)!node_close(co, n);
	return a->options.help ? 0 : 1;
}

int cmd_amend(int argc, char **argv)
{
	struct amend a = {0};
	enum io_engine engine;
	int ret = parse(&a, argc, argv);

	if (ret == 0 && cli_engine(NULL, &engine) == 0)
		ret = cli_in_coroutine(engine, run, &a) ? -EINVAL : 1;
	amend_options_fini(&a.options);
	cli_secrets_fini(&a.secrets);
	return ret > 0 ? 0 : 1;
}
