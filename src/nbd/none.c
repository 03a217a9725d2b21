/* SPDX-License-Identifier: MIT */
/* A build without libnbd has no NBD client. */
#include <errno.h>

#include "nbd/list.h"
#include "nbd/nbd.h"

int nbd_client_open(struct co *co ATTR_UNUSED, const struct nbd_open *how ATTR_UNUSED, struct node **out ATTR_UNUSED,
	struct err *err)
{
	return err_set(err, -ENOTSUP, "this build has no NBD client (it was made without libnbd)");
}

bool node_is_nbd(const struct node *n ATTR_UNUSED) { return false; }

int nbd_list(const struct nbd_address *address ATTR_UNUSED, const struct nbd_list_tls *tls ATTR_UNUSED,
	void (*fn)(void *arg, const struct nbd_listed *e, unsigned n) ATTR_UNUSED, void *arg ATTR_UNUSED,
	struct err *err)
{
	return err_set(err, -ENOTSUP, "this build has no NBD client (it was made without libnbd)");
}
