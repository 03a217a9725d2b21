/* SPDX-License-Identifier: MIT */
/*
 * The storage node that is the export of an NBD server. It is spoken to over libnbd, with as many requests in flight as there
 * are, over several connections where the server says that they see one state. It can't grow.
 */
#ifndef CORRAL_NBD_NBD_H
#define CORRAL_NBD_NBD_H

#include "base/err.h"
#include "node/node.h"

#define NBD_PORT "10809"
#define NBD_CONNECTIONS 4 /* where the server allows several */

struct nbd_address { /* of an export; strings on the heap. Either the URI, or the path of a socket, or host and port */
	char *uri;
	char *path;
	char *host, *port;
	char *export; /* with path or host; NULL: "" */
};

/*
 * A name: an NBD URI ("nbd://", "nbds://", "nbd+unix://", "nbds+unix://"), or "nbd:HOST:PORT[:exportname=NAME]" or
 * "nbd:unix:PATH[:exportname=NAME]". -EINVAL, explained; -ENOMEM.
 */
bool nbd_name_is(const char *name);
int nbd_address_parse(const char *name, struct nbd_address *out, struct err *err) ATTR_MUST_USE;
void nbd_address_fini(struct nbd_address *a);
/* What messages call it: "localhost:10809", or the path of the socket, or the URI. */
void nbd_address_text(const struct nbd_address *a, char *out, size_t bytes);

struct nbd_open {
	const struct nbd_address *address;
	bool write;
	bool no_flush;        /* cache=unsafe: flush does nothing */
	unsigned connections; /* at most; 0: NBD_CONNECTIONS */
	uint64_t open_ns;     /* keep trying to connect for so long; 0: once */
	/*
	 * How long requests wait for a new connection when there is none any more; 0: they fail. So that nothing is lost when it is
	 * the server that went away, every change is then made durable at once (FUA), where the server can do that; where it
	 * can't, changes that no flush had covered make every later flush fail.
	 */
	uint64_t reconnect_ns;
};

/* -ENOTSUP: built without libnbd. Errors are explained: "Failed to connect to 'localhost:10809': Connection refused". */
int nbd_client_open(struct co *co, const struct nbd_open *how, struct node **out, struct err *err) ATTR_MUST_USE;
bool node_is_nbd(const struct node *n);

#endif
