/* SPDX-License-Identifier: MIT */
/*
 * The only door to the world: an I/O engine, its files, sockets and signals.
 *
 * An engine belongs to one thread and is the host of one scheduler (co/co.h). Which engine (io_uring, threads, the
 * simulator) is chosen when it is made; nothing above knows which. What may yield takes the coroutine first; EINTR,
 * EAGAIN and short transfers are dealt with here, above the backend, for every backend alike.
 */
#ifndef CORRAL_IO_IO_H
#define CORRAL_IO_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/iovec.h"
#include "co/co.h"

struct io; /* of the thread that made it, and not of a child after fork */
struct io_file;
struct io_sock;

enum io_engine {
	IO_AUTO, /* io_uring, or threads where the kernel or a sandbox forbids it */
	IO_URING,
	IO_THREADS,
};

/* engine: as asked; IO_AUTO falls back silently, IO_URING fails with the reason. limits may be NULL. */
int io_new(struct io **out, enum io_engine engine, const struct co_limits *limits, struct err *err) ATTR_MUST_USE;
void io_free(struct io *io); /* every file and socket is closed, no coroutine alive; NULL is fine */
struct co_sched *io_sched(struct io *io);
struct io *io_of(struct co *co);                 /* the engine that hosts this coroutine */
const char *io_engine_name(const struct io *io); /* "uring", "threads" */

/* ---- files ---- */

enum {
	IO_OPEN_WRITE = 1 << 0,  /* else read only */
	IO_OPEN_CREATE = 1 << 1, /* mode 0644 less umask; an existing file is truncated to 0 bytes */
	IO_OPEN_DIRECT = 1 << 2, /* O_DIRECT */
};

struct io_open {
	const char *path;
	unsigned flags;
	/* NULL, or the directory that the file must lie under after every link is followed: path is then relative to it, and
	 * -EXDEV is returned for one that escapes (openat2 RESOLVE_BENEATH). */
	const char *beneath;
};

struct io_file_info {
	uint64_t size;          /* when it was opened, bytes */
	uint64_t allocated;     /* space in use on the host then, bytes; 0 for a block device */
	uint64_t device, inode; /* identity; for a block device its own device number and 0 */
	uint32_t align;         /* offsets and lengths of requests must be multiples: 1 unless O_DIRECT */
	uint32_t mem_align;     /* addresses of buffers must be multiples: 1 unless O_DIRECT */
	bool regular; /* a regular file: may grow, reads zeros where it was never written; else a block device */
	bool writable;
};

/* Regular files and block devices only; anything else is -EINVAL, explained. */
int io_file_open(struct co *co, const struct io_open *how, struct io_file **out, struct err *err) ATTR_MUST_USE;
void io_file_close(struct co *co, struct io_file *f); /* NULL is fine */
/*
 * From now on the descriptor of a file that is closed stays, without its locks, and whoever opens the file again in the
 * same way gets it back: for a process that will be able to open nothing any more. Each is kept once.
 */
void io_files_keep(struct io *io);
const struct io_file_info *io_file_info(const struct io_file *f);

/* Whole or not at all: 0 or a negative errno. Reading past the end gives zeros. */
int io_file_read(struct co *co, struct io_file *f, uint64_t off, struct iov to) ATTR_MUST_USE;
/* Where this, or a sync, fails, something of what was written since the last sync may be lost (docs/crash-safety.md). What
 * the page cache claims is dropped, so that whoever opens the file next reads what the storage has; here reads fail. */
enum { IO_WRITE_DSYNC = 1 << 0 };
int io_file_write(struct co *co, struct io_file *f, uint64_t off, struct iov from, unsigned flags) ATTR_MUST_USE;
int io_file_sync(struct co *co, struct io_file *f) ATTR_MUST_USE; /* fdatasync */
/* The host copies from one file to another, which may then share the space. All of it, or an error: -ENOTSUP where it can't,
 * or the other file ends before; some of it may have been copied then. */
int io_file_copy(struct co *co, struct io_file *f, uint64_t off, struct io_file *from, uint64_t from_off, uint64_t len)
	ATTR_MUST_USE;
/* -ENOTSUP where host or file system can't. zero keeps the space and grows the file as a write would, punch gives the
 * space back and never grows it; both then read zeros. */
int io_file_zero(struct co *co, struct io_file *f, uint64_t off, uint64_t len) ATTR_MUST_USE;
int io_file_punch(struct co *co, struct io_file *f, uint64_t off, uint64_t len) ATTR_MUST_USE;
int io_file_allocate(struct co *co, struct io_file *f, uint64_t off, uint64_t len) ATTR_MUST_USE; /* space, and size */
int io_file_truncate(struct co *co, struct io_file *f, uint64_t size) ATTR_MUST_USE;
int io_file_size(struct co *co, struct io_file *f, uint64_t *size) ATTR_MUST_USE;
/* What lies at off: data or a hole, and how many bytes of it (at least 1, at most len). A hint; never base data on it. */
int io_file_extent(struct co *co, struct io_file *f, uint64_t off, uint64_t len, bool *data, uint64_t *run)
	ATTR_MUST_USE;

/*
 * Open-file-description byte locks, as QEMU takes them (its block/file-posix.c): a shared lock on byte `at`, held until
 * unlock or close; and the test whether somebody else's lock there would keep us from an exclusive one.
 * 0, -EAGAIN (somebody holds it), or another error. Neither waits.
 */
int io_file_lock(struct co *co, struct io_file *f, uint64_t at) ATTR_MUST_USE;
int io_file_unlock(struct co *co, struct io_file *f, uint64_t at) ATTR_MUST_USE;
int io_file_lock_test(struct co *co, struct io_file *f, uint64_t at) ATTR_MUST_USE;

/* The directory part of path with its links followed (but not those of the last component), as a new string; as it is
 * written where it doesn't exist; NULL: no memory. "a.img" gives ".". */
char *io_dirname(const char *path);
/* The path, absolute and with every link followed, as a new string; NULL: there is no such file, or no memory. */
char *io_realpath(const char *path);

/* ---- sockets (stream) ---- */

/* address: "unix:PATH", "HOST:PORT", "[V6]:PORT" or ":PORT" (loopback). */
int io_listen(struct co *co, const char *address, struct io_sock **out, struct err *err) ATTR_MUST_USE;
/* The same, of a unix socket that nobody but our user can connect to. */
int io_listen_private(struct co *co, const char *address, struct io_sock **out, struct err *err) ATTR_MUST_USE;
int io_connect(struct co *co, const char *address, struct io_sock **out, struct err *err) ATTR_MUST_USE;
/* A listening socket that somebody else made. It is taken over in any case; closing it removes no path. */
int io_listener_adopt(struct co *co, int fd, struct io_sock **out, struct err *err) ATTR_MUST_USE;
/* The address in the form above, with the port that the kernel chose where 0 was asked. Owned by the socket. */
const char *io_sock_address(const struct io_sock *s);
/* Waits for a client. -ESHUTDOWN after io_sock_shutdown; other errors are for want of descriptors or memory: later it may be
 * different, and who has come waits. */
int io_accept(struct co *co, struct io_sock *listener, struct io_sock **out) ATTR_MUST_USE;
/* Bytes received (1 or more), 0 at the end of the stream, or a negative errno. */
ssize_t io_recv(struct co *co, struct io_sock *s, void *buf, size_t len) ATTR_MUST_USE;
int io_send(struct co *co, struct io_sock *s, struct iov from) ATTR_MUST_USE; /* all of it */
/* Ends both directions at once: whoever waits in accept, recv or send is woken. Does not yield. */
void io_sock_shutdown(struct io_sock *s);
/* Nobody waits in accept and recv any more: whoever does, or would, gets -ECANCELED, and what has come stays for who has the
 * socket next; send goes on. Does not yield. */
void io_sock_pause(struct io_sock *s);
void io_sock_resume(struct co *co, struct io_sock *s);
void io_sock_close(struct co *co, struct io_sock *s); /* removes a unix listener's path; NULL is fine */

/* ---- standard input and output ---- */

enum io_standard { IO_STDIN, IO_STDOUT };
struct io_stream;
/* Whatever it is: pipe, file, socket, terminal; it stays open when the stream is freed. NULL: no memory. */
struct io_stream *io_stream_standard(enum io_standard which);
void io_stream_free(struct io_stream *s); /* NULL is fine */
/* Bytes that were read: fewer than asked for only at the end; or a negative errno. */
ssize_t io_stream_read(struct co *co, struct io_stream *s, void *buf, size_t len) ATTR_MUST_USE;
int io_stream_write(struct co *co, struct io_stream *s, struct iov from) ATTR_MUST_USE; /* all of it */

/* ---- descriptors of a library's own ---- */

/* Another number for it, to be closed by io_fd_close; a library may close its own while somebody waits. Negative errno. */
int io_fd_dup(int fd) ATTR_MUST_USE;
/* Waits until one can be read from or written to without waiting, or has failed. */
int io_ready_wait(struct co *co, int fd, bool writable) ATTR_MUST_USE;
/* Ends both directions of a socket: whoever waits for it is woken. Does not yield. */
void io_ready_end(struct co *co, int fd);

/* ---- signals ---- */

/* Blocks the signals for the process (call before threads are made), from then on io_signal_wait returns each one's
 * number as it comes; negative errno. One waiter. io_signal_end wakes it, or whoever comes later, with -ECANCELED. */
int io_signals_take(const int *signals, unsigned n) ATTR_MUST_USE;
int io_signal_wait(struct co *co, const int *signals, unsigned n) ATTR_MUST_USE;
void io_signal_end(struct io *io);

/* ---- memory ---- */

/* For requests: aligned for any O_DIRECT file (4096). free() releases it; NULL: no memory. */
void *io_alloc(size_t bytes);

#endif
