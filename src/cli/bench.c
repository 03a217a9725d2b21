/* SPDX-License-Identifier: MIT */
/* corral bench: how fast an image is, in process, with the options and the words of qemu-img bench. */
#include "cli/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/cli.h"

static const char help[] =
	"Usage: corral bench [OPTIONS] FILE\n"
	"\n"
	"Reads an image, or writes it, as fast as it goes, and tells how long that took.\n"
	"\n"
	"  -c, --count N            so many requests (default 75000)\n"
	"  -d, --depth N            so many of them at a time (default 64)\n"
	"  -s, --buffer-size SIZE   of a request (default 4096)\n"
	"  -o, --offset OFFSET      where the first one begins (default 0)\n"
	"  -S, --step-size SIZE     the next one begins so far on (default: where the last one ends)\n"
	"  -w, --write              write; what was there is lost\n"
	"      --pattern BYTE       a byte of what is written (default 0)\n"
	"      --flush-interval N   flush after each N writes\n"
	"      --no-drain           ... and don't wait for the writes that are in flight\n"
	"      --random SEED        in an order that the number decides, wherever a request fits\n"
	"      --mix PERCENT        write, too: so many of a hundred requests are reads\n"
	"  -f, --format FORMAT      FILE is qcow2 or raw (default: look at it)\n"
	"      --image-opts         FILE is a list of options: driver=qcow2,file.filename=...\n"
	"  -t, --cache MODE         writeback (default), none, writethrough, directsync, unsafe\n"
	"  -i, --aio MODE           threads, native or io_uring\n"
	"  -n, --native             the same as -i native\n"
	"  -U, --force-share        take no lock: the image may be in use\n" CLI_KEY_SECRET_HELP
	"      --allow DIR          a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all     ... no file at all; any file\n"
	"  -q, --quiet              ignored\n"
	"      --output FORMAT      human (default), or json: with processor time, latencies, the event loop\n"
	"  -h, --help               print this\n";

struct arguments {
	struct cli_common common;
	struct cli_image image;
	struct bench bench;
	enum io_engine engine;
	bool native, has_pattern;
};

enum { OPT_PATTERN = 256, OPT_FLUSH_INTERVAL, OPT_NO_DRAIN, OPT_RANDOM, OPT_MIX };

static const struct option long_options[] = {
	{"count", required_argument, NULL, 'c'},
	{"depth", required_argument, NULL, 'd'},
	{"buffer-size", required_argument, NULL, 's'},
	{"offset", required_argument, NULL, 'o'},
	{"step-size", required_argument, NULL, 'S'},
	{"write", no_argument, NULL, 'w'},
	{"pattern", required_argument, NULL, OPT_PATTERN},
	{"flush-interval", required_argument, NULL, OPT_FLUSH_INTERVAL},
	{"no-drain", no_argument, NULL, OPT_NO_DRAIN},
	{"random", required_argument, NULL, OPT_RANDOM},
	{"mix", required_argument, NULL, OPT_MIX},
	{"cache", required_argument, NULL, 't'},
	{"aio", required_argument, NULL, 'i'},
	{"native", no_argument, NULL, 'n'},
	{"quiet", no_argument, NULL, 'q'},
	{"output", required_argument, NULL, CLI_OPT_OUTPUT},
	CLI_LONG_IMAGE,
	CLI_LONG_COMMON,
	{0},
};

/* ---- options ---- */

static int count_parse(const char *what, const char *text, unsigned least, unsigned most, unsigned *out)
{
	char *end;
	unsigned long n = strtoul(text, &end, 0);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || n < least || n > most)
		return cli_complain("Invalid %s specified", what), -EINVAL;
	*out = (unsigned)n;
	return 0;
}

static int pattern_parse(struct arguments *a, const char *text)
{
	unsigned byte = 0;
	int ret = count_parse("pattern byte", text, 0, UINT8_MAX, &byte);

	a->bench.pattern = (uint8_t)byte;
	return ret;
}

static int seed_parse(struct bench *b, const char *text)
{
	unsigned seed = 0;
	int ret = count_parse("seed", text, 0, INT_MAX, &seed);

	b->seed = (seed + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15);
	return ret;
}

static int cache_parse(struct arguments *a, const char *mode)
{
	a->image.cache = mode;
	if (image_cache_parse(mode, &a->image.how.cache) == 0)
		return 0;
	return cli_complain("Invalid cache mode"), -EINVAL;
}

static int parse_one(struct arguments *a, int option, const char *culprit)
{
	struct bench *b = &a->bench;

	switch (option) {
	case 'c': return count_parse("request count", optarg, 0, INT_MAX, &b->requests);
	case 'd': return count_parse("queue depth", optarg, 1, INT_MAX, &b->depth);
	case 's': return cli_number_within("buffer size", optarg, 0, INT_MAX, &b->bytes);
	case 'S': return cli_number_within("step_size", optarg, 0, INT_MAX, &b->step);
	case 'o': return cli_number_within("offset", optarg, 0, INT64_MAX, &b->offset);
	case 'w': b->write = true; return 0;
	case 't': return cache_parse(a, optarg);
	case 'i': return cli_aio_parse(optarg, &a->engine, &a->native);
	case 'n': a->native = true; return 0;
	case OPT_PATTERN: return pattern_parse(a, optarg);
	case OPT_FLUSH_INTERVAL: return count_parse("flush interval", optarg, 0, INT_MAX, &b->flush_interval);
	case OPT_NO_DRAIN: b->no_drain = true; return 0;
	case OPT_RANDOM: return seed_parse(b, optarg);
	case OPT_MIX: b->mix = b->write = true; return count_parse("share of reads", optarg, 0, 100, &b->reads_percent);
	default: return cli_option(&a->common, &a->image, option, culprit, help);
	}
}

static int together_check(struct arguments *a)
{
	struct bench *b = &a->bench;
	const char *path = a->image.how.path;

	if (!b->write && b->flush_interval)
		return cli_complain("--flush-interval is only available in write tests"), -EINVAL;
	if (b->flush_interval && b->flush_interval < b->depth)
		return cli_complain("Flush interval can't be smaller than depth"), -EINVAL;
	if (b->write && a->image.how.no_lock)
		return cli_complain("Could not open '%s': force-share=on can only be used with read-only images", path),
		       -EINVAL;
	if (a->native && a->image.how.cache != IMAGE_NONE && a->image.how.cache != IMAGE_DIRECTSYNC)
		return cli_complain("Could not open '%s': aio=native was specified, but it requires cache.direct=on, "
				    "which was not specified.",
			       path),
		       -EINVAL;
	if (b->mix && !b->seed)
		b->seed = 1;
	a->image.how.write = b->write;
	return 0;
}

/* 0; 1: all is done; or negative. */
static int parse(struct arguments *a, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":c:d:f:i:no:qs:S:t:wUh", long_options, NULL)) != -1)
		ret = parse_one(a, option, argv[optind - 1]);
	if (ret)
		return ret;
	if (optind != argc - 1)
		return cli_usage("bench", "Expecting one image file name");
	a->image.how.path = argv[optind];
	return together_check(a);
}

/* ---- the report ---- */

static void announce(const struct bench *b)
{
	printf("Sending %u %s requests, %" PRIu64 " bytes each, %u in parallel (starting at offset %" PRIu64
	       ", step size %" PRIu64 ")\n",
		b->requests, b->write ? "write" : "read", b->bytes, b->depth, b->offset, b->step ? b->step : b->bytes);
	if (b->flush_interval)
		printf("Sending flush every %u requests\n", b->flush_interval);
	fflush(stdout);
}

static double microseconds(uint64_t ns) { return (double)ns / 1e3; }

static json_t *counter_json(const struct export_counter *c)
{
	return json_pack("{s:I, s:f, s:f, s:f, s:f}", "requests", (json_int_t)c->requests, "p50-us",
		microseconds(export_counter_percentile(c, 500)), "p99-us",
		microseconds(export_counter_percentile(c, 990)), "p99.9-us",
		microseconds(export_counter_percentile(c, 999)), "max-us", microseconds(c->longest_ns));
}

static void report_json(const struct bench *b)
{
	json_t *all = json_pack("{s:f, s:f, s:f, s:f, s:I, s:f}", "seconds", (double)b->ns / 1e9, "requests-per-second",
		(double)b->requests * 1e9 / (double)MAX(b->ns, UINT64_C(1)), "cpu-seconds", b->cpu_s,
		"cpu-us-per-request", b->cpu_s * 1e6 / MAX(b->requests, 1u), "loop-turns", (json_int_t)b->turns.turns,
		"loop-longest-us", microseconds(b->turns.longest_ns));

	for (unsigned op = 0; op < EXPORT_OPS; op++) {
		if (b->stats.op[op].requests > 0)
			json_object_set_new(all, export_op_name((enum export_op)op), counter_json(&b->stats.op[op]));
	}
	json_dumpf(all, stdout, JSON_INDENT(4) | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(all);
}

/* ---- running ---- */

static int measure(struct co *co, struct arguments *a)
{
	struct bench *b = &a->bench;
	int ret;

	if (!a->common.json)
		announce(b);
	ret = bench_load_run(co, b);
	if (ret < 0)
		return cli_complain("Failed request: %s", strerror(-ret));
	if (a->common.json)
		report_json(b);
	else
		printf("Run completed in %3.3f seconds.\n", (double)b->ns / 1e9);
	return 0;
}

static int run(struct co *co, void *arg)
{
	struct arguments *a = arg;
	int status = cli_image_open(co, &a->common, &a->image, &a->bench.node), ret;

	if (status)
		return status;
	status = measure(co, a);
	ret = node_close(co, a->bench.node);
	if (ret < 0 && status == 0)
		status = cli_complain("%s: what was written can't be stored: %s", a->image.how.path, strerror(-ret));
	return status;
}

int cmd_bench(int argc, char **argv)
{
	struct arguments *a = calloc(1, sizeof(*a));
	int ret = a ? cli_engine(NULL, &a->engine) : -ENOMEM;

	if (!a)
		return cli_complain("no memory");
	a->common.command = "bench";
	a->bench.requests = 75000;
	a->bench.depth = 64;
	a->bench.bytes = 4096;
	if (ret == 0)
		ret = parse(a, argc, argv);
	if (ret == 0)
		ret = cli_in_coroutine(a->engine, run, a);
	else
		ret = ret < 0;
	cli_common_fini(&a->common);
	free(a);
	return ret;
}
