/* SPDX-License-Identifier: MIT */
/* corral control: asks a running `corral serve` something, or tells it to do something, over its control socket. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "cli/cli.h"
#include "cli/describe.h"
#include "cli/json_line.h"
#include "cli/options.h"

static const char help[] =
	"Usage: corral control [OPTIONS] SOCKET COMMAND [ARGUMENT]\n"
	"\n"
	"Talks to a running 'corral serve --control unix:SOCKET'.\n"
	"\n"
	"Commands:\n"
	"  status                       which images and exports there are\n"
	"  stats                        what was asked for and how long it took\n"
	"  log-level [LEVEL]            show it, or set it: error, warning, info or debug\n"
	"  resize SIZE                  make a disk larger; guests are told\n"
	"  snapshot-create NAME         make a snapshot inside an image\n"
	"  snapshot-delete SNAPSHOT     remove one (ID or name)\n"
	"  snapshot-list                show those that there are\n"
	"  stop                         answer what was asked, close the images, and end\n"
	"  help                         the commands that this daemon knows\n"
	"\n"
	"Options:\n"
	"  -i, --image NAME             which image, where several are served\n"
	"      --shrink                 resize may also make a disk smaller; what lies behind its new end is lost\n"
	"      --output FORMAT          human (default) or json\n"
	"  -h, --help                   print this\n"
	"\n"
	"Examples:\n"
	"  corral control /run/vm1.control resize 40G\n"
	"  corral control -i data /run/vms.control snapshot-create before-upgrade\n";

enum { OPT_SHRINK = 256, OPT_OUTPUT };

static const struct option long_options[] = {
	{"image", required_argument, NULL, 'i'},
	{"shrink", no_argument, NULL, OPT_SHRINK},
	{"output", required_argument, NULL, OPT_OUTPUT},
	{"help", no_argument, NULL, 'h'},
	{0},
};

struct control {
	const struct control_command *command;
	const char *image;
	bool shrink, json;
	char *address;
	const char *argument; /* or NULL */
	struct json_line line;
	struct err err;
};

static const struct control_command {
	const char *name;
	const char *argument; /* its name; NULL: there is none */
	bool optional, number, of_image;
} commands[] = {
	{"status", NULL, false, false, false},
	{"stats", NULL, false, false, false},
	{"log-level", "level", true, false, false},
	{"resize", "size", false, true, true},
	{"snapshot-create", "name", false, false, true},
	{"snapshot-delete", "snapshot", false, false, true},
	{"snapshot-list", NULL, false, false, true},
	{"stop", NULL, false, false, false},
	{"help", NULL, false, false, false},
};

/* ---- the command line ---- */

static int command_find(struct control *c, const char *name)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(commands); i++) {
		if (strcmp(commands[i].name, name) == 0) {
			c->command = &commands[i];
			return 0;
		}
	}
	return cli_usage("control", "there is no command '%s'", name);
}

static int arguments_check(const struct control *c, int n)
{
	const struct control_command *command = c->command;

	if (n > (command->argument != NULL))
		return cli_usage("control", "%s takes %s argument", command->name, command->argument ? "one" : "no");
	if (n == 0 && command->argument && !command->optional)
		return cli_usage("control", "%s needs an argument", command->name);
	if (c->image && !command->of_image)
		return cli_usage("control", "%s isn't about an image", command->name);
	return 0;
}

static int parse_rest(struct control *c, int argc, char **argv)
{
	const char *socket = argv[optind];

	if (optind + 2 > argc)
		return cli_usage("control", "which socket, and what shall be done?");
	if (command_find(c, argv[optind + 1]) < 0 || arguments_check(c, argc - optind - 2) < 0)
		return -EINVAL;
	c->argument = argv[optind + 2];
	if (asprintf(&c->address, "%s%s", strncmp(socket, "unix:", 5) == 0 ? "" : "unix:", socket) < 0)
		return -ENOMEM;
	return 0;
}

static int parse_one(struct control *c, int option, const char *culprit)
{
	switch (option) {
	case 'i': c->image = optarg; return 0;
	case OPT_SHRINK: c->shrink = true; return 0;
	case OPT_OUTPUT: return cli_output_parse("control", optarg, &c->json);
	case ':': return cli_usage("control", "an argument is missing after '%s'", culprit);
	default: return cli_usage("control", "unknown option '%s'", culprit);
	}
}

/* 0; 1: help was printed; or negative. */
static int parse(struct control *c, int argc, char **argv)
{
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "+:i:h", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (parse_one(c, option, argv[optind - 1]) < 0)
			return -EINVAL;
	}
	return parse_rest(c, argc, argv);
}

/* ---- asking ---- */

static int argument_add(const struct control *c, json_t *args)
{
	uint64_t n;

	if (!c->argument)
		return 0;
	if (!c->command->number)
		return json_object_set_new(args, c->command->argument, json_string(c->argument));
	if (cli_size_parse(c->argument, &n) < 0 || n > INT64_MAX)
		return cli_usage(
			"control", "a size is a number with a suffix k, M, G or T at most, not '%s'", c->argument);
	return json_object_set_new(args, c->command->argument, json_integer((json_int_t)n));
}

static int request_make(const struct control *c, json_t **out)
{
	json_t *args = json_object();
	int r = argument_add(c, args);

	if (r == 0 && c->image)
		r = json_object_set_new(args, "image", json_string(c->image));
	if (r == 0 && c->shrink)
		r = json_object_set_new(args, "shrink", json_true());
	*out = r == 0 ? json_pack("{s:O}", c->command->name, args) : NULL;
	json_decref(args);
	return r;
}

static int ask(struct co *co, struct control *c, json_t *request, json_t **answer)
{
	int r = json_line_write(co, &c->line, request);

	if (r < 0)
		return err_set(&c->err, r, "the daemon is gone: %s", strerror(-r));
	return json_line_read(co, &c->line, answer, &c->err);
}

/* ---- printing ---- */

static void answer_part_print(const json_t *value, int indent);

static void member_print(const char *key, const json_t *value, int indent)
{
	bool nested = json_is_object(value) || json_is_array(value);

	printf("%*s%s:%s", indent, "", key, nested ? "\n" : " ");
	answer_part_print(value, nested ? indent + 2 : 0);
}

static void array_print(const json_t *value, int indent)
{
	const json_t *each;
	size_t i;

	json_array_foreach(value, i, each)
	{
		if (i > 0)
			putchar('\n');
		answer_part_print(each, indent);
	}
}

static void answer_part_print(const json_t *value, int indent)
{
	const json_t *each;
	const char *key;

	switch (json_typeof(value)) {
	case JSON_OBJECT:
		json_object_foreach((json_t *)value, key, each) { member_print(key, each, indent); }
		break;
	case JSON_ARRAY: array_print(value, indent); break;
	case JSON_STRING: printf("%*s%s\n", indent, "", json_string_value(value)); break;
	case JSON_INTEGER: printf("%*s%lld\n", indent, "", (long long)json_integer_value(value)); break;
	default: printf("%*s%s\n", indent, "", json_is_true(value) ? "yes" : "no");
	}
}

static void answer_print(const struct control *c, const json_t *value)
{
	if (c->json) {
		json_dumpf(value, stdout, JSON_INDENT(4) | JSON_ENCODE_ANY);
		putchar('\n');
	} else if (strcmp(c->command->name, "snapshot-list") == 0) {
		if (json_array_size(value) > 0)
			describe_snapshots_print(value);
	} else {
		answer_part_print(value, 0);
	}
}

/* ---- all of it ---- */

static int answer_take(const struct control *c, const json_t *answer)
{
	const char *error = json_string_value(json_object_get(answer, "error"));
	const json_t *value = json_object_get(answer, "return");

	if (error)
		return cli_complain("%s", error);
	if (!value)
		return cli_complain("%s: an answer that isn't understood here", c->address);
	answer_print(c, value);
	return 0;
}

static int run(struct co *co, void *arg)
{
	struct control *c = arg;
	json_t *request, *answer = NULL;
	int r = request_make(c, &request), status = 1;

	if (r < 0)
		return 1;
	r = io_connect(co, c->address, &c->line.sock, &c->err);
	if (r < 0) {
		json_decref(request);
		return cli_complain("%s", c->err.text);
	}
	r = ask(co, c, request, &answer);
	io_sock_close(co, c->line.sock);
	status = r < 0 ? cli_complain("%s: %s", c->address, c->err.text) : answer_take(c, answer);
	json_decref(answer);
	return status;
}

int cmd_control(int argc, char **argv)
{
	struct control *c = calloc(1, sizeof(*c));
	int status = c ? parse(c, argc, argv) : cli_complain("no memory");

	if (c)
		status = status == 0 ? cli_run(run, c) : status < 0;
	if (c)
		free(c->address);
	free(c);
	return status;
}
