/* SPDX-License-Identifier: MIT */
/* What a server proves to be, and whom it lets in: certificates, pre-shared keys; see export.h. Read before there is a
 * coroutine, and never again. */
#include "export/nbd/tls_creds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static int creds_error(struct err *err, const char *what, int r)
{
	return err_set(err, r == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL, "TLS: %s: %s", what, gnutls_strerror(r));
}

/* ---- certificates ---- */

static char *path_in(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static int x509_authorities(struct nbd_tls_creds *c, const struct nbd_tls_options *o, struct err *err)
{
	AUTO_FREE char *ca = path_in(o->dir, "ca-cert.pem");
	AUTO_FREE char *crl = path_in(o->dir, "ca-crl.pem");
	int r;

	if (!ca || !crl)
		return err_set(err, -ENOMEM, "TLS: no memory");
	r = gnutls_certificate_set_x509_trust_file(c->x509, ca, GNUTLS_X509_FMT_PEM);
	if (r == 0)
		r = GNUTLS_E_NO_CERTIFICATE_FOUND;
	if (r < 0 && o->verify_peer)
		return creds_error(err, ca, r);
	r = gnutls_certificate_set_x509_crl_file(c->x509, crl, GNUTLS_X509_FMT_PEM);
	return r < 0 && r != GNUTLS_E_FILE_ERROR ? creds_error(err, crl, r) : 0; /* there need not be one */
}

static int x509_load(struct nbd_tls_creds *c, const struct nbd_tls_options *o, struct err *err)
{
	AUTO_FREE char *cert = path_in(o->dir, "server-cert.pem");
	AUTO_FREE char *key = path_in(o->dir, "server-key.pem");
	int r;

	if (!cert || !key)
		return err_set(err, -ENOMEM, "TLS: no memory");
	r = gnutls_certificate_allocate_credentials(&c->x509);
	if (r < 0)
		return creds_error(err, "certificates", r);
	r = gnutls_certificate_set_x509_key_file(c->x509, cert, key, GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return creds_error(err, cert, r);
	r = gnutls_certificate_set_known_dh_params(c->x509, GNUTLS_SEC_PARAM_MEDIUM);
	return r < 0 ? creds_error(err, "certificates", r) : x509_authorities(c, o, err);
}

/* ---- pre-shared keys ---- */

/* Whether each line is NAME:KEY. */
static bool psk_is_sound(const gnutls_datum_t *users)
{
	const char *at = (const char *)users->data, *end = at + users->size;
	bool some = false;

	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		const char *stop = newline ? newline : end;
		const char *colon = memchr(at, ':', (size_t)(stop - at));

		if (!colon || colon == at || colon + 1 == stop)
			return false;
		for (const char *digit = colon + 1; digit < stop; digit++) {
			if (*digit == '\0' || !strchr("0123456789abcdefABCDEF", *digit))
				return false;
		}
		some = true;
		at = stop + 1;
	}
	return some;
}

/* The key of a user in the file's lines; negative: there is none. */
static int psk_find(const gnutls_datum_t *users, const char *user, gnutls_datum_t *key)
{
	const char *at = (const char *)users->data, *end = at + users->size;
	size_t len = strlen(user);

	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		const char *stop = newline ? newline : end;

		if ((size_t)(stop - at) > len + 1 && memcmp(at, user, len) == 0 && at[len] == ':') {
			gnutls_datum_t hex = {(void *)(at + len + 1), (unsigned)(stop - at - len - 1)};

			return gnutls_hex_decode2(&hex, key);
		}
		at = stop + 1;
	}
	return GNUTLS_E_INSUFFICIENT_CREDENTIALS;
}

static int psk_lookup(gnutls_session_t session, const char *user, gnutls_datum_t *key)
{
	const struct nbd_tls_creds *c = gnutls_session_get_ptr(session);

	return psk_find(&c->users, user, key) < 0 ? -1 : 0;
}

static int psk_load(struct nbd_tls_creds *c, const struct nbd_tls_options *o, struct err *err)
{
	int r = gnutls_load_file(o->psk_file, &c->users);

	if (r < 0)
		return creds_error(err, o->psk_file, r);
	if (!psk_is_sound(&c->users))
		return err_set(err, -EINVAL, "TLS: %s: not lines of NAME:KEY, as psktool writes them", o->psk_file);
	r = gnutls_psk_allocate_server_credentials(&c->psk);
	if (r < 0)
		return creds_error(err, o->psk_file, r);
	gnutls_psk_set_server_credentials_function(c->psk, psk_lookup);
	r = gnutls_psk_set_server_known_dh_params(c->psk, GNUTLS_SEC_PARAM_MEDIUM);
	return r < 0 ? creds_error(err, o->psk_file, r) : 0;
}

/* ---- both ---- */

static int priority_load(struct nbd_tls_creds *c, const struct nbd_tls_options *o, struct err *err)
{
	AUTO_FREE char *text = NULL;
	const char *base = o->priority ? o->priority : "NORMAL";
	const char *at;
	int r;

	/* Keys that are shared must be asked for by name. */
	if (asprintf(&text, "%s%s", base, c->psk && !o->priority ? ":+ECDHE-PSK:+DHE-PSK:+PSK" : "") < 0)
		return err_set(err, -ENOMEM, "TLS: no memory");
	r = gnutls_priority_init(&c->priority, text, &at);
	return r < 0 ? err_set(err, -EINVAL, "TLS: priorities '%s': %s, at '%s'", text, gnutls_strerror(r),
			       r == GNUTLS_E_INVALID_REQUEST ? at : "")
		     : 0;
}

int nbd_tls_creds_new(const struct nbd_tls_options *o, struct nbd_tls_creds **out, struct err *err)
{
	struct nbd_tls_creds *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(err, -ENOMEM, "TLS: no memory");
	c->verify_peer = o->verify_peer;
	r = o->dir ? x509_load(c, o, err) : 0;
	if (r == 0 && o->psk_file)
		r = psk_load(c, o, err);
	if (r == 0)
		r = priority_load(c, o, err);
	if (r < 0) {
		nbd_tls_creds_free(c);
		return r;
	}
	*out = c;
	return 0;
}

void nbd_tls_creds_free(struct nbd_tls_creds *c)
{
	if (!c)
		return;
	if (c->x509)
		gnutls_certificate_free_credentials(c->x509);
	if (c->psk)
		gnutls_psk_free_server_credentials(c->psk);
	if (c->priority)
		gnutls_priority_deinit(c->priority);
	if (c->users.data) {
		explicit_bzero(c->users.data, c->users.size);
		gnutls_free(c->users.data);
	}
	free(c);
}
