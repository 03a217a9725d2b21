/* SPDX-License-Identifier: MIT */
/*
 * The engine for kernels and sandboxes without io_uring. What blocks runs on helper threads; sockets are tried at once,
 * and again when poll says so. What is finished already when it is submitted waits in a list, as an operation is never
 * completed from within submit.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

#include "io/pool.h"
#include "io/posix.h"

struct threads {
	struct io io; /* first */
	struct io_helpers helpers;
	struct list finished; /* operations that have their result */
	struct list waiting;  /* operations on sockets and polls */
	unsigned waiting_entries;
	struct pollfd *polls; /* the helpers' event, then the waiting ones in their order */
	unsigned polls_max;   /* at least 1 + waiting_entries */
};

static struct threads *threads_of(struct io *io) { return container_of(io, struct threads, io); }

static void finish(struct threads *t, struct io_op *op, int64_t result)
{
	op->result = result;
	list_push(&t->finished, &op->link);
}

/* ---- what may have to wait ---- */

static short op_events(const struct io_op *op)
{
	bool polls_write = op->code == IO_OP_POLL && (op->flags & IO_POLL_WRITE);

	return op->code == IO_OP_SEND || polls_write ? POLLOUT : POLLIN;
}

static int64_t op_try(struct io_op *op)
{
	struct pollfd p = {.fd = op->fd, .events = op_events(op)};

	if (op->code != IO_OP_POLL)
		return io_posix_do(op);
	return poll(&p, 1, 0) > 0 ? 0 : -EAGAIN;
}

static bool polls_reserve(struct threads *t, unsigned entries)
{
	struct pollfd *polls;

	if (entries <= t->polls_max)
		return true;
	polls = realloc(t->polls, 2 * entries * sizeof(*polls));
	if (polls == NULL)
		return false;
	t->polls = polls;
	t->polls_max = 2 * entries;
	return true;
}

static void try_or_wait(struct threads *t, struct io_op *op)
{
	int64_t r = op_try(op);

	if (r == -EAGAIN && polls_reserve(t, t->waiting_entries + 2)) {
		list_push(&t->waiting, &op->link);
		t->waiting_entries++;
		return;
	}
	finish(t, op, r == -EAGAIN ? -ENOMEM : r);
}

static void stop_waiting(struct threads *t, struct io_op *op)
{
	list_remove(&op->link);
	t->waiting_entries--;
}

static unsigned polls_fill(struct threads *t)
{
	unsigned n = 0;

	t->polls[n++] = (struct pollfd){.fd = t->helpers.event_fd, .events = POLLIN};
	list_for_each(it, &t->waiting) {
		struct io_op *op = list_entry(it, struct io_op, link);

		t->polls[n++] = (struct pollfd){.fd = op->fd, .events = op_events(op)};
	}
	return n;
}

/* A unix listener that was shut down hangs up, but its accept goes on to say that one should wait. */
static int64_t op_retry(struct io_op *op, int revents)
{
	int64_t r = revents == 0 ? -EAGAIN : op_try(op);

	return r == -EAGAIN && op->code == IO_OP_ACCEPT && revents & (POLLHUP | POLLERR | POLLNVAL) ? -EINVAL : r;
}

static void polls_handle(struct threads *t)
{
	const struct pollfd *p = t->polls + 1;

	list_for_each_safe(it, &t->waiting) {
		struct io_op *op = list_entry(it, struct io_op, link);
		int64_t r = op_retry(op, (p++)->revents);

		if (r == -EAGAIN)
			continue;
		stop_waiting(t, op);
		io_complete(op, r);
	}
}

/* ---- the backend's functions ---- */

/* What lies in the page cache is copied here and now, ten times faster than by way of another thread. */
static bool read_cached(struct threads *t, struct io_op *op)
{
	int64_t r = op->flags & IO_READ_CACHED ? io_posix_read_cached(op) : -EAGAIN;

	if (r <= 0)
		return false;
	finish(t, op, r);
	return true;
}

static void threads_submit(struct io *io, struct io_op *op)
{
	struct threads *t = threads_of(io);

	switch (op->code) {
	case IO_OP_ACCEPT:
	case IO_OP_RECV:
	case IO_OP_SEND:
	case IO_OP_POLL:
	case IO_OP_EVENT_WAIT: try_or_wait(t, op); break;
	case IO_OP_EVENT_SIGNAL:
	case IO_OP_ADOPT:
	case IO_OP_STAT:
	case IO_OP_SEEK:
	case IO_OP_LOCK: finish(t, op, io_posix_do(op)); break;
	case IO_OP_READ:
		if (!read_cached(t, op))
			io_helpers_block(&t->helpers, op);
		break;
	case IO_OP_INHERIT:
		op->flags = SOCK_NONBLOCK;
		finish(t, op, io_posix_do(op));
		break;
	case IO_OP_LISTEN: op->flags |= SOCK_NONBLOCK; /* fall through */
	default: io_helpers_block(&t->helpers, op);
	}
}

static void threads_shutdown(struct io *io, int fd)
{
	struct threads *t = threads_of(io);

	if (io_posix_shutdown(fd))
		return;
	list_for_each_safe(it, &t->waiting) {
		struct io_op *op = list_entry(it, struct io_op, link);

		if (op->fd == fd && IO_OP_IS_WAIT(op)) {
			stop_waiting(t, op);
			finish(t, op, -ECANCELED);
		}
	}
}

static void threads_cancel(struct io *io, struct io_op *op)
{
	struct threads *t = threads_of(io);

	list_for_each(it, &t->waiting) {
		if (list_entry(it, struct io_op, link) == op) {
			stop_waiting(t, op);
			finish(t, op, -ECANCELED);
			return;
		}
	}
}

static bool complete_finished(struct threads *t)
{
	struct list done;

	list_init(&done);
	list_splice(&done, &t->finished);
	if (list_empty(&done))
		return false;
	list_for_each_safe(it, &done) {
		struct io_op *op = list_entry(it, struct io_op, link);

		io_complete(op, op->result);
	}
	return true;
}

static void threads_wait(struct co_host *host, uint64_t deadline_ns)
{
	struct threads *t = threads_of(container_of(host, struct io, host));
	struct timespec left;
	uint64_t ns;
	unsigned n;

	if (complete_finished(t))
		deadline_ns = 0;
	if (deadline_ns == 0 && t->waiting_entries == 0 && !io_helpers_pending(&t->helpers))
		return;
	n = polls_fill(t);
	ns = io_posix_left(deadline_ns);
	left = (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	if (ppoll(t->polls, n, deadline_ns == CO_NEVER ? NULL : &left, NULL) <= 0)
		return;
	if (t->polls[0].revents != 0) {
		io_helpers_reset(&t->helpers);
		io_helpers_collect(&t->helpers);
	}
	polls_handle(t);
}

static uint64_t threads_now(struct co_host *host)
{
	(void)host;
	return io_posix_now();
}

static void threads_offload(struct co_host *host, struct co_work *work)
{
	io_helpers_compute(&threads_of(container_of(host, struct io, host))->helpers, work);
}

static void threads_threads_stop(struct io *io) { io_helpers_stop(&threads_of(io)->helpers); }

static void threads_threads_start(struct io *io) { io_helpers_start(&threads_of(io)->helpers); }

static void threads_free(struct io *io)
{
	struct threads *t = threads_of(io);

	assert(list_empty(&t->waiting) && list_empty(&t->finished));
	io_helpers_fini(&t->helpers);
	free(t->polls);
	free(t);
}

int io_threads_new(struct io **out, struct err *err)
{
	static const struct io_ops ops = {
		.name = "threads",
		.submit = threads_submit,
		.shutdown = threads_shutdown,
		.cancel = threads_cancel,
		.threads_stop = threads_threads_stop,
		.threads_start = threads_threads_start,
		.free = threads_free,
	};
	static const struct co_host_ops host_ops = {
		.now = threads_now,
		.wait = threads_wait,
		.offload = threads_offload,
	};
	struct threads *t = calloc(1, sizeof(*t));
	int r;

	if (t == NULL || !polls_reserve(t, 1)) {
		free(t);
		return err_set(err, -ENOMEM, "no memory for an I/O engine");
	}
	r = io_helpers_init(&t->helpers);
	if (r < 0) {
		free(t->polls);
		free(t);
		return err_set(err, r, "no event descriptor for the helper threads");
	}
	t->io.ops = &ops;
	t->io.host.ops = &host_ops;
	list_init(&t->finished);
	list_init(&t->waiting);
	*out = &t->io;
	return 0;
}
