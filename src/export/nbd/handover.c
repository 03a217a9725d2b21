/* SPDX-License-Identifier: MIT */
/*
 * Handing the server over to another process, with the connections that are in the transmission phase; see
 * docs/handover.md. A request is carried out by exactly one of both: the one that has received it whole, or the one that goes on
 * with what was received of it.
 */
#include "export/nbd/conn.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "base/mutant.h"
#include "io/share.h"

#define STATE_VERSION 1
#define HANDSHAKES_NS                                                                                                  \
	(UINT64_C(200) * 1000 * 1000) /* time to get through with them, while the others are still served */
#define HANDSHAKES_STEP_NS (UINT64_C(1) * 1000 * 1000)
#define REPLIES_NS (UINT64_C(1000) * 1000 * 1000) /* to take a piece of them */
#define REPLIES_STEP_NS (UINT64_C(100) * 1000 * 1000)
#define EARLY_MAX (NBD_PAYLOAD_BYTES + 2 * NBD_STREAM_BYTES)
#define CONNS_MAX 100000

static struct nbd_server *server_of(const struct export *e) { return container_of(e, struct nbd_server, export); }

/* ---- freezing ---- */

/* Or about to be: somebody may just have been accepted. */
static bool in_handshake(const struct nbd_server *s)
{
	if (s->accepting)
		return true;
	list_for_each(it, &s->conns) {
		if (!list_entry(it, struct nbd_conn, link)->established)
			return true;
	}
	return false;
}

static void handshakes_wait(struct co *co, const struct nbd_server *s)
{
	for (uint64_t waited = 0; in_handshake(s) && waited < HANDSHAKES_NS; waited += HANDSHAKES_STEP_NS)
		co_sleep(co, HANDSHAKES_STEP_NS);
}

/* GnuTLS gives no session away, and a handshake isn't worth the trouble: these connect again. */
static void conn_freeze(struct nbd_conn *c)
{
	if (c->channel.tls || !c->established)
		nbd_conn_stop(c);
	else
		nbd_conn_freeze(c);
}

/* Who waits for the disk isn't to blame, and is waited for. */
static void conn_show_out(struct nbd_conn *c, uint64_t now)
{
	const struct nbd_channel *ch = &c->channel;

	if (c->broken || ch->deadline_ns == CO_NEVER || now < ch->deadline_ns - ch->patience_ns + REPLIES_NS)
		return;
	nbd_conn_log(c, LOG_LEVEL_WARNING, "shown out: it doesn't take its replies, and can't be handed over so");
	nbd_conn_shutdown(c);
}

static void conns_freeze(struct co *co, struct nbd_server *s)
{
	nbd_server_each(s, conn_freeze);
	while (!nbd_server_wait(co, s, co_now(co) + REPLIES_STEP_NS)) {
		nbd_server_each(s, conn_freeze); /* whoever was accepted late */
		list_for_each_safe(it, &s->conns)
			conn_show_out(list_entry(it, struct nbd_conn, link), co_now(co));
	}
}

/* ---- writing the state ---- */

static void put_text(struct export_state *state, const char *text)
{
	export_state_put_block(state, text, strlen(text));
}

static void put_early(struct export_state *state, const struct nbd_stream *stream)
{
	struct iovec rest[2];

	nbd_stream_rest(stream, rest);
	export_state_put_number(state, rest[0].iov_len + rest[1].iov_len);
	export_state_put(state, rest[0].iov_base, rest[0].iov_len);
	export_state_put(state, rest[1].iov_base, rest[1].iov_len);
	export_state_put_number(state, stream->skip);
}

static void put_contexts(struct export_state *state, const struct nbd_conn *c)
{
	uint64_t contexts = MUTANT(181) ? 0 : c->terms.contexts;

	export_state_put_number(state, contexts);
	for (uint64_t left = contexts; left != 0; left &= left - 1)
		put_text(state, nbd_context_name(c->disk, (unsigned)__builtin_ctzll(left)));
}

static void put_conn(struct export_state *state, const struct nbd_conn *c)
{
	put_text(state, c->disk->name);
	export_state_put_number(state, c->number);
	export_state_put_number(state, c->terms.size);
	export_state_put_number(state, c->terms.read_only);
	export_state_put_number(state, c->terms.structured);
	export_state_put_number(state, c->terms.extended);
	put_contexts(state, c);
	put_early(state, &c->stream);
	export_state_put_fd(state, io_sock_fd(c->channel.sock));
}

static void put_server(struct export_state *state, const struct nbd_server *s)
{
	export_state_put_number(state, STATE_VERSION);
	export_state_put_listener(state, s->listener);
	export_state_put_number(state, s->export.stats.clients);
	export_state_put_number(state, s->n_conns);
	list_for_each(it, &s->conns)
		put_conn(state, list_entry(it, struct nbd_conn, link));
}

int nbd_server_freeze(struct co *co, struct export *e, struct export_state *state, struct err *err)
{
	struct nbd_server *s = server_of(e);

	s->frozen = true;
	io_sock_pause(s->listener);
	co_queue_wake_all(&s->ended); /* who accepts may be waiting for a client to go */
	handshakes_wait(co, s);
	conns_freeze(co, s);
	put_server(state, s);
	if (!state->failed)
		return 0;
	nbd_server_thaw(co, e);
	return err_set(err, -ENOMEM, "no memory for the state of the server at %s", io_sock_address(s->listener));
}

/* ---- going on, here or elsewhere ---- */

void nbd_server_thaw(struct co *co, struct export *e)
{
	struct nbd_server *s = server_of(e);

	s->frozen = false;
	io_sock_resume(co, s->listener);
	while (nbd_server_begin(co, s) < 0)
		co_sleep(co, HANDSHAKES_STEP_NS);
}

void nbd_server_release(struct co *co, struct export *e)
{
	struct nbd_server *s = server_of(e);

	list_for_each_safe(it, &s->conns)
		nbd_conn_free(co, list_entry(it, struct nbd_conn, link));
	if (s->listener)
		io_sock_place_set(s->listener, (struct io_place){0});
	nbd_server_shut(co, s);
}

/* ---- reading a state ---- */

static const struct export_disk *read_disk(struct export_reader *r, const struct nbd_server *s)
{
	size_t len;
	const char *name = export_read_block(r, NBD_STRING_BYTES, &len);

	for (unsigned i = 0; i < s->disks_n; i++) {
		if (strlen(s->disks[i]->name) == len && memcmp(s->disks[i]->name, name, len) == 0)
			return s->disks[i];
	}
	return NULL;
}

/* False: one of them has another number here, or there is none of that name. */
static bool read_contexts(struct export_reader *r, struct nbd_conn *c)
{
	bool same = true;

	c->terms.contexts = export_read_number(r);
	for (uint64_t left = c->terms.contexts; left != 0 && !r->failed; left &= left - 1) {
		unsigned number = (unsigned)__builtin_ctzll(left);
		const char *ours = c->disk ? nbd_context_name(c->disk, number) : NULL;
		size_t len;
		const char *name = export_read_block(r, NBD_STRING_BYTES, &len);

		same &= ours && strlen(ours) == len && memcmp(ours, name, len) == 0;
	}
	return same;
}

static int read_early(struct export_reader *r, struct nbd_conn *c)
{
	size_t len;
	const void *early = export_read_block(r, EARLY_MAX, &len);

	c->stream.skip = export_read_number(r);
	return len > 0 && !MUTANT(183) ? nbd_stream_return(&c->stream, IOV_BUF(early, len)) : 0;
}

/* NULL: this connection can stay as it is. */
static const char *conn_objection(const struct nbd_conn *c, bool same_contexts)
{
	if (c->server->tls)
		return "it has no TLS";
	if (!c->disk)
		return "its disk isn't served here";
	if (c->disk->node->size < c->terms.size)
		return "its disk has become smaller";
	if (!c->terms.read_only && !export_disk_writable(c->disk))
		return "its disk can only be read here";
	return same_contexts ? NULL : "it was promised metadata contexts that aren't here";
}

static int read_conn(struct export_reader *r, struct nbd_conn *c, const char **objection)
{
	bool same;
	int rc;

	c->disk = read_disk(r, c->server);
	c->number = export_read_number(r);
	c->terms.size = export_read_number(r);
	c->terms.read_only = export_read_number(r);
	c->terms.structured = export_read_number(r);
	c->terms.extended = export_read_number(r) && !MUTANT(184);
	same = read_contexts(r, c);
	rc = read_early(r, c);
	*objection = conn_objection(c, same);
	return rc < 0 ? rc : nbd_conn_establish(c);
}

static int restore_conn(struct co *co, struct nbd_server *s, struct export_reader *r)
{
	const char *objection = NULL;
	struct io_sock *sock;
	struct nbd_conn *c;
	int rc = io_sock_adopt(co, export_read_fd(r), &sock);

	if (rc < 0)
		return rc;
	c = nbd_conn_new(s, sock);
	if (!c) {
		io_sock_close(co, sock);
		return -ENOMEM;
	}
	s->n_conns++;
	c->freezing = c->frozen = true;
	rc = read_conn(r, c, &objection);
	if (rc == 0 && r->failed)
		rc = -EPROTO;
	if (rc == 0 && objection)
		nbd_conn_log(c, LOG_LEVEL_WARNING, "is sent away: %s", objection);
	if (rc == 0 && objection) {
		nbd_conn_free(co, c);
		s->n_conns--;
	}
	return rc;
}

static int restore_conns(struct co *co, struct nbd_server *s, struct export_reader *r)
{
	uint64_t clients = export_read_number(r), n = export_read_number(r);
	int rc = n <= CONNS_MAX ? 0 : -EPROTO;

	for (uint64_t i = 0; i < n && rc == 0 && !r->failed; i++)
		rc = restore_conn(co, s, r);
	s->export.stats.clients = clients;
	return rc == 0 && r->failed ? -EPROTO : rc;
}

static int restore_listener(struct co *co, struct nbd_server *s, struct export_reader *r, struct err *err)
{
	struct io_place place;
	uint64_t version = export_read_number(r);
	int rc;

	if (version != STATE_VERSION)
		return err_set(err, -EPROTO, "the NBD server that was handed over is of version %" PRIu64 ", not %d",
			version, STATE_VERSION);
	rc = export_read_listener(co, r, "listener", &s->listener, &place, err);
	if (rc < 0)
		return rc;
	io_sock_place_set(s->listener, place);
	io_sock_pause(s->listener);
	return 0;
}

int nbd_server_restore(struct co *co, struct nbd_server *s, const struct export_state *state, struct err *err)
{
	struct export_reader r = {.state = state};
	int rc = restore_listener(co, s, &r, err);

	s->frozen = true;
	if (rc == 0) {
		rc = restore_conns(co, s, &r);
		if (rc < 0)
			err_set(err, rc, "the connections that were handed over can't be gone on with: %s",
				rc == -EPROTO ? "their state isn't whole" : strerror(-rc));
	}
	export_read_end(co, &r);
	if (rc < 0 && s->listener)
		io_sock_place_set(s->listener, (struct io_place){0});
	if (rc < 0) {
		list_for_each_safe(it, &s->conns)
			nbd_conn_free(co, list_entry(it, struct nbd_conn, link));
	}
	return rc;
}
