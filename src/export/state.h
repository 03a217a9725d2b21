/* SPDX-License-Identifier: MIT */
/*
 * What a frozen export is made of, for another process to go on with: bytes, which only the kind of exports understands that
 * wrote them, and descriptors. Numbers are in the order of bytes of this machine, since it doesn't leave it.
 */
#ifndef CORRAL_EXPORT_STATE_H
#define CORRAL_EXPORT_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "io/share.h"

struct export_state {
	uint8_t *bytes;
	size_t len, room;
	int *fd;
	unsigned fds, fds_room;
	bool failed; /* no memory for all of it */
};

void export_state_put(struct export_state *s, const void *bytes, size_t len);
void export_state_put_number(struct export_state *s, uint64_t n);
void export_state_put_block(struct export_state *s, const void *bytes, size_t len); /* with its length */
void export_state_put_fd(struct export_state *s, int fd);
/* The descriptor, and what it has made in the file system. */
void export_state_put_listener(struct export_state *s, const struct io_sock *listener);
void export_state_fini(struct export_state *s); /* descriptors are left alone */

/* Takes it apart again. What isn't there reads as zeros, and is remembered. */
struct export_reader {
	const struct export_state *state;
	size_t at;
	unsigned fd_at;
	bool failed;
};

void export_read(struct export_reader *r, void *to, size_t len);
uint64_t export_read_number(struct export_reader *r);
/* Where it lies, until the state goes; at most `most` bytes. */
const void *export_read_block(struct export_reader *r, size_t most, size_t *len);
int export_read_fd(struct export_reader *r); /* the caller's from now on; -1: none is left */
/* That of an export, or of what else listens (what). *place isn't given to it: it removes nothing yet. Errors are explained. */
int export_read_listener(struct co *co, struct export_reader *r, const char *what, struct io_sock **out,
	struct io_place *place, struct err *err) ATTR_MUST_USE;
void export_read_end(struct co *co, struct export_reader *r); /* closes the descriptors that nobody took */

#endif
