/* SPDX-License-Identifier: MIT */
/* The server: one front end at a time, and who comes after it; see export.h and device.h. */
#include "export/vhost_user/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"

#define ACCEPT_PAUSE_NS (UINT64_C(100) * 1000 * 1000)
#define PATIENCE_NS (UINT64_C(300) * 1000 * 1000) /* with who is there, before somebody else is sent away */
#define PATIENCE_STEP_NS (UINT64_C(5) * 1000 * 1000)
#define STOP_STEP_NS (UINT64_C(1) * 1000 * 1000)
#define QUEUES 64

/* ---- sessions ---- */

static void server_ended_one(struct vu_server *s)
{
	s->alive--;
	co_queue_wake_all(&s->ended);
}

static int server_spawn(struct co *co, struct vu_server *s, const char *name, co_entry *entry, void *arg)
{
	int r = co_spawn(co_sched_of(co), name, entry, arg);

	if (r == 0)
		s->alive++;
	return r;
}

static void session_entry(struct co *co, void *arg)
{
	struct vu_session *session = arg;
	struct vu_server *s = session->server;

	vu_session_run(co, session);
	if (!session->frozen) {
		s->session = NULL;
		vu_session_free(co, session);
	}
	server_ended_one(s);
}

static void session_begin(struct co *co, struct vu_server *s, struct io_sock *sock)
{
	struct vu_session *session = s->stopping || s->frozen ? NULL : vu_session_new(co, s, sock);

	if (!session) {
		io_sock_close(co, sock);
		return;
	}
	s->session = session;
	s->export.stats.clients++;
	if (server_spawn(co, s, "vhost-user-session", session_entry, session) == 0)
		return;
	s->session = NULL;
	vu_session_free(co, session);
}

/* A front end that connects, hangs up and connects again may be back before we know that it was gone. */
static bool place_is_free(struct co *co, const struct vu_server *s)
{
	for (uint64_t waited = 0; s->session && !s->session->ending && !s->frozen && waited < PATIENCE_NS;
		waited += PATIENCE_STEP_NS)
		co_sleep(co, PATIENCE_STEP_NS);
	return !s->session || s->session->ending;
}

static void front_end_welcome(struct co *co, struct vu_server *s, struct io_sock *sock)
{
	if (!place_is_free(co, s)) {
		vu_say(s, "a second front end is sent away: there is one already");
		s->export.stats.refused++;
		io_sock_close(co, sock);
		return;
	}
	while (s->session && !s->frozen)
		co_queue_wait(co, &s->ended);
	session_begin(co, s, sock);
}

static void accept_entry(struct co *co, void *arg)
{
	struct vu_server *s = arg;

	while (!s->stopping && !s->frozen) {
		struct io_sock *sock;
		int r = io_accept(co, s->listener, &sock);

		if (r == 0) {
			s->export.full = false;
			front_end_welcome(co, s, sock);
		}
		if (r < 0 && !s->stopping && !s->frozen) {
			export_accept_failed(&s->export, io_sock_address(s->listener), r);
			co_sleep(co, ACCEPT_PAUSE_NS);
		}
	}
	server_ended_one(s);
}

/* ---- what every export can do ---- */

static struct vu_server *server_of(const struct export *e) { return container_of(e, struct vu_server, export); }

static char *server_where(const struct export *e, const struct export_disk *disk)
{
	char *text;

	(void)disk;
	return asprintf(&text, "vhost-user:%s", io_sock_address(server_of(e)->listener) + strlen("unix:")) < 0 ? NULL
													       : text;
}

static unsigned server_clients(const struct export *e, const struct export_disk *disk)
{
	const struct vu_server *s = server_of(e);

	return s->disk == disk && s->session;
}

static void server_resized(struct export *e, const struct export_disk *disk)
{
	struct vu_server *s = server_of(e);

	if (s->disk == disk && s->session && !s->session->ending)
		vu_session_resized(s->session);
}

static void server_free(struct vu_server *s)
{
	free(s->serial);
	free(s);
}

void vu_server_shut(struct co *co, struct vu_server *s)
{
	io_sock_close(co, s->listener);
	server_free(s);
}

static void server_stop(struct co *co, struct export *e)
{
	struct vu_server *s = server_of(e);

	s->stopping = true;
	io_sock_shutdown(s->listener);
	if (s->session)
		s->session->stopping = true;
	/* The front end may leave by itself meanwhile. */
	while (s->session && !vu_session_is_resting(s->session))
		co_sleep(co, STOP_STEP_NS);
	if (s->session)
		vu_session_end(s->session);
	while (s->alive > 0)
		co_queue_wait(co, &s->ended);
	vu_server_shut(co, s);
}

static const struct export_ops server_ops = {
	.kind = "vhost-user",
	.where = server_where,
	.clients = server_clients,
	.resized = server_resized,
	.stop = server_stop,
	.freeze = vu_server_freeze,
	.thaw = vu_server_thaw,
	.release = vu_server_release,
};

const char *vhost_user_export_address(const struct export *e) { return io_sock_address(server_of(e)->listener); }

/* ---- start ---- */

static int options_check(const struct vhost_user_options *o, struct err *err)
{
	if (!o->listener && !o->state && strncmp(o->address, "unix:", 5) != 0)
		return err_set(err, -EINVAL, "vhost-user needs a unix socket, not \"%s\"", o->address);
	if (o->queues > VU_QUEUES)
		return err_set(err, -EINVAL, "%u queues are too many, %d are possible", o->queues, VU_QUEUES);
	if (o->queue_size != 0 && (!is_power_of_two(o->queue_size) || o->queue_size > VU_RING_MAX))
		return err_set(
			err, -EINVAL, "a queue's size is a power of two up to %u, not %u", VU_RING_MAX, o->queue_size);
	if (o->block_size != 0 && o->block_size != 512 && o->block_size != 4096)
		return err_set(err, -EINVAL, "a disk has blocks of 512 or 4096 bytes, not %u", o->block_size);
	if (o->serial && strlen(o->serial) > VIRTIO_BLK_ID_BYTES)
		return err_set(err, -EINVAL, "a serial number has at most %d bytes", VIRTIO_BLK_ID_BYTES);
	return 0;
}

static struct vu_server *server_new(const struct vhost_user_options *o)
{
	struct vu_server *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->export = (struct export){.ops = &server_ops, .log = o->log};
	s->disk = o->disk;
	s->block = o->block_size ? o->block_size : VU_SECTOR;
	s->queues = o->queues ? o->queues : QUEUES;
	s->queue_size = o->queue_size ? o->queue_size : VU_RING_MAX;
	s->poll_ns = o->poll_ns;
	s->hands_over = o->hands_over;
	co_queue_init(&s->ended);
	s->serial = strdup(o->serial ? o->serial : "");
	if (s->serial)
		return s;
	free(s);
	return NULL;
}

int vu_server_begin(struct co *co, struct vu_server *s)
{
	int r = server_spawn(co, s, "vhost-user-accept", accept_entry, s);

	if (r < 0 || !s->session)
		return r;
	vu_session_thaw(co, s->session);
	if (server_spawn(co, s, "vhost-user-session", session_entry, s->session) < 0) {
		vu_say(s, "the front end is lost: too many coroutines");
		vu_session_release(co, take(s->session));
	}
	return 0;
}

static int server_setup(struct co *co, struct vu_server *s, const struct vhost_user_options *o, struct err *err)
{
	int r = 0;

	if (o->state)
		return vu_server_restore(co, s, o->state, err);
	if (!s->listener)
		r = io_listen(co, o->address, &s->listener, err);
	if (r == 0 && vu_server_begin(co, s) < 0)
		r = err_set(err, -EAGAIN, "too many coroutines for one more server");
	return r;
}

int vhost_user_export_start(
	struct co *co, const struct vhost_user_options *options, struct export **out, struct err *err)
{
	int r = options_check(options, err);
	struct vu_server *s = r == 0 ? server_new(options) : NULL;

	if (r == 0 && !s)
		r = err_set(err, -ENOMEM, "no memory for the server");
	if (r < 0) {
		io_sock_close(co, options->listener);
		return r;
	}
	s->listener = options->listener;
	r = server_setup(co, s, options, err);
	if (r < 0) {
		vu_server_shut(co, s);
		return r;
	}
	*out = &s->export;
	return 0;
}
