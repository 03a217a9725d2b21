/* SPDX-License-Identifier: MIT */
/* The inside of TLS credentials, for tls_creds.c and tls.c. */
#ifndef CORRAL_EXPORT_NBD_TLS_CREDS_H
#define CORRAL_EXPORT_NBD_TLS_CREDS_H

#include <gnutls/gnutls.h>

#include "export/export.h"

struct nbd_tls_creds {
	gnutls_certificate_credentials_t x509; /* NULL: none */
	gnutls_psk_server_credentials_t psk;   /* NULL: none */
	gnutls_datum_t users;                  /* of the PSK file: lines of NAME:KEY, the key in hex */
	gnutls_priority_t priority;
	bool verify_peer;
};

#endif
