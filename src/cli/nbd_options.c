/* SPDX-License-Identifier: MIT */
/* The command line of nbd: qemu-nbd's options, and its words about them. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/nbd.h"
#include "cli/tool.h"

static const char help[] =
	"Usage: corral nbd [OPTIONS] FILE\n"
	"       corral nbd -c DEVICE [OPTIONS] FILE\n"
	"       corral nbd -d DEVICE\n"
	"       corral nbd -L [OPTIONS]\n"
	"\n"
	"Serves a disk over NBD until its last client has gone, or lists what another server offers, with the options of\n"
	"qemu-nbd. 'corral serve' serves many disks, in more ways.\n"
	"\n"
	"Where:\n"
	"  -k, --socket PATH            a unix socket; an absolute path\n"
	"  -b, --bind ADDRESS           listen at this address (default 0.0.0.0: everybody who reaches it has the disk)\n"
	"  -p, --port PORT              and port (default 10809)\n"
	"  -x, --export-name NAME       the name of the disk (default: the empty name)\n"
	"  -D, --description TEXT       a description that clients can show\n"
	"  -e, --shared N               clients at once, others wait (default 1; 0: any number)\n"
	"  -t, --persistent             don't end when the last client goes\n"
	"      --handshake-limit SECONDS\n"
	"                               how long a client may take for its handshake (default 10)\n"
	"      --tls-creds ID           TLS and nothing else, with the credentials of --object tls-creds-x509 or tls-creds-psk\n"
	"      --tls-authz ID, --tls-hostname NAME, --selinux-label LABEL\n"
	"                               refused\n"
	"      --fork                   go into the background when ready\n"
	"      --pid-file FILE          write the process id to FILE when ready\n"
	"  -v, --verbose                tell more\n"
	"\n"
	"What:\n"
	"  -f, --format FORMAT          the image is qcow2 or raw\n"
	"      --image-opts             FILE is a list of options: driver=qcow2,file.filename=...\n"
	"  -r, --read-only              clients may only read\n"
	"  -s, --snapshot               what is written is forgotten at the end\n"
	"  -l, --load-snapshot SNAPSHOT the disk as it was in this snapshot of the image: ID or name, or snapshot.id=ID,\n"
	"                               snapshot.name=NAME\n"
	"  -o, --offset BYTES           the disk begins here in the image\n"
	"  -B, --bitmap NAME            clients may ask for this dirty bitmap; may be given more than once\n"
	"  -A, --allocation-depth       clients may ask which layer holds what (they always may)\n"
	"      --cache MODE             writeback (default), none, writethrough, directsync or unsafe\n"
	"  -n, --nocache                the same as --cache none\n"
	"      --aio MODE               threads, native or io_uring\n"
	"      --discard MODE           ignore (default): a trim does nothing; unmap: it gives space back\n"
	"      --detect-zeroes MODE     off (default), on: zeros that are written need no data; unmap: nor space\n"
	"      --allow DIR              a header may name files in DIR, too (none, all; default: the directory of its image)\n" CLI_KEY_SECRET_HELP
	"      --object tls-creds-x509,id=ID,dir=DIR[,endpoint=server][,verify-peer=off][,priority=STRING]\n"
	"                               server-cert.pem, server-key.pem and ca-cert.pem are in DIR; clients need a certificate\n"
	"                               of that authority, unless verify-peer is off\n"
	"      --object tls-creds-psk,id=ID,dir=DIR[,endpoint=server]\n"
	"                               clients need a key in DIR/keys.psk\n"
	"\n"
	"Instead:\n"
	"  -L, --list                   list what the server at -k, or -b and -p, offers\n"
	"  -c, --connect DEVICE         have the kernel's NBD client use the server as DEVICE (/dev/nbd0)\n"
	"  -d, --disconnect             end that\n"
	"  -T, --trace WHAT             ignored\n"
	"  -h, --help                   print this\n"
	"  -V, --version                print the version\n";

enum {
	OPT_CACHE = 256,
	OPT_AIO,
	OPT_DISCARD,
	OPT_DETECT_ZEROES,
	OPT_OBJECT,
	OPT_TLS_CREDS,
	OPT_TLS_AUTHZ,
	OPT_TLS_HOSTNAME,
	OPT_IMAGE_OPTS,
	OPT_FORK,
	OPT_PID_FILE,
	OPT_SELINUX_LABEL,
	OPT_HANDSHAKE_LIMIT,
	OPT_KEY_SECRET,
	OPT_ALLOW,
};

static const struct option long_options[] = {
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{"bind", required_argument, NULL, 'b'},
	{"port", required_argument, NULL, 'p'},
	{"socket", required_argument, NULL, 'k'},
	{"offset", required_argument, NULL, 'o'},
	{"read-only", no_argument, NULL, 'r'},
	{"bitmap", required_argument, NULL, 'B'},
	{"connect", required_argument, NULL, 'c'},
	{"disconnect", no_argument, NULL, 'd'},
	{"list", no_argument, NULL, 'L'},
	{"snapshot", no_argument, NULL, 's'},
	{"load-snapshot", required_argument, NULL, 'l'},
	{"nocache", no_argument, NULL, 'n'},
	{"cache", required_argument, NULL, OPT_CACHE},
	{"aio", required_argument, NULL, OPT_AIO},
	{"discard", required_argument, NULL, OPT_DISCARD},
	{"detect-zeroes", required_argument, NULL, OPT_DETECT_ZEROES},
	{"shared", required_argument, NULL, 'e'},
	{"format", required_argument, NULL, 'f'},
	{"persistent", no_argument, NULL, 't'},
	{"verbose", no_argument, NULL, 'v'},
	{"object", required_argument, NULL, OPT_OBJECT},
	{"export-name", required_argument, NULL, 'x'},
	{"description", required_argument, NULL, 'D'},
	{"allocation-depth", no_argument, NULL, 'A'},
	{"tls-creds", required_argument, NULL, OPT_TLS_CREDS},
	{"tls-hostname", required_argument, NULL, OPT_TLS_HOSTNAME},
	{"tls-authz", required_argument, NULL, OPT_TLS_AUTHZ},
	{"image-opts", no_argument, NULL, OPT_IMAGE_OPTS},
	{"trace", required_argument, NULL, 'T'},
	{"fork", no_argument, NULL, OPT_FORK},
	{"pid-file", required_argument, NULL, OPT_PID_FILE},
	{"selinux-label", required_argument, NULL, OPT_SELINUX_LABEL},
	{"handshake-limit", required_argument, NULL, OPT_HANDSHAKE_LIMIT},
	{"key-secret", required_argument, NULL, OPT_KEY_SECRET},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{0},
};

/* ---- what is said ---- */

static int ATTR_PRINTF(1, 2) refuse(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return cli_complain("%s", text), -EINVAL;
}

/* Of what getopt doesn't know qemu-nbd begins both lines with its name, of too many arguments only the first. */
static int unknown(int option, const char *culprit)
{
	if (!cli_is_qemu())
		return cli_usage(
			"nbd", option == ':' ? "an argument is missing after '%s'" : "unknown option '%s'", culprit);
	if (option == ':' && culprit[1] == '-')
		cli_complain("option '%s' requires an argument", culprit);
	else if (option == ':')
		cli_complain("option requires an argument -- '%c'", optopt);
	else if (culprit[1] == '-')
		cli_complain("unrecognized option '%s'", culprit);
	else
		cli_complain("invalid option -- '%c'", optopt);
	return refuse("Try `qemu-nbd --help' for more information.");
}

static int too_many(void)
{
	cli_complain("Invalid number of arguments");
	fprintf(stderr, "Try `%s --help' for more information.\n", cli_is_qemu() ? "qemu-nbd" : "corral nbd");
	return -EINVAL;
}

/* ---- one option ---- */

static int once(const char **to, const char *value, const char *what)
{
	if (*to)
		return refuse("%s can only be specified once", what);
	*to = value;
	return 0;
}

static int shared_set(struct cli_nbd *n, const char *text)
{
	char *end;

	n->shared = strtol(text, &end, 0);
	return *end != '\0' || end == text || n->shared < 0 ? refuse("Invalid shared device number '%s'", text) : 0;
}

static int socket_set(struct cli_nbd *n, const char *path)
{
	n->socket = path;
	return path[0] == '/' ? 0 : refuse("socket path must be absolute");
}

static int offset_set(struct cli_nbd *n, const char *text)
{
	n->offset_text = text;
	return cli_size_parse(text, &n->offset) < 0 ? refuse("Invalid offset '%s'", text) : 0;
}

static int bitmap_add(struct cli_nbd *n, const char *name)
{
	if (n->bitmaps_n == ARRAY_ENTRIES(n->bitmaps))
		return refuse("more than %zu bitmaps", ARRAY_ENTRIES(n->bitmaps));
	n->bitmaps[n->bitmaps_n++] = name;
	return 0;
}

static int limit_set(struct cli_nbd *n, const char *text)
{
	char *end;
	long seconds = strtol(text, &end, 10);

	if (end == text || *end != '\0' || seconds < 0 || seconds > 1000000)
		return refuse("Invalid handshake limit '%s'", text);
	n->handshake_ns = seconds ? (uint64_t)seconds * 1000000000 : UINT64_MAX / 4;
	return 0;
}

/* "snapshot.id=X,snapshot.name=Y", or an ID or a name. */
static int snapshot_option(void *arg, const char *name, const char *value)
{
	struct cli_nbd *n = arg;

	if (strcmp(name, "snapshot.id") != 0 && strcmp(name, "snapshot.name") != 0)
		return refuse("Invalid parameter '%s'", name);
	n->snapshot = strdup(value);
	return n->snapshot ? 0 : -ENOMEM;
}

static int snapshot_set(struct cli_nbd *n, const char *text)
{
	n->read_only = true;
	if (strncmp(text, "snapshot.", 9) != 0) {
		n->snapshot = strdup(text);
		return n->snapshot ? 0 : -ENOMEM;
	}
	return cli_options_parse(text, snapshot_option, n) < 0 ? refuse("Failed in parsing snapshot param `%s'", text)
							       : 0;
}

static int parse_long(struct cli_nbd *n, int option)
{
	struct serve *s = &n->serve;

	switch (option) {
	case OPT_CACHE:
		return n->nocache ? refuse("-n and --cache can only be specified once")
				  : once(&n->cache, optarg, "-n and --cache");
	case OPT_AIO: return once(&n->aio, optarg, "--aio");
	case OPT_DISCARD: return once(&n->discard, optarg, "--discard");
	case OPT_DETECT_ZEROES: n->detect_zeroes = optarg; return 0;
	case OPT_OBJECT: return cli_nbd_object(n, optarg);
	case OPT_TLS_CREDS: n->tls_creds = optarg; return 0;
	case OPT_TLS_AUTHZ: n->tls_authz = optarg; return 0;
	case OPT_TLS_HOSTNAME: n->tls_hostname = optarg; return 0;
	case OPT_IMAGE_OPTS: n->image_opts = true; return 0;
	case OPT_FORK: s->fork_first = true; return 0;
	case OPT_PID_FILE: s->pid_file = optarg; return 0;
	case OPT_SELINUX_LABEL: return refuse("--selinux-label: SELinux support not built-in");
	case OPT_HANDSHAKE_LIMIT: return limit_set(n, optarg);
	case OPT_KEY_SECRET: return cli_secret_key(&s->secrets, "nbd", optarg);
	default: return cli_allow_add(&s->allow, "nbd", optarg);
	}
}

static int parse_one(struct cli_nbd *n, int option, const char *culprit)
{
	switch (option) {
	case 'b': n->bind = optarg; return 0;
	case 'p': n->port = optarg; return 0;
	case 'k': return socket_set(n, optarg);
	case 'o': return offset_set(n, optarg);
	case 'r': n->read_only = true; return 0;
	case 's': n->scratch = true; return 0;
	case 'n':
		if (n->nocache || n->cache)
			return refuse("-n and --cache can only be specified once");
		n->nocache = true;
		n->cache = "none";
		return 0;
	case 'c': n->device = optarg; return 0;
	case 'd': n->disconnect = true; return 0;
	case 'L': n->list = true; return 0;
	case 'l': return snapshot_set(n, optarg);
	case 'e': return shared_set(n, optarg);
	case 'f': n->format = optarg; return 0;
	case 't': n->persistent = true; return 0;
	case 'v': n->verbose = true; return 0;
	case 'x': n->name = optarg; return 0;
	case 'D': n->description = optarg; return 0;
	case 'A': n->depth = true; return 0;
	case 'B': return bitmap_add(n, optarg);
	case 'T': return 0; /* there is nothing to trace */
	case ':':
	case '?': return unknown(option, culprit);
	default: return parse_long(n, option);
	}
}

/* ---- all of them ---- */

bool cli_nbd_may_discard(const struct cli_nbd *n)
{
	return n->discard && (strcmp(n->discard, "unmap") == 0 || strcmp(n->discard, "on") == 0);
}

static int modes_check(const struct cli_nbd *n)
{
	enum image_cache cache;
	const char *aio = n->aio, *discard = n->discard, *detect = n->detect_zeroes;
	bool unmap = cli_nbd_may_discard(n);

	if (n->cache && image_cache_parse(n->cache, &cache) < 0)
		return refuse("Invalid cache mode `%s'", n->cache);
	if (aio && strcmp(aio, "native") != 0 && strcmp(aio, "threads") != 0 && strcmp(aio, "io_uring") != 0)
		return refuse("Invalid aio mode '%s'", aio);
	if (discard && !unmap && strcmp(discard, "ignore") != 0 && strcmp(discard, "off") != 0)
		return refuse("Invalid discard mode `%s'", discard);
	if (detect && strcmp(detect, "off") != 0 && strcmp(detect, "on") != 0 && strcmp(detect, "unmap") != 0)
		return refuse("Failed to parse detect_zeroes mode: invalid parameter value: %s", detect);
	if (detect && strcmp(detect, "unmap") == 0 && !unmap)
		return refuse(
			"setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
	return 0;
}

static int list_check(const struct cli_nbd *n, int arguments)
{
	if (arguments > 0)
		return refuse("List mode is incompatible with a file name");
	if (n->name || n->description || n->offset || n->device || n->disconnect || n->format || n->snapshot ||
		n->bitmaps_n || n->depth || n->aio || n->discard || n->cache)
		return refuse("List mode is incompatible with per-device settings");
	return n->serve.fork_first ? refuse("List mode is incompatible with forking") : 0;
}

static int tls_check(struct cli_nbd *n)
{
	if (n->tls_creds && n->device)
		return refuse("TLS is not supported with a host device");
	if (n->tls_creds && n->tls_authz && n->list)
		return refuse("TLS authorization is incompatible with export list");
	if (n->tls_creds && n->tls_hostname && !n->list)
		return refuse("TLS hostname is only supported with export list");
	if (!n->tls_creds && n->tls_authz)
		return refuse("--tls-authz is not permitted without --tls-creds");
	if (!n->tls_creds && n->tls_hostname)
		return refuse("--tls-hostname is not permitted without --tls-creds");
	if (n->tls_authz)
		return refuse(
			"--tls-authz isn't supported: a certificate of the authority in ca-cert.pem is what is asked for");
	if (n->tls_hostname)
		return refuse(
			"--tls-hostname isn't supported: the name in the certificate is the one that is connected to");
	return n->tls_creds ? cli_nbd_tls(n) : 0;
}

static int check(struct cli_nbd *n, int arguments)
{
	int ret = modes_check(n);

	if (ret == 0 && n->list)
		ret = list_check(n, arguments);
	else if (ret == 0 && arguments != 1)
		ret = too_many();
	if (ret == 0 && n->image_opts && n->format)
		ret = refuse("--image-opts and -f are mutually exclusive");
	return ret == 0 ? tls_check(n) : ret;
}

static int text_print(int option)
{
	if (option == 'V')
		puts(cli_is_qemu() ? "qemu-nbd " QEMU_VERSION " (corral " CORRAL_VERSION ")"
				   : "corral nbd " CORRAL_VERSION);
	else
		cli_tool_help(help, "nbd");
	return 1;
}

int cli_nbd_parse(struct cli_nbd *n, int argc, char **argv, const char **file)
{
	int option, ret = 0;

	n->shared = 1;
	optind = 1;
	while (ret == 0 &&
		(option = getopt_long(argc, argv, ":hVb:o:p:rsnc:dvk:e:f:tl:x:T:D:AB:L", long_options, NULL)) != -1) {
		if (option == 'h' || option == 'V')
			return text_print(option);
		ret = parse_one(n, option, argv[optind - 1]);
	}
	if (ret == 0)
		ret = check(n, argc - optind);
	*file = optind < argc ? argv[optind] : NULL;
	return ret;
}
