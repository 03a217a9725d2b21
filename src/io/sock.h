/* SPDX-License-Identifier: MIT */
/* What sock.c and share.c of this room have in common; nothing outside includes this. */
#ifndef CORRAL_IO_SOCK_H
#define CORRAL_IO_SOCK_H

#include "io/backend.h"

/* The operation on this socket, again while that is what its result asks for. */
int64_t io_sock_do(struct co *co, struct io_sock *s, struct io_op *op) ATTR_MUST_USE;

#endif
