/* SPDX-License-Identifier: MIT */
/* corral map: which parts of a disk hold data, in which layer and where, as qemu-img map tells it. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "cli/cli.h"
#include "cli/options.h"

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
	"      --output FORMAT      human (default: only what holds data) or json (everything)\n"
	"  -h, --help               print this\n"
	"\n"
	"JSON: start and length of the range, the depth of the layer that answered (0 is FILE), whether it is present in a\n"
	"layer at all, reads as zeros, holds data, and, where it lies as it is in the layer's file, the offset there.\n";

struct map {
	struct image_open image;
	struct cli_allow allow;
	bool json;
	uint64_t start, length;
	struct err err; /* here, since a coroutine's stack is small */
};

enum { OPT_ALLOW = 256, OPT_DATA_FILE, OPT_OUTPUT, OPT_SNAPSHOT };

static const struct option long_options[] = {
	{"format", required_argument, NULL, 'f'},
	{"force-share", no_argument, NULL, 'U'},
	{"start-offset", required_argument, NULL, 's'},
	{"max-length", required_argument, NULL, 'l'},
	{"snapshot", required_argument, NULL, OPT_SNAPSHOT},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{"data-file", required_argument, NULL, OPT_DATA_FILE},
	{"output", required_argument, NULL, OPT_OUTPUT},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int parse_bytes(const char *text, uint64_t *out)
{
	return cli_size_parse(text, out) < 0 ? cli_usage("map", "'%s' is no number of bytes", text) : 0;
}

static int parse_one(struct map *m, int option, const char *culprit)
{
	switch (option) {
	case 'f': m->image.format = optarg; return 0;
	case 'U': m->image.no_lock = true; return 0;
	case 's': return parse_bytes(optarg, &m->start);
	case 'l': return parse_bytes(optarg, &m->length);
	case OPT_SNAPSHOT: m->image.qcow2.snapshot = optarg; return 0;
	case OPT_ALLOW: return cli_allow_add(&m->allow, "map", optarg);
	case OPT_DATA_FILE: m->image.data_file = optarg; return 0;
	case OPT_OUTPUT: return cli_output_parse("map", optarg, &m->json);
	case ':': return cli_usage("map", "an argument is missing after '%s'", culprit);
	default: return cli_usage("map", "unknown option '%s'", culprit);
	}
}

/* 0; 1: help was printed; or negative. */
static int parse(struct map *m, int argc, char **argv)
{
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, ":f:Us:l:h", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (parse_one(m, option, argv[optind - 1]) < 0)
			return -EINVAL;
	}
	if (optind + 1 != argc)
		return cli_usage("map", optind == argc ? "which image?" : "one image at a time");
	m->image.path = argv[optind];
	m->image.qcow2.locked = true;
	cli_allow_use(&m->allow, &m->image);
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

static int status_get(struct co *co, struct node *n, uint64_t at, uint64_t len, struct node_status *out)
{
	int ret = node_status(co, n, at, len, true, out);

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

/* What a name in the header of the image at path means; takes path. */
static char *path_from(char *path, const char *name)
{
	char *named = image_relative_path(path, name);

	free(path);
	return named;
}

/* The name of the file that the data of a layer lies in, by following the names from the top. NULL: no memory. */
static char *layer_path(const struct map *m, const struct node *n, unsigned depth)
{
	bool top = depth == 0;
	char *path = strdup(top && m->image.data_file ? m->image.data_file : m->image.path);

	for (; path && depth > 0 && node_is_qcow2(n); depth--, n = n->backing)
		path = path_from(path, qcow2_node_header(n)->backing_name);
	if (path && node_is_qcow2(n) && qcow2_node_header(n)->data_file[0] && !(top && m->image.data_file))
		path = path_from(path, qcow2_node_header(n)->data_file);
	return path;
}

static int human_print(const struct map *m, const struct node *n, const struct range *r)
{
	AUTO_FREE char *path = NULL;

	if (!has_data(r))
		return 0;
	if (!r->is.has_host)
		return cli_complain("File contains external, encrypted or compressed clusters; use --output json");
	path = layer_path(m, n, r->is.depth);
	printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", r->start, r->length, r->is.host.off,
		path ? path : "");
	return 0;
}

static int map_print(struct co *co, const struct map *m, struct node *n)
{
	uint64_t end = m->length != 0 && m->length < n->size - MIN(n->size, m->start) ? m->start + m->length : n->size;
	int status = 0;

	if (!m->json)
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	for (uint64_t at = m->start; at < end && status == 0;) {
		struct range r;
		int ret = range_find(co, n, at, end, &r);

		if (ret < 0)
			return cli_complain(
				"'%s': the map at %#" PRIx64 " can't be read: %s", m->image.path, at, strerror(-ret));
		if (m->json)
			json_print(&r, at == m->start);
		else
			status = human_print(m, n, &r);
		at += r.length;
	}
	if (m->json)
		puts(m->start < end ? "]" : "[]");
	return status;
}

static int run(struct co *co, void *arg)
{
	struct map *m = arg;
	struct node *n;
	int status;

	if (image_open(co, &m->image, &n, &m->err) < 0)
		return cli_complain("%s", m->err.text);
	status = map_print(co, m, n);
	(void)!node_close(co, n);
	return status;
}

int cmd_map(int argc, char **argv)
{
	struct map m = {0};
	enum io_engine engine;
	int ret = parse(&m, argc, argv);

	if (ret != 0)
		return ret > 0 ? 0 : 1;
	if (cli_engine(NULL, &engine) < 0)
		return 1;
	return cli_in_coroutine(engine, run, &m);
}
