/* SPDX-License-Identifier: MIT */
/* corral map: which parts of a disk hold data, in which layer and where, as qemu-img map tells it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/cli.h"
#include "cli/map_svg.h"
#include "cli/open.h"
#include "file/file.h"

static const char help[] =
	"Usage: corral map [OPTIONS] FILE\n"
	"\n"
	"Shows where the content of a disk lies: which ranges hold data, in which file of the backing chain, and where there.\n"
	"\n"
	"  -f, --format FORMAT      the image is qcow2 or raw (default: look at it)\n"
	"  -U, --force-share        take no lock: the image may be in use\n"
	"  -s, --start-offset N     begin at byte N of the disk\n"
	"  -l, --max-length N       look at no more than N bytes\n"
	"      --snapshot SNAPSHOT  the disk as it was in this snapshot (ID or name)\n"
	"      --allow DIR          a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all     ... no file at all; any file\n"
	"      --data-file FILE     the image's external data file (default: the one that the image names)\n"
	"      --image-opts         FILE is a list of options: driver=qcow2,file.filename=...\n" CLI_KEY_SECRET_HELP
	"      --output FORMAT      human (default: only what holds data) or json (everything)\n"
	"      --svg PICTURE        draw where in its file the disk's clusters lie, instead: PICTURE is written as SVG\n" CLI_SANDBOX_HELP
	"  -h, --help               print this\n"
	"\n"
	"JSON: start and length of the range, the depth of the layer that answered (0 is FILE), whether it is present in a\n"
	"layer at all, reads as zeros, holds data, and, where it lies as it is in the layer's file, the offset there.\n";

struct map {
	struct cli_common common;
	struct cli_image image;
	uint64_t start, length;
	const char *svg; /* where a picture is to be written, or NULL */
	char *picture;
};

enum { OPT_SNAPSHOT = 256, OPT_SVG };

static const struct option long_options[] = {
	{"start-offset", required_argument, NULL, 's'},
	{"max-length", required_argument, NULL, 'l'},
	{"snapshot", required_argument, NULL, OPT_SNAPSHOT},
	{"svg", required_argument, NULL, OPT_SVG},
	{"output", required_argument, NULL, CLI_OPT_OUTPUT},
	CLI_LONG_IMAGE,
	CLI_LONG_SANDBOX,
	CLI_LONG_COMMON,
	{0},
};

static int parse_one(struct map *m, int option, const char *culprit)
{
	switch (option) {
	case 's': return cli_number_parse("start offset", optarg, &m->start);
	case 'l': return cli_number_parse("max length", optarg, &m->length);
	case OPT_SNAPSHOT: m->image.how.qcow2.snapshot = optarg; return 0;
	case OPT_SVG: m->svg = optarg; return 0;
	default: return cli_option(&m->common, &m->image, option, culprit, help);
	}
}

/* 0; 1: help was printed; or negative. */
static int parse(struct map *m, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":f:s:l:hU", long_options, NULL)) != -1)
		ret = parse_one(m, option, argv[optind - 1]);
	if (ret != 0)
		return ret;
	if (optind + 1 != argc)
		return cli_usage("map", "Expecting one image file name");
	if (m->svg && m->common.sandbox != CLI_SANDBOX_OFF)
		return cli_usage("map", "--sandbox and --svg are mutually exclusive");
	m->image.how.path = argv[optind];
	m->image.how.qcow2.locked = true;
	return 0;
}

/* ---- the ranges ---- */

struct range {
	uint64_t start, length;
	struct node_status is;
};

static bool continues(const struct range *r, const struct node_status *next)
{
	return r->is.zero == next->zero && r->is.allocated == next->allocated && r->is.depth == next->depth &&
		r->is.compressed == next->compressed && r->is.has_host == next->has_host &&
		(!next->has_host || r->is.host.off + r->length == next->host.off);
}

/* Where a backing file is too short to answer, it is the layer above that answers, as qemu-img has it: that may keep space
 * there. */
static int status_above(struct co *co, struct node *n, uint64_t at, struct node_status *out)
{
	struct node_status above;
	int ret;

	for (out->depth--; n->backing != out->holder;)
		n = n->backing;
	ret = node_status(co, n, at, out->len, false, &above);
	above.depth = out->depth;
	above.zero = true;
	*out = above;
	return ret;
}

/* Disks come in whole sectors: the last one of a raw file is filled up with zeros. */
static int tail_get(struct node *n, uint64_t at, uint64_t len, struct node_status *out)
{
	*out = (struct node_status){
		.len = len, .zero = true, .allocated = true, .has_host = true, .host = {at}, .holder = n};
	return 0;
}

static int status_get(struct co *co, struct node *n, uint64_t at, uint64_t len, struct node_status *out)
{
	int ret = at >= n->size ? tail_get(n, at, len, out) : node_status(co, n, at, len, true, out);

	if (ret == 0 && !out->allocated && out->depth > 0 && at >= out->holder->size)
		ret = status_above(co, n, at, out);
	return ret;
}

/* The longest range from `at` that is alike throughout. */
static int range_find(struct co *co, struct node *n, uint64_t at, uint64_t end, struct range *out)
{
	struct node_status next;
	int ret = status_get(co, n, at, end - at, &out->is);

	out->start = at;
	out->length = out->is.len;
	while (ret == 0 && at + out->length < end) {
		ret = status_get(co, n, at + out->length, end - at - out->length, &next);
		if (ret < 0 || !continues(out, &next))
			break;
		out->length += next.len;
	}
	return ret;
}

static bool has_data(const struct range *r) { return r->is.allocated && !r->is.zero; }

static void json_print(const struct range *r, bool first)
{
	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
	       ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
		first ? "[" : ",\n", r->start, r->length, r->is.depth, r->is.allocated ? "true" : "false",
		r->is.zero ? "true" : "false", has_data(r) ? "true" : "false");
	if (r->is.has_host)
		printf(", \"offset\": %" PRIu64, r->is.host.off);
	putchar('}');
}

/* The file that data at host addresses of the layer lies in. */
static const char *layer_path(struct node *n)
{
	const struct node *file = image_file_of(n->data ? n->data : n);

	return file ? file_path(file) : "";
}

static int human_print(const struct range *r)
{
	if (!has_data(r))
		return 0;
	if (!r->is.has_host)
		return cli_complain("File contains external, encrypted or compressed clusters%s",
			cli_is_qemu() ? "." : "; use --output json");
	printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", r->start, r->length, r->is.host.off,
		layer_path(r->is.holder));
	return 0;
}

static int ranges_print(struct co *co, const struct map *m, struct node *n, uint64_t end)
{
	int status = 0;

	for (uint64_t at = m->start; at < end && status == 0;) {
		struct range r;
		int ret = range_find(co, n, at, end, &r);

		if (ret < 0)
			return cli_complain("'%s': the map at %#" PRIx64 " can't be read: %s", m->image.how.path, at,
				strerror(-ret));
		if (m->common.json)
			json_print(&r, at == m->start);
		else
			status = human_print(&r);
		at += r.length;
	}
	return status;
}

static int map_print(struct co *co, const struct map *m, struct node *n)
{
	uint64_t size = align_up(n->size, 512);
	uint64_t end = m->length != 0 && m->length < size - MIN(size, m->start) ? m->start + m->length : size;
	int status;

	if (!m->common.json)
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	status = ranges_print(co, m, n, end);
	if (m->common.json && m->start >= end && cli_is_qemu())
		json_print(&(struct range){.start = m->start}, true);
	else if (m->common.json && m->start >= end)
		putchar('[');
	if (m->common.json)
		puts("]");
	return status;
}

static int draw(struct co *co, struct map *m, struct node *n)
{
	struct err err;

	if (map_svg(co, n, m->image.how.path, &m->picture, &err) == 0)
		return 0;
	return cli_complain("'%s' can't be drawn: %s", m->image.how.path, err.text);
}

static int run(struct co *co, void *arg)
{
	struct map *m = arg;
	struct node *n;
	int status = cli_image_open(co, &m->common, &m->image, &n);

	if (status)
		return status;
	status = cli_confine(co, &m->common);
	if (!status)
		status = m->svg ? draw(co, m, n) : map_print(co, m, n);
	(void)!node_close(co, n);
	return status;
}

static int picture_write(const struct map *m)
{
	FILE *to = fopen(m->svg, "w");
	int failed = !to || fputs(m->picture, to) < 0;

	if (to)
		failed |= fclose(to) != 0;
	return failed ? cli_complain("Could not write '%s': %s", m->svg, strerror(errno)) : 0;
}

int cmd_map(int argc, char **argv)
{
	struct map m = {.common = {.command = "map"}};
	int status = parse(&m, argc, argv);

	status = status != 0 ? status < 0 : cli_run(run, &m);
	if (!status && m.picture)
		status = picture_write(&m);
	free(m.picture);
	cli_common_fini(&m.common);
	return status;
}
