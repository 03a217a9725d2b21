/* SPDX-License-Identifier: MIT */
/* The driver nbd: the export of an NBD server, by a name, or by server.* and export, or by host and port or path. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/driver.h"
#include "nbd/nbd.h"

static const char *const options[] = {"uri", "server.", "host", "port", "path", "export", "reconnect-delay",
	"open-timeout", "connections", "filename", NULL};
static const char *const protocols[] = {"nbd", "nbds", "nbd+tcp", "nbd+unix", "nbds+unix", NULL};

static int text_set(json_t *tree, const char *key, const char *text)
{
	return text ? options_set(tree, key, json_string_nocheck(text)) : 0;
}

/* A name becomes the options that say the same. */
static int name_parse(const char *name, json_t *tree, struct err *err)
{
	struct nbd_address a;
	int ret = nbd_address_parse(name, &a, err);

	if (ret < 0)
		return ret;
	if (text_set(tree, "uri", a.uri) < 0 || text_set(tree, "path", a.path) < 0 ||
		text_set(tree, "host", a.host) < 0 || text_set(tree, "port", a.port) < 0 ||
		text_set(tree, "export", a.export) < 0)
		ret = err_set(err, -ENOMEM, "no memory");
	nbd_address_fini(&a);
	json_object_del(tree, "filename");
	return ret;
}

static char *text_take(const json_t *tree, const char *key, const char *below_server)
{
	const char *text = options_text(tree, key);

	if (!text && below_server)
		text = options_text(tree, below_server);
	return text ? strdup(text) : NULL;
}

static int address_take(const json_t *tree, struct nbd_address *a, struct err *err)
{
	*a = (struct nbd_address){
		.uri = text_take(tree, "uri", NULL),
		.path = text_take(tree, "path", "server.path"),
		.host = text_take(tree, "host", "server.host"),
		.port = text_take(tree, "port", "server.port"),
		.export = text_take(tree, "export", NULL),
	};
	if (!!a->uri + !!a->path + !!a->host == 1) {
		if (a->host && !a->port)
			a->port = strdup(NBD_PORT);
		return 0;
	}
	return a->path && a->host ? err_set(err, -EINVAL, "path and host may not be used at the same time")
				  : err_set(err, -EINVAL, "NBD server address missing");
}

/* Seconds. */
static int delay_take(const json_t *tree, const char *name, uint64_t *ns, struct err *err)
{
	uint64_t seconds = 0;
	int ret = options_size(tree, name, &seconds, err);

	if (ret == 0 && seconds > UINT32_MAX)
		ret = err_set(err, -EINVAL, "Parameter '%s' is out of range", name);
	*ns = seconds * UINT64_C(1000000000);
	return ret;
}

static int connections_take(const json_t *tree, unsigned *out, struct err *err)
{
	uint64_t n = NBD_CONNECTIONS;
	int ret = options_size(tree, "connections", &n, err);

	if (ret == 0 && (n == 0 || n > NBD_CONNECTIONS))
		ret = err_set(err, -EINVAL, "Parameter 'connections' is from 1 to %d", NBD_CONNECTIONS);
	*out = (unsigned)n;
	return ret;
}

static int nbd_driver_open(struct co *co, const struct driver_context *context, const json_t *tree,
	struct node *child ATTR_UNUSED, struct node **out, struct err *err)
{
	struct nbd_address address;
	struct nbd_open open = {.address = &address, .write = context->write, .no_flush = context->no_flush};
	int ret = address_take(tree, &address, err);

	if (ret == 0)
		ret = delay_take(tree, "reconnect-delay", &open.reconnect_ns, err);
	if (ret == 0)
		ret = delay_take(tree, "open-timeout", &open.open_ns, err);
	if (ret == 0)
		ret = connections_take(tree, &open.connections, err);
	if (ret == 0)
		ret = nbd_client_open(co, &open, out, err);
	nbd_address_fini(&address);
	return ret;
}

const struct driver driver_nbd = {
	.name = "nbd",
	.kind = DRIVER_PROTOCOL,
	.options = options,
	.protocols = protocols,
	.parse = name_parse,
	.open = nbd_driver_open,
};
