/* SPDX-License-Identifier: MIT */
/* Where a client finds an export, as doc/uri.md of the NetworkBlockDevice project writes it. */
#ifndef CORRAL_EXPORT_NBD_URI_H
#define CORRAL_EXPORT_NBD_URI_H

#include <stdbool.h>

/* address: as io_sock_address gives it. On the heap; NULL: no memory. */
char *nbd_uri(const char *address, const char *name, bool tls);

#endif
