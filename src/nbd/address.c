/* SPDX-License-Identifier: MIT */
/* The names of exports. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "nbd/nbd.h"

#define EXPORT ":exportname="

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

static bool is_uri(const char *name)
{
	return begins(name, "nbd://") || begins(name, "nbds://") || begins(name, "nbd+unix://") ||
		begins(name, "nbds+unix://") || begins(name, "nbd+tcp://");
}

bool nbd_name_is(const char *name) { return begins(name, "nbd:") || is_uri(name); }

void nbd_address_fini(struct nbd_address *a)
{
	free(a->uri);
	free(a->path);
	free(a->host);
	free(a->port);
	free(a->export);
	*a = (struct nbd_address){0};
}

/* Cuts what follows the name of the export off. */
static char *export_cut(char *text)
{
	char *at = strstr(text, EXPORT);

	if (at == NULL)
		return NULL;
	*at = '\0';
	return at + strlen(EXPORT);
}

/* rest: "HOST:PORT" or "[V6]:PORT" */
static int inet_parse(const char *name, char *rest, struct nbd_address *out, struct err *err)
{
	char *end = rest[0] == '[' ? strchr(rest, ']') : strrchr(rest, ':');
	char *port = end != NULL && *end == ']' ? end + 1 : end;

	if (port == NULL || *port != ':' || port[1] == '\0')
		return err_set(err, -EINVAL, "'%s' doesn't say which port: nbd:HOST:PORT[" EXPORT "NAME]", name);
	*end = *port = '\0';
	out->host = strdup(rest[0] == '[' ? rest + 1 : rest[0] != '\0' ? rest : "localhost");
	out->port = strdup(port + 1);
	return out->host && out->port ? 0 : -ENOMEM;
}

static int old_parse(const char *name, char *rest, struct nbd_address *out, struct err *err)
{
	const char *export = export_cut(rest);

	if (export != NULL) {
		out->export = strdup(export);
		if (out->export == NULL)
			return -ENOMEM;
	}
	if (!begins(rest, "unix:"))
		return inet_parse(name, rest, out, err);
	if (rest[5] == '\0')
		return err_set(err, -EINVAL, "'%s' doesn't say which socket: nbd:unix:PATH[" EXPORT "NAME]", name);
	out->path = strdup(rest + 5);
	return out->path ? 0 : -ENOMEM;
}

int nbd_address_parse(const char *name, struct nbd_address *out, struct err *err)
{
	AUTO_FREE char *rest = NULL;
	int ret;

	*out = (struct nbd_address){0};
	if (is_uri(name)) {
		out->uri = strdup(name);
		ret = out->uri ? 0 : -ENOMEM;
	} else {
		rest = strdup(name + strlen("nbd:"));
		ret = rest ? old_parse(name, rest, out, err) : -ENOMEM;
	}
	if (ret < 0)
		nbd_address_fini(out);
	return ret == -ENOMEM ? err_set(err, ret, "no memory") : ret;
}

void nbd_address_text(const struct nbd_address *a, char *out, size_t bytes)
{
	if (a->uri)
		snprintf(out, bytes, "%s", a->uri);
	else if (a->path)
		snprintf(out, bytes, "%s", a->path);
	else
		snprintf(out, bytes, "%s:%s", a->host, a->port ? a->port : NBD_PORT);
}
