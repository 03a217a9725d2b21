/* SPDX-License-Identifier: MIT */
/*
 * What a service manager and a service tell each other: sockets that are open already (sd_listen_fds(3)) and that it is
 * ready or ends (sd_notify(3)). Both are environment variables and plain descriptors, and need no library.
 */
#ifndef CORRAL_CLI_SYSTEMD_H
#define CORRAL_CLI_SYSTEMD_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

#define SYSTEMD_SOCKETS 64
#define SYSTEMD_FIRST 3 /* the descriptor of the first one; the others follow */

struct systemd {
	unsigned n;
	bool taken[SYSTEMD_SOCKETS];
	int notify_fd;               /* connected to the manager; -1: none listens */
	char *names;                 /* what `name` points into; NULL: none were given */
	char *name[SYSTEMD_SOCKETS]; /* NULL or "": it has none */
};

/* Looks at the environment, and takes what is meant for this process out of it: before any fork. */
int systemd_begin(struct systemd *s, struct err *err) ATTR_MUST_USE;
void systemd_end(struct systemd *s);

/* The next socket of that name, NULL: of any; the caller's from now on. -ENOENT, explained. */
int systemd_take(struct systemd *s, const char *name, struct err *err) ATTR_MUST_USE;

/* "READY=1" and its like to the manager, if there is one that listens. */
void systemd_notify(const struct systemd *s, const char *state);

#endif
