/* SPDX-License-Identifier: MIT */
/*
 * Between io/ and what does the work: an operation, and the few functions of a backend. io/file.c and io/sock.c build
 * operations and deal with short transfers; uring.c, threads.c and the simulator carry them out, once each, and may
 * return less than asked, -EINTR or -EAGAIN.
 */
#ifndef CORRAL_IO_BACKEND_H
#define CORRAL_IO_BACKEND_H

#include <sys/socket.h>

#include "base/list.h"
#include "io/io.h"

enum io_code {
	IO_OP_OPEN,   /* open, err -> descriptor (the backend's own numbering), info filled */
	IO_OP_REOPEN, /* fd of a file that was opened so before, open, err -> the same, info filled */
	IO_OP_STAT,   /* fd -> size, device, inode and regular of info filled */
	IO_OP_CLOSE,  /* fd; name: of a socket, whose path is removed if it is still the one that listen made */
	/* Offset UINT64_MAX: where the descriptor stands; it moves on. */
	IO_OP_READ,  /* fd, v, n, offset, flags: IO_READ_CACHED -> bytes, 0 at end of file */
	IO_OP_WRITE, /* fd, v, n, offset, flags -> bytes */
	IO_OP_SYNC,
	IO_OP_DROP, /* fd: what the page cache has of the file, and needn't write, goes; a hint, which can't fail */
	IO_OP_FALLOCATE, /* fd, offset, len, flags: IO_FALLOC_* */
	IO_OP_COPY,      /* fd, offset, len, from_fd, from_offset -> bytes; a simulated host can't */
	IO_OP_TRUNCATE,  /* fd, offset = new size */
	IO_OP_SEEK,      /* fd, offset, flags: 0 data, 1 hole -> offset, -ENXIO */
	IO_OP_LOCK,      /* fd, offset, flags: IO_LOCK_* */
	IO_OP_LISTEN,    /* address, flags: IO_LISTEN_PRIVATE, err -> descriptor, name filled */
	IO_OP_CONNECT,   /* address, err -> descriptor, name filled */
	IO_OP_INHERIT,   /* fd of a listener, err -> the same, name filled */
	IO_OP_ACCEPT,    /* fd -> descriptor, name filled */
	IO_OP_RECV,      /* fd, v, n -> bytes */
	IO_OP_SEND,      /* fd, v, n -> bytes */
	IO_OP_POLL,      /* fd, flags: wait until it is readable, IO_POLL_WRITE: writable; -ECANCELED after shutdown */

	/* What is shared with another process (io/share.h). The simulator has none of it: -ENOTSUP. */
	IO_OP_EVENT_WAIT, /* fd: wait for a signal and take it; -ECANCELED after shutdown, -EAGAIN: poll, then again */
	IO_OP_EVENT_SIGNAL, /* fd, flags: IO_SIGNAL_AWAITED; without it, it may still be on its way when it completes */
	IO_OP_ADOPT,  /* fd, flags: IO_ADOPT_* -> the descriptor, or another one in its place; event: 1 for a pipe */
	IO_OP_MEMORY, /* len -> the descriptor of new memory */
	IO_OP_MAP,    /* fd, offset, len, map, err */
	IO_OP_UNMAP,  /* map */
};

enum { IO_POLL_WRITE = 1 << 0 };
enum { IO_READ_CACHED = 1 << 0 }; /* the file isn't O_DIRECT: what is read may be in memory */
enum { IO_FALLOC_ALLOCATE, IO_FALLOC_ZERO, IO_FALLOC_PUNCH };
enum { IO_LOCK_SHARED, IO_LOCK_RELEASE, IO_LOCK_TEST, IO_LOCK_RELEASE_ALL };
enum { IO_LISTEN_PRIVATE = 1 << 0 }; /* beside SOCK_NONBLOCK */
enum { IO_SIGNAL_AWAITED = 1 << 0 };
enum { IO_ADOPT_WAIT, IO_ADOPT_SIGNAL }; /* for which of both the descriptor is meant */

enum { IO_VECTOR = 64 }; /* the most elements of one operation */

/* Whether it may wait for ever, on a descriptor that isn't a socket, until a shutdown. */
#define IO_OP_IS_WAIT(op) ((op)->code == IO_OP_POLL || (op)->code == IO_OP_EVENT_WAIT)

struct io_name { /* of a socket */
	char text[160];
	uint64_t device, inode; /* of the path that a unix listener made; else 0 */
};

struct io_op {
	enum io_code code;
	int fd;
	unsigned flags;
	uint64_t offset, len;
	int from_fd;
	uint64_t from_offset;
	const struct iovec *v;
	unsigned n;
	const struct io_open *open;
	struct io_file_info *info;
	const char *address;
	struct io_name *name;
	struct err *err;    /* may be NULL; the backend explains a failed open, listen, connect or map in it */
	void *control;      /* of RECV and SEND: ancillary data, or NULL */
	size_t control_len; /* RECV: the room, then what came */
	bool control_cut;   /* RECV: more came than there was room for */
	struct io_map *map;

	int64_t result;    /* set by the backend: >= 0 or a negative errno */
	struct co *co;     /* who waits */
	struct list link;  /* the backend's, as is what follows */
	struct msghdr msg; /* the kernel reads it after submit returned, as it does the next */
	uint64_t event;
};

struct io {
	struct co_host host; /* first: a scheduler's host is its engine */
	const struct io_ops *ops;
	struct co_sched *sched;
	int signal_fd; /* -1 until somebody waits for signals */
	bool signals_ended;
	bool keeps_files;
	struct list kept_files; /* once it keeps them */
};

struct io_ops {
	const char *name;
	/* Begins the operation; it lives until the backend sets result and calls io_complete, not before submit returned. */
	void (*submit)(struct io *, struct io_op *);
	/* Ends a socket, or whoever polls another descriptor: their operations complete. */
	void (*shutdown)(struct io *, int fd);
	/* An accept or a receive that may still be waiting: it completes soon, with -ECANCELED if nothing had come. */
	void (*cancel)(struct io *, struct io_op *);
	/* Helper threads end when they have finished what they have in hand; later ones are started as they are needed. */
	void (*threads_stop)(struct io *);
	void (*threads_start)(struct io *);
	void (*free)(struct io *);
};

/* Submits and waits: the result. The one place where a coroutine parks for I/O. */
int64_t io_do(struct co *co, struct io_op *op);
/* Whether an operation that gave this result is to be repeated: at once after -EINTR, after a short sleep if it was
 * -EAGAIN, and no more when that went on for seconds. tries counts, 0 at first. */
bool io_again(struct co *co, unsigned *tries, int64_t result);
/* For backends: the operation has its result; its coroutine becomes runnable. */
void io_complete(struct io_op *op, int64_t result);

/* Closes the descriptors that were kept. */
void io_kept_files_fini(struct io *io);

int io_uring_new(struct io **out, struct err *err) ATTR_MUST_USE;
int io_threads_new(struct io **out, struct err *err) ATTR_MUST_USE;

#endif
