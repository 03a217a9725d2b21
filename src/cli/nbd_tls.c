/* SPDX-License-Identifier: MIT */
/* --object of nbd: passphrases, and the credentials of TLS in QEMU's terms. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nbd.h"

static int text_set(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
	return *to ? 0 : -ENOMEM;
}

static int switch_set(bool *off, const char *name, const char *value)
{
	*off = strcmp(value, "off") == 0 || strcmp(value, "no") == 0;
	if (*off || strcmp(value, "on") == 0 || strcmp(value, "yes") == 0)
		return 0;
	return cli_complain("Parameter '%s' expects 'on' or 'off'", name), -EINVAL;
}

static int tls_option(void *arg, const char *name, const char *value)
{
	struct nbd_tls_object *o = arg;

	if (strncmp(name, "tls-creds-", 10) == 0)
		return text_set(&o->type, name);
	if (strcmp(name, "qom-type") == 0)
		return text_set(&o->type, value);
	if (strcmp(name, "id") == 0)
		return text_set(&o->id, value);
	if (strcmp(name, "dir") == 0)
		return text_set(&o->dir, value);
	if (strcmp(name, "endpoint") == 0)
		return text_set(&o->endpoint, value);
	if (strcmp(name, "username") == 0)
		return text_set(&o->username, value);
	if (strcmp(name, "priority") == 0)
		return text_set(&o->priority, value);
	if (strcmp(name, "verify-peer") == 0)
		return switch_set(&o->no_verify, name, value);
	return cli_complain("--object %s: the option '%s' isn't supported", o->type ? o->type : "tls-creds-", name),
	       -EINVAL;
}

static int tls_check(const struct nbd_tls_object *o)
{
	if (!o->id || !o->id[0])
		return cli_complain("Parameter 'id' is missing"), -EINVAL;
	if (!o->type || (strcmp(o->type, "tls-creds-x509") != 0 && strcmp(o->type, "tls-creds-psk") != 0))
		return cli_complain("--object %s isn't supported; there are tls-creds-x509 and tls-creds-psk",
			       o->type ? o->type : "?"),
		       -EINVAL;
	if (!o->dir)
		return cli_complain("--object %s,id=%s: Missing 'dir' property value", o->type, o->id), -EINVAL;
	return 0;
}

int cli_nbd_object(struct cli_nbd *n, const char *object)
{
	struct nbd_tls_object *o = &n->tls[n->tls_n];
	int ret;

	if (strncmp(object, "authz-", 6) == 0 || strncmp(object, "qom-type=authz-", 15) == 0)
		return cli_complain("--object %.*s isn't supported", (int)strcspn(object, ","), object), -EINVAL;
	if (strncmp(object, "tls-creds-", 10) != 0 && strncmp(object, "qom-type=tls-creds-", 19) != 0)
		return cli_secret_add(&n->serve.secrets, "nbd", object);
	if (n->tls_n == ARRAY_ENTRIES(n->tls))
		return cli_usage("nbd", "more than %zu times --object", ARRAY_ENTRIES(n->tls));
	n->tls_n++;
	ret = cli_options_parse(object, tls_option, o);
	return ret < 0 ? ret : tls_check(o);
}

/* ---- using them ---- */

static const struct nbd_tls_object *object_find(const struct cli_nbd *n, const char *id)
{
	for (unsigned i = 0; i < n->tls_n; i++) {
		if (strcmp(n->tls[i].id, id) == 0)
			return &n->tls[i];
	}
	return NULL;
}

/* QEMU's name of the file with shared keys. */
static int psk_path(const struct nbd_tls_object *o, const char **out)
{
	char *path;

	if (asprintf(&path, "%s/keys.psk", o->dir) < 0)
		return cli_complain("no memory"), -ENOMEM;
	*out = path;
	return 0;
}

int cli_nbd_tls(struct cli_nbd *n)
{
	const struct nbd_tls_object *o = object_find(n, n->tls_creds);
	const char *wanted = n->list ? "client" : "server";
	bool psk;

	if (!o)
		return cli_complain("Failed to get TLS creds: No TLS credentials with id '%s'", n->tls_creds), -EINVAL;
	if (strcmp(o->endpoint ? o->endpoint : "client", wanted) != 0)
		return cli_complain("Failed to get TLS creds: Expected TLS credentials for a %s endpoint", wanted),
		       -EINVAL;
	psk = strcmp(o->type, "tls-creds-psk") == 0;
	n->list_tls = (struct nbd_list_tls){.on = true, .dir = psk ? NULL : o->dir, .username = o->username};
	n->serve.tls = (struct nbd_tls_options){
		.dir = psk ? NULL : o->dir,
		.priority = o->priority,
		.verify_peer = !psk && !o->no_verify,
	};
	if (!psk)
		return 0;
	if (psk_path(o, &n->serve.tls.psk_file) < 0)
		return -ENOMEM;
	n->list_tls.psk_file = n->serve.tls.psk_file;
	if (!n->list_tls.username)
		n->list_tls.username = "qemu";
	return 0;
}

void cli_nbd_tls_fini(struct cli_nbd *n)
{
	free((char *)n->serve.tls.psk_file);
	for (unsigned i = 0; i < n->tls_n; i++) {
		free(n->tls[i].id);
		free(n->tls[i].type);
		free(n->tls[i].dir);
		free(n->tls[i].endpoint);
		free(n->tls[i].username);
		free(n->tls[i].priority);
	}
}
