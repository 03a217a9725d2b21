/* SPDX-License-Identifier: MIT */
/*
 * The engine as everybody sees it: which backend does the work, and the one place where a coroutine parks for it.
 */
#include "io/backend.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "io/posix.h"

static int backend_new(struct io **out, enum io_engine engine, struct err *err)
{
	switch (engine) {
	case IO_URING: return io_uring_new(out, err);
	case IO_THREADS: return io_threads_new(out, err);
	case IO_AUTO: break;
	}
	return io_uring_new(out, NULL) == 0 ? 0 : io_threads_new(out, err);
}

int io_new(struct io **out, enum io_engine engine, const struct co_limits *limits, struct err *err)
{
	struct io *io;
	int r = backend_new(&io, engine, err);

	if (r < 0)
		return r;
	io->signal_fd = -1;
	io->signals_ended = false;
	io->keeps_files = false;
	list_init(&io->kept_files);
	io->sched = co_sched_new(&io->host, limits);
	if (io->sched == NULL) {
		io->ops->free(io);
		return err_set(err, -ENOMEM, "no memory for a scheduler");
	}
	*out = io;
	return 0;
}

void io_free(struct io *io)
{
	if (io == NULL)
		return;
	co_sched_free(io->sched);
	io_kept_files_fini(io);
	if (io->signal_fd >= 0)
		io_posix_close(io->signal_fd);
	io->ops->free(io);
}

struct co_sched *io_sched(struct io *io) { return io->sched; }

struct io *io_of(struct co *co) { return container_of(co_host_of(co), struct io, host); }

const char *io_engine_name(const struct io *io) { return io->ops->name; }

int64_t io_do(struct co *co, struct io_op *op)
{
	struct io *io = io_of(co);

	assert(op->n <= IO_VECTOR);
	op->co = co;
	io->ops->submit(io, op);
	co_park(co);
	return op->result;
}

void io_complete(struct io_op *op, int64_t result)
{
	op->result = result;
	co_ready(op->co);
}

bool io_again(struct co *co, unsigned *tries, int64_t result)
{
	const uint64_t us = 1000;

	if (result == -EINTR)
		return true;
	if (result != -EAGAIN || *tries == 512)
		return false;
	co_sleep(co, (50 * us) << MIN(*tries, 8u)); /* at most 12.8 ms: six seconds in all */
	(*tries)++;
	return true;
}

int io_fd_dup(int fd) { return io_posix_dup(fd); }

int io_ready_wait(struct co *co, int fd, bool writable)
{
	int64_t r;

	do
		r = io_do(co, &(struct io_op){.code = IO_OP_POLL, .fd = fd, .flags = writable ? IO_POLL_WRITE : 0});
	while (r == -EINTR);
	return r < 0 ? (int)r : 0;
}

void io_ready_end(struct co *co, int fd)
{
	struct io *io = io_of(co);

	io->ops->shutdown(io, fd);
}

void *io_alloc(size_t bytes) { return aligned_alloc(4096, align_up(MAX(bytes, (size_t)1), 4096)); }

/* A directory that can't be resolved is handed back as it was written: opening something in it will tell why. */
char *io_dirname(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *written, *real;

	if (slash == NULL)
		return strdup(".");
	written = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (written == NULL)
		return NULL;
	real = io_posix_realpath(written);
	if (real == NULL)
		return errno == ENOMEM ? (free(written), NULL) : written;
	free(written);
	return real;
}

char *io_realpath(const char *path) { return io_posix_realpath(path); }
