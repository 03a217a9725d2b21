/* SPDX-License-Identifier: MIT */
/* A build without libnbd has no NBD client. */
#include <errno.h>

#include "nbd/nbd.h"

int nbd_client_open(struct co *co ATTR_UNUSED, const struct nbd_open *how ATTR_UNUSED, struct node **out ATTR_UNUSED,
	struct err *err)
{
	return err_set(err, -ENOTSUP, "this build has no NBD client (it was made without libnbd)");
}

bool node_is_nbd(const struct node *n ATTR_UNUSED) { return false; }
