/* SPDX-License-Identifier: MIT */
/* What a server offers: see list.h. One connection for the names, and one for each of them. */
#include "nbd/list.h"

#include <errno.h>
#include <libnbd.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define NAMES 1024
#define CONTEXTS 64

struct names {
	char *name[NAMES], *description[NAMES];
	unsigned n;
};

struct contexts {
	char *name[CONTEXTS];
	unsigned n;
};

static int name_take(void *arg, const char *name, const char *description)
{
	struct names *names = arg;

	if (names->n == NAMES)
		return 0;
	names->name[names->n] = strdup(name);
	names->description[names->n] = description && description[0] ? strdup(description) : NULL;
	names->n += names->name[names->n] != NULL;
	return 0;
}

static void names_free(struct names *names)
{
	for (unsigned i = 0; i < names->n; i++) {
		free(names->name[i]);
		free(names->description[i]);
	}
	free(names);
}

static int context_take(void *arg, const char *name)
{
	struct contexts *contexts = arg;

	if (contexts->n == CONTEXTS)
		return 0;
	contexts->name[contexts->n] = strdup(name);
	contexts->n += contexts->name[contexts->n] != NULL;
	return 0;
}

/* ---- connecting ---- */

static int explain(const struct nbd_address *a, struct err *err)
{
	int e = nbd_get_errno() ? nbd_get_errno() : EIO;
	char where[256];

	nbd_address_text(a, where, sizeof(where));
	if (e == ECONNREFUSED || e == ENOENT)
		return err_set(err, -e, "Failed to connect to '%s': %s", where, strerror(e));
	return err_set(err, -e, "Failed to connect to '%s': %s", where, nbd_get_error());
}

static int tls_set(struct nbd_handle *h, const struct nbd_list_tls *tls)
{
	if (!tls->on)
		return 0;
	if (nbd_set_tls(h, LIBNBD_TLS_REQUIRE) < 0)
		return -1;
	if (tls->dir && nbd_set_tls_certificates(h, tls->dir) < 0)
		return -1;
	if (tls->psk_file && nbd_set_tls_psk_file(h, tls->psk_file) < 0)
		return -1;
	return tls->username ? nbd_set_tls_username(h, tls->username) : 0;
}

static int connect_to(struct nbd_handle *h, const struct nbd_address *a)
{
	if (a->uri)
		return nbd_connect_uri(h, a->uri);
	return a->path ? nbd_connect_unix(h, a->path) : nbd_connect_tcp(h, a->host, a->port);
}

static struct nbd_handle *handle_open(const struct nbd_address *a, const struct nbd_list_tls *tls, struct err *err)
{
	struct nbd_handle *h = nbd_create();

	if (h && nbd_set_opt_mode(h, true) == 0 && nbd_set_full_info(h, true) == 0 && tls_set(h, tls) == 0 &&
		connect_to(h, a) == 0)
		return h;
	(void)explain(a, err);
	nbd_close(h);
	return NULL;
}

/* ---- one export ---- */

static uint16_t flag(int can, unsigned bit) { return (uint16_t)(can > 0 ? 1u << bit : 0); }

/* As the protocol numbers them (NBD_FLAG_*). */
static uint16_t flags_of(struct nbd_handle *h)
{
	return (uint16_t)(1u | flag(nbd_is_read_only(h), 1) | flag(nbd_can_flush(h), 2) | flag(nbd_can_fua(h), 3) |
		flag(nbd_is_rotational(h), 4) | flag(nbd_can_trim(h), 5) | flag(nbd_can_zero(h), 6) |
		flag(nbd_can_df(h), 7) | flag(nbd_can_multi_conn(h), 8) | flag(nbd_can_cache(h), 10) |
		flag(nbd_can_fast_zero(h), 11));
}

static uint64_t block_of(struct nbd_handle *h, int which)
{
	int64_t bytes = nbd_get_block_size(h, which);

	return bytes > 0 ? (uint64_t)bytes : 0;
}

static void export_ask(struct nbd_handle *h, struct nbd_listed *e, struct contexts *contexts)
{
	nbd_context_callback take_it = {.callback = context_take, .user_data = contexts};

	if (nbd_set_export_name(h, e->name) < 0 || nbd_opt_info(h) < 0)
		return;
	e->known = true;
	e->size = (uint64_t)nbd_get_size(h);
	e->flags = flags_of(h);
	e->block_min = block_of(h, LIBNBD_SIZE_MINIMUM);
	e->block_opt = block_of(h, LIBNBD_SIZE_PREFERRED);
	e->block_max = block_of(h, LIBNBD_SIZE_MAXIMUM);
	if (nbd_opt_list_meta_context(h, take_it) < 0)
		contexts->n = 0;
	e->contexts = (const char *const *)contexts->name;
	e->contexts_n = contexts->n;
}

static void export_tell(struct nbd_handle *h, const struct names *names, unsigned i,
	void (*fn)(void *arg, const struct nbd_listed *e, unsigned n), void *arg)
{
	struct nbd_listed e = {.name = names->name[i], .description = names->description[i]};
	AUTO_FREE struct contexts *contexts = calloc(1, sizeof(*contexts));

	if (contexts)
		export_ask(h, &e, contexts);
	fn(arg, &e, names->n);
	for (unsigned c = 0; contexts && c < contexts->n; c++)
		free(contexts->name[c]);
}

int nbd_list(const struct nbd_address *address, const struct nbd_list_tls *tls,
	void (*fn)(void *arg, const struct nbd_listed *e, unsigned n), void *arg, struct err *err)
{
	struct names *names = calloc(1, sizeof(*names));
	nbd_list_callback take_it = {.callback = name_take, .user_data = names};
	struct nbd_handle *h = names ? handle_open(address, tls, err) : NULL;
	int ret = h ? 0 : names ? err->code : err_set(err, -ENOMEM, "no memory");

	if (h && nbd_opt_list(h, take_it) < 0)
		ret = explain(address, err);
	if (ret == 0 && names->n == 0)
		fn(arg, NULL, 0);
	for (unsigned i = 0; ret == 0 && i < names->n; i++)
		export_tell(h, names, i, fn, arg);
	if (h && nbd_aio_is_negotiating(h) == 1)
		(void)nbd_opt_abort(h);
	nbd_close(h);
	if (names)
		names_free(names);
	return ret;
}
