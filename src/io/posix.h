/* SPDX-License-Identifier: MIT */
/*
 * The system calls that both real backends share. Each carries out one operation on the spot and may block; which of
 * them run on a helper thread is the backend's choice. They touch nothing but the operation and the kernel.
 */
#ifndef CORRAL_IO_POSIX_H
#define CORRAL_IO_POSIX_H

#include "io/backend.h"

/* Any operation but POLL; sockets never wait here: -EAGAIN. */
int64_t io_posix_do(struct io_op *op);

/* A read that takes no more than what is in memory; negative where that is nothing, or can't be had so. */
int64_t io_posix_read_cached(const struct io_op *op);

/* The operation as recvmsg and sendmsg take it; and after a recvmsg, what came of ancillary data. */
struct msghdr *io_posix_message(struct io_op *op);
void io_posix_message_done(struct io_op *op);

void io_posix_close(int fd);
int io_posix_dup(int fd); /* or a negative errno */
uint64_t io_posix_now(void);
char *io_posix_realpath(const char *path);    /* NULL and errno */
int io_posix_fallocate_mode(unsigned flags);  /* of IO_FALLOC_* */
bool io_posix_shutdown(int fd);               /* both directions; false: it is no socket */
uint64_t io_posix_left(uint64_t deadline_ns); /* nanoseconds; 0 for one that has passed */

/* address.c; flags of a listen and of an inherit: SOCK_NONBLOCK, as the backend wants it */
int io_posix_listen(const struct io_op *op);
int io_posix_connect(const struct io_op *op);
int io_posix_inherit(const struct io_op *op);
/* What is left to do to a socket that accept returned: its options and its name. Returns it. */
int io_posix_accepted(const struct io_op *op, int fd);
void io_posix_unlink(const struct io_name *name); /* of a listener: its path, if it is still the one that it made */

/* share.c, memory.c */
int io_posix_adopt(struct io_op *op);
int io_posix_memory(const struct io_op *op);
int io_posix_map(const struct io_op *op);
int io_posix_unmap(const struct io_op *op);

#endif
