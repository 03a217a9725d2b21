/* SPDX-License-Identifier: MIT */
/*
 * Handing the server over to another process, with its front end; see docs/handover.md. What is handed over are messages, as the
 * front end might have sent them: they pass the same checks, and nothing else has to be understood on the other side.
 */
#include "export/vhost_user/device.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"

#define STATE_VERSION 1
#define MESSAGES_MAX 65536
#define FREEZE_NS (UINT64_C(1000) * 1000 * 1000) /* for a message that has begun */
#define PAUSE_NS (UINT64_C(1) * 1000 * 1000)

static struct vu_server *server_of(const struct export *e) { return container_of(e, struct vu_server, export); }

/* ---- writing a session down ---- */

static void put(struct export_state *state, unsigned request, const void *payload, size_t len, int fd)
{
	export_state_put_number(state, request);
	export_state_put_block(state, payload, len);
	export_state_put_number(state, fd >= 0);
	if (fd >= 0)
		export_state_put_fd(state, fd);
}

static void put_u64(struct export_state *state, unsigned request, uint64_t n, int fd)
{
	put(state, request, &n, sizeof(n), fd);
}

static void put_pair(struct export_state *state, unsigned request, uint32_t index, uint32_t num)
{
	struct vu_vring_state w = {.index = index, .num = num};

	put(state, request, &w, sizeof(w), -1);
}

static void put_event(struct export_state *state, unsigned request, unsigned index, const struct io_event *event)
{
	put_u64(state, request, index | (event ? 0 : VU_VRING_NO_FD), event ? io_event_fd(event) : -1);
}

static void put_memory(struct export_state *state, const struct vu_memory *m)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct vu_region *r = &m->region[i];
		struct vu_single_region_wire w = {
			.region = {.guest = r->guest, .size = r->size, .user = r->user, .offset = r->mapping->offset}};

		put(state, VU_ADD_MEM_REG, &w, sizeof(w), r->mapping->fd);
	}
}

/* Starting it comes last, as it takes everything else to start. */
static void put_queue(struct export_state *state, const struct vu_queue *q)
{
	unsigned i = q->index;

	if (q->size != 0)
		put_pair(state, VU_SET_VRING_NUM, i, q->size);
	if (q->has_addr) {
		struct vu_vring_addr addr = q->addr;

		addr.index = i;
		put(state, VU_SET_VRING_ADDR, &addr, sizeof(addr), -1);
	}
	put_pair(state, VU_SET_VRING_BASE, i, q->started ? vu_queue_base(q) : q->base);
	if (q->error)
		put_event(state, VU_SET_VRING_ERR, i, q->error);
	if (q->call)
		put_event(state, VU_SET_VRING_CALL, i, q->call);
	if (q->started && !q->broken)
		put_event(state, VU_SET_VRING_KICK, i, q->kick);
	put_pair(state, VU_SET_VRING_ENABLE, i, q->enabled);
}

static void put_cache_mode(struct export_state *state, const struct vu_session *s)
{
	struct vu_config_wire w = {.offset = offsetof(struct virtio_blk_config, wce), .size = 1};

	w.data[0] = s->writeback;
	put(state, VU_SET_CONFIG, &w, sizeof(w), -1);
}

static void put_session(struct export_state *state, const struct vu_session *s)
{
	put_u64(state, VU_SET_FEATURES, s->features, -1);
	put_u64(state, VU_SET_PROTOCOL_FEATURES, s->protocol, -1);
	put_cache_mode(state, s);
	put_memory(state, s->memory);
	if (s->log_map)
		put(state, VU_SET_LOG_BASE, &s->log_kept.payload, sizeof(struct vu_log_wire), s->log_kept.fd);
	if (s->inflight_map)
		put(state, VU_SET_INFLIGHT_FD, &s->inflight_kept.payload, sizeof(struct vu_inflight_wire),
			s->inflight_kept.fd);
	if (s->backend)
		put_u64(state, VU_SET_BACKEND_REQ_FD, 0, io_sock_fd(s->backend));
	for (unsigned i = 0; i < s->server->queues; i++)
		put_queue(state, &s->queue[i]);
	if (s->status != 0)
		put_u64(state, VU_SET_STATUS, s->status, -1);
	export_state_put_number(state, 0); /* there is no message 0 */
}

/* Whether every descriptor is there that goes along. */
static bool is_movable(const struct vu_session *s)
{
	bool all = true;

	for (unsigned i = 0; i < s->memory->n; i++)
		all &= s->memory->region[i].mapping->fd >= 0;
	return all && (!s->log_map || s->log_kept.fd >= 0) && (!s->inflight_map || s->inflight_kept.fd >= 0);
}

static void put_server(struct export_state *state, const struct vu_server *s)
{
	export_state_put_number(state, STATE_VERSION);
	export_state_put_listener(state, s->listener);
	export_state_put_number(state, s->session != NULL);
	if (!s->session)
		return;
	export_state_put_fd(state, io_sock_fd(s->session->sock));
	put_session(state, s->session);
}

/* ---- freezing ---- */

static void session_freeze(struct vu_server *s)
{
	if (!s->session)
		return;
	if (is_movable(s->session)) {
		vu_session_freeze(s->session);
		return;
	}
	vu_say(s, "the front end has to connect again: not every descriptor of its memory could be kept");
	vu_session_end(s->session);
}

static void coroutines_wait(struct co *co, struct vu_server *s)
{
	uint64_t deadline = co_now(co) + FREEZE_NS;

	while (s->alive > 0) {
		if (co_queue_wait_until(co, &s->ended, deadline) != -ETIMEDOUT)
			continue;
		if (s->session && !s->session->frozen) {
			vu_say(s, "the front end is sent away: it doesn't end a message that it has begun");
			vu_session_end(s->session);
		}
		deadline = CO_NEVER;
	}
}

int vu_server_freeze(struct co *co, struct export *e, struct export_state *state, struct err *err)
{
	struct vu_server *s = server_of(e);

	s->frozen = true;
	io_sock_pause(s->listener);
	session_freeze(s);
	co_queue_wake_all(&s->ended); /* somebody may be waiting for the session to end */
	coroutines_wait(co, s);
	if (s->session)
		vu_session_settle(co, s->session);
	put_server(state, s);
	if (!state->failed)
		return 0;
	vu_server_thaw(co, e);
	return err_set(err, -ENOMEM, "no memory for the state of the device at %s", io_sock_address(s->listener));
}

/* ---- going on, here or elsewhere ---- */

void vu_server_thaw(struct co *co, struct export *e)
{
	struct vu_server *s = server_of(e);

	s->frozen = false;
	io_sock_resume(co, s->listener);
	while (vu_server_begin(co, s) < 0)
		co_sleep(co, PAUSE_NS);
}

void vu_server_release(struct co *co, struct export *e)
{
	struct vu_server *s = server_of(e);

	if (s->session)
		vu_session_release(co, take(s->session));
	if (s->listener)
		io_sock_place_set(s->listener, (struct io_place){0});
	vu_server_shut(co, s);
}

/* ---- reading it ---- */

/* 1: s->message and s->fds are the next message; 0: that was the last. */
static int read_message(struct export_reader *r, struct vu_session *s)
{
	struct vu_header header = {.flags = VU_VERSION};
	const void *payload;
	size_t len;
	int rc;

	header.request = (uint32_t)export_read_number(r);
	if (header.request == 0 || r->failed)
		return r->failed ? err_set(&s->err, -EPROTO, "it isn't whole") : 0;
	payload = export_read_block(r, sizeof(s->message.payload), &len);
	s->fds = (struct io_fds){.n = export_read_number(r) != 0};
	if (s->fds.n > 0)
		s->fds.fd[0] = export_read_fd(r);
	header.size = (uint32_t)len;
	rc = r->failed ? err_set(&s->err, -EPROTO, "it isn't whole") : vu_message_begin(&header, &s->message, &s->err);
	if (rc < 0)
		return rc;
	memcpy(&s->message.payload, payload, len);
	rc = vu_message_check(&s->message, s->fds.n, false, &s->err);
	return rc < 0 ? rc : 1;
}

static int replay_one(struct co *co, struct vu_session *s)
{
	uint32_t reply;
	int fd, rc = vu_handle(co, s, &reply, &fd);

	if (fd >= 0)
		io_fd_close(co, fd);
	if (s->fds.n > 0 && s->fds.fd[0] >= 0)
		io_fd_close(co, s->fds.fd[0]);
	s->fds.n = 0;
	return rc < 0 ? err_prefix(&s->err, "%s", vu_request_name(s->message.request)) : 0;
}

static int replay(struct co *co, struct export_reader *r, struct vu_session *s)
{
	int rc = 1;

	for (unsigned n = 0; n < MESSAGES_MAX && rc > 0; n++) {
		rc = read_message(r, s);
		if (rc > 0) {
			rc = replay_one(co, s);
			rc = rc < 0 ? rc : 1;
		} else if (s->fds.n > 0 && s->fds.fd[0] >= 0) {
			io_fd_close(co, s->fds.fd[0]);
			s->fds.n = 0;
		}
	}
	return rc;
}

/* A front end that can't be gone on with is let go, and connects again. */
static int restore_session(struct co *co, struct vu_server *s, struct export_reader *r, struct err *err)
{
	struct vu_session *session;
	struct io_sock *sock;

	if (export_read_number(r) == 0)
		return 0;
	if (io_sock_adopt(co, export_read_fd(r), &sock) < 0)
		return err_set(err, -ENOMEM, "no memory for a front end");
	session = vu_session_new(co, s, sock);
	if (!session) {
		io_sock_close(co, sock);
		return err_set(err, -ENOMEM, "no memory for a front end");
	}
	session->freezing = session->frozen = true;
	io_sock_pause(session->sock);
	if (replay(co, r, session) == 0) {
		s->session = session;
		s->export.stats.clients = 1;
		return 0;
	}
	vu_say(s, "the front end has to connect again: %s", session->err.text);
	vu_session_release(co, session);
	return 0;
}

static int restore_listener(struct co *co, struct vu_server *s, struct export_reader *r, struct err *err)
{
	uint64_t version = export_read_number(r);
	struct io_place place;
	int rc;

	if (version != STATE_VERSION)
		return err_set(err, -EPROTO,
			"the vhost-user device that was handed over is of version %" PRIu64 ", not %d", version,
			STATE_VERSION);
	rc = export_read_listener(co, r, "listener", &s->listener, &place, err);
	if (rc < 0)
		return rc;
	io_sock_place_set(s->listener, place);
	io_sock_pause(s->listener);
	return 0;
}

int vu_server_restore(struct co *co, struct vu_server *s, const struct export_state *state, struct err *err)
{
	struct export_reader r = {.state = state};
	int rc = restore_listener(co, s, &r, err);

	s->frozen = true;
	if (rc == 0)
		rc = restore_session(co, s, &r, err);
	export_read_end(co, &r);
	if (rc < 0 && s->listener)
		io_sock_place_set(s->listener, (struct io_place){0});
	return rc;
}
