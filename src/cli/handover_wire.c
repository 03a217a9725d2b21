/* SPDX-License-Identifier: MIT */
/* How a state goes from one process to another, and what keeps both from waiting for ever; see serve_control.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/serve_control.h"
#include "io/share.h"

#define STATE_BYTES_MAX (UINT64_C(4) << 30)
#define STATE_FDS_MAX 100000

/* ---- states ---- */

int handover_send_state(struct co *co, struct io_sock *sock, const struct export_state *state)
{
	int r = 0;

	for (unsigned i = 0; i < state->fds && r == 0; i += IO_FDS)
		r = io_send_fds(co, sock, IOV_BUF("", 1), state->fd + i, MIN(state->fds - i, (unsigned)IO_FDS));
	return r == 0 && state->len > 0 ? io_send(co, sock, IOV_BUF(state->bytes, state->len)) : r;
}

static int incomplete(struct err *err, ssize_t r)
{
	return r < 0 ? err_set(err, (int)r, "what the running daemon hands over didn't come: %s", strerror((int)-r))
		     : err_set(err, -EPROTO, "what the running daemon hands over isn't whole");
}

static int receive_fds(struct co *co, struct io_sock *sock, unsigned n, struct export_state *state, struct err *err)
{
	while (state->fds < n) {
		unsigned expected = MIN(n - state->fds, (unsigned)IO_FDS);
		struct io_fds fds;
		char byte;
		ssize_t r = io_recv_fds(co, sock, &byte, 1, &fds);

		for (unsigned i = 0; i < fds.n; i++)
			export_state_put_fd(state, fds.fd[i]);
		if (fds.cut)
			return err_set(
				err, -EMFILE, "too many descriptors are handed over for this process (ulimit -n)");
		if (r != 1 || fds.n != expected || state->failed)
			return incomplete(err, r < 0 ? r : 0);
	}
	return 0;
}

int handover_receive_state(
	struct co *co, struct io_sock *sock, uint64_t len, uint64_t fds, struct export_state *state, struct err *err)
{
	int rc = fds <= STATE_FDS_MAX && len <= STATE_BYTES_MAX ? 0 : incomplete(err, 0);

	if (rc == 0)
		rc = receive_fds(co, sock, (unsigned)fds, state, err);
	if (rc < 0 || len == 0)
		return rc;
	state->bytes = malloc(len);
	if (!state->bytes)
		return err_set(err, -ENOMEM, "no memory for what the running daemon hands over");
	state->room = len;
	while (state->len < len) {
		ssize_t r = io_recv(co, sock, state->bytes + state->len, len - state->len);

		if (r <= 0)
			return incomplete(err, r);
		state->len += (size_t)r;
	}
	return 0;
}

/* ---- time ---- */

static void clock_entry(struct co *co, void *arg)
{
	struct handover_clock *c = arg;

	while (!c->over && !c->expired)
		c->expired = co_queue_wait_until(co, &c->stop, c->deadline_ns) == -ETIMEDOUT;
	if (c->over)
		return;
	if (c->expire)
		c->expire(co, c);
	io_sock_shutdown(c->sock);
}

int handover_clock_start(struct co *co, struct handover_clock *c, struct io_sock *sock, uint64_t ns)
{
	c->sock = sock;
	c->deadline_ns = co_now(co) + ns;
	c->over = c->expired = false;
	co_queue_init(&c->stop);
	co_group_init(&c->group, co_sched_of(co));
	return co_group_spawn(&c->group, "handover-clock", clock_entry, c);
}

void handover_clock_stop(struct co *co, struct handover_clock *c)
{
	c->over = true;
	co_queue_wake_all(&c->stop);
	co_group_wait(co, &c->group);
}
