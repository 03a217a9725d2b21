/* SPDX-License-Identifier: MIT */
/* The requests of corral io, and the memory for them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/io.h"
#include "cli/options.h"
#include "io/io.h"

#define MISALIGNED 16u

void *cli_io_buffer_new(const struct cli_io_session *s, uint64_t bytes, int pattern)
{
	char *buffer = io_alloc(bytes + MISALIGNED);

	if (buffer == NULL) {
		cli_complain("no memory for %llu bytes", (unsigned long long)bytes);
		return NULL;
	}
	buffer += s->misaligned ? MISALIGNED : 0;
	memset(buffer, pattern, bytes);
	return buffer;
}

void cli_io_buffer_free(const struct cli_io_session *s, void *buffer)
{
	if (buffer != NULL)
		free((char *)buffer - (s->misaligned ? MISALIGNED : 0));
}

static int piece_do(struct co *co, struct node *n, const struct cli_io_request *r, uint64_t done, uint64_t bytes)
{
	struct iov it = IOV_BUF((char *)r->buffer + done, bytes);
	uint64_t off = r->off + done;

	switch (r->kind) {
	case CLI_IO_READ: return node_read(co, n, off, it);
	case CLI_IO_WRITE: return node_write(co, n, off, it, r->flags);
	case CLI_IO_COMPRESSED: return node_write_compressed(co, n, off, it, 0);
	case CLI_IO_ZERO: return node_zero(co, n, off, bytes, r->flags);
	case CLI_IO_DISCARD: return node_discard(co, n, off, bytes);
	}
	return -EINVAL;
}

/* Outside of the disk is an I/O error, as it would be for a guest. */
int cli_io_request_do(struct co *co, struct node *n, const struct cli_io_request *r)
{
	uint64_t end, most = r->kind == CLI_IO_ZERO || r->kind == CLI_IO_DISCARD ? UINT64_MAX : NODE_MAX_REQUEST;
	int ret = 0;

	if (add_overflows(r->off, r->bytes, &end) || end > n->size)
		return -EIO;
	for (uint64_t done = 0; ret == 0 && done < r->bytes;) {
		uint64_t now = MIN(r->bytes - done, most);

		ret = piece_do(co, n, r, done, now);
		done += now;
	}
	return ret;
}
