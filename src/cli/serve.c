/* SPDX-License-Identifier: MIT */
/*
 * corral serve: an image as an NBD export, until a signal ends it. Everything that completed before is on disk when it
 * returns 0; a failure to get it there is told and is status 1.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "base/cleanup.h"
#include "cli/background.h"
#include "cli/secret.h"
#include "export/export.h"

static const char help[] =
	"Usage: corral serve [OPTIONS] --nbd ADDRESS FILE\n"
	"\n"
	"Serves the image FILE as a network block device (NBD) until SIGTERM or SIGINT.\n"
	"\n"
	"  --nbd ADDRESS            listen at unix:PATH, HOST:PORT, [IPV6]:PORT, or :PORT (loopback only)\n"
	"      --snapshot SNAPSHOT  the disk as it was in this snapshot of the image (ID or name); implies --read-only\n"
	"  -r, --read-only          clients may only read; the image is opened read only\n"
	"  -f, --format FORMAT      the image is qcow2 or raw; needed to write to a raw image\n"
	"  -x, --export-name NAME   the name of the export (default: the empty name, which is always accepted)\n"
	"  -D, --description TEXT   a description that clients can show\n"
	"      --cache MODE         writeback (default), none, writethrough, directsync, or unsafe\n"
	"      --discard MODE       unmap (default): a trim gives space back; ignore: it does nothing\n"
	"      --data-file FILE         the image's external data file (default: the one that the image names)\n"
	"      --aio ENGINE         uring, threads, or auto (default; or what CORRAL_AIO says)\n"
	"      --allow DIR          backing and data files may also lie in DIR; may be given more than once\n"
	"      --allow none         open no backing and no data file that a header names, not even one beside the image\n" CLI_KEY_SECRET_HELP
	"      --fork               go into the background when ready\n"
	"      --pid-file FILE      write the process id to FILE when ready, remove it at the end\n"
	"  -h, --help               print this\n"
	"\n"
	"When clients can connect, one line is printed, ending with a URI for them.\n"
	"NBD has no passwords and this server no TLS: whoever reaches ADDRESS has the disk.\n"
	"\n"
	"Examples:\n"
	"  corral serve --nbd unix:/run/vm1.sock vm1.qcow2\n"
	"  corral serve -r -x backup --nbd :10809 vm1.qcow2 & nbdcopy nbd://localhost/backup backup.img\n";

#define SERVE_ALLOWS 64 /* directories on the command line */

struct serve {
	struct image_open image;
	struct nbd_options nbd;
	struct cli_secrets secrets;
	struct background background;
	const char *allow[SERVE_ALLOWS + 1];
	unsigned allows;
	const char *aio, *pid_file;
	bool fork_first;
	struct err err; /* here, since a coroutine's stack is small */
};

static const int end_signals[] = {SIGTERM, SIGINT, SIGHUP};

/* ---- the command line ---- */

enum {
	OPT_NBD = 256,
	OPT_CACHE,
	OPT_DATA_FILE,
	OPT_DISCARD,
	OPT_AIO,
	OPT_ALLOW,
	OPT_FORK,
	OPT_PID_FILE,
	OPT_SNAPSHOT,
	OPT_OBJECT,
	OPT_KEY_SECRET
};

static const struct option long_options[] = {
	{"nbd", required_argument, NULL, OPT_NBD},
	{"snapshot", required_argument, NULL, OPT_SNAPSHOT},
	{"read-only", no_argument, NULL, 'r'},
	{"format", required_argument, NULL, 'f'},
	{"export-name", required_argument, NULL, 'x'},
	{"description", required_argument, NULL, 'D'},
	{"cache", required_argument, NULL, OPT_CACHE},
	{"data-file", required_argument, NULL, OPT_DATA_FILE},
	{"discard", required_argument, NULL, OPT_DISCARD},
	{"aio", required_argument, NULL, OPT_AIO},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{"fork", no_argument, NULL, OPT_FORK},
	{"pid-file", required_argument, NULL, OPT_PID_FILE},
	{"object", required_argument, NULL, OPT_OBJECT},
	{"key-secret", required_argument, NULL, OPT_KEY_SECRET},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int usage(const char *text, const char *arg)
{
	fprintf(stderr, "corral: serve: %s%s%s%s\n", text, arg ? " '" : "", arg ? arg : "", arg ? "'" : "");
	fprintf(stderr, "Try 'corral serve --help'.\n");
	return -EINVAL;
}

static int parse_cache(struct serve *s, const char *name)
{
	if (image_cache_parse(name, &s->image.cache) < 0)
		return usage("no cache mode of the name", name);
	s->nbd.writethrough = image_cache_writethrough(s->image.cache);
	return 0;
}

static int parse_discard(struct serve *s, const char *mode)
{
	bool unmap = strcmp(mode, "unmap") == 0 || strcmp(mode, "on") == 0;

	if (!unmap && strcmp(mode, "ignore") != 0 && strcmp(mode, "off") != 0)
		return usage("--discard takes unmap or ignore, not", mode);
	s->nbd.no_discard = s->image.qcow2.no_discard = !unmap;
	return 0;
}

static int parse_allow(struct serve *s, const char *dir)
{
	if (strcmp(dir, "none") == 0)
		s->image.allow_none = true;
	else if (s->allows == SERVE_ALLOWS)
		return usage("too many --allow, at", dir);
	else
		s->allow[s->allows++] = dir;
	return 0;
}

static int parse_one(struct serve *s, int option, const char *culprit)
{
	switch (option) {
	case OPT_NBD: s->nbd.address = optarg; return 0;
	case 'r': s->nbd.read_only = true; return 0;
	case OPT_SNAPSHOT:
		s->image.qcow2.snapshot = optarg;
		s->nbd.read_only = true;
		return 0;
	case 'f': s->image.format = optarg; return 0;
	case 'x': s->nbd.export_name = optarg; return 0;
	case 'D': s->nbd.description = optarg; return 0;
	case OPT_CACHE: return parse_cache(s, optarg);
	case OPT_DATA_FILE: s->image.data_file = optarg; return 0;
	case OPT_DISCARD: return parse_discard(s, optarg);
	case OPT_AIO: s->aio = optarg; return 0;
	case OPT_ALLOW: return parse_allow(s, optarg);
	case OPT_FORK: s->fork_first = true; return 0;
	case OPT_PID_FILE: s->pid_file = optarg; return 0;
	case OPT_OBJECT: return cli_secret_add(&s->secrets, "serve", optarg);
	case OPT_KEY_SECRET: return cli_secret_key(&s->secrets, "serve", optarg);
	case ':': return usage("an argument is missing after", culprit);
	default: return usage("unknown option", culprit);
	}
}

static int parse_finish(struct serve *s, int argc, char **argv)
{
	if (optind == argc)
		return usage("which image?", NULL);
	if (optind + 1 < argc)
		return usage("one image at a time; superfluous:", argv[optind + 1]);
	if (!s->nbd.address)
		return usage("where to? --nbd ADDRESS is missing", NULL);
	if (s->image.allow_none && s->allows > 0)
		return usage("--allow none and another --allow contradict each other", NULL);
	s->image.path = argv[optind];
	s->image.write = !s->nbd.read_only;
	s->image.allow = s->allow;
	return cli_secret_use(&s->secrets, "serve", &s->image);
}

/* 0; 1: help was printed; or negative. */
static int parse(struct serve *s, int argc, char **argv)
{
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, ":rf:x:D:h", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (parse_one(s, option, argv[optind - 1]) < 0)
			return -EINVAL;
	}
	return parse_finish(s, argc, argv);
}

/* ---- the line that says where ---- */

static void uri_escape(FILE *out, const char *text, const char *also)
{
	for (; *text; text++) {
		bool plain = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
			(*text >= '0' && *text <= '9') || strchr(also, *text);

		fprintf(out, plain ? "%c" : "%%%02X", (unsigned char)*text);
	}
}

/* As doc/uri.md of the NetworkBlockDevice project says. */
static void uri_print(FILE *out, const char *address, const char *name)
{
	bool local = strncmp(address, "unix:", 5) == 0;

	if (local)
		fputs("nbd+unix:///", out);
	else
		fprintf(out, "nbd://%s%s/", address[0] == ':' ? "localhost" : "", address);
	uri_escape(out, name ? name : "", "-._~/");
	if (local) {
		fputs("?socket=", out);
		uri_escape(out, address + 5, "-._~/");
	}
}

/* NULL: no memory. */
static char *ready_line(const struct serve *s, const char *address)
{
	char *line = NULL;
	size_t len;
	FILE *out = open_memstream(&line, &len);

	if (!out)
		return NULL;
	fprintf(out, "corral: serving %s at ", s->image.path);
	uri_print(out, address, s->nbd.export_name);
	if (fclose(out) == 0)
		return line;
	free(line);
	return NULL;
}

/* ---- serving ---- */

static int complain(const struct err *err)
{
	fprintf(stderr, "corral: %s\n", err->text);
	return 1;
}

static int announce(struct serve *s, const struct nbd_server *server, struct err *err)
{
	AUTO_FREE char *line = ready_line(s, nbd_server_address(server));

	if (!line)
		return err_set(err, -ENOMEM, "no memory");
	return background_ready(&s->background, line, err);
}

static int serve_node(struct co *co, struct serve *s, struct node *n, struct err *err)
{
	struct nbd_server *server;
	int r = nbd_server_start(co, n, &s->nbd, &server, err);

	if (r < 0)
		return r;
	r = announce(s, server, err);
	if (r == 0) {
		r = io_signal_wait(co, end_signals, ARRAY_ENTRIES(end_signals));
		if (r < 0)
			err_set(err, r, "can't wait for signals: %s", strerror(-r));
	}
	nbd_server_stop(co, server);
	return r;
}

static int serve(struct co *co, void *arg)
{
	struct serve *s = arg;
	struct node *n;

	if (image_open(co, &s->image, &n, &s->err) < 0)
		return complain(&s->err);
	cli_secrets_fini(&s->secrets);
	int status = serve_node(co, s, n, &s->err) < 0 ? complain(&s->err) : 0;
	int r = node_close(co, n);

	if (r < 0) {
		fprintf(stderr, "corral: %s: what was written may not be on disk: %s\n", s->image.path, strerror(-r));
		status = 1;
	}
	return status;
}

static int serve_begin(struct serve *s)
{
	struct err err = {0};
	enum io_engine engine;
	int r;

	if (cli_engine(s->aio, &engine) < 0)
		return 1;
	if (background_begin(&s->background, s->fork_first, s->pid_file, &err) < 0)
		return complain(&err);
	r = io_signals_take(end_signals, ARRAY_ENTRIES(end_signals));
	if (r < 0) {
		fprintf(stderr, "corral: can't take the signals over: %s\n", strerror(-r));
		return 1;
	}
	signal(SIGPIPE, SIG_IGN); /* nobody may be left to read the line */

	int status = cli_in_coroutine(engine, serve, s);

	background_end(&s->background);
	return status;
}

int cmd_serve(int argc, char **argv)
{
	struct serve s = {0};
	int r = parse(&s, argc, argv);
	int status = r == 0 ? serve_begin(&s) : r < 0;

	cli_secrets_fini(&s.secrets);
	return status;
}
