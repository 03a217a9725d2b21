/* SPDX-License-Identifier: MIT */
/* corral io: reads, writes and examines a disk, command by command, as qemu-io does. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/options.h"
#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/io.h"
#include "cli/options.h"
#include "cli/tool.h"
#include "io/io.h"

#define COMMANDS 256
#define LINE_BYTES 65536u

static const char help[] =
	"Usage: corral io [OPTIONS] [-c COMMAND]... [FILE]\n"
	"\n"
	"Reads, writes and examines a disk: with the commands given, or those from standard input.\n"
	"\n"
	"  -c, --cmd COMMAND        a command and its arguments; may be given more than once\n"
	"  -f, --format FORMAT      the driver to open the image with: qcow2, raw, ... (default: look at it)\n"
	"      --image-opts         FILE is a list of options: driver=qcow2,file.filename=...\n"
	"  -r, --read-only          open it for reading alone\n"
	"  -s, --snapshot           what is written is forgotten at the end\n"
	"  -C, --copy-on-read       what is read from a backing file is written into the image\n"
	"  -n, --nocache            the same as -t none\n"
	"  -t, --cache MODE         writeback (default), none, writethrough, directsync, unsafe\n"
	"  -d, --discard MODE       unmap (default) or ignore\n"
	"  -m, --misalign           buffers that are aligned badly\n"
	"  -i, --aio MODE           threads, native or io_uring\n"
	"  -k, --native-aio         the same as -i native\n"
	"  -U, --force-share        take no lock: the image may be in use\n" CLI_KEY_SECRET_HELP
	"      --allow DIR              a header may also name files in DIR; may be given more than once\n"
	"      --allow none|all         ... no file at all; any file\n"
	"  -T, --trace WHAT         ignored\n"
	"  -h, --help               print this\n"
	"  -V, --version            print the version\n"
	"\n"
	"'corral io -c help' lists the commands. The status is 1 if one of them failed.\n";

struct io_arguments {
	struct cli_io_settings settings;
	struct cli_secrets secrets;
	struct cli_allow allow;
	const char *commands[COMMANDS];
	unsigned commands_n;
	enum io_engine engine;
	bool image_opts, misaligned;
};

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS, OPT_KEY_SECRET, OPT_ALLOW };

static const struct option long_options[] = {
	{"cmd", required_argument, NULL, 'c'},
	{"format", required_argument, NULL, 'f'},
	{"image-opts", no_argument, NULL, OPT_IMAGE_OPTS},
	{"read-only", no_argument, NULL, 'r'},
	{"snapshot", no_argument, NULL, 's'},
	{"copy-on-read", no_argument, NULL, 'C'},
	{"nocache", no_argument, NULL, 'n'},
	{"cache", required_argument, NULL, 't'},
	{"discard", required_argument, NULL, 'd'},
	{"misalign", no_argument, NULL, 'm'},
	{"aio", required_argument, NULL, 'i'},
	{"native-aio", no_argument, NULL, 'k'},
	{"force-share", no_argument, NULL, 'U'},
	{"object", required_argument, NULL, OPT_OBJECT},
	{"key-secret", required_argument, NULL, OPT_KEY_SECRET},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{"trace", required_argument, NULL, 'T'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};

/* ---- arguments ---- */

static int command_add(struct io_arguments *a, const char *command)
{
	if (a->commands_n == COMMANDS)
		return cli_complain("more than %d commands; give them on standard input", COMMANDS), -EINVAL;
	a->commands[a->commands_n++] = command;
	return 0;
}

static int parse_one(struct io_arguments *a, int option, const char *culprit)
{
	switch (option) {
	case 'c': return command_add(a, optarg);
	case 'f': a->settings.format = optarg; return 0;
	case 'r': a->settings.read_only = true; return 0;
	case 's': a->settings.snapshot = true; return 0;
	case 'C': a->settings.copy_on_read = true; return 0;
	case 'n': return cli_io_cache_set(&a->settings, "none");
	case 't': return cli_io_cache_set(&a->settings, optarg);
	case 'd': return cli_io_discard_set(&a->settings, optarg);
	case 'm': a->misaligned = true; return 0;
	case 'i': return cli_aio_parse(optarg, &a->engine, &a->settings.native);
	case 'k': a->settings.native = true; return 0;
	case 'U': a->settings.force_share = true; return 0;
	case 'T': return 0;
	case OPT_OBJECT: return cli_secret_add(&a->secrets, "io", optarg);
	case OPT_KEY_SECRET: return cli_secret_key(&a->secrets, "io", optarg);
	case OPT_ALLOW: return cli_allow_add(&a->allow, "io", optarg);
	case OPT_IMAGE_OPTS: a->image_opts = true; return 0;
	case ':': return cli_usage("io", "an argument is missing after '%s'", culprit);
	default: return cli_usage("io", "unknown option '%s'", culprit);
	}
}

static int image_parse(struct io_arguments *a, const char *image)
{
	struct err err = {0};

	if (!a->image_opts) {
		a->settings.path = image;
		return 0;
	}
	if (a->settings.format)
		return cli_complain("--image-opts and -f are mutually exclusive"), -EINVAL;
	if (options_parse(image, &a->settings.options, &err) < 0)
		return cli_complain("%s", err.text), -EINVAL;
	return 0;
}

/* 0; 1: all is done; or negative. */
static int parse(struct io_arguments *a, int argc, char **argv)
{
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "+:hVc:d:f:rsnCmki:t:T:U", long_options, NULL)) != -1) {
		if (option == 'h' || option == 'V') {
			if (option == 'h')
				cli_tool_help(help, "io");
			else
				puts(cli_is_qemu() ? "qemu-io version " QEMU_VERSION " (corral " CORRAL_VERSION ")"
						   : "corral io " CORRAL_VERSION);
			return 1;
		}
		if (parse_one(a, option, argv[optind - 1]) < 0)
			return -EINVAL;
	}
	if (optind < argc - 1)
		return cli_usage("io", "one image at a time");
	return optind < argc ? image_parse(a, argv[optind]) : 0;
}

/* ---- commands from standard input ---- */

struct lines {
	char *buffer; /* LINE_BYTES */
	size_t n;     /* bytes in it */
	bool ended;
};

/* Takes the first line out, as a new string; NULL: there is no whole one yet, or no memory. */
static char *line_cut(struct lines *l)
{
	char *end = memchr(l->buffer, '\n', l->n);
	size_t len = end ? (size_t)(end - l->buffer) : l->n;
	char *line;

	if (!end && (!l->ended || l->n == 0) && l->n < LINE_BYTES)
		return NULL;
	line = strndup(l->buffer, len);
	len += end != NULL;
	memmove(l->buffer, l->buffer + len, l->n - len);
	l->n -= len;
	return line;
}

/* While it waits for more, requests go on. NULL: the end. */
static char *line_read(struct co *co, struct lines *l)
{
	char *line;

	while ((line = line_cut(l)) == NULL && !l->ended) {
		ssize_t got = io_ready_wait(co, STDIN_FILENO, false);

		if (got == 0)
			got = read(STDIN_FILENO, l->buffer + l->n, LINE_BYTES - l->n);
		if (got <= 0)
			l->ended = true;
		else
			l->n += (size_t)got;
	}
	return line;
}

static int interact(struct co *co, struct cli_io_session *s)
{
	AUTO_FREE char *buffer = malloc(LINE_BYTES);
	struct lines lines = {.buffer = buffer, .ended = buffer == NULL};
	int failed = 0;

	while (!s->quit) {
		AUTO_FREE char *line = NULL;

		printf("qemu-io> ");
		fflush(stdout);
		line = line_read(co, &lines);
		if (!line)
			break;
		failed |= cli_io_command_run(co, s, line) < 0;
		fflush(stdout);
	}
	return failed;
}

/* ---- the session ---- */

static int run_given(struct co *co, struct cli_io_session *s, const struct io_arguments *a)
{
	int failed = 0;

	for (unsigned i = 0; i < a->commands_n && !s->quit; i++) {
		AUTO_FREE char *line = strdup(a->commands[i]);

		failed |= !line || cli_io_command_run(co, s, line) < 0;
	}
	return failed;
}

static int run(struct co *co, void *arg)
{
	struct io_arguments *a = arg;
	struct cli_io_session s = {.secrets = &a->secrets, .allow = &a->allow, .misaligned = a->misaligned};
	int failed = 0;

	co_queue_init(&s.idle);
	if ((a->settings.path || a->settings.options) && cli_io_image_open(co, &s, &a->settings) < 0)
		return 1;
	failed = a->commands_n > 0 ? run_given(co, &s, a) : interact(co, &s);
	(void)!cli_io_image_close(co, &s);
	return failed;
}

int cmd_io(int argc, char **argv)
{
	struct io_arguments *a = calloc(1, sizeof(*a));
	int ret = a ? cli_engine(NULL, &a->engine) : cli_complain("no memory");

	if (ret == 0)
		ret = parse(a, argc, argv);
	if (ret == 0)
		ret = cli_in_coroutine(a->engine, run, a);
	else
		ret = ret > 0 && a ? 0 : 1;
	if (a) {
		json_decref(a->settings.options);
		cli_secrets_fini(&a->secrets);
	}
	free(a);
	return ret;
}
