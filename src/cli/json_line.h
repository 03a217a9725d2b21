/* SPDX-License-Identifier: MIT */
/* A conversation in lines, each one JSON value, over a stream socket. Who is at the other end is no enemy, but may be wrong. */
#ifndef CORRAL_CLI_JSON_LINE_H
#define CORRAL_CLI_JSON_LINE_H

#include <jansson.h>

#include "io/io.h"

#define JSON_LINE_BYTES (64u << 10) /* at most */

struct json_line {
	struct io_sock *sock; /* not taken over */
	size_t len;           /* of what was received and not read */
	char buf[JSON_LINE_BYTES];
};

/* The next line, as a new reference. -ENODATA: there is no more; -EPROTO, explained; or what the socket says. */
int json_line_read(struct co *co, struct json_line *l, json_t **out, struct err *err) ATTR_MUST_USE;
/* Takes the value over, which may be NULL: there was no memory for it. */
int json_line_write(struct co *co, struct json_line *l, json_t *value) ATTR_MUST_USE;

#endif
