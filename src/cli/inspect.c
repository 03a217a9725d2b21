/* SPDX-License-Identifier: MIT */
/*
 * corral inspect: a verdict on an image from a stranger, for importers. Nothing but the file itself is opened, read only, and
 * the work is bounded whatever its header claims.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "api/signature.h"
#include "base/cleanup.h"
#include "base/math.h"
#include "cli/cli.h"
#include "cli/describe.h"
#include "cli/options.h"
#include "cli/sandbox.h"
#include "file/file.h"
#include "qcow2/inspect.h"

static const char help[] =
	"Usage: corral inspect [OPTIONS] FILE\n"
	"\n"
	"Tells whether a disk image from a stranger can be used without harm: what format it has, how large a disk it claims to\n"
	"be, every file that it refers to, what it needs, and what in it can't be true. Nothing but FILE is opened, nothing is\n"
	"changed, and the work is bounded whatever the image claims. What it says of an image holds for as long as nobody\n"
	"changes the file.\n"
	"\n"
	"  -f, --format FORMAT      the format that FILE is said to have: another one is a malformed image\n"
	"  -U, --force-share        take no lock: the image may be in use\n"
	"      --output FORMAT      human (default) or json\n" CLI_SANDBOX_HELP
	"  -h, --help               print this\n"
	"\n"
	"Exit status: 0 safe: qcow2 or raw, and complete by itself; 1 it couldn't be read; 2 it refers to other files;\n"
	"3 it is malformed, corrupt or needs what nobody knows; 4 it has another format, which isn't judged here.\n";

enum verdict { SAFE = 0, FAILED = 1, REFERS = 2, MALFORMED = 3, FOREIGN = 4 }; /* the exit status */

static const char *verdict_name(enum verdict v)
{
	switch (v) {
	case SAFE: return "safe";
	case FAILED: return "failed";
	case REFERS: return "refers-to-others";
	case MALFORMED: return "malformed";
	case FOREIGN: return "foreign";
	}
	return "?";
}

struct inspect {
	const char *path, *format;
	bool no_lock, json;
	enum cli_sandbox sandbox;
	json_t *report, *references, *anomalies;
	struct qcow2_inspection *found;
	struct signature is;
	struct err err; /* not on a coroutine's stack */
};

enum { OPT_OUTPUT = 256, OPT_SANDBOX };

static const struct option long_options[] = {
	{"format", required_argument, NULL, 'f'},
	{"force-share", no_argument, NULL, 'U'},
	{"output", required_argument, NULL, OPT_OUTPUT},
	{"sandbox", optional_argument, NULL, OPT_SANDBOX},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int parse_one(struct inspect *in, int option, const char *culprit)
{
	switch (option) {
	case 'f': in->format = optarg; return 0;
	case 'U': in->no_lock = true; return 0;
	case OPT_OUTPUT: return cli_output_parse("inspect", optarg, &in->json);
	case OPT_SANDBOX: return cli_sandbox_parse("inspect", optarg, &in->sandbox);
	case ':': return cli_usage("inspect", "an argument is missing after '%s'", culprit);
	default: return cli_usage("inspect", "unknown option '%s'", culprit);
	}
}

/* 0; 1: help was printed; or negative. */
static int parse(struct inspect *in, int argc, char **argv)
{
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, ":f:Uh", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (parse_one(in, option, argv[optind - 1]) < 0)
			return -EINVAL;
	}
	if (optind + 1 != argc)
		return cli_usage("inspect", optind == argc ? "which image?" : "one image at a time");
	in->path = argv[optind];
	return 0;
}

/* ---- what is found ---- */

#define MOST_ANOMALIES 100

static void anomaly_add(void *arg, const char *text)
{
	struct inspect *in = arg;

	if (json_array_size(in->anomalies) < MOST_ANOMALIES)
		json_array_append_new(in->anomalies, describe_text(text));
}

/* Where a name from a header leads, as far as the name itself tells. */
static const char *where_of(const char *name)
{
	if (strncmp(name, "json:", 5) == 0)
		return "json";
	if (image_has_protocol(name) && strncmp(name, "file:", 5) != 0)
		return "protocol";
	if (name[0] == '/' || strncmp(name, "file:/", 6) == 0)
		return "absolute";
	return strcmp(name, "..") == 0 || strncmp(name, "../", 3) == 0 || strstr(name, "/../") ? "outside" : "beside";
}

static void reference_add(struct inspect *in, const char *kind, const char *name, const char *format)
{
	json_t *o;

	if (!name[0])
		return;
	o = json_pack("{s:s, s:o, s:s}", "kind", kind, "name", describe_text(name), "where", where_of(name));
	if (format[0])
		json_object_set_new(o, "format", describe_text(format));
	json_array_append_new(in->references, o);
}

static void put(struct inspect *in, const char *key, uint64_t value)
{
	json_object_set_new(in->report, key, json_integer((json_int_t)value));
}

static void features_put(struct inspect *in, const struct qcow2_header *h)
{
	static const char *const names[] = {"dirty", "corrupt", "data-file", "compression-type", "extended-l2"};
	json_t *features = json_array();
	char number[24];

	for (unsigned bit = 0; bit < 64; bit++) {
		if (!(h->incompatible >> bit & 1))
			continue;
		snprintf(number, sizeof(number), "unknown-%u", bit);
		json_array_append_new(features, json_string(bit < ARRAY_ENTRIES(names) ? names[bit] : number));
	}
	json_object_set_new(in->report, "incompatible-features", features);
}

static void qcow2_put(struct inspect *in)
{
	static const char *const encryptions[] = {NULL, "aes", "luks"};
	const struct qcow2_header *h = &in->found->header;

	put(in, "virtual-size", h->size);
	put(in, "version", h->version);
	put(in, "cluster-size", UINT64_C(1) << h->cluster_bits);
	put(in, "l2-tables", in->found->l2_tables);
	put(in, "snapshots", h->snapshots);
	put(in, "bitmaps", h->bitmaps);
	features_put(in, h);
	if (h->crypt_method > 0 && h->crypt_method < ARRAY_ENTRIES(encryptions))
		json_object_set_new(in->report, "encryption", json_string(encryptions[h->crypt_method]));
	reference_add(in, "backing-file", h->backing_name, h->backing_format);
	if (h->incompatible & QCOW2_INCOMPAT_DATA_FILE)
		reference_add(in, "data-file", h->data_file[0] ? h->data_file : "(not recorded)", "raw");
}

static int qcow2_look(struct co *co, struct inspect *in, struct node *file)
{
	int rc = qcow2_inspect(co, file, anomaly_add, in, in->found, &in->err);

	if (rc == 0 && in->found->has_header)
		qcow2_put(in);
	return rc;
}

/* A guest can write any header into its raw disk: what is said to be raw and looks like something else is a trap for
 * whoever looks at it later. */
static int file_look(struct co *co, struct inspect *in, struct node *file)
{
	AUTO_FREE char *text = NULL;
	int rc = signature_read(co, file, &in->is);

	if (rc < 0)
		return err_set(&in->err, rc, "'%s' can't be read: %s", in->path, strerror(-rc));
	json_object_set_new(in->report, "filename", describe_text(in->path));
	json_object_set_new(in->report, "format", json_string(in->is.format));
	if (in->is.layout)
		json_object_set_new(in->report, "layout", json_string(in->is.layout));
	put(in, "file-size", file->size);
	if (in->format && strcmp(in->format, in->is.format) != 0) {
		if (asprintf(&text, "it is said to be %s and begins like %s", in->format, in->is.format) < 0)
			text = NULL;
		anomaly_add(in, text ? text : "it hasn't the format that it is said to have");
	}
	if (strcmp(in->is.format, "qcow2") == 0)
		return qcow2_look(co, in, file);
	if (strcmp(in->is.format, "raw") == 0)
		put(in, "virtual-size", align_up(file->size, 512));
	return 0;
}

static enum verdict verdict_of(const struct inspect *in)
{
	if (json_array_size(in->anomalies) > 0)
		return MALFORMED;
	if (strcmp(in->is.format, "qcow2") != 0 && strcmp(in->is.format, "raw") != 0)
		return FOREIGN;
	return json_array_size(in->references) > 0 ? REFERS : SAFE;
}

/* ---- the report ---- */

/* A name comes from the stranger; a terminal must not take it for commands. */
static void safely_print(const char *before, const char *text, const char *after)
{
	fputs(before, stdout);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		bool control = *c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0);

		putchar(control ? '?' : *c);
	}
	fputs(after, stdout);
}

static void reference_print(const json_t *reference)
{
	printf("refers to: %s ", json_string_value(json_object_get(reference, "kind")));
	safely_print("'", json_string_value(json_object_get(reference, "name")), "'");
	printf(" (%s)\n", json_string_value(json_object_get(reference, "where")));
}

static void value_print(const char *key, const json_t *value)
{
	if (json_is_integer(value))
		printf("%s: %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
	if (!json_is_string(value))
		return;
	printf("%s: ", key);
	safely_print("", json_string_value(value), "\n");
}

static void lines_print(const struct inspect *in)
{
	const char *key;
	json_t *value, *item;
	size_t i;

	json_object_foreach(in->report, key, value) value_print(key, value);
	json_array_foreach(json_object_get(in->report, "incompatible-features"), i, item)
		printf("needs: %s\n", json_string_value(item));
	json_array_foreach(in->references, i, item) reference_print(item);
	json_array_foreach(in->anomalies, i, item) safely_print("anomaly: ", json_string_value(item), "\n");
}

static int report_print(struct inspect *in)
{
	enum verdict v = verdict_of(in);

	json_object_set_new(in->report, "verdict", json_string(verdict_name(v)));
	if (!in->json) {
		lines_print(in);
		return v;
	}
	json_object_set(in->report, "references", in->references);
	json_object_set(in->report, "anomalies", in->anomalies);
	json_dumpf(in->report, stdout, JSON_INDENT(4));
	putchar('\n');
	return v;
}

static int judge(struct co *co, struct inspect *in, struct node *file)
{
	return cli_sandbox_enter(co, in->sandbox, &(struct io_sandbox){0}, &in->err) < 0 || file_look(co, in, file) < 0
		? cli_complain("%s", in->err.text)
		: report_print(in);
}

static int run(struct co *co, void *arg)
{
	struct inspect *in = arg;
	struct file_open open = {.path = in->path, .no_lock = in->no_lock};
	struct node *file;
	int status;

	if (file_open(co, &open, &file, &in->err) < 0)
		return cli_complain("%s", in->err.text);
	status = judge(co, in, file);
	(void)!node_close(co, file);
	return status;
}

int cmd_inspect(int argc, char **argv)
{
	struct inspect in = {0};
	enum io_engine engine;
	int status = parse(&in, argc, argv);

	if (status != 0)
		return status > 0 ? 0 : 1;
	if (cli_engine(NULL, &engine) < 0)
		return 1;
	in.found = calloc(1, sizeof(*in.found));
	in.report = json_object();
	in.references = json_array();
	in.anomalies = json_array();
	status = in.found && in.report && in.references && in.anomalies ? cli_in_coroutine(engine, run, &in)
									: cli_complain("no memory");
	json_decref(in.report);
	json_decref(in.references);
	json_decref(in.anomalies);
	free(in.found);
	return status;
}
