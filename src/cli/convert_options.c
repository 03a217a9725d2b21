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
	"  -t, --cache CACHE            of the target: none, writeback, writethrough, directsync or unsafe (default: all is on\n"
	"                               disk at the end)\n"
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
	OPT_OBJECT = 256,
	OPT_KEY_SECRET,
	OPT_SALVAGE,
	OPT_TARGET_IS_ZERO,
	OPT_BITMAPS,
	OPT_SKIP_BROKEN,
	OPT_ALLOW,
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
	{"force-share", no_argument, NULL, 'U'},
	{"progress", no_argument, NULL, 'p'},
	{"quiet", no_argument, NULL, 'q'},
	{"object", required_argument, NULL, OPT_OBJECT},
	{"key-secret", required_argument, NULL, OPT_KEY_SECRET},
	{"salvage", no_argument, NULL, OPT_SALVAGE},
	{"target-is-zero", no_argument, NULL, OPT_TARGET_IS_ZERO},
	{"bitmaps", no_argument, NULL, OPT_BITMAPS},
	{"skip-broken-bitmaps", no_argument, NULL, OPT_SKIP_BROKEN},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{"help", no_argument, NULL, 'h'},
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

static int set_snapshot_part(void *arg, const char *name, const char *value)
{
	struct convert *c = arg;

	if (strcmp(name, "snapshot.id") == 0)
		return set_text(&c->snapshot_id, value);
	if (strcmp(name, "snapshot.name") == 0)
		return set_text(&c->snapshot_name, value);
	cli_complain("Invalid parameter '%s'", name);
	return -EINVAL;
}

static int set_snapshot(struct convert *c, const char *value)
{
	c->snapshot = value;
	if (strncmp(value, "snapshot.", 9) != 0)
		return 0;
	if (cli_options_parse(value, set_snapshot_part, c) < 0) {
		cli_complain("Failed in parsing snapshot param '%s'", value);
		return -EINVAL;
	}
	return 0;
}

static int set_sparse(struct convert *c, const char *value)
{
	if (cli_size_parse(value, &c->sparse) < 0 || c->sparse % SECTOR != 0 || c->sparse > MOST_SPARSE) {
		cli_complain(
			"Invalid buffer size for sparse output specified. Valid sizes are multiples of %u up to %" PRIu64
			". Select 0 to disable sparse detection (fully allocates output).",
			SECTOR, MOST_SPARSE);
		return -EINVAL;
	}
	c->sparse_given = true;
	return 0;
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

static int set_rate(struct convert *c, const char *value)
{
	if (cli_size_parse(value, &c->rate) == 0)
		return 0;
	cli_complain("Invalid rate limit specified. You may use k, M, G, T, P or E suffixes for");
	cli_complain("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
	return -EINVAL;
}

static int set_cache(const char *value, const char *what, enum image_cache *to)
{
	if (image_cache_parse(value, to) == 0)
		return 0;
	cli_complain("Invalid %scache option: %s", what, value);
	return -EINVAL;
}

static int set_options(struct convert *c, const char *list)
{
	c->has_options = true;
	return create_options_add(&c->create, list);
}

static int set_flag(bool *flag)
{
	*flag = true;
	return 0;
}

static int parse_long(struct convert *c, int option, const char *culprit)
{
	switch (option) {
	case OPT_OBJECT: return cli_secret_add(&c->create.secrets, "convert", optarg);
	case OPT_KEY_SECRET: return cli_secret_key(&c->create.secrets, "convert", optarg);
	case OPT_SALVAGE: return set_flag(&c->salvage);
	case OPT_TARGET_IS_ZERO: return set_flag(&c->target_is_zero);
	case OPT_BITMAPS: return set_flag(&c->bitmaps);
	case OPT_SKIP_BROKEN: return set_flag(&c->skip_broken_bitmaps);
	case OPT_ALLOW: return cli_allow_add(&c->allow, "convert", optarg);
	case ':': return cli_usage("convert", "missing argument for option '%s'", culprit);
	default: return cli_usage("convert", "unrecognized option '%s'", culprit);
	}
}

static int parse_one(struct convert *c, int option, const char *culprit)
{
	switch (option) {
	case 'f': c->source_format = optarg; return 0;
	case 'O': c->format = optarg; return 0;
	case 'o': return set_options(c, optarg);
	case 'B': return set_text(&c->create.backing, optarg);
	case 'F': return set_text(&c->create.backing_format, optarg);
	case 'c': return set_flag(&c->compressed);
	case 'l': return set_snapshot(c, optarg);
	case 'n': return set_flag(&c->skip_create);
	case 'S': return set_sparse(c, optarg);
	case 'm': return set_requests(c, optarg);
	case 'W': return 0;
	case 'C': return set_flag(&c->offload);
	case 'r': return set_rate(c, optarg);
	case 't': c->cache_given = true; return set_cache(optarg, "", &c->cache);
	case 'T': return set_cache(optarg, "source ", &c->source_cache);
	case 'U': return set_flag(&c->force_share);
	case 'p': return set_flag(&c->progress);
	case 'q': return set_flag(&c->quiet);
	default: return parse_long(c, option, culprit);
	}
}

/* ---- together ---- */

static int together_check(const struct convert *c)
{
	if (c->skip_create && c->has_options)
		return complain("-o has no effect when skipping image creation");
	if (c->target_is_zero && !c->skip_create)
		return complain("--target-is-zero requires use of -n flag");
	if (c->compressed && c->offload)
		return complain("Cannot enable copy offloading when -c is used");
	if (c->sparse_given && c->offload)
		return complain("Cannot enable copy offloading when -S is used");
	if (c->skip_broken_bitmaps && !c->bitmaps)
		return complain("Use of --skip-broken-bitmaps requires --bitmaps");
	if (c->sources_n < 1)
		return complain("Must specify image file name");
	if (c->sources_n > 1 && c->snapshot)
		return complain("No support for concatenating multiple snapshot");
	if (c->sources_n > 1 && c->bitmaps)
		return complain("Copying bitmaps only possible with single source");
	return 0;
}

static int target_check(const struct convert *c)
{
	const struct create *t = &c->create;
	bool raw = strcmp(c->format, "raw") == 0;

	if (c->compressed && raw)
		return complain("Compression not supported for this file format");
	if (c->compressed && t->preallocation && strcmp(t->preallocation, "off") != 0)
		return complain("Compression and preallocation not supported at the same time");
	if (t->backing && !t->backing_format)
		return complain("Use of backing file requires explicit backing format");
	if (t->backing && c->sources_n > 1)
		return complain(
			"Having a backing file for the target makes no sense when concatenating multiple input images");
	return 0;
}

static int finish(struct convert *c, int argc, char **argv)
{
	int ret;

	c->sources_n = argc - optind > 1 ? (unsigned)(argc - optind - 1) : 0;
	c->sources = (const char **)argv + optind;
	c->target = c->create.path = c->sources_n > 0 ? argv[argc - 1] : NULL;
	c->create.format = c->format;
	c->create.quiet = c->create.has_size = true;
	ret = together_check(c);
	if (ret == 0)
		ret = target_check(c);
	if (ret == 0 && !c->skip_create)
		ret = create_options_check(&c->create);
	if (ret == 0 && c->compressed && c->create.how.luks)
		ret = complain("Compression and encryption not supported at the same time");
	return ret;
}

void convert_free(struct convert *c)
{
	free(c->snapshot_id);
	free(c->snapshot_name);
	create_free(&c->create);
}

int convert_parse(struct convert *c, int argc, char **argv)
{
	int option, ret = 0;

	*c = (struct convert){.format = "raw", .sparse = COPY_SPARSE_BYTES};
	create_init(&c->create);
	optind = 1;
	while (ret == 0 &&
		(option = getopt_long(argc, argv, ":f:O:o:B:F:cl:nS:m:WCr:t:T:Upqh", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		ret = parse_one(c, option, argv[optind - 1]);
	}
	return ret < 0 ? ret : finish(c, argc, argv);
}
