/* SPDX-License-Identifier: MIT */
/* Standard input and output: bytes in order, from or to whatever they are. */
#include "io/backend.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define STREAM_HERE UINT64_MAX /* the offset that means: where the descriptor stands */

struct io_stream {
	int fd;
};

struct io_stream *io_stream_standard(enum io_standard which)
{
	struct io_stream *s = malloc(sizeof(*s));

	if (s)
		s->fd = which == IO_STDIN ? STDIN_FILENO : STDOUT_FILENO;
	return s;
}

void io_stream_free(struct io_stream *s) { free(s); }

static int64_t transfer(struct co *co, struct io_stream *s, enum io_code code, struct iov it)
{
	struct iovec v[IO_VECTOR];
	unsigned tries = 0;
	size_t bytes;
	unsigned n = iov_export(it, v, IO_VECTOR, &bytes);
	int64_t r;

	do {
		struct io_op op = {.code = code, .fd = s->fd, .offset = STREAM_HERE, .v = v, .n = n};

		r = io_do(co, &op);
	} while (r == -EAGAIN ? (co_sleep(co, 1000000), true) : io_again(co, &tries, r));
	return r;
}

ssize_t io_stream_read(struct co *co, struct io_stream *s, void *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		int64_t r = transfer(co, s, IO_OP_READ, IOV_BUF((char *)buf + got, len - got));

		if (r < 0)
			return r;
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

int io_stream_write(struct co *co, struct io_stream *s, struct iov from)
{
	while (from.len > 0) {
		int64_t r = transfer(co, s, IO_OP_WRITE, from);

		if (r < 0)
			return (int)r;
		if (r == 0)
			return -EIO;
		from = iov_slice(from, (size_t)r, from.len - (size_t)r);
	}
	return 0;
}
