/* SPDX-License-Identifier: MIT */
/* corral measure: how much space an image will need, with the numbers and the words of qemu-img measure. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "cli/cli.h"
#include "cli/create.h"
#include "cli/source.h"
#include "qcow2/measure.h"

static const char help[] =
	"Usage: corral measure [OPTIONS] [--size SIZE | FILE]\n"
	"\n"
	"Tells how large the file of a new image will be: with the content of FILE, or of an empty disk of SIZE; and when all of\n"
	"the disk has been written.\n"
	"\n"
	"  -s, --size SIZE              of an empty disk\n"
	"  -f, --format FORMAT          FILE is qcow2 or raw (default: look at it)\n"
	"      --image-opts             FILE is a list of options: driver=qcow2,file.filename=...\n"
	"  -l, --snapshot SNAPSHOT      FILE as it was in this snapshot: an ID or a name, or snapshot.id=ID or\n"
	"                               snapshot.name=NAME or both\n"
	"  -O, --target-format FORMAT   the new image is qcow2 or raw (default)\n"
	"  -o NAME=VALUE,...            options of the new image, as of 'corral create'\n"
	"  -U, --force-share            take no lock: FILE may be in use\n"
	"      --allow DIR              a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all         ... no file at all; any file\n" CLI_KEY_SECRET_HELP
	"      --output FORMAT          human (default) or json\n"
	"  -h, --help                   print this\n";

struct measure {
	struct cli_common common;
	struct cli_image image;
	struct cli_source source;
	struct create create;
	bool has_size;
	uint64_t size;
	/* what is told */
	uint64_t required, full, bitmaps;
	bool has_bitmaps;
	struct err err;
};

static const struct option long_options[] = {
	{"size", required_argument, NULL, 's'},
	{"snapshot", required_argument, NULL, 'l'},
	{"target-format", required_argument, NULL, 'O'},
	{"output", required_argument, NULL, CLI_OPT_OUTPUT},
	CLI_LONG_IMAGE,
	CLI_LONG_COMMON,
	{0},
};

static int set_size(struct measure *m, const char *value)
{
	m->has_size = true;
	return cli_number_parse("image size", value, &m->size);
}

/* 0; 1: all is done; or negative, told. */
static int parse_one(struct measure *m, int option, const char *culprit)
{
	switch (option) {
	case 's': return set_size(m, optarg);
	case 'l': return cli_source_snapshot(&m->source, optarg);
	case 'O': m->create.format = optarg; return 0;
	case 'o': return create_options_note(&m->create, optarg);
	default: return cli_option(&m->common, &m->image, option, culprit, help);
	}
}

static int together_check(const struct measure *m, int files)
{
	const char *what = NULL;

	if (files > 1)
		what = "At most one filename argument is allowed.";
	else if (files == 0 && (m->image.how.format || m->source.snapshot || m->image.image_opts))
		what = "--image-opts, -f, and -l require a filename argument.";
	else if (files == 0 && !m->has_size)
		what = "Either --size N or one filename must be specified.";
	else if (files == 1 && m->has_size)
		what = "--size N cannot be used together with a filename.";
	if (what)
		cli_complain("%s", what);
	return what ? -EINVAL : 0;
}

static int parse(struct measure *m, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":s:f:l:O:o:Uh", long_options, NULL)) != -1)
		ret = parse_one(m, option, argv[optind - 1]);
	if (ret == 0)
		ret = together_check(m, argc - optind);
	m->create.path = "";
	m->create.has_size = true;
	m->image.how.path = argv[optind];
	if (ret == 0 && create_lists_take(&m->create) < 0)
		ret = cli_is_qemu() ? (cli_complain("Invalid options for file format '%s'", m->create.format), -EINVAL)
				    : -EINVAL;
	return ret ? ret : create_options_check(&m->create);
}

/* ---- measuring ---- */

/* The clusters that will be needed for what the image holds, in bytes. */
static int count_data(struct co *co, const struct measure *m, struct node *n, uint64_t *bytes)
{
	uint64_t cluster = m->create.cluster_bytes, next;

	*bytes = 0;
	for (uint64_t at = 0; at < n->size; at = next) {
		struct node_status is;
		int ret = node_status(co, n, at, n->size - at, true, &is);

		if (ret < 0)
			return ret;
		next = at + is.len;
		if (is.zero)
			continue;
		next = align_up(next, cluster);
		*bytes += next - align_down(at, cluster);
	}
	return 0;
}

static int measure_qcow2(struct co *co, struct measure *m, struct node *n)
{
	const struct create *c = &m->create;
	uint64_t disk = align_up(m->size, c->cluster_bytes), data = 0;
	int ret;

	m->create.how.size = m->size;
	ret = qcow2_measure(&c->how, &m->full, &m->err);
	if (ret == 0 && n && !c->how.backing_name)
		ret = count_data(co, m, n, &data);
	if (c->how.backing_name && n)
		data = disk;
	if (c->how.preallocation == QCOW2_PREALLOCATE_FULL || c->how.preallocation == QCOW2_PREALLOCATE_FALLOC)
		data = disk;
	m->required = m->full - disk + data;
	n = n ? image_qcow2_of(n) : NULL;
	m->has_bitmaps = n && qcow2_node_header(n)->version >= 3;
	if (ret == 0 && m->has_bitmaps)
		ret = qcow2_measure_bitmaps(co, n, c->how.cluster_bits, &m->bitmaps, &m->err);
	return ret;
}

static void print(const struct measure *m)
{
	if (m->common.json) {
		puts("{");
		if (m->has_bitmaps)
			printf("    \"bitmaps\": %" PRIu64 ",\n", m->bitmaps);
		printf("    \"required\": %" PRIu64 ",\n    \"fully-allocated\": %" PRIu64 "\n}\n", m->required,
			m->full);
		return;
	}
	printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", m->required, m->full);
	if (m->has_bitmaps)
		printf("bitmaps size: %" PRIu64 "\n", m->bitmaps);
}

static int measure(struct co *co, struct measure *m, struct node *n)
{
	int ret = 0;

	if (n)
		m->size = n->size;
	if (m->create.raw)
		m->required = m->full = align_up(m->size, 512);
	else
		ret = measure_qcow2(co, m, n);
	if (ret < 0)
		return cli_complain("%s", m->err.code ? m->err.text : strerror(-ret));
	print(m);
	return 0;
}

static int run(struct co *co, void *arg)
{
	struct measure *m = arg;
	struct node *n = NULL;
	int status = m->has_size ? 0 : cli_source_open(co, &m->common, &m->source, &m->image, &n);

	if (status)
		return status;
	status = measure(co, m, n);
	(void)!node_close(co, n);
	return status;
}

int cmd_measure(int argc, char **argv)
{
	struct measure m = {.common.command = "measure"};
	enum io_engine engine;
	int ret, status = 1;

	create_init(&m.create, &m.common.secrets);
	m.create.format = "raw";
	m.create.command = "measure";
	ret = parse(&m, argc, argv);
	if (ret > 0)
		status = 0;
	else if (ret == 0 && cli_engine(NULL, &engine) == 0)
		status = cli_in_coroutine(engine, run, &m);
	create_free(&m.create);
	cli_source_fini(&m.source);
	cli_common_fini(&m.common);
	return status;
}
