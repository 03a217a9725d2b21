/* SPDX-License-Identifier: MIT */
/*
 * Copy-on-write: what is written to reserved space. A reservation is whole subclusters, and more of them than the
 * write asked for where a host cluster is replaced; what is left of it, the head and the tail, gets the content that the
 * disk has there now, as it is still mapped.
 *
 *       | head |        from        | tail |
 *       ^ res->guest                       ^ res->guest + res->len
 *
 * Head and tail that are zero anyhow are left out where the space is known to be zero. What is needed goes in one write.
 */
#include "node/impl.h"

#include <assert.h>

#include "base/math.h"

#define FILL_ELEMENTS 18u /* of one vector: head, data, tail; a write in more parts than that is copied */

struct fill {
	const struct node_reservation *res;
	uint64_t off; /* of the data */
	struct iov from;
	uint64_t head, tail; /* bytes that must be written */
};

/* Bytes past the end of the disk aren't anybody's, and zero. */
static int edge_needed(struct co *co, struct node *n, const struct fill *f, uint64_t off, uint64_t *len)
{
	bool zero = MUTANT(7) || (MUTANT(74) && n->subcluster < n->cluster);
	int err = 0;

	if (f->res->zeroed && *len > 0)
		err = node_known_zero(co, n, off, *len, &zero);
	if (zero)
		*len = 0;
	return err;
}

static int read_edges(struct co *co, struct node *n, const struct fill *f, struct iov head, struct iov tail)
{
	int err = 0;

	node_event(co, n->file, NODE_EVENT_COW_READ);
	if (head.len > 0)
		err = node_layers_read(co, n, f->off - f->head, head);
	if (err == 0 && tail.len > 0)
		err = node_layers_read(co, n, f->off + f->from.len, tail);
	return err;
}

static uint64_t host_of(const struct fill *f) { return f->res->host.off + (f->off - f->head - f->res->guest.off); }

/* Head and tail in the buffer, the data between them where it is. */
static int write_around(struct co *co, struct node *n, const struct fill *f, char *buffer)
{
	struct iovec v[FILL_ELEMENTS];
	size_t bytes;
	unsigned elements = 0;
	int err = read_edges(co, n, f, IOV_BUF(buffer, f->head), IOV_BUF(buffer + f->head, f->tail));

	if (err != 0)
		return err;
	if (f->head > 0)
		v[elements++] = (struct iovec){buffer, f->head};
	elements += iov_export(f->from, v + elements, FILL_ELEMENTS - 2, &bytes);
	assert(bytes == f->from.len);
	if (f->tail > 0)
		v[elements++] = (struct iovec){buffer + f->head, f->tail};
	node_event(co, n->file, NODE_EVENT_COW_WRITE);
	return node_data_write(co, n, host_of(f), iov_of(v, elements));
}

/* All of it in the buffer. */
static int write_copied(struct co *co, struct node *n, const struct fill *f, char *buffer)
{
	char *tail = buffer + f->head + f->from.len;
	int err = read_edges(co, n, f, IOV_BUF(buffer, f->head), IOV_BUF(tail, f->tail));

	if (err != 0)
		return err;
	iov_copy_out(f->from, buffer + f->head, f->from.len);
	node_event(co, n->file, NODE_EVENT_COW_WRITE);
	return node_data_write(co, n, host_of(f), IOV_BUF(buffer, f->head + f->from.len + f->tail));
}

/* Data that lies in a file of its own ends there where the disk ends. */
static uint64_t end_of(const struct node *n, const struct node_reservation *res)
{
	uint64_t end = res->guest.off + res->len;

	return n->data_apart ? MIN(end, n->size) : end;
}

int node_fill(struct co *co, struct node *n, const struct node_reservation *res, uint64_t off, struct iov from)
{
	struct fill f = {.res = res, .off = off, .from = from};
	bool around = from.n <= FILL_ELEMENTS - 2;
	size_t bytes;
	void *buffer;
	int err;

	f.head = off - res->guest.off;
	f.tail = end_of(n, res) - off - from.len;
	err = edge_needed(co, n, &f, res->guest.off, &f.head);
	if (err == 0)
		err = edge_needed(co, n, &f, off + from.len, &f.tail);
	if (err != 0)
		return err;
	node_event(co, n->file, NODE_EVENT_WRITE_AIO);
	if (f.head == 0 && f.tail == 0)
		return node_data_write(co, n, host_of(&f), from);

	bytes = f.head + f.tail + (around ? 0 : from.len);
	err = node_buffer_get(co, n, bytes, &buffer);
	if (err != 0)
		return err;
	err = around ? write_around(co, n, &f, buffer) : write_copied(co, n, &f, buffer);
	node_buffer_put(n, buffer, bytes);
	return err;
}
