/* SPDX-License-Identifier: MIT */
/* TLS on a connection; see tls.h. */
#include "export/nbd/tls.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "export/nbd/tls_creds.h"

#define TLS_IN_BYTES (64u << 10)
#define TLS_VECTOR 64

struct nbd_tls {
	gnutls_session_t session;
	const struct nbd_tls_creds *creds;
	uint8_t *in; /* TLS_IN_BYTES: received, [in_head, in_tail) not yet taken */
	size_t in_head, in_tail;
	bool in_ended;
	uint8_t *out; /* to be sent */
	size_t out_len, out_room;
	struct co_mutex sending; /* what is gathered leaves in its order */
};

/* ---- the library's side: memory ---- */

static ssize_t tls_pull(gnutls_transport_ptr_t arg, void *to, size_t len)
{
	struct nbd_tls *t = arg;
	size_t n = MIN(len, t->in_tail - t->in_head);

	if (n == 0 && !t->in_ended) {
		gnutls_transport_set_errno(t->session, EAGAIN);
		return -1;
	}
	memcpy(to, t->in + t->in_head, n);
	t->in_head += n;
	return (ssize_t)n;
}

static int tls_pull_timeout(gnutls_transport_ptr_t arg, unsigned ms)
{
	const struct nbd_tls *t = arg;

	(void)ms;
	return t->in_head < t->in_tail || t->in_ended;
}

static ssize_t tls_push(gnutls_transport_ptr_t arg, const void *from, size_t len)
{
	struct nbd_tls *t = arg;

	if (len > t->out_room - t->out_len) {
		size_t room = MAX(2 * t->out_room, t->out_len + len);
		uint8_t *more = realloc(t->out, room);

		if (!more) {
			gnutls_transport_set_errno(t->session, ENOMEM);
			return -1;
		}
		t->out = more;
		t->out_room = room;
	}
	memcpy(t->out + t->out_len, from, len);
	t->out_len += len;
	return (ssize_t)len;
}

/* ---- the socket's side ---- */

static int tls_fill(struct co *co, struct nbd_tls *t, struct io_sock *sock)
{
	assert(t->in_head == t->in_tail);
	ssize_t n = io_recv(co, sock, t->in, TLS_IN_BYTES);

	if (n < 0)
		return (int)n;
	t->in_head = 0;
	t->in_tail = (size_t)n;
	t->in_ended = n == 0;
	return 0;
}

/* Sends what is gathered, and what comes meanwhile; the memory is kept for the next time. */
static int tls_flush(struct co *co, struct nbd_tls *t, struct io_sock *sock)
{
	int r = 0;

	co_mutex_lock(co, &t->sending);
	while (t->out_len > 0 && r == 0) {
		uint8_t *out = take(t->out);
		size_t len = t->out_len, room = t->out_room;

		t->out_len = t->out_room = 0;
		r = io_send(co, sock, IOV_BUF(out, len));
		if (t->out) {
			free(out);
		} else {
			t->out = out;
			t->out_room = room;
		}
	}
	co_mutex_unlock(&t->sending);
	return r;
}

/* What to do after a call of the library gave r: 0: call again; else the errno that it comes to. */
static int tls_again(struct co *co, struct nbd_tls *t, struct io_sock *sock, ssize_t r)
{
	if (r == GNUTLS_E_AGAIN)
		return tls_fill(co, t, sock);
	if (r == GNUTLS_E_MEMORY_ERROR)
		return -ENOMEM;
	return gnutls_error_is_fatal((int)r) || r == GNUTLS_E_REHANDSHAKE ? -EPROTO : 0;
}

/* ---- the handshake ---- */

struct handshake {
	gnutls_session_t session;
	int result;
};

static void handshake_step(void *arg)
{
	struct handshake *h = arg;

	h->result = gnutls_handshake(h->session);
}

static int handshake_explain(const struct nbd_tls *t, int result, int r, struct err *err)
{
	unsigned status = gnutls_session_get_verify_cert_status(t->session);
	gnutls_datum_t text;

	if (result != GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR ||
		gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) < 0)
		return err_set(err, r, "%s", result == GNUTLS_E_AGAIN ? strerror(-r) : gnutls_strerror(result));
	err_set(err, r, "its certificate: %s", text.data);
	gnutls_free(text.data);
	return r;
}

int nbd_tls_handshake(struct co *co, struct nbd_tls *t, struct io_sock *sock, struct err *err)
{
	struct handshake h = {.session = t->session, .result = GNUTLS_E_AGAIN};

	while (h.result != GNUTLS_E_SUCCESS) {
		co_offload(co, handshake_step, &h);

		int r = tls_flush(co, t, sock); /* of an alert too */

		if (r == 0 && h.result != GNUTLS_E_SUCCESS)
			r = tls_again(co, t, sock, h.result);
		if (r < 0)
			return handshake_explain(t, h.result, r, err);
	}
	return 0;
}

/* ---- data ---- */

ssize_t nbd_tls_recv(struct co *co, struct nbd_tls *t, struct io_sock *sock, void *buf, size_t len)
{
	for (;;) {
		ssize_t n = gnutls_record_recv(t->session, buf, len);
		int r;

		if (n > 0)
			return n;
		if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION)
			return 0;
		r = tls_again(co, t, sock, n);
		if (r < 0)
			return r;
		if (t->out_len > 0) /* an answer to something that wasn't data */
			r = tls_flush(co, t, sock);
		if (r < 0)
			return r;
	}
}

int nbd_tls_send(struct co *co, struct nbd_tls *t, struct io_sock *sock, struct iov from)
{
	while (from.len > 0) {
		struct iovec v[TLS_VECTOR];
		size_t bytes;
		unsigned n = iov_export(from, v, TLS_VECTOR, &bytes);

		/* One call of the library takes a record at most, and memory never says that it is full. */
		gnutls_record_cork(t->session);
		for (unsigned i = 0; i < n; i++) {
			if (gnutls_record_send(t->session, v[i].iov_base, v[i].iov_len) != (ssize_t)v[i].iov_len)
				return -ENOMEM;
		}
		if (gnutls_record_uncork(t->session, 0) < 0)
			return -ENOMEM;
		int r = tls_flush(co, t, sock);

		if (r < 0)
			return r;
		from = iov_slice(from, bytes, from.len - bytes);
	}
	return 0;
}

void nbd_tls_bye(struct co *co, struct nbd_tls *t, struct io_sock *sock)
{
	(void)gnutls_bye(t->session, GNUTLS_SHUT_WR);
	(void)!tls_flush(co, t, sock);
}

/* ---- life ---- */

static int session_setup(struct nbd_tls *t)
{
	const struct nbd_tls_creds *c = t->creds;
	int r = gnutls_priority_set(t->session, c->priority);

	if (r == 0 && c->x509)
		r = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, c->x509);
	if (r == 0 && c->psk)
		r = gnutls_credentials_set(t->session, GNUTLS_CRD_PSK, c->psk);
	if (c->verify_peer) {
		gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert(t->session, NULL, 0);
	}
	gnutls_session_set_ptr(t->session, (void *)c);
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_pull_function(t->session, tls_pull);
	gnutls_transport_set_pull_timeout_function(t->session, tls_pull_timeout);
	gnutls_transport_set_push_function(t->session, tls_push);
	gnutls_handshake_set_timeout(t->session, GNUTLS_INDEFINITE_TIMEOUT); /* the connection has a deadline */
	return r;
}

int nbd_tls_new(const struct nbd_tls_creds *creds, struct nbd_tls **out)
{
	struct nbd_tls *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->creds = creds;
	co_mutex_init(&t->sending);
	t->in = malloc(TLS_IN_BYTES);
	if (!t->in || gnutls_init(&t->session, GNUTLS_SERVER | GNUTLS_NONBLOCK) < 0 || session_setup(t) < 0) {
		nbd_tls_free(t);
		return -ENOMEM;
	}
	*out = t;
	return 0;
}

void nbd_tls_free(struct nbd_tls *t)
{
	if (!t)
		return;
	if (t->session)
		gnutls_deinit(t->session);
	free(t->in);
	free(t->out);
	free(t);
}

void nbd_tls_describe(const struct nbd_tls *t, char *text, size_t bytes)
{
	char *desc = gnutls_session_get_desc(t->session);
	const char *user = t->creds->psk ? gnutls_psk_server_get_username(t->session) : NULL;

	snprintf(text, bytes, "%s%s%s", desc ? desc : "TLS", user ? ", user " : "", user ? user : "");
	gnutls_free(desc);
}
