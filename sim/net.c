/* SPDX-License-Identifier: MIT */
/* Sockets, their buffers, and who waits for them: see net.h. */
#include "net.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/math.h"
#include "memory.h"
#include "world.h"

/* ---- sockets ---- */

static bool is_socket(int fd) { return fd >= SIM_SOCKET_FD; }

static struct sim_socket *socket_of(struct sim_net *net, int fd)
{
	int i = fd - SIM_SOCKET_FD;

	if (i < 0 || i >= SIM_SOCKETS || net->sockets[i].kind == SIM_SOCKET_FREE)
		sim_violation("operation on socket %d, which is not open", fd);
	return &net->sockets[i];
}

static struct sim_socket *peer_of(struct sim_net *net, const struct sim_socket *s)
{
	return s->peer < 0 ? NULL : socket_of(net, s->peer);
}

static int fd_of(const struct sim_net *net, const struct sim_socket *s)
{
	return (int)(s - net->sockets) + SIM_SOCKET_FD;
}

static struct sim_socket *socket_new(struct sim_net *net, enum sim_socket_kind kind)
{
	for (unsigned i = 0; i < SIM_SOCKETS; i++) {
		struct sim_socket *s = &net->sockets[i];

		if (s->kind != SIM_SOCKET_FREE)
			continue;
		*s = (struct sim_socket){.kind = kind, .peer = -1, .listener = -1, .room = net->room};
		if (kind == SIM_SOCKET_STREAM)
			s->bytes = sim_alloc(net->room);
		return s;
	}
	return NULL;
}

static void socket_free(struct sim_socket *s)
{
	sim_free(s->bytes);
	*s = (struct sim_socket){0};
}

void sim_net_init(struct sim_net *net, uint64_t seed)
{
	*net = (struct sim_net){.least = 1000, .spread = 50000, .room = 16384};
	sim_rng_init(&net->rng, seed, 9);
}

void sim_net_clear(struct sim_net *net)
{
	for (unsigned i = 0; i < SIM_SOCKETS; i++)
		socket_free(&net->sockets[i]);
}

/* ---- who waits ---- */

bool sim_net_takes(const struct io_op *op)
{
	switch (op->code) {
	case IO_OP_LISTEN:
	case IO_OP_CONNECT:
	case IO_OP_INHERIT:
	case IO_OP_ACCEPT:
	case IO_OP_RECV:
	case IO_OP_SEND:
	case IO_OP_POLL: return true;
	case IO_OP_CLOSE: return is_socket(op->fd);
	default: return false;
	}
}

uint64_t sim_net_latency(struct sim_net *net)
{
	uint64_t ns = net->least + sim_between(&net->rng, 0, net->spread);

	if (sim_one_in(&net->rng, net->tail_in))
		ns += sim_between(&net->rng, 0, net->tail);
	return ns;
}

static void wake(struct sim_world *w, int fd)
{
	for (unsigned i = 0; i < w->in_flight; i++) {
		struct sim_event *e = &w->events[i];

		if (e->due == SIM_NO_TIME && e->op->fd == fd)
			e->due = w->now + sim_net_latency(&w->net);
	}
}

/* ---- ends of connections ---- */

static void socket_break(struct sim_world *w, struct sim_socket *s)
{
	s->broken = true;
	s->used = 0;
	wake(w, fd_of(&w->net, s));
}

static void connection_break(struct sim_world *w, struct sim_socket *s)
{
	struct sim_socket *peer = peer_of(&w->net, s);

	socket_break(w, s);
	if (peer)
		socket_break(w, peer);
}

/* One that nobody has accepted. */
static void socket_drop(struct sim_world *w, struct sim_socket *s)
{
	struct sim_socket *peer = peer_of(&w->net, s);

	connection_break(w, s);
	if (peer)
		peer->peer = -1;
	socket_free(s);
}

static void listener_shutdown(struct sim_world *w, int fd)
{
	for (unsigned i = 0; i < SIM_SOCKETS; i++) {
		struct sim_socket *s = &w->net.sockets[i];

		if (s->kind == SIM_SOCKET_STREAM && s->listener == fd)
			socket_drop(w, s);
	}
	wake(w, fd);
}

static void stream_shutdown(struct sim_world *w, struct sim_socket *s)
{
	struct sim_socket *peer = peer_of(&w->net, s);
	bool unread = s->used > 0;

	s->used = 0;
	wake(w, fd_of(&w->net, s));
	if (!peer)
		return;
	peer->ended = true;
	if (unread && sim_below(&w->net.rng, 2) == 0)
		socket_break(w, peer);
	else
		wake(w, fd_of(&w->net, peer));
}

void sim_net_shutdown(struct sim_world *w, int fd)
{
	struct sim_socket *s;

	if (w->dead)
		return;
	s = socket_of(&w->net, fd);
	if (s->shut)
		return;
	s->shut = true;
	if (s->kind == SIM_SOCKET_LISTENER)
		listener_shutdown(w, fd);
	else
		stream_shutdown(w, s);
}

void sim_net_share(struct sim_world *w, int fd)
{
	if (!w->dead)
		socket_of(&w->net, fd)->others++;
}

static int64_t do_close(struct sim_world *w, int fd)
{
	struct sim_socket *s = socket_of(&w->net, fd), *peer = peer_of(&w->net, s);

	if (s->others > 0) {
		s->others--;
		return 0;
	}
	sim_net_shutdown(w, fd);
	if (peer)
		peer->peer = -1;
	socket_free(s);
	return 0;
}

/* ---- beginnings of connections ---- */

static struct sim_socket *listener_find(struct sim_net *net)
{
	for (unsigned i = 0; i < SIM_SOCKETS; i++) {
		if (net->sockets[i].kind == SIM_SOCKET_LISTENER && !net->sockets[i].shut)
			return &net->sockets[i];
	}
	return NULL;
}

/* Of those that wait to be accepted: how many, and the first. */
static unsigned backlog(struct sim_net *net, int listener, struct sim_socket **first)
{
	unsigned n = 0;

	*first = NULL;
	for (unsigned i = 0; i < SIM_SOCKETS; i++) {
		struct sim_socket *s = &net->sockets[i];

		if (s->kind != SIM_SOCKET_STREAM || s->listener != listener)
			continue;
		n++;
		if (!*first || s->number < (*first)->number)
			*first = s;
	}
	return n;
}

/* This world has one address. */
static int64_t do_listen(struct sim_net *net, const struct io_op *op)
{
	struct sim_socket *s;

	if (listener_find(net))
		return err_set(op->err, -EADDRINUSE, "%s is in use", op->address);
	s = socket_new(net, SIM_SOCKET_LISTENER);
	return s ? fd_of(net, s) : err_set(op->err, -EMFILE, "too many sockets");
}

static void stream_join(struct sim_net *net, struct sim_socket *client, struct sim_socket *server)
{
	const struct sim_net_faults *f = &net->faults;

	client->peer = fd_of(net, server);
	server->peer = fd_of(net, client);
	server->number = net->connected++;
	if (!sim_one_in(&net->rng, f->break_in))
		return;
	if (sim_below(&net->rng, 2))
		client->breaks_in = sim_between(&net->rng, 1, f->break_after);
	else
		server->breaks_in = sim_between(&net->rng, 1, f->break_after);
}

static int64_t do_connect(struct sim_world *w, const struct io_op *op)
{
	struct sim_net *net = &w->net;
	struct sim_socket *listener = listener_find(net), *first, *client, *server;

	if (!listener || backlog(net, fd_of(net, listener), &first) == SIM_BACKLOG ||
		sim_one_in(&net->rng, net->faults.refuse_in))
		return err_set(op->err, -ECONNREFUSED, "%s: connection refused", op->address);
	client = socket_new(net, SIM_SOCKET_STREAM);
	server = client ? socket_new(net, SIM_SOCKET_STREAM) : NULL;
	if (!server) {
		if (client)
			socket_free(client);
		return err_set(op->err, -EMFILE, "too many sockets");
	}
	stream_join(net, client, server);
	server->listener = fd_of(net, listener);
	wake(w, server->listener);
	return fd_of(net, client);
}

static int64_t accept_fault(struct sim_world *w, struct sim_socket *s)
{
	switch (sim_below(&w->net.rng, 3)) {
	case 0: return -EMFILE;
	case 1: return -ENOMEM;
	default: socket_drop(w, s); return -ECONNABORTED;
	}
}

static int64_t do_accept(struct sim_world *w, const struct sim_socket *listener, bool *waits)
{
	struct sim_socket *s;

	if (listener->shut)
		return -EINVAL;
	*waits = backlog(&w->net, fd_of(&w->net, listener), &s) == 0;
	if (*waits)
		return 0;
	if (sim_one_in(&w->net.rng, w->net.faults.want_in))
		return accept_fault(w, s);
	s->listener = -1;
	return fd_of(&w->net, s);
}

/* ---- transfers ---- */

static int nuisance(struct sim_net *net)
{
	if (sim_one_in(&net->rng, net->faults.interrupt_in))
		return -EINTR;
	return sim_one_in(&net->rng, net->faults.again_in) ? -EAGAIN : 0;
}

static uint32_t asked(const struct io_op *op)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < op->n; i++)
		bytes += op->v[i].iov_len;
	return (uint32_t)MIN(bytes, (uint64_t)INT32_MAX);
}

static uint32_t shortened(struct sim_net *net, uint32_t bytes)
{
	if (bytes < 2 || !sim_one_in(&net->rng, net->faults.short_in))
		return bytes;
	return 1 + sim_below(&net->rng, bytes - 1);
}

static void ring_put(struct sim_socket *s, uint8_t *from, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		s->bytes[(s->head + s->used + i) % s->room] = from[i];
	s->used += n;
}

static void ring_get(struct sim_socket *s, uint8_t *to, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		to[i] = s->bytes[(s->head + i) % s->room];
	s->head = (s->head + n) % s->room;
	s->used -= n;
}

typedef void ring_move(struct sim_socket *s, uint8_t *bytes, uint32_t n);

static void transfer(struct sim_socket *s, const struct io_op *op, uint32_t n, ring_move *move)
{
	for (unsigned i = 0; i < op->n && n > 0; i++) {
		uint32_t part = (uint32_t)MIN(op->v[i].iov_len, (size_t)n);

		move(s, op->v[i].iov_base, part);
		n -= part;
	}
}

static int64_t do_recv(struct sim_world *w, struct sim_socket *s, const struct io_op *op, bool *waits)
{
	int64_t r = nuisance(&w->net);
	uint32_t n;

	if (r < 0)
		return r;
	if (s->broken)
		return -ECONNRESET;
	if (s->used == 0 && (s->shut || s->ended))
		return 0;
	*waits = s->used == 0;
	if (*waits)
		return 0;
	n = shortened(&w->net, MIN(asked(op), s->used));
	transfer(s, op, n, ring_get);
	if (s->peer >= 0)
		wake(w, s->peer);
	return n;
}

/* True: the connection breaks behind the last of these bytes. */
static bool breaks(struct sim_socket *to, uint32_t *n)
{
	if (to->breaks_in == 0)
		return false;
	*n = (uint32_t)MIN((uint64_t)*n, to->breaks_in);
	to->breaks_in -= *n;
	return to->breaks_in == 0;
}

static int64_t do_send(struct sim_world *w, struct sim_socket *s, const struct io_op *op, bool *waits)
{
	struct sim_socket *to = peer_of(&w->net, s);
	int64_t r = nuisance(&w->net);
	uint32_t n;

	if (r < 0)
		return r;
	if (s->broken)
		return -ECONNRESET;
	if (s->shut || !to || to->shut)
		return -EPIPE;
	*waits = to->used == to->room;
	if (*waits)
		return 0;
	n = shortened(&w->net, MIN(asked(op), to->room - to->used));
	r = breaks(to, &n);
	transfer(to, op, n, ring_put);
	if (r)
		connection_break(w, s);
	else
		wake(w, s->peer);
	return n;
}

static int64_t do_poll(const struct sim_socket *s, bool *waits)
{
	if (s->shut)
		return -ECANCELED;
	*waits = s->used == 0 && !s->ended && !s->broken;
	return 0;
}

/* ---- the operation ---- */

static int64_t operation(struct sim_world *w, const struct io_op *op, bool *waits)
{
	struct sim_net *net = &w->net;

	switch (op->code) {
	case IO_OP_LISTEN: return do_listen(net, op);
	case IO_OP_CONNECT: return do_connect(w, op);
	case IO_OP_INHERIT: return op->fd;
	case IO_OP_ACCEPT: return do_accept(w, socket_of(net, op->fd), waits);
	case IO_OP_RECV: return do_recv(w, socket_of(net, op->fd), op, waits);
	case IO_OP_SEND: return do_send(w, socket_of(net, op->fd), op, waits);
	case IO_OP_POLL: return op->flags & IO_POLL_WRITE ? -ENOTSUP : do_poll(socket_of(net, op->fd), waits);
	default: return do_close(w, op->fd);
	}
}

bool sim_net_finish(struct sim_world *w, struct sim_event *e)
{
	struct io_op *op = e->op;
	bool waits = false;

	e->result = operation(w, op, &waits);
	if (waits && e->cancelled) {
		e->result = -ECANCELED;
		waits = false;
	}
	if (waits) {
		e->due = SIM_NO_TIME;
		return false;
	}
	if (op->name && op->code != IO_OP_CLOSE && e->result >= 0)
		strcpy(op->name->text, "sim");
	if (sim_tracing)
		sim_trace("%12" PRIu64 " #%" PRIu64 " net   op %d fd %d -> %" PRId64, w->now, e->number, op->code,
			op->fd, e->result);
	return true;
}
