/* SPDX-License-Identifier: MIT */
/* The server: listening, accepting up to a limit, stopping; see export.h and conn.h. */
#include "export/nbd/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "export/nbd/uri.h"

#define NBD_CONNECTIONS 100
#define NBD_HANDSHAKE_NS (UINT64_C(10) * 1000 * 1000 * 1000)
#define NBD_PATIENCE_NS (UINT64_C(30) * 1000 * 1000 * 1000)
#define NBD_GRACE_NS (UINT64_C(5) * 1000 * 1000 * 1000)
#define NBD_ACCEPT_PAUSE_NS (UINT64_C(100) * 1000 * 1000)

static void server_ended_one(struct nbd_server *s)
{
	s->alive--;
	co_queue_wake_all(&s->ended);
}

static int server_spawn(struct co *co, struct nbd_server *s, const char *name, co_entry *entry, void *arg)
{
	int r = co_spawn(co_sched_of(co), name, entry, arg);

	if (r == 0)
		s->alive++;
	return r;
}

/* ---- clients ---- */

static void conn_entry(struct co *co, void *arg)
{
	struct nbd_conn *c = arg;
	struct nbd_server *s = c->server;

	nbd_conn_run(co, c);
	if (!c->frozen) {
		bool served = c->established;

		nbd_conn_free(co, c);
		s->n_conns--;
		if (served && s->left && !s->stopping)
			s->left(s->left_arg, s->n_conns);
	}
	server_ended_one(s);
}

static void client_refuse(struct co *co, struct nbd_server *s, struct io_sock *sock)
{
	if (!s->stopping) {
		s->export.stats.refused++;
		log_line(s->export.log, LOG_LEVEL_WARNING, "%s: a client is turned away: %s (%u clients, at most %u)",
			io_sock_address(s->listener), s->n_conns < s->most_conns ? "no memory" : "too many at once",
			s->n_conns, s->most_conns);
	}
	io_sock_close(co, sock);
}

static void client_welcome(struct co *co, struct nbd_server *s, struct io_sock *sock)
{
	struct nbd_conn *c = NULL;

	if (!s->stopping && s->n_conns < s->most_conns)
		c = nbd_conn_new(s, sock);
	if (!c) {
		client_refuse(co, s, sock);
		return;
	}
	if (server_spawn(co, s, "nbd-connection", conn_entry, c) < 0) {
		log_line(s->export.log, LOG_LEVEL_WARNING, "%s: a client is turned away: too many coroutines",
			io_sock_address(s->listener));
		s->export.stats.refused++;
		nbd_conn_free(co, c);
		return;
	}
	s->n_conns++;
}

static bool is_full(const struct nbd_server *s)
{
	return s->patient && s->n_conns >= s->most_conns && !s->stopping && !s->frozen;
}

static void accept_entry(struct co *co, void *arg)
{
	struct nbd_server *s = arg;

	s->accepting = true;
	while (!s->stopping && !s->frozen) {
		struct io_sock *sock;
		int r;

		while (is_full(s))
			co_queue_wait(co, &s->ended);
		r = io_accept(co, s->listener, &sock);
		if (r == 0) {
			s->export.full = false;
			client_welcome(co, s, sock);
		}
		if (r < 0 && !s->stopping && !s->frozen) {
			export_accept_failed(&s->export, io_sock_address(s->listener), r);
			co_sleep(co, NBD_ACCEPT_PAUSE_NS);
		}
	}
	s->accepting = false;
	server_ended_one(s);
}

/* ---- deadlines ---- */

/* Shows those out whose time is up; when the next one's will be. */
static uint64_t watch_round(struct nbd_server *s, uint64_t now)
{
	uint64_t next = CO_NEVER;

	list_for_each_safe(it, &s->conns) {
		struct nbd_conn *c = list_entry(it, struct nbd_conn, link);

		if (nbd_conn_deadline(c) <= now)
			nbd_conn_expire(c);
		next = MIN(next, nbd_conn_deadline(c));
	}
	return next;
}

static void watch_entry(struct co *co, void *arg)
{
	struct nbd_server *s = arg;

	while (!s->watch_over) {
		s->watched_ns = watch_round(s, co_now(co));
		(void)!co_queue_wait_until(co, &s->watch, s->watched_ns);
	}
}

static void watch_end(struct co *co, struct nbd_server *s)
{
	s->watch_over = true;
	co_queue_wake_all(&s->watch);
	co_group_wait(co, &s->watcher);
}

/* ---- what every export can do ---- */

static struct nbd_server *server_of(const struct export *e) { return container_of(e, struct nbd_server, export); }

static char *server_where(const struct export *e, const struct export_disk *disk)
{
	return nbd_uri(io_sock_address(server_of(e)->listener), disk->name, server_of(e)->tls != NULL);
}

static unsigned server_clients(const struct export *e, const struct export_disk *disk)
{
	unsigned n = 0;

	list_for_each(it, &server_of(e)->conns)
		n += list_entry(it, struct nbd_conn, link)->disk == disk;
	return n;
}

/* The protocol has no message for it: who connects from now on learns the new size. */
static void server_resized(struct export *e, const struct export_disk *disk)
{
	(void)e;
	(void)disk;
}

static void server_stop(struct co *co, struct export *e);

static const struct export_ops server_ops = {
	.kind = "NBD",
	.where = server_where,
	.clients = server_clients,
	.resized = server_resized,
	.stop = server_stop,
	.freeze = nbd_server_freeze,
	.thaw = nbd_server_thaw,
	.release = nbd_server_release,
};

const char *nbd_export_address(const struct export *e) { return io_sock_address(server_of(e)->listener); }

/* ---- start ---- */

static void server_free(struct nbd_server *s)
{
	free(s->disks);
	free(s);
}

static struct nbd_server *server_new(const struct nbd_options *o)
{
	struct nbd_server *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->disks = calloc(o->disks_n, sizeof(struct export_disk *));
	if (!s->disks) {
		free(s);
		return NULL;
	}
	memcpy(s->disks, o->disks, o->disks_n * sizeof(struct export_disk *));
	s->disks_n = o->disks_n;
	s->export = (struct export){.ops = &server_ops, .log = o->log};
	s->tls = o->tls;
	s->most_conns = o->connections ? o->connections : NBD_CONNECTIONS;
	s->patient = o->patient;
	s->left = o->left;
	s->left_arg = o->left_arg;
	s->handshake_ns = o->handshake_ns ? o->handshake_ns : NBD_HANDSHAKE_NS;
	s->patience_ns = o->patience_ns ? o->patience_ns : NBD_PATIENCE_NS;
	nbd_budget_init(&s->budget);
	s->watched_ns = CO_NEVER;
	co_queue_init(&s->watch);
	s->grace_ns = o->grace_ns ? o->grace_ns : NBD_GRACE_NS;
	list_init(&s->conns);
	co_queue_init(&s->ended);
	return s;
}

static int disk_check(const struct export_disk *d, struct err *err)
{
	if (strlen(d->name) > NBD_STRING_BYTES)
		return err_set(err, -ENAMETOOLONG, "the export's name is longer than %d bytes", NBD_STRING_BYTES);
	if (d->description && strlen(d->description) > NBD_STRING_BYTES)
		return err_set(
			err, -ENAMETOOLONG, "the export's description is longer than %d bytes", NBD_STRING_BYTES);
	return 0;
}

static void conns_begin(struct co *co, struct nbd_server *s)
{
	list_for_each_safe(it, &s->conns) {
		struct nbd_conn *c = list_entry(it, struct nbd_conn, link);

		nbd_conn_thaw(co, c);
		if (server_spawn(co, s, "nbd-connection", conn_entry, c) == 0)
			continue;
		nbd_conn_log(c, LOG_LEVEL_ERROR, "is lost: too many coroutines");
		s->n_conns--;
		nbd_conn_free(co, c);
	}
}

int nbd_server_begin(struct co *co, struct nbd_server *s)
{
	if (!s->watching)
		co_group_init(&s->watcher, co_sched_of(co));
	if (!s->watching && co_group_spawn(&s->watcher, "nbd-watcher", watch_entry, s) < 0)
		return -EAGAIN;
	s->watching = true;
	if (server_spawn(co, s, "nbd-accept", accept_entry, s) < 0)
		return -EAGAIN;
	conns_begin(co, s);
	return 0;
}

static int server_setup(struct co *co, struct nbd_server *s, const struct nbd_options *o, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; i < s->disks_n && r == 0; i++)
		r = disk_check(s->disks[i], err);
	if (r == 0 && o->state)
		return nbd_server_restore(co, s, o->state, err);
	if (r == 0 && !s->listener)
		r = io_listen(co, o->address, &s->listener, err);
	if (r == 0 && nbd_server_begin(co, s) < 0)
		r = err_set(err, -EAGAIN, "too many coroutines for one more server");
	return r;
}

void nbd_server_shut(struct co *co, struct nbd_server *s)
{
	if (s->watching)
		watch_end(co, s);
	io_sock_close(co, s->listener);
	server_free(s);
}

int nbd_export_start(struct co *co, const struct nbd_options *options, struct export **out, struct err *err)
{
	struct nbd_server *s = server_new(options);

	if (!s) {
		io_sock_close(co, options->listener);
		return err_set(err, -ENOMEM, "no memory for the server");
	}
	s->listener = options->listener;
	int r = server_setup(co, s, options, err);

	if (r < 0) {
		nbd_server_shut(co, s);
		return r;
	}
	*out = &s->export;
	return 0;
}

/* ---- stop ---- */

bool nbd_server_wait(struct co *co, struct nbd_server *s, uint64_t deadline_ns)
{
	while (s->alive > 0) {
		if (co_queue_wait_until(co, &s->ended, deadline_ns) == -ETIMEDOUT)
			return false;
	}
	return true;
}

void nbd_server_each(struct nbd_server *s, void (*fn)(struct nbd_conn *c))
{
	list_for_each_safe(it, &s->conns)
		fn(list_entry(it, struct nbd_conn, link));
}

static void server_stop(struct co *co, struct export *e)
{
	struct nbd_server *s = server_of(e);

	s->stopping = true;
	io_sock_shutdown(s->listener);
	nbd_server_each(s, nbd_conn_stop);
	if (!nbd_server_wait(co, s, co_now(co) + s->grace_ns)) {
		nbd_server_each(s, nbd_conn_shutdown);
		/* Nobody can keep us waiting any more but the node, which must not go away under a request. */
		bool ended = nbd_server_wait(co, s, CO_NEVER);

		assert(ended);
	}
	nbd_server_shut(co, s);
}
