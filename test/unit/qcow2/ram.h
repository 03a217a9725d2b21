/* SPDX-License-Identifier: MIT */
/* A file in memory: it grows, counts what is done to it, and fails the request that it is told to. */
#ifndef TEST_QCOW2_RAM_H
#define TEST_QCOW2_RAM_H

#include "../io/engine.h"

#include <errno.h>

#include "base/endian.h"
#include "base/math.h"
#include "node/node.h"

struct ram {
	struct node node; /* first */
	uint8_t *data;
	uint8_t *durable;  /* NULL, or what was there at the last flush; as large as data */
	unsigned requests; /* reads, writes, flushes and resizes so far */
	unsigned fail_at;  /* the number of the one that fails; 0: none */
	unsigned flushes;
	unsigned writes_after_header, flushes_before_header; /* the header: a write at 0 */
	bool header_written, header_durable;
};

static inline struct ram *ram_of(struct node *n) { return container_of(n, struct ram, node); }

static inline bool ram_fails(struct node *n) { return ++ram_of(n)->requests == ram_of(n)->fail_at; }

static inline int ram_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	co_yield(co);
	if (ram_fails(n))
		return -EIO;
	iov_copy_in(to, ram_of(n)->data + off, to.len);
	return 0;
}

static inline int ram_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct ram *r = ram_of(n);

	co_yield(co);
	if (ram_fails(n))
		return -EIO;
	r->writes_after_header += r->header_written;
	if (off == 0) {
		r->header_written = true;
		r->header_durable = flags & NODE_FUA;
		r->flushes_before_header = r->flushes;
	}
	iov_copy_out(from, r->data + off, from.len);
	return 0;
}

static inline int ram_flush(struct co *co, struct node *n)
{
	co_yield(co);
	if (ram_fails(n))
		return -EIO;
	ram_of(n)->flushes++;
	if (ram_of(n)->durable)
		memcpy(ram_of(n)->durable, ram_of(n)->data, n->size);
	return 0;
}

static inline int ram_resize(struct co *co, struct node *n, uint64_t size)
{
	struct ram *r = ram_of(n);
	uint8_t *data;

	co_yield(co);
	if (ram_fails(n))
		return -EIO;
	data = realloc(r->data, MAX(size, UINT64_C(1)));
	CHECK(data != NULL);
	if (size > n->size)
		memset(data + n->size, 0, size - n->size);
	r->data = data;
	n->size = size;
	return 0;
}

static inline int ram_close(struct co *co, struct node *n)
{
	(void)co;
	node_fini(n);
	free(ram_of(n)->data);
	free(ram_of(n)->durable);
	free(ram_of(n));
	return 0;
}

static const struct node_ops ram_ops = {
	.name = "ram",
	.read = ram_read,
	.write = ram_write,
	.flush = ram_flush,
	.resize = ram_resize,
	.close = ram_close,
};

static inline struct ram *ram_new(struct co *co)
{
	struct ram *r = calloc(1, sizeof(*r));

	CHECK(r != NULL);
	r->node.ops = &ram_ops;
	r->node.align = r->node.mem_align = r->node.cluster = 1;
	r->node.grows_zeroed = true;
	CHECK_INT(node_init(&r->node, co_sched_of(co)), 0);
	return r;
}

static inline uint64_t ram_u64(const struct ram *r, uint64_t off)
{
	be64 v;

	CHECK(off + 8 <= r->node.size);
	memcpy(&v, r->data + off, 8);
	return be64_get(v);
}

static inline void ram_put_u64(struct ram *r, uint64_t off, uint64_t value)
{
	be64 v = be64_of(value);

	CHECK(off + 8 <= r->node.size);
	memcpy(r->data + off, &v, 8);
}

#endif
