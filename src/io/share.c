/* SPDX-License-Identifier: MIT */
/* Descriptors, notifications and memory of another process: see share.h. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "io/map.h"
#include "io/sock.h"

/* ---- descriptors ---- */

union control {
	char bytes[CMSG_SPACE(IO_FDS * sizeof(int))];
	struct cmsghdr align;
};

/* The kernel gave us these numbers, whatever else it was that was sent. */
static void fds_collect(const struct io_op *op, struct io_fds *fds)
{
	struct msghdr msg = {.msg_control = op->control, .msg_controllen = op->control_len};

	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
		unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		assert(n <= IO_FDS - fds->n);
		memcpy(fds->fd + fds->n, CMSG_DATA(c), n * sizeof(int));
		fds->n += n;
	}
	fds->cut = op->control_cut;
}

ssize_t io_recv_fds(struct co *co, struct io_sock *s, void *buf, size_t len, struct io_fds *fds)
{
	union control control;
	struct iovec v = {.iov_base = buf, .iov_len = len};
	struct io_op op = {.code = IO_OP_RECV, .v = &v, .n = 1, .control = &control, .control_len = sizeof(control)};
	int64_t r = io_sock_do(co, s, &op);

	fds->n = 0;
	fds->cut = false;
	if (r >= 0)
		fds_collect(&op, fds);
	return (ssize_t)r;
}

/* The descriptors go with the first byte. */
int io_send_fds(struct co *co, struct io_sock *s, struct iov from, const int *fd, unsigned n)
{
	union control control = {.bytes = {0}};
	struct iovec v[IO_VECTOR];
	size_t bytes;
	struct io_op op = {.code = IO_OP_SEND, .v = v, .n = iov_export(from, v, IO_VECTOR, &bytes)};
	int64_t r;

	assert(n <= IO_FDS && from.len > 0);
	if (n > 0) {
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fd, n * sizeof(int));
		op.control = &control;
		op.control_len = CMSG_SPACE(n * sizeof(int));
	}
	r = io_sock_do(co, s, &op);
	return r < 0 ? (int)r : io_send(co, s, iov_slice(from, (size_t)r, from.len - (size_t)r));
}

/* With a name, though an empty one: locks of the open file, which isn't ours, stay as they are. */
void io_fd_close(struct co *co, int fd)
{
	(void)io_do(co, &(struct io_op){.code = IO_OP_CLOSE, .fd = fd, .name = &(struct io_name){.inode = 0}});
}

/* ---- notifications ---- */

struct io_event {
	struct io *io;
	int fd;
	bool pipe;
	bool cancelled;
	unsigned busy;
};

int io_event_adopt(struct co *co, int fd, bool waits, struct io_event **out)
{
	struct io_op op = {.code = IO_OP_ADOPT, .fd = fd, .flags = waits ? IO_ADOPT_WAIT : IO_ADOPT_SIGNAL};
	struct io_event *e = calloc(1, sizeof(*e));
	int64_t r = -ENOMEM;

	if (e != NULL)
		r = io_do(co, &op);
	if (r < 0) {
		io_fd_close(co, fd);
		free(e);
		return (int)r;
	}
	e->io = io_of(co);
	e->fd = (int)r;
	e->pipe = op.event;
	*out = e;
	return 0;
}

static int64_t event_do(struct co *co, struct io_event *e, enum io_code code)
{
	unsigned flags = code == IO_OP_EVENT_SIGNAL && e->pipe ? IO_SIGNAL_AWAITED : 0;
	int64_t r;

	e->busy++;
	r = io_do(co, &(struct io_op){.code = code, .fd = e->fd, .flags = flags});
	e->busy--;
	return r;
}

/* Kernels before 5.15 don't wait in a read of what was opened not to wait; then a poll does. */
int io_event_wait(struct co *co, struct io_event *e)
{
	int64_t r = -EAGAIN;

	while (!e->cancelled && (r == -EAGAIN || r == -EINTR)) {
		r = event_do(co, e, IO_OP_EVENT_WAIT);
		if (r == -EAGAIN && !e->cancelled) {
			int64_t poll = event_do(co, e, IO_OP_POLL);

			r = poll < 0 && poll != -EINTR ? poll : r;
		}
	}
	if (e->cancelled)
		return -ECANCELED;
	return r > 0 ? 0 : r == 0 ? -EPIPE : (int)r;
}

void io_event_cancel(struct io_event *e)
{
	e->cancelled = true;
	e->io->ops->shutdown(e->io, e->fd);
}

void io_event_renew(struct io_event *e) { e->cancelled = false; }

int io_event_fd(const struct io_event *e) { return e->fd; }

/* A failure is the receiver's: it is gone, or can't count further, which tells it enough. */
void io_event_signal(struct co *co, struct io_event *e) { (void)event_do(co, e, IO_OP_EVENT_SIGNAL); }

void io_event_close(struct co *co, struct io_event *e)
{
	if (e == NULL)
		return;
	while (e->busy > 0) /* a signal that is on its way */
		co_yield(co);
	io_fd_close(co, e->fd);
	free(e);
}

/* ---- memory ---- */

int io_map(struct co *co, int fd, uint64_t off, uint64_t len, struct io_map **out, struct err *err)
{
	AUTO_FREE struct io_map *m = calloc(1, sizeof(*m));
	int64_t r;

	if (m == NULL)
		return err_set(err, -ENOMEM, "no memory");
	r = io_do(co, &(struct io_op){.code = IO_OP_MAP, .fd = fd, .offset = off, .len = len, .map = m, .err = err});
	if (r < 0)
		return (int)r;
	*out = take(m);
	return 0;
}

int io_map_new(struct co *co, uint64_t len, struct io_map **out, int *fd, struct err *err)
{
	int64_t r = io_do(co, &(struct io_op){.code = IO_OP_MEMORY, .len = len});

	if (r < 0)
		return err_set(err, (int)r, "no memory to share: %s", strerror(-(int)r));
	*fd = (int)r;
	r = io_map(co, *fd, 0, len, out, err);
	if (r < 0)
		io_fd_close(co, *fd);
	return (int)r;
}

uint8_t *io_map_bytes(const struct io_map *m) { return m->bytes; }
uint64_t io_map_len(const struct io_map *m) { return m->len; }

void io_unmap(struct co *co, struct io_map *m)
{
	if (m == NULL)
		return;
	(void)io_do(co, &(struct io_op){.code = IO_OP_UNMAP, .map = m});
	free(m);
}
