/* SPDX-License-Identifier: MIT */
/*
 * What is shared with another process: descriptors that it sends over a unix socket, and the memory and the
 * notifications behind them. None of it is trusted: memory may be taken away while it is in use, and a descriptor may be
 * of anything.
 */
#ifndef CORRAL_IO_SHARE_H
#define CORRAL_IO_SHARE_H

#include "io/io.h"

/* ---- descriptors ---- */

enum { IO_FDS = 8 }; /* the most that come with one call */

struct io_fds { /* whoever received them hands each to one of the functions below, or closes it */
	int fd[IO_FDS];
	unsigned n;
	bool cut; /* more were sent; those are closed already */
};

/* As io_recv, with the descriptors that came along; *fds is set in any case. */
ssize_t io_recv_fds(struct co *co, struct io_sock *s, void *buf, size_t len, struct io_fds *fds) ATTR_MUST_USE;
/* As io_send, with at most IO_FDS descriptors, which stay the caller's. */
int io_send_fds(struct co *co, struct io_sock *s, struct iov from, const int *fd, unsigned n) ATTR_MUST_USE;
void io_fd_close(struct co *co, int fd);
/* Takes the descriptor over, of a stream socket; what it is shows when it is used. -ENOMEM: it is closed. */
int io_sock_adopt(struct co *co, int fd, struct io_sock **out) ATTR_MUST_USE;
int io_sock_fd(const struct io_sock *s); /* which stays the socket's */

/* What a unix listener has made in the file system, and removes when it is closed; zeros: nothing. It goes with the listener
 * when that is handed over. */
struct io_place {
	uint64_t device, inode;
};
struct io_place io_sock_place(const struct io_sock *s);
void io_sock_place_set(struct io_sock *s, struct io_place place);

/* ---- notifications: an eventfd, or one end of a pipe ---- */

struct io_event;

/* Takes the descriptor over, to wait on it or to signal it; closed if that fails. -EINVAL: it is of something else. */
int io_event_adopt(struct co *co, int fd, bool waits, struct io_event **out) ATTR_MUST_USE;
/* Waits for the next signal, or takes what came since the last time. -ECANCELED after io_event_cancel; else an error that
 * won't go away. One waiter. */
int io_event_wait(struct co *co, struct io_event *e) ATTR_MUST_USE;
void io_event_cancel(struct io_event *e);  /* until it is renewed */
void io_event_renew(struct io_event *e);   /* nobody waits */
int io_event_fd(const struct io_event *e); /* which stays the event's */
void io_event_signal(struct co *co, struct io_event *e);
/* Nobody waits, or begins to signal; signals under way are waited for. NULL is fine. */
void io_event_close(struct co *co, struct io_event *e);

/* ---- memory ---- */

struct io_map;

/* Maps [off, off + len) of the descriptor, which stays the caller's, to be read and written. Only of memory and of files
 * of local file systems, and no more than there is: others could hold whoever touches it up for ever. */
int io_map(struct co *co, int fd, uint64_t off, uint64_t len, struct io_map **out, struct err *err) ATTR_MUST_USE;
/* The same of new memory, zeroed, that can't change its size; its descriptor is the caller's to close. */
int io_map_new(struct co *co, uint64_t len, struct io_map **out, int *fd, struct err *err) ATTR_MUST_USE;
uint8_t *io_map_bytes(const struct io_map *m);
uint64_t io_map_len(const struct io_map *m);
/* Whether some of it was taken away by its owner: then all of it reads zeros, and what is written is lost. */
bool io_map_broken(const struct io_map *m);
unsigned io_map_breaks(void); /* how often that has happened in this process: asked before each mapping is */
void io_unmap(struct co *co, struct io_map *m); /* NULL is fine */

#endif
