/* SPDX-License-Identifier: MIT */
/* Servers of a node. */
#ifndef CORRAL_EXPORT_EXPORT_H
#define CORRAL_EXPORT_EXPORT_H

#include "base/err.h"
#include "io/io.h"
#include "node/node.h"

/* ---- NBD (protocol: doc/proto.md of the NetworkBlockDevice project) ---- */

struct nbd_options {
	const char *address;     /* as io_listen takes it */
	const char *export_name; /* "" is the default export; a client may always ask for "" too */
	const char *description; /* NULL: none */
	bool read_only;
	bool writethrough;     /* every write is FUA */
	bool no_discard;       /* a trim does nothing, written zeros keep their space */
	unsigned connections;  /* the most at once, further ones are closed; 0: 100 */
	uint64_t handshake_ns; /* a client that isn't through with the handshake by then is closed; 0: 10 s */
	uint64_t grace_ns;     /* how long a stop waits for clients to take their replies; 0: 5 s */
};

struct nbd_server;
/* Listens when it returns. The node must outlive the server. */
int nbd_server_start(struct co *co, struct node *n, const struct nbd_options *options, struct nbd_server **out,
	struct err *err) ATTR_MUST_USE;
const char *nbd_server_address(const struct nbd_server *s);
/* No new clients; requests that were received are answered, then every connection ends. Frees the server. */
void nbd_server_stop(struct co *co, struct nbd_server *s);

#endif
