/* SPDX-License-Identifier: MIT */
/*
 * The inside of `corral nbd`, which is qemu-nbd by its options and words, and `corral serve` by what it does: it fills in a
 * struct serve, with one image and one export, and serves that until the last client has gone or a signal comes.
 */
#ifndef CORRAL_CLI_NBD_H
#define CORRAL_CLI_NBD_H

#include "cli/open.h"
#include "cli/serve.h"
#include "nbd/list.h"

#define NBD_DEFAULT_ADDRESS "0.0.0.0"

struct cli_nbd {
	struct serve serve;
	/* As given; NULL: not. */
	const char *socket, *bind, *port, *cache, *aio, *discard, *detect_zeroes, *snapshot, *description;
	const char *name, *format, *device, *tls_creds, *tls_authz, *tls_hostname, *offset_text;
	const char *bitmaps[EXPORT_CONTEXTS];
	unsigned bitmaps_n;
	uint64_t offset, handshake_ns;
	long shared;
	bool read_only, scratch, persistent, verbose, image_opts, list, disconnect, depth, nocache;
	char *address;     /* as io_listen takes it */
	char *socket_made; /* of a device */
	struct nbd_list_tls list_tls;
	struct nbd_tls_object {
		char *id, *type, *dir, *endpoint, *username, *priority;
		bool no_verify;
	} tls[CLI_SECRETS];
	unsigned tls_n;
	struct image_secret objects[CLI_SECRETS];
	json_t *options; /* of --image-opts */
	int attached;    /* the process that keeps the kernel's device; 0: none */
	int attach_fd;   /* which begins when it is told */
	struct err err;
};

/* ---- nbd_options.c ---- */

/* 0; 1: all is done; negative: told. *file: the argument, or NULL. */
int cli_nbd_parse(struct cli_nbd *n, int argc, char **argv, const char **file) ATTR_MUST_USE;
bool cli_nbd_may_discard(const struct cli_nbd *n); /* by --discard */

/* ---- nbd_tls.c ---- */

/* --object; -EINVAL, told. */
int cli_nbd_object(struct cli_nbd *n, const char *object) ATTR_MUST_USE;
/* What --tls-creds names, for the server, or for a list. */
int cli_nbd_tls(struct cli_nbd *n) ATTR_MUST_USE;
void cli_nbd_tls_fini(struct cli_nbd *n);

/* ---- nbd_list.c ---- */

/* The exit status. */
int cli_nbd_list(const struct cli_nbd *n) ATTR_MUST_USE;

/* ---- nbd_attach.c: the kernel's client ---- */

/* A process of its own that waits to be told, connects to the socket, and keeps the device until somebody disconnects it.
 * Before there is an engine. -errno, explained. */
int cli_nbd_attach_prepare(struct cli_nbd *n, struct err *err) ATTR_MUST_USE;
int cli_nbd_attach(struct cli_nbd *n, struct err *err) ATTR_MUST_USE; /* the server listens: begin */
/* -d: the exit status. */
int cli_nbd_disconnect(const char *device) ATTR_MUST_USE;

#endif
