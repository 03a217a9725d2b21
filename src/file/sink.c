/* SPDX-License-Identifier: MIT */
/* A stream as a node: see the header. */
#include "file/sink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct sink {
	struct node node; /* first */
	struct io_stream *stream;
	uint64_t at;
};

static struct sink *sink_of(struct node *n) { return container_of(n, struct sink, node); }

static int sink_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct sink *s = sink_of(n);

	(void)flags;
	if (off != s->at)
		return -ESPIPE;
	s->at += from.len;
	return io_stream_write(co, s->stream, from);
}

static int sink_read(
	struct co *co ATTR_UNUSED, struct node *n ATTR_UNUSED, uint64_t off ATTR_UNUSED, struct iov to ATTR_UNUSED)
{
	return -ESPIPE;
}

static int sink_flush(struct co *co ATTR_UNUSED, struct node *n ATTR_UNUSED) { return 0; }

static int sink_close(struct co *co ATTR_UNUSED, struct node *n)
{
	struct sink *s = sink_of(n);

	io_stream_free(s->stream);
	node_fini(n);
	free(s);
	return 0;
}

static const struct node_ops sink_ops = {
	.name = "stream",
	.close = sink_close,
	.flush = sink_flush,
	.read = sink_read,
	.write = sink_write,
};

int sink_open(struct co *co, struct io_stream *stream, const char *name, struct node **out)
{
	struct sink *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	s->node = (struct node){.ops = &sink_ops, .size = INT64_MAX, .align = 1, .mem_align = 1, .cluster = 1};
	snprintf(s->node.name, sizeof(s->node.name), "%s", name);
	ret = node_init(&s->node, co_sched_of(co));
	if (ret < 0) {
		free(s);
		return ret;
	}
	s->stream = stream;
	*out = &s->node;
	return 0;
}
