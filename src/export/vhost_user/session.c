/* SPDX-License-Identifier: MIT */
/* A session with a front end: its life, and the coroutine that receives; see device.h. */
#include "export/vhost_user/device.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

/* ---- beginning and end ---- */

static bool parts_make(struct vu_session *s)
{
	s->queue = calloc(s->server->queues, sizeof(*s->queue));
	s->jobs = calloc(VU_JOBS, sizeof(*s->jobs));
	s->memory = vu_memory_new(s->server->hands_over);
	return s->queue && s->jobs && s->memory;
}

static void parts_free(struct co *co, struct vu_session *s)
{
	for (unsigned i = 0; s->queue && i < s->server->queues; i++)
		vu_queue_free(&s->queue[i]);
	vu_memory_put(co, s->memory);
	io_unmap(co, s->log_map);
	io_unmap(co, s->inflight_map);
	if (s->log_kept.fd >= 0)
		io_fd_close(co, s->log_kept.fd);
	if (s->inflight_kept.fd >= 0)
		io_fd_close(co, s->inflight_kept.fd);
	free(s->queue);
	free(s->jobs);
	free(s);
}

static void parts_join(struct vu_session *s)
{
	for (unsigned i = 0; i < s->server->queues; i++) {
		s->queue[i].session = s;
		s->queue[i].index = i;
	}
	for (unsigned i = 0; i < VU_JOBS; i++) {
		s->jobs[i].session = s;
		list_push(&s->idle, &s->jobs[i].link);
	}
}

struct vu_session *vu_session_new(struct co *co, struct vu_server *server, struct io_sock *sock)
{
	struct vu_session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->server = server;
	s->sock = sock;
	s->writeback = !server->disk->writethrough;
	s->breaks = io_map_breaks();
	s->log_kept.fd = s->inflight_kept.fd = -1;
	list_init(&s->idle);
	co_queue_init(&s->rested);
	co_sem_init(&s->idle_jobs, VU_JOBS);
	co_group_init(&s->group, co_sched_of(co));
	if (!parts_make(s)) {
		parts_free(co, s);
		return NULL;
	}
	parts_join(s);
	return s;
}

void vu_session_free(struct co *co, struct vu_session *s)
{
	io_sock_close(co, s->backend);
	io_sock_close(co, s->sock);
	parts_free(co, s);
}

void vu_session_end(struct vu_session *s)
{
	s->ending = true;
	io_sock_shutdown(s->sock);
}

void vu_session_check(struct vu_session *s)
{
	unsigned breaks = io_map_breaks();

	if (breaks == s->breaks)
		return;
	s->breaks = breaks;
	if (s->ending ||
		!(vu_memory_broken(s->memory) || (s->log_map && io_map_broken(s->log_map)) ||
			(s->inflight_map && io_map_broken(s->inflight_map))))
		return;
	vu_say(s->server, "memory that the front end shares was cut short while it was in use; the session ends");
	vu_session_end(s);
}

bool vu_session_is_resting(const struct vu_session *s)
{
	for (unsigned i = 0; i < s->server->queues; i++)
		if (!vu_queue_is_resting(&s->queue[i]))
			return false;
	return true;
}

bool vu_session_logs(const struct vu_session *s) { return s->log.bits && s->features & VU_F_LOG_ALL; }

static void resized_entry(struct co *co, void *arg)
{
	struct vu_session *s = arg;
	struct vu_header header = {.request = VU_BACKEND_CONFIG_CHANGE, .flags = VU_VERSION};

	s->telling++;
	if (s->backend && io_send(co, s->backend, IOV_BUF(&header, sizeof(header))) < 0)
		vu_say(s->server, "the front end can't be told of the disk's new size");
	s->telling--;
	co_queue_wake_all(&s->rested);
}

void vu_session_resized(struct vu_session *s)
{
	if (s->backend && s->protocol & VU_P_CONFIG &&
		co_group_spawn(&s->group, "vhost-user-resized", resized_entry, s) < 0)
		vu_say(s->server, "the front end isn't told of the disk's new size: too many coroutines");
}

/* ---- receiving ---- */

/* Descriptors come with whichever byte of a message; all of them are collected. */
static void fds_add(struct co *co, struct io_fds *all, const struct io_fds *more)
{
	for (unsigned i = 0; i < more->n; i++) {
		if (all->n < IO_FDS) {
			all->fd[all->n++] = more->fd[i];
		} else {
			all->cut = true;
			io_fd_close(co, more->fd[i]);
		}
	}
	all->cut |= more->cut;
}

/* Whether we are interrupted where a message has begun already: it is received to its end, since all of it is on its way. */
static bool goes_on(struct co *co, struct vu_session *s, ssize_t n, bool begun)
{
	if (n != -ECANCELED || !s->freezing || !begun)
		return false;
	io_sock_resume(co, s->sock);
	return true;
}

static int receive_bytes(struct co *co, struct vu_session *s, void *to, size_t len, bool begun)
{
	for (size_t done = 0; done < len;) {
		struct io_fds fds;
		ssize_t n = io_recv_fds(co, s->sock, (char *)to + done, len - done, &fds);

		fds_add(co, &s->fds, &fds);
		if (goes_on(co, s, n, begun || done > 0))
			continue;
		if (n <= 0)
			return n < 0 ? (int)n : -EPIPE;
		done += (size_t)n;
	}
	return 0;
}

static void fds_drop(struct co *co, struct vu_session *s)
{
	for (unsigned i = 0; i < s->fds.n; i++)
		if (s->fds.fd[i] >= 0)
			io_fd_close(co, s->fds.fd[i]);
	s->fds = (struct io_fds){.n = 0};
}

/* 0: there is a message; -EPROTO: one that is none, explained; else the connection is at its end. */
static int receive(struct co *co, struct vu_session *s)
{
	struct vu_header header;
	int r;

	if (s->freezing)
		io_sock_pause(s->sock);
	r = receive_bytes(co, s, &header, sizeof(header), false);
	if (r == 0)
		r = vu_message_begin(&header, &s->message, &s->err);
	if (r == 0)
		r = receive_bytes(co, s, &s->message.payload, s->message.size, true);
	return r == 0 ? vu_message_check(&s->message, s->fds.n, s->fds.cut, &s->err) : r;
}

/* ---- answering ---- */

static int reply_send(struct co *co, struct vu_session *s, uint32_t bytes, int fd)
{
	struct vu_header header = {.request = s->message.request, .flags = VU_VERSION | VU_REPLY, .size = bytes};
	struct iovec v[] = {{&header, sizeof(header)}, {&s->message.payload, bytes}};

	return io_send_fds(co, s->sock, iov_of(v, 2), &fd, fd >= 0);
}

/* Whether a number says how it went, where there is no other reply. */
static bool is_acknowledged(const struct vu_session *s)
{
	return s->message.need_reply && s->protocol & VU_P_REPLY_ACK && !vu_request_has_reply(s->message.request);
}

/* A failure that can't be told any other way ends the session; one of GET_CONFIG and its like, too. */
static int message_next(struct co *co, struct vu_session *s)
{
	uint32_t bytes;
	bool acknowledge;
	int fd, failure, r = 0;

	failure = vu_handle(co, s, &bytes, &fd);
	if (failure < 0)
		vu_say(s->server, "%s fails: %s", vu_request_name(s->message.request), s->err.text);
	acknowledge = is_acknowledged(s);
	if (acknowledge) {
		s->message.payload.u64 = failure < 0;
		bytes = sizeof(uint64_t);
	}
	if (acknowledge || (failure == 0 && bytes > 0))
		r = reply_send(co, s, bytes, fd);
	else
		r = failure;
	if (fd >= 0)
		io_fd_close(co, fd);
	return r;
}

static void queues_end(struct co *co, struct vu_session *s)
{
	for (unsigned i = 0; i < s->server->queues; i++) {
		struct vu_queue *q = &s->queue[i];

		vu_queue_stop(co, q);
		io_event_close(co, take(q->call));
		io_event_close(co, take(q->error));
	}
}

void vu_session_run(struct co *co, struct vu_session *s)
{
	int r = 0;

	while (!s->ending && r == 0) {
		r = receive(co, s);
		if (r == -EPROTO)
			vu_say(s->server, "the front end is sent away: %s", s->err.text);
		if (r == 0)
			r = message_next(co, s);
		fds_drop(co, s);
	}
	if (r == -ECANCELED && s->freezing && !s->ending) {
		s->frozen = true;
		return;
	}
	s->ending = true;
	queues_end(co, s);
	io_sock_shutdown(s->sock);
	if (s->backend)
		io_sock_shutdown(s->backend);
	co_group_wait(co, &s->group);
}

/* ---- handing over ---- */

void vu_session_freeze(struct vu_session *s)
{
	s->freezing = true;
	io_sock_pause(s->sock);
}

void vu_session_settle(struct co *co, struct vu_session *s)
{
	for (unsigned i = 0; i < s->server->queues; i++)
		if (s->queue[i].started)
			vu_queue_rest(co, &s->queue[i]);
	while (!vu_session_is_resting(s) || s->telling > 0)
		co_queue_wait(co, &s->rested);
	co_group_wait(co, &s->group);
}

void vu_session_thaw(struct co *co, struct vu_session *s)
{
	s->freezing = s->frozen = false;
	io_sock_resume(co, s->sock);
	for (unsigned i = 0; i < s->server->queues; i++) {
		struct vu_queue *q = &s->queue[i];

		if (!q->started)
			continue;
		if (q->kick)
			io_event_renew(q->kick);
		if (vu_queue_watch(q) < 0) {
			err_set(&s->err, -EAGAIN, "too many coroutines for one more queue");
			vu_queue_break(co, q, &s->err);
		}
	}
}

void vu_session_release(struct co *co, struct vu_session *s)
{
	queues_end(co, s);
	co_group_wait(co, &s->group);
	vu_session_free(co, s);
}
