/* SPDX-License-Identifier: MIT */
/*
 * Stream sockets above the backend. A socket that was shut down says so itself, whatever error the kernel chose for the
 * operation that it ended.
 */
#include "io/sock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "io/posix.h"
#include "io/share.h"

struct io_sock {
	struct io *io;
	int fd;
	bool shut, paused, listens;
	unsigned busy;       /* operations under way: none may be left when it is closed */
	struct io_op *waits; /* the accept or receive under way */
	struct io_name name;
};

static int sock_open(
	struct co *co, enum io_code code, unsigned flags, const char *address, struct io_sock **out, struct err *err)
{
	AUTO_FREE struct io_sock *s = calloc(1, sizeof(*s));
	int64_t r;

	if (s == NULL)
		return err_set(err, -ENOMEM, "%s: no memory", address);
	r = io_do(co, &(struct io_op){.code = code, .flags = flags, .address = address, .name = &s->name, .err = err});
	if (r < 0)
		return (int)r;
	s->io = io_of(co);
	s->fd = (int)r;
	s->listens = code == IO_OP_LISTEN;
	*out = take(s);
	return 0;
}

int io_listen(struct co *co, const char *address, struct io_sock **out, struct err *err)
{
	return sock_open(co, IO_OP_LISTEN, 0, address, out, err);
}

int io_listen_private(struct co *co, const char *address, struct io_sock **out, struct err *err)
{
	return sock_open(co, IO_OP_LISTEN, IO_LISTEN_PRIVATE, address, out, err);
}

int io_connect(struct co *co, const char *address, struct io_sock **out, struct err *err)
{
	return sock_open(co, IO_OP_CONNECT, 0, address, out, err);
}

int io_listener_adopt(struct co *co, int fd, struct io_sock **out, struct err *err)
{
	AUTO_FREE struct io_sock *s = calloc(1, sizeof(*s));
	int64_t r;

	if (s == NULL) {
		io_posix_close(fd);
		return err_set(err, -ENOMEM, "no memory for a socket");
	}
	r = io_do(co, &(struct io_op){.code = IO_OP_INHERIT, .fd = fd, .name = &s->name, .err = err});
	if (r < 0)
		return (int)r;
	s->io = io_of(co);
	s->fd = (int)r;
	s->listens = true;
	*out = take(s);
	return 0;
}

const char *io_sock_address(const struct io_sock *s) { return s->name.text; }

static int64_t sock_do_once(struct co *co, struct io_sock *s, struct io_op *op)
{
	bool receives = op->code == IO_OP_RECV || op->code == IO_OP_ACCEPT;
	int64_t r;

	if (!receives)
		return io_do(co, op);
	if (s->paused)
		return -ECANCELED;
	s->waits = op;
	r = io_do(co, op);
	s->waits = NULL;
	return r;
}

int64_t io_sock_do(struct co *co, struct io_sock *s, struct io_op *op)
{
	unsigned tries = 0;
	int64_t r;

	op->fd = s->fd;
	s->busy++;
	do
		r = sock_do_once(co, s, op);
	while (io_again(co, &tries, r));
	s->busy--;
	return r;
}

static int64_t sock_do(struct co *co, struct io_sock *s, struct io_op op) { return io_sock_do(co, s, &op); }

int io_sock_adopt(struct co *co, int fd, struct io_sock **out)
{
	struct io_sock *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		io_fd_close(co, fd);
		return -ENOMEM;
	}
	s->io = io_of(co);
	s->fd = fd;
	*out = s;
	return 0;
}

/* ---- accept ---- */

/* These belong to the client that went away, or to the network between us, not to the listener. */
static bool accept_error_passes(int r)
{
	switch (-r) {
	case ECONNABORTED:
	case EPROTO:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENOPROTOOPT:
	case ENONET: return true;
	default: return false;
	}
}

static int accept_one(struct co *co, struct io_sock *listener, struct io_name *name)
{
	int r;

	do
		r = (int)sock_do(co, listener, (struct io_op){.code = IO_OP_ACCEPT, .name = name});
	while (!listener->shut && accept_error_passes(r));
	return r;
}

int io_accept(struct co *co, struct io_sock *listener, struct io_sock **out)
{
	AUTO_FREE struct io_sock *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	if (listener->shut)
		return -ESHUTDOWN;
	s->io = listener->io;
	s->fd = accept_one(co, listener, &s->name);
	if (listener->shut && s->fd >= 0) {
		io_sock_close(co, take(s));
		return -ESHUTDOWN;
	}
	if (s->fd < 0)
		return listener->shut ? -ESHUTDOWN : s->fd;
	*out = take(s);
	return 0;
}

/* ---- the stream ---- */

ssize_t io_recv(struct co *co, struct io_sock *s, void *buf, size_t len)
{
	struct iovec v = {.iov_base = buf, .iov_len = len};

	assert(len > 0);
	return (ssize_t)sock_do(co, s, (struct io_op){.code = IO_OP_RECV, .v = &v, .n = 1});
}

int io_send(struct co *co, struct io_sock *s, struct iov from)
{
	while (from.len > 0) {
		struct iovec v[IO_VECTOR];
		size_t bytes;
		unsigned n = iov_export(from, v, IO_VECTOR, &bytes);
		int64_t r = sock_do(co, s, (struct io_op){.code = IO_OP_SEND, .v = v, .n = n});

		if (r < 0)
			return (int)r;
		from = iov_slice(from, (size_t)r, from.len - (size_t)r);
	}
	return 0;
}

void io_sock_shutdown(struct io_sock *s)
{
	s->shut = true;
	s->io->ops->shutdown(s->io, s->fd);
}

/* ---- changing hands ---- */

void io_sock_pause(struct io_sock *s)
{
	s->paused = true;
	if (s->waits != NULL)
		s->io->ops->cancel(s->io, s->waits);
}

/* Whoever had the listener meanwhile may have made it wait, or not wait, as his own engine wants it. */
void io_sock_resume(struct co *co, struct io_sock *s)
{
	struct io_name name;

	if (s->listens)
		(void)io_do(co, &(struct io_op){.code = IO_OP_INHERIT, .fd = s->fd, .name = &name});
	s->paused = false;
}

int io_sock_fd(const struct io_sock *s) { return s->fd; }

struct io_place io_sock_place(const struct io_sock *s)
{
	return (struct io_place){.device = s->name.device, .inode = s->name.inode};
}

void io_sock_place_set(struct io_sock *s, struct io_place place)
{
	s->name.device = place.device;
	s->name.inode = place.inode;
}

void io_sock_close(struct co *co, struct io_sock *s)
{
	if (s == NULL)
		return;
	assert(s->busy == 0);
	(void)io_do(co, &(struct io_op){.code = IO_OP_CLOSE, .fd = s->fd, .name = &s->name});
	free(s);
}
