/* SPDX-License-Identifier: MIT */
/* The command line of corral convert: qemu-img's options and words. */
#include "cli/convert.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

#define SECTOR 512u
#define MOST_REQUESTS 16u
#define MOST_SPARSE (UINT64_C(32768) * SECTOR)

static const char help[] =
	"Usage: corral convert [OPTIONS] SOURCE... TARGET\n"
	"\n"
	"Copies a disk into a new image, of another format or with other options; of several sources, one behind the other.\n"
	"- is standard input or output, which may be a pipe.\n"
	"\n"
	"      --image-opts             SOURCE is a list of options: driver=qcow2,file.filename=...\n"
	"      --target-image-opts      so is TARGET; with -n\n"
	"  -f, --source-format FORMAT   the sources are qcow2 or raw (default: look at each)\n"
	"  -O, --target-format FORMAT   the target becomes qcow2 or raw (default)\n"
	"  -o NAME=VALUE,...            options of the target, as of 'corral create'\n"
	"  -B, --backing FILE           the target stands on FILE, and what SOURCE has from its own backing file isn't copied\n"
	"  -F, --backing-format FORMAT  of that file\n"
	"  -c, --compress               write compressed clusters\n"
	"  -l, --snapshot SNAPSHOT      the disk as it was in this snapshot: an ID or a name, or snapshot.id=ID or\n"
	"                               snapshot.name=NAME or both\n"
	"  -n, --no-create              the target is there already, at least as large: it keeps its format and its options\n"
	"      --target-is-zero         with -n: it is known to read zeros everywhere\n"
	"  -S, --sparse-size SIZE       so many zeros together become a hole (default 4k); 0: the target is filled\n"
	"  -m, --parallel NUMBER        requests in flight, 1 to 16 (default 16)\n"
	"  -W, --oob                    writes may come in any order; they may in any case\n"
	"  -C, --copy-range-offload     leave the copying to the host's file system where it can\n"
	"  -r, --rate-limit RATE        bytes to be written in a second\n"
	"  -t, --cache CACHE            of the target: none, writeback, writethrough, directsync or unsafe (default: unsafe for\n"
	"                               a target that is made here, as with qemu-img; writeback: all is on disk at the end)\n"
	"  -T, --source-cache CACHE     of the sources (default writeback)\n"
	"  -U, --force-share            take no lock on the sources: they may be in use\n"
	"      --salvage                what can't be read becomes zeros, and is told\n"
	"      --bitmaps                copy the persistent dirty bitmaps, too\n"
	"      --skip-broken-bitmaps    ... but for those that are inconsistent\n"
	"      --allow DIR              a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all         ... no file at all; any file\n"
	"  -p, --progress               show how far it is; on a terminal with the rate and the time left\n"
	"  -q, --quiet                  print nothing but errors\n" CLI_KEY_SECRET_HELP
	"  -h, --help                   print this\n"
	"\n"
	"Examples:\n"
	"  corral convert -p -O qcow2 disk.raw disk.qcow2\n"
	"  corral convert -c -O qcow2 -o compression_type=zstd vm1.qcow2 archive.qcow2\n"
	"  corral convert -n -O raw vm1.qcow2 /dev/vg0/vm1\n";

enum {
	OPT_SALVAGE = 256,
	OPT_TARGET_IS_ZERO,
	OPT_TARGET_OPTS,
	OPT_BITMAPS,
	OPT_SKIP_BROKEN,
};

static const struct option long_options[] = {
	{"source-format", required_argument, NULL, 'f'},
	{"target-format", required_argument, NULL, 'O'},
	{"backing", required_argument, NULL, 'B'},
	{"backing-format", required_argument, NULL, 'F'},
	{"compress", no_argument, NULL, 'c'},
	{"snapshot", required_argument, NULL, 'l'},
	{"no-create", no_argument, NULL, 'n'},
	{"sparse-size", required_argument, NULL, 'S'},
	{"parallel", required_argument, NULL, 'm'},
	{"oob", no_argument, NULL, 'W'},
	{"copy-range-offload", no_argument, NULL, 'C'},
	{"rate-limit", required_argument, NULL, 'r'},
	{"cache", required_argument, NULL, 't'},
	{"source-cache", required_argument, NULL, 'T'},
	{"progress", no_argument, NULL, 'p'},
	{"quiet", no_argument, NULL, 'q'},
	{"salvage", no_argument, NULL, OPT_SALVAGE},
	{"target-is-zero", no_argument, NULL, OPT_TARGET_IS_ZERO},
	{"bitmaps", no_argument, NULL, OPT_BITMAPS},
	{"skip-broken-bitmaps", no_argument, NULL, OPT_SKIP_BROKEN},
	{"target-image-opts", no_argument, NULL, OPT_TARGET_OPTS},
	CLI_LONG_IMAGE,
	CLI_LONG_COMMON,
	{0},
};

static int complain(const char *text)
{
	cli_complain("%s", text);
	return -EINVAL;
}

static int set_text(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
	return *to ? 0 : -ENOMEM;
}

/* ---- single options ---- */

static int set_sparse(struct convert *c, const char *value)
{
	int ret = cli_number_parse("buffer size for sparse output", value, &c->sparse);

	c->sparse_given = true;
	if (ret < 0 || (c->sparse % SECTOR == 0 && c->sparse <= MOST_SPARSE))
		return ret;
	cli_complain("Invalid buffer size for sparse output specified. Valid sizes are multiples of %u up to %" PRIu64
		     ". Select 0 to disable sparse detection (fully allocates output).",
		SECTOR, MOST_SPARSE);
	return -EINVAL;
}

static int set_requests(struct convert *c, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 0);

	if (end == value || *end != '\0' || n < 1 || n > MOST_REQUESTS) {
		cli_complain("Invalid number of coroutines. Allowed number of coroutines is between 1 and %u",
			MOST_REQUESTS);
		return -EINVAL;
	}
	c->requests = (unsigned)n;
	return 0;
}

static int set_options(struct convert *c, const char *list)
{
	c->has_options = true;
	return create_options_note(&c->create, list);
}

static int set_flag(bool *flag)
{
	*flag = true;
	return 0;
}

static int parse_long(struct convert *c, int option, const char *culprit)
{
	switch (option) {
	case OPT_SALVAGE: return set_flag(&c->salvage);
	case OPT_TARGET_IS_ZERO: return set_flag(&c->target_is_zero);
	case OPT_TARGET_OPTS: return set_flag(&c->image.image_opts);
	case OPT_BITMAPS: return set_flag(&c->bitmaps);
	case OPT_SKIP_BROKEN: return set_flag(&c->skip_broken_bitmaps);
	default: return cli_option(&c->common, &c->source, option, culprit, help);
	}
}

/* 0; 1: all is done; or negative, told. */
static int parse_one(struct convert *c, int option, const char *culprit)
{
	switch (option) {
	case 'O': c->format = optarg; return 0;
	case 'o': return set_options(c, optarg);
	case 'B': return set_text(&c->create.backing, optarg);
	case 'F': return set_text(&c->create.backing_format, optarg);
	case 'c': return set_flag(&c->compressed);
	case 'l': return cli_source_snapshot(&c->as_it_was, optarg);
	case 'n': return set_flag(&c->skip_create);
	case 'S': return set_sparse(c, optarg);
	case 'm': return set_requests(c, optarg);
	case 'W': return 0;
	case 'C': return set_flag(&c->offload);
	case 'r': return cli_number_parse("rate limit", optarg, &c->rate);
	case 't': c->image.cache = optarg; return 0;
	case 'T': c->source.cache = optarg; return 0;
	default: return parse_long(c, option, culprit);
	}
}

/* ---- together ---- */

static int together_check(const struct convert *c)
{
	if (c->skip_create && c->has_options)
		return complain("-o has no effect when skipping image creation");
	if (c->image.image_opts && !c->skip_create)
		return complain("--target-image-opts requires use of -n flag");
	if (c->target_is_zero && !c->skip_create)
		return complain("--target-is-zero requires use of -n flag");
	if (c->salvage && c->offload)
		return complain("Cannot use copy offloading in salvaging mode");
	if (c->compressed && c->offload)
		return complain("Cannot enable copy offloading when -c is used");
	if (c->sparse_given && c->offload)
		return complain("Cannot enable copy offloading when -S is used");
	if (c->skip_broken_bitmaps && !c->bitmaps)
		return complain("Use of --skip-broken-bitmaps requires --bitmaps");
	if (c->sources_n < 1)
		return complain("Must specify image file name");
	if (c->sources_n > 1 && c->as_it_was.snapshot)
		return complain("No support for concatenating multiple snapshot");
	if (c->sources_n > 1 && c->bitmaps)
		return complain("Copying bitmaps only possible with single source");
	return 0;
}

static int target_check(const struct convert *c)
{
	const struct create *t = &c->create;
	bool raw = c->format && strcmp(c->format, "raw") == 0;

	if (c->compressed && raw)
		return complain("Compression not supported for this file format");
	if (c->compressed && t->encrypt.given[ENCRYPT_FORMAT])
		return complain("Compression and encryption not supported at the same time");
	if (c->compressed && t->preallocation && strcmp(t->preallocation, "off") != 0)
		return complain("Compression and preallocation not supported at the same time");
	if (t->backing && !t->backing_format)
		return complain("Use of backing file requires explicit backing format");
	if (t->backing && c->sources_n > 1)
		return complain(
			"Having a backing file for the target makes no sense when concatenating multiple input images");
	return 0;
}

/* A list of options says of the target what it is; else it is raw. */
static void target_take(struct convert *c, const char *target)
{
	if (!c->format && !c->image.image_opts)
		c->format = "raw";
	c->target = c->create.path = target;
	c->create.format = c->format ? c->format : "raw";
	c->create.command = "convert";
	c->create.quiet = c->create.check_late = true;
	c->source.source = true;
}

static int finish(struct convert *c, int argc, char **argv)
{
	int ret;

	c->sources_n = argc - optind > 1 ? (unsigned)(argc - optind - 1) : 0;
	c->sources = (const char **)argv + optind;
	target_take(c, c->sources_n > 0 ? argv[argc - 1] : NULL);
	if (create_help_wanted(&c->create))
		return create_help_print(&c->create, c->target != NULL);
	ret = together_check(c);
	if (ret == 0 && !c->skip_create)
		ret = create_lists_take(&c->create);
	c->create.has_size = true;
	if (ret == 0)
		ret = target_check(c);
	return ret == 0 && !c->skip_create ? create_options_check(&c->create) : ret;
}

void convert_free(struct convert *c)
{
	create_free(&c->create);
	cli_source_fini(&c->as_it_was);
	cli_common_fini(&c->common);
}

int convert_parse(struct convert *c, int argc, char **argv)
{
	int option, ret = 0;

	*c = (struct convert){.common.command = "convert", .sparse = COPY_SPARSE_BYTES};
	create_init(&c->create, &c->common.secrets);
	optind = 1;
	while (ret == 0 &&
		(option = getopt_long(argc, argv, ":f:O:o:B:F:cl:nS:m:WCr:t:T:Upqh", long_options, NULL)) != -1)
		ret = parse_one(c, option, argv[optind - 1]);
	return ret ? ret : finish(c, argc, argv);
}
