/* SPDX-License-Identifier: MIT */
/* The server: listening, accepting up to a limit, stopping; see export.h and conn.h. */
#include "export/nbd/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NBD_CONNECTIONS 100
#define NBD_HANDSHAKE_NS (UINT64_C(10) * 1000 * 1000 * 1000)
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
	nbd_conn_free(co, c);
	s->n_conns--;
	server_ended_one(s);
}

static void client_welcome(struct co *co, struct nbd_server *s, struct io_sock *sock)
{
	struct nbd_conn *c = NULL;

	if (!s->stopping && s->n_conns < s->most_conns)
		c = nbd_conn_new(s, sock);
	if (!c) {
		io_sock_close(co, sock);
		return;
	}
	if (server_spawn(co, s, "nbd-connection", conn_entry, c) < 0)
		nbd_conn_free(co, c);
	else
		s->n_conns++;
}

static void accept_entry(struct co *co, void *arg)
{
	struct nbd_server *s = arg;

	while (!s->stopping) {
		struct io_sock *sock;
		int r = io_accept(co, s->listener, &sock);

		if (r == 0)
			client_welcome(co, s, sock);
		else if (!s->stopping)
			co_sleep(co, NBD_ACCEPT_PAUSE_NS); /* out of descriptors or memory: it may get better */
	}
	server_ended_one(s);
}

/* ---- start ---- */

static void server_free(struct nbd_server *s)
{
	free(s->name);
	free(s->description);
	free(s);
}

static struct nbd_server *server_new(struct node *n, const struct nbd_options *o)
{
	struct nbd_server *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->node = n;
	s->read_only = o->read_only || n->read_only;
	s->writethrough = o->writethrough;
	s->no_discard = o->no_discard;
	s->most_conns = o->connections ? o->connections : NBD_CONNECTIONS;
	s->handshake_ns = o->handshake_ns ? o->handshake_ns : NBD_HANDSHAKE_NS;
	s->grace_ns = o->grace_ns ? o->grace_ns : NBD_GRACE_NS;
	s->name = strdup(o->export_name ? o->export_name : "");
	s->description = o->description ? strdup(o->description) : NULL;
	list_init(&s->conns);
	co_queue_init(&s->ended);
	if (s->name && (s->description || !o->description))
		return s;
	server_free(s);
	return NULL;
}

static int options_check(const struct nbd_options *o, struct err *err)
{
	if (o->export_name && strlen(o->export_name) > NBD_STRING_BYTES)
		return err_set(err, -ENAMETOOLONG, "the export's name is longer than %d bytes", NBD_STRING_BYTES);
	if (o->description && strlen(o->description) > NBD_STRING_BYTES)
		return err_set(
			err, -ENAMETOOLONG, "the export's description is longer than %d bytes", NBD_STRING_BYTES);
	return 0;
}

int nbd_server_start(
	struct co *co, struct node *n, const struct nbd_options *options, struct nbd_server **out, struct err *err)
{
	int r = options_check(options, err);

	if (r < 0)
		return r;
	struct nbd_server *s = server_new(n, options);

	if (!s)
		return err_set(err, -ENOMEM, "no memory for the server");
	r = io_listen(co, options->address, &s->listener, err);
	if (r == 0 && server_spawn(co, s, "nbd-accept", accept_entry, s) < 0) {
		io_sock_close(co, s->listener);
		r = err_set(err, -EAGAIN, "too many coroutines for one more server");
	}
	if (r < 0) {
		server_free(s);
		return r;
	}
	*out = s;
	return 0;
}

const char *nbd_server_address(const struct nbd_server *s) { return io_sock_address(s->listener); }

/* ---- stop ---- */

static bool server_wait(struct co *co, struct nbd_server *s, uint64_t deadline_ns)
{
	while (s->alive > 0) {
		if (co_queue_wait_until(co, &s->ended, deadline_ns) == -ETIMEDOUT)
			return false;
	}
	return true;
}

static void server_each(struct nbd_server *s, void (*fn)(struct nbd_conn *c))
{
	list_for_each_safe(it, &s->conns)
		fn(list_entry(it, struct nbd_conn, link));
}

void nbd_server_stop(struct co *co, struct nbd_server *s)
{
	s->stopping = true;
	io_sock_shutdown(s->listener);
	server_each(s, nbd_conn_stop);
	if (!server_wait(co, s, co_now(co) + s->grace_ns)) {
		server_each(s, nbd_conn_shutdown);
		/* Nobody can keep us waiting any more but the node, which must not go away under a request. */
		bool ended = server_wait(co, s, CO_NEVER);

		assert(ended);
	}
	io_sock_close(co, s->listener);
	server_free(s);
}
