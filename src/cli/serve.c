/* SPDX-License-Identifier: MIT */
/*
 * corral serve: images as exports, until a signal ends it. Everything that completed before is on disk when it returns 0;
 * a failure to get it there is told and is status 1.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "cli/serve.h"

static const char help[] =
	"Usage: corral serve [OPTIONS] --nbd ADDRESS FILE\n"
	"       corral serve [OPTIONS] --vhost-user PATH FILE\n"
	"       corral serve [OPTIONS] --nbd ADDRESS... --image NAME=FILE...\n"
	"\n"
	"Serves disk images until SIGTERM, SIGINT or SIGHUP.\n"
	"\n"
	"What:\n"
	"  FILE                         one image, under the name of --export-name\n"
	"      --image NAME=FILE[,OPTION=VALUE...]\n"
	"                               one of many; OPTION: format, read-only, snapshot, cache, discard, data-file,\n"
	"                               description, bitmap, key-secret, each as below, which it\n"
	"                               overrides\n"
	"  -r, --read-only              clients may only read; the image is opened read only\n"
	"  -f, --format FORMAT          the image is qcow2 or raw; needed to write to a raw image\n"
	"      --snapshot SNAPSHOT      the disk as it was in this snapshot of the image (ID or name); implies --read-only\n"
	"      --cache MODE             writeback (default), none, writethrough, directsync, or unsafe\n"
	"      --discard MODE           unmap (default): a trim gives space back; ignore: it does nothing\n"
	"  -B, --bitmap NAME            clients may ask for this dirty bitmap (qemu:dirty-bitmap:NAME); may be given more than once\n"
	"      --data-file FILE         the image's external data file (default: the one that the image names)\n"
	"      --allow DIR              backing and data files may also lie in DIR; may be given more than once\n"
	"      --allow none             open no backing and no data file that a header names, not even one beside the image\n" CLI_KEY_SECRET_HELP
	"      --limit LIMIT=N[,...]    so much a second: iops, bps, and -read, -write, -total, -max, -max-length of them\n"
	"  -x, --export-name NAME       the name of FILE (default: the empty name)\n"
	"  -D, --description TEXT       a description that clients can show\n"
	"\n"
	"Where to:\n"
	"      --nbd ADDRESS[,OPTION=VALUE...]\n"
	"                               the NBD protocol at unix:PATH, HOST:PORT, [IPV6]:PORT, :PORT (loopback only), or\n"
	"                               systemd[:NAME], a socket that systemd passes; OPTION: image=NAME (only this one; may\n"
	"                               be given more than once), connections=N (at once, default 100), tls=off\n"
	"      --vhost-user PATH[,OPTION=VALUE...]\n"
	"                               a vhost-user-blk device for one virtual machine, at the unix socket PATH; OPTION:\n"
	"                               image=NAME, queues=N (at most, default 64), queue-size=N (at most, default 1024),\n"
	"                               block-size=512 or 4096, serial=TEXT, poll-us=N (watch a queue for so long before\n"
	"                               waiting to be told, default 0)\n"
	"\n"
	"      --tls-creds DIR          NBD with TLS alone: server-cert.pem, server-key.pem and ca-cert.pem are in DIR\n"
	"      --tls-verify-peer        only for clients with a certificate of that authority\n"
	"      --tls-psk FILE           only for clients with a key in FILE: lines of NAME:KEY, as psktool writes them\n"
	"      --tls-priority STRING    versions and ciphers, as GnuTLS names them\n"
	"\n"
	"How:\n"
	"      --aio ENGINE             uring, threads, or auto (default; or what CORRAL_AIO says)\n"
	"      --fork                   go into the background when ready\n"
	"      --pid-file FILE          write the process id to FILE when ready, remove it at the end\n"
	"      --log FILE               append messages to FILE instead of standard error\n"
	"      --log-level LEVEL        error, warning, info (default) or debug; SIGUSR2 turns debug on and off\n"
	"      --stats[=SECONDS]        log statistics at the end, and so often; SIGUSR1 logs them at once\n"
	"      --slow-turn MS           log when the event loop is busy for longer at a time (default 100; 0: never)\n"
	"      --sandbox MODE           when everything is open, give up the rest (other files, the network, privileges, most\n"
	"                               system calls): auto (default): as much as this system can; require; off\n"
	"      --user NAME[:GROUP]      go on as this user then\n"
	"      --control unix:PATH      take commands there, from 'corral control' and from a successor\n"
	"      --takeover unix:PATH     follow the daemon whose control socket that is: its clients stay connected\n"
	"  -h, --help                   print this\n"
	"\n"
	"When clients can connect, a line is printed for each export of each image, ending with a URI for them.\n"
	"Without TLS, whoever reaches ADDRESS has the disk.\n"
	"\n"
	"Examples:\n"
	"  corral serve --nbd unix:/run/vm1.sock vm1.qcow2\n"
	"  corral serve --vhost-user /run/vm1.sock vm1.qcow2\n"
	"  corral serve --nbd unix:/run/vms.sock --image vm1=vm1.qcow2 --image vm2=vm2.qcow2,read-only\n"
	"  corral serve -r -x backup --nbd :10809 vm1.qcow2 & nbdcopy nbd://localhost/backup backup.img\n";

/* ---- the command line ---- */

enum {
	OPT_IMAGE = 256,
	OPT_LIMIT,
	OPT_AIO,
	OPT_ALLOW,
	OPT_FORK,
	OPT_PID_FILE,
	OPT_LOG,
	OPT_LOG_LEVEL,
	OPT_STATS,
	OPT_SLOW_TURN,
	OPT_SANDBOX,
	OPT_CONTROL,
	OPT_TAKEOVER,
	OPT_USER,
	OPT_TLS_CREDS,
	OPT_TLS_VERIFY_PEER,
	OPT_TLS_PSK,
	OPT_TLS_PRIORITY,
	OPT_OBJECT,
	OPT_KEY_SECRET,
	OPT_OF_IMAGE, /* serve_image_option knows it by its name */
	OPT_EXPORT,   /* serve_kind_find knows it by its name */
};

static const struct option long_options[] = {
	{"nbd", required_argument, NULL, OPT_EXPORT},
	{"vhost-user", required_argument, NULL, OPT_EXPORT},
	{"image", required_argument, NULL, OPT_IMAGE},
	{"read-only", no_argument, NULL, 'r'},
	{"format", required_argument, NULL, 'f'},
	{"export-name", required_argument, NULL, 'x'},
	{"description", required_argument, NULL, 'D'},
	{"snapshot", required_argument, NULL, OPT_OF_IMAGE},
	{"cache", required_argument, NULL, OPT_OF_IMAGE},
	{"discard", required_argument, NULL, OPT_OF_IMAGE},
	{"data-file", required_argument, NULL, OPT_OF_IMAGE},
	{"bitmap", required_argument, NULL, 'B'},
	{"limit", required_argument, NULL, OPT_LIMIT},
	{"aio", required_argument, NULL, OPT_AIO},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{"fork", no_argument, NULL, OPT_FORK},
	{"pid-file", required_argument, NULL, OPT_PID_FILE},
	{"log", required_argument, NULL, OPT_LOG},
	{"log-level", required_argument, NULL, OPT_LOG_LEVEL},
	{"stats", optional_argument, NULL, OPT_STATS},
	{"slow-turn", required_argument, NULL, OPT_SLOW_TURN},
	{"sandbox", required_argument, NULL, OPT_SANDBOX},
	{"user", required_argument, NULL, OPT_USER},
	{"control", required_argument, NULL, OPT_CONTROL},
	{"takeover", required_argument, NULL, OPT_TAKEOVER},
	{"tls-creds", required_argument, NULL, OPT_TLS_CREDS},
	{"tls-verify-peer", no_argument, NULL, OPT_TLS_VERIFY_PEER},
	{"tls-psk", required_argument, NULL, OPT_TLS_PSK},
	{"tls-priority", required_argument, NULL, OPT_TLS_PRIORITY},
	{"object", required_argument, NULL, OPT_OBJECT},
	{"key-secret", required_argument, NULL, OPT_KEY_SECRET},
	{"help", no_argument, NULL, 'h'},
	{0},
};

/* A whole number of at most `most`. */
static int parse_number(const char *option, const char *text, unsigned long most, uint64_t *out)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || n > most)
		return cli_usage("serve", "--%s takes a number up to %lu, not '%s'", option, most, text);
	*out = n;
	return 0;
}

static int parse_stats(struct serve *s, const char *seconds)
{
	uint64_t n = 0;
	int r = seconds ? parse_number("stats", seconds, 1000000, &n) : 0;

	s->stats_at_end = true;
	s->stats_ns = n * 1000000000;
	return r;
}

static int parse_slow_turn(struct serve *s, const char *ms)
{
	uint64_t n = 0;
	int r = parse_number("slow-turn", ms, 1000000, &n);

	if (r == 0)
		s->turns.limit_ns = n == 0 ? CO_NEVER : n * 1000000;
	return r;
}

static int parse_unix(const char *option, const char *address, const char **out)
{
	if (strncmp(address, "unix:", 5) != 0)
		return cli_usage("serve", "--%s takes unix:PATH, not '%s'", option, address);
	*out = address;
	return 0;
}

static int parse_log_level(struct serve *s, const char *name)
{
	if (log_level_parse(name, &s->quiet_level) < 0)
		return cli_usage("serve", "--log-level is error, warning, info or debug, not '%s'", name);
	return 0;
}

static int parse_one(struct serve *s, int option, const char *name, const char *culprit)
{
	switch (option) {
	case OPT_EXPORT: return serve_export_add(s, serve_kind_find(name), optarg);
	case OPT_IMAGE: return serve_image_add(s, optarg);
	case OPT_OF_IMAGE: return serve_image_option(s, &s->defaults, name, optarg);
	case 'r': s->defaults.disk.read_only = true; return 0;
	case 'f': s->defaults.open.format = optarg; return 0;
	case 'x': s->defaults.disk.name = optarg; return 0;
	case 'D': s->defaults.disk.description = optarg; return 0;
	case 'B': return serve_image_option(s, &s->defaults, "bitmap", optarg);
	case OPT_LIMIT: return serve_image_limit(&s->defaults, optarg);
	case OPT_AIO: s->aio = optarg; return 0;
	case OPT_ALLOW: return cli_allow_add(&s->allow, "serve", optarg);
	case OPT_FORK: s->fork_first = true; return 0;
	case OPT_PID_FILE: s->pid_file = optarg; return 0;
	case OPT_LOG: s->log_file = optarg; return 0;
	case OPT_LOG_LEVEL: return parse_log_level(s, optarg);
	case OPT_STATS: return parse_stats(s, optarg);
	case OPT_SLOW_TURN: return parse_slow_turn(s, optarg);
	case OPT_SANDBOX: return cli_sandbox_parse("serve", optarg, &s->sandbox);
	case OPT_CONTROL: return parse_unix("control", optarg, &s->control.where);
	case OPT_TAKEOVER: return parse_unix("takeover", optarg, &s->takeover_from);
	case OPT_USER: return serve_user_parse(s, optarg);
	case OPT_TLS_CREDS: s->tls.dir = optarg; return 0;
	case OPT_TLS_VERIFY_PEER: s->tls.verify_peer = true; return 0;
	case OPT_TLS_PSK: s->tls.psk_file = optarg; return 0;
	case OPT_TLS_PRIORITY: s->tls.priority = optarg; return 0;
	case OPT_OBJECT: return cli_secret_add(&s->secrets, "serve", optarg);
	case OPT_KEY_SECRET: return cli_secret_key(&s->secrets, "serve", optarg);
	case ':': return cli_usage("serve", "an argument is missing after '%s'", culprit);
	default: return cli_usage("serve", "unknown option '%s'", culprit);
	}
}

static int parse_finish(struct serve *s, int argc, char **argv)
{
	int r;

	if (optind + 1 < argc)
		return cli_usage("serve", "one FILE at a time, superfluous: '%s'; see --image", argv[optind + 1]);
	r = serve_images_finish(s, argv[optind]);
	if (r == 0)
		r = serve_exports_finish(s);
	if (r == 0 && (s->tls.verify_peer ? !s->tls.dir : s->tls.priority && !s->tls.dir && !s->tls.psk_file))
		r = cli_usage("serve", "--tls-verify-peer needs --tls-creds, and --tls-priority one of the two");
	if (r == 0 && s->fork_first && s->systemd.n > 0)
		r = cli_usage("serve", "--fork and sockets from systemd don't go together");
	return r;
}

/* 0; 1: help was printed; or negative. */
static int parse(struct serve *s, int argc, char **argv)
{
	int option, index = 0;

	optind = 1;
	while ((option = getopt_long(argc, argv, ":rf:x:D:B:h", long_options, &index)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		if (parse_one(s, option, long_options[index].name, argv[optind - 1]) < 0)
			return -EINVAL;
	}
	return parse_finish(s, argc, argv);
}

/* ---- serving ---- */

static int complain(const struct err *err) { return cli_complain("%s", err->text); }

static int announce(struct serve *s, struct err *err)
{
	AUTO_FREE char *text = serve_exports_text(s);

	if (!text)
		return err_set(err, -ENOMEM, "no memory");
	int r = background_ready(&s->background, text, err);

	if (r == 0)
		systemd_notify(&s->systemd, "READY=1\nSTATUS=serving");
	return r;
}

static int serve_exports(struct co *co, struct serve *s, struct err *err)
{
	int r = serve_exports_start(co, s, err);

	if (r == 0)
		r = serve_control_listen(co, s, err);
	if (r == 0)
		r = background_prepare(&s->background, err);
	if (r == 0)
		r = serve_confine(co, s, err);
	if (r == 0)
		r = serve_takeover_finish(co, s, err);
	if (r == 0)
		r = serve_control_start(co, s, err);
	if (r == 0)
		r = announce(s, err);
	if (r == 0)
		r = serve_wait(co, s, err);
	serve_control_stop(co, s);
	if (s->handed_over)
		s->background.pid_made = false;
	else
		systemd_notify(&s->systemd, "STOPPING=1");
	if (s->stats_at_end && r == 0)
		serve_stats_log(s);
	serve_exports_stop(co, s);
	return r;
}

static int serve_watched(struct co *co, struct serve *s, struct err *err)
{
	struct co_group watchers;
	int r = serve_watch_start(co, s, &watchers, err);

	if (r == 0)
		r = serve_exports(co, s, err);
	serve_watch_end(s);
	co_group_wait(co, &watchers);
	return r;
}

static int serve(struct co *co, void *arg)
{
	struct serve *s = arg;
	int r = serve_takeover_begin(co, s, &s->err);

	if (s->control.where)
		io_files_keep(io_of(co));
	if (r == 0)
		r = serve_images_open(co, s, &s->err);
	if (!s->control.where) /* who hands over in vain opens them again */
		cli_secrets_fini(&s->secrets);
	if (r == 0)
		r = serve_watched(co, s, &s->err);

	int status = r < 0 ? complain(&s->err) : 0;

	status |= serve_images_close(co, s);
	serve_takeover_end(co, s);
	return status;
}

/* Whoever hands over has descriptors of all that he hands over, and so has who takes it. */
static void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int serve_begin(struct serve *s)
{
	enum io_engine engine;
	int r;

	if (cli_engine(s->aio, &engine) < 0)
		return 1;
	if (s->control.where || s->takeover_from)
		descriptors_raise();
	if (serve_log_open(&s->log, s->log_file, &s->err) < 0)
		return complain(&s->err);
	s->log.log.level = s->quiet_level;
	if ((s->tls.dir || s->tls.psk_file) && nbd_tls_creds_new(&s->tls, &s->tls_creds, &s->err) < 0)
		return complain(&s->err);
	if (background_begin(&s->background, s->fork_first, s->pid_file, &s->err) < 0)
		return complain(&s->err);
	r = serve_signals_take();
	if (r < 0)
		return cli_complain("can't take the signals over: %s", strerror(-r));
	signal(SIGPIPE, SIG_IGN); /* nobody may be left to read the line */

	int status = cli_in_coroutine(engine, serve, s);

	background_end(&s->background);
	serve_log_close(&s->log);
	return status;
}

static int serve_command(struct serve *s, int argc, char **argv)
{
	int r;

	s->defaults.disk.name = "";
	s->quiet_level = LOG_LEVEL_INFO;
	s->sandbox = CLI_SANDBOX_AUTO;
	s->turns.limit_ns = UINT64_C(100) * 1000000;
	if (systemd_begin(&s->systemd, &s->err) < 0)
		return complain(&s->err);
	r = parse(s, argc, argv);
	return r == 0 ? serve_begin(s) : r < 0;
}

int cmd_serve(int argc, char **argv)
{
	struct serve *s = calloc(1, sizeof(*s));
	int status = s ? serve_command(s, argc, argv) : cli_complain("no memory");

	if (s) {
		cli_secrets_fini(&s->secrets);
		nbd_tls_creds_free(s->tls_creds);
		systemd_end(&s->systemd);
		serve_exports_fini(s);
		serve_images_fini(s);
	}
	free(s);
	return status;
}
