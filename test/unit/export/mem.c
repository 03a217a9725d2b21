/* SPDX-License-Identifier: MIT */
/* A storage node in memory; see mem.h. */
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

static struct mem *mem_of(struct node *n) { return container_of(n, struct mem, node); }

static void mem_enter(struct co *co, struct mem *m)
{
	m->in_flight++;
	m->most_in_flight = MAX(m->in_flight, m->most_in_flight);
	while (m->hold)
		co_queue_wait(co, &m->held);
}

static int mem_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	struct mem *m = mem_of(n);

	m->reads++;
	mem_enter(co, m);
	if (m->fail_reads == 0)
		iov_copy_in(to, m->data + off, to.len);
	m->in_flight--;
	return m->fail_reads;
}

static int mem_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct mem *m = mem_of(n);

	m->writes++;
	m->fua_writes += (flags & NODE_FUA) != 0;
	mem_enter(co, m);
	if (m->fail_writes == 0)
		iov_copy_out(from, m->data + off, from.len);
	m->in_flight--;
	return m->fail_writes;
}

static int mem_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct mem *m = mem_of(n);

	co_yield(co);
	m->zeroes++;
	m->last_zero_flags = flags;
	if (m->no_fast_zero)
		return -ENOTSUP;
	memset(m->data + off, 0, len);
	return 0;
}

static int mem_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	mem_of(n)->discards++;
	co_yield(co);
	memset(mem_of(n)->data + off, 0, len);
	return 0;
}

static int mem_flush(struct co *co, struct node *n)
{
	mem_of(n)->flushes++;
	co_yield(co);
	return mem_of(n)->fail_flushes;
}

/* Pages that hold nothing but zeros are holes. */
static int mem_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	const uint8_t *data = mem_of(n)->data;
	uint64_t end = MIN(at.off + len, n->size), page = align_down(at.off, 4096);
	bool zero = mem_is_zero(data + page, MIN((uint64_t)4096, n->size - page));

	(void)co;
	do
		page += 4096;
	while (page < end && mem_is_zero(data + page, MIN((uint64_t)4096, n->size - page)) == zero);
	*out = (struct node_extent){
		.kind = zero ? NODE_ZERO : NODE_DATA,
		.in_place = true,
		.has_host = true,
		.host = {at.off},
		.len = MIN(page, end) - at.off,
	};
	return 0;
}

static int mem_close(struct co *co, struct node *n)
{
	struct mem *m = mem_of(n);

	(void)co;
	node_fini(n);
	free(m->data);
	free(m);
	return 0;
}

static const struct node_ops mem_ops = {
	.name = "mem",
	.read = mem_read,
	.write = mem_write,
	.zero = mem_zero,
	.discard = mem_discard,
	.flush = mem_flush,
	.map = mem_map,
	.close = mem_close,
};

struct mem *mem_new(struct co *co, uint64_t size)
{
	struct mem *m = calloc(1, sizeof(*m));

	m->data = calloc(1, size);
	m->node.ops = &mem_ops;
	m->node.size = size;
	m->node.align = m->node.mem_align = m->node.cluster = 1;
	m->node.grows_zeroed = true;
	co_queue_init(&m->held);
	if (node_init(&m->node, co_sched_of(co)) == 0)
		return m;
	free(m->data);
	free(m);
	return NULL;
}

void mem_release(struct mem *m)
{
	m->hold = false;
	co_queue_wake_all(&m->held);
}
