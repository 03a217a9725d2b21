/* SPDX-License-Identifier: MIT */
/* corral nbd: a disk over NBD, as qemu-nbd serves it; see nbd.h. */
#include "cli/nbd.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/scratch.h"
#include "filter/detect_zeroes.h"
#include "filter/filter.h"

static int complain(const struct err *err) { return cli_complain("%s", err->text); }

/* ---- what is to be served, and where ---- */

static int address_make(struct cli_nbd *n)
{
	const char *device = n->device ? strrchr(n->device, '/') : NULL;
	const char *bind = n->bind ? n->bind : NBD_DEFAULT_ADDRESS;
	int ret;

	if (n->device && !n->socket) {
		if (asprintf(&n->socket_made, "/var/lock/qemu-nbd-%s", device ? device + 1 : n->device) < 0)
			return -ENOMEM;
		n->socket = n->socket_made;
	}
	if (n->serve.systemd.n > 0)
		ret = asprintf(&n->address, "systemd");
	else if (n->socket)
		ret = asprintf(&n->address, "unix:%s", n->socket);
	else
		ret = asprintf(
			&n->address, strchr(bind, ':') ? "[%s]:%s" : "%s:%s", bind, n->port ? n->port : NBD_PORT);
	return ret < 0 ? -ENOMEM : 0;
}

/* The same way out as for anybody else who wants it to end. */
static void left(void *arg, unsigned clients)
{
	const struct cli_nbd *n = arg;

	if (clients == 0 && !n->persistent)
		raise(SIGTERM);
}

static void export_fill(struct cli_nbd *n)
{
	struct serve *s = &n->serve;
	struct serve_export *e = &s->exports[s->exports_n++];

	e->kind = serve_kind_find("nbd");
	e->where = n->address;
	e->disks[e->disks_n++] = &s->images[0].disk;
	e->nbd.connections = n->shared == 0 || n->shared > INT_MAX ? INT_MAX : (unsigned)n->shared;
	e->nbd.patient = true;
	e->nbd.left = left;
	e->nbd.left_arg = n;
	e->nbd.handshake_ns = n->handshake_ns;
}

static int image_fill(struct cli_nbd *n, const char *file)
{
	struct serve *s = &n->serve;
	struct serve_image *i = &s->images[s->images_n++];
	struct image_open *how = &i->open;
	int ret;

	how->path = file;
	how->format = n->format;
	how->write = !n->read_only && !n->scratch;
	how->qcow2.snapshot = n->snapshot;
	how->qcow2.no_discard = i->disk.no_discard = !cli_nbd_may_discard(n);
	how->objects = n->objects;
	how->objects_n = cli_secret_objects(&s->secrets, n->objects);
	if (n->cache && image_cache_parse(n->cache, &how->cache) < 0)
		return -EINVAL;
	i->disk.name = n->name = n->name ? n->name : "";
	i->disk.description = n->description;
	i->disk.read_only = n->read_only;
	i->disk.writethrough = image_cache_writethrough(how->cache);
	cli_allow_use(&s->allow, how);
	ret = cli_secret_use(&s->secrets, "nbd", how);
	for (unsigned b = 0; ret == 0 && b < n->bitmaps_n; b++)
		ret = serve_image_option(s, i, "bitmap", n->bitmaps[b]);
	if (ret == 0 && n->image_opts && options_parse(file, &n->options, &n->err) < 0)
		ret = -complain(&n->err);
	how->options = n->options;
	return ret;
}

/* ---- the disk ---- */

/* As qemu-nbd words it. */
static int image_failed(const struct cli_nbd *n, struct err *err)
{
	const char *file = n->serve.images[0].open.path, *text = err->text;
	AUTO_FREE char *before = NULL;
	int len = asprintf(&before, "Could not open '%s': ", file);

	if (!cli_is_qemu())
		return cli_complain("%s", text);
	if (n->snapshot && err->code == -ENOENT && strstr(text, "snapshot"))
		return cli_complain("Failed to load snapshot: Can't find snapshot");
	if (strstr(text, "there is no bitmap"))
		return cli_complain("Bitmap '%s' is not found", n->bitmaps[n->bitmaps_n - 1]);
	if (len > 0 && strncmp(text, before, (size_t)len) == 0)
		text += len;
	return cli_complain("Failed to blk_new_open '%s': %s", file, text);
}

static int window_open(struct co *co, struct cli_nbd *n, struct node **node, struct err *err)
{
	struct raw_window window = {.off = n->offset, .size = RAW_ALL};
	struct node *over;
	int ret;

	if (n->offset == 0)
		return 0;
	if (n->offset >= (*node)->size)
		return err_set(err, -EINVAL, "Invalid offset '%s'", n->offset_text);
	ret = raw_open(co, *node, &window, &over, err);
	if (ret == 0)
		*node = over;
	return ret;
}

static int zeroes_open(struct co *co, const struct cli_nbd *n, struct node **node, struct err *err)
{
	bool unmap = n->detect_zeroes && strcmp(n->detect_zeroes, "unmap") == 0;
	struct node *over;

	if (!n->detect_zeroes || strcmp(n->detect_zeroes, "off") == 0)
		return 0;
	if (detect_zeroes_open(co, *node, unmap, &over) < 0)
		return err_set(err, -ENOMEM, "no memory");
	*node = over;
	return 0;
}

/* What lies over the image. Whoever asks where its data is, is told of the disk as it is served. */
static int disk_finish(struct co *co, struct cli_nbd *n)
{
	struct export_disk *disk = &n->serve.images[0].disk;
	struct node *node = disk->node;
	int ret = 0;

	if (n->scratch)
		ret = cli_scratch_open(co, node, &node, &n->err);
	if (ret < 0)
		disk->node = NULL;
	if (ret == 0)
		ret = window_open(co, n, &node, &n->err);
	if (ret == 0)
		ret = zeroes_open(co, n, &node, &n->err);
	if (disk->node)
		disk->node = node;
	return ret < 0 ? complain(&n->err) : 0;
}

static int disk_open(struct co *co, struct cli_nbd *n)
{
	struct serve_image *i = &n->serve.images[0];
	bool guessed = false;
	int ret;

	i->open.guessed_raw = &guessed;
	ret = serve_images_open(co, &n->serve, &n->err);
	i->open.guessed_raw = NULL;
	if (ret < 0)
		return image_failed(n, &n->err);
	if (guessed && cli_is_qemu())
		cli_guess_warn(i->open.path);
	return disk_finish(co, n);
}

/* ---- serving ---- */

static int announce(struct cli_nbd *n)
{
	char *text = cli_is_qemu() || n->device ? NULL : serve_exports_text(&n->serve);
	int ret = background_ready(&n->serve.background, text, &n->err);

	free(text);
	systemd_notify(&n->serve.systemd, "READY=1\nSTATUS=serving");
	return ret;
}

static int serve(struct co *co, struct cli_nbd *n)
{
	struct serve *s = &n->serve;
	int ret = serve_exports_start(co, s, &n->err);

	if (ret == 0)
		ret = background_prepare(&s->background, &n->err);
	if (ret == 0)
		ret = serve_confine(co, s, &n->err);
	if (ret == 0 && n->device)
		ret = cli_nbd_attach(n, &n->err);
	if (ret == 0)
		ret = announce(n);
	if (ret == 0)
		ret = serve_wait(co, s, &n->err);
	systemd_notify(&s->systemd, "STOPPING=1");
	serve_exports_stop(co, s);
	return ret < 0 ? complain(&n->err) : 0;
}

static int run(struct co *co, void *arg)
{
	struct cli_nbd *n = arg;
	int status = disk_open(co, n);

	cli_secrets_fini(&n->serve.secrets);
	if (!status)
		status = serve(co, n);
	return serve_images_close(co, &n->serve) | status;
}

static int engine_choose(const struct cli_nbd *n, enum io_engine *out)
{
	const char *aio = n->aio;

	if (aio && strcmp(aio, "native") == 0 &&
		(!n->cache || (strcmp(n->cache, "none") != 0 && strcmp(n->cache, "directsync") != 0)))
		return cli_complain(
			"Failed to blk_new_open '%s': aio=native was specified, but it requires cache.direct=on, "
			"which was not specified.",
			n->serve.images[0].open.path);
	return cli_engine(aio && strcmp(aio, "io_uring") == 0       ? "uring"
			       : aio && strcmp(aio, "threads") == 0 ? aio
								    : NULL,
		       out) < 0;
}

/* Before there is an engine: whatever forks. */
static int begin(struct cli_nbd *n)
{
	struct serve *s = &n->serve;
	enum io_engine engine;
	int ret = engine_choose(n, &engine), status;

	if (ret)
		return 1;
	if (serve_log_open(&s->log, NULL, &n->err) < 0)
		return complain(&n->err);
	s->quiet_level = n->verbose ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR;
	s->log.log.level = s->quiet_level;
	if (n->tls_creds && nbd_tls_creds_new(&s->tls, &s->tls_creds, &n->err) < 0)
		return cli_complain("Failed to get TLS creds: %s", n->err.text);
	if (background_begin(&s->background, s->fork_first || (n->device && !n->verbose), s->pid_file, &n->err) < 0)
		return complain(&n->err);
	if (n->device && cli_nbd_attach_prepare(n, &n->err) < 0)
		return complain(&n->err);
	ret = serve_signals_take();
	if (ret < 0)
		return cli_complain("can't take the signals over: %s", strerror(-ret));
	signal(SIGPIPE, SIG_IGN);
	status = cli_in_coroutine(engine, run, n);
	if (n->attached > 0) {
		if (n->attach_fd >= 0)
			close(n->attach_fd);
		(void)!waitpid(n->attached, NULL, 0);
	}
	background_end(&s->background);
	serve_log_close(&s->log);
	return status;
}

static int serve_file(struct cli_nbd *n, const char *file)
{
	struct serve *s = &n->serve;

	s->sandbox = cli_is_qemu() || n->device ? CLI_SANDBOX_OFF : CLI_SANDBOX_AUTO;
	if (systemd_begin(&s->systemd, &n->err) < 0)
		return complain(&n->err);
	if (address_make(n) < 0)
		return cli_complain("no memory");
	if (image_fill(n, file) < 0)
		return 1;
	export_fill(n);
	return begin(n);
}

static int command(struct cli_nbd *n, int argc, char **argv)
{
	const char *file;
	int ret = cli_nbd_parse(n, argc, argv, &file);

	if (ret != 0)
		return ret < 0;
	if (n->list)
		return cli_nbd_list(n);
	return n->disconnect ? cli_nbd_disconnect(file) : serve_file(n, file);
}

int cmd_nbd(int argc, char **argv)
{
	struct cli_nbd *n = calloc(1, sizeof(*n));
	int status = n ? command(n, argc, argv) : cli_complain("no memory");

	if (n) {
		cli_secrets_fini(&n->serve.secrets);
		nbd_tls_creds_free(n->serve.tls_creds);
		systemd_end(&n->serve.systemd);
		serve_images_fini(&n->serve);
		cli_nbd_tls_fini(n);
		json_decref(n->options);
		free((char *)n->snapshot);
		free(n->address);
		free(n->socket_made);
	}
	free(n);
	return status;
}
