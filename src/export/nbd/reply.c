/* SPDX-License-Identifier: MIT */
/*
 * Replies: their encoding, and the queue. Simple replies wherever the protocol permits them, for they are shorter;
 * structured ones for reads and block status once the client has asked for them ("Structured reply chunk message").
 * A structured reply is complete before its first byte is sent, so that its last content chunk can carry the DONE flag.
 */
#include "export/nbd/conn.h"

#include <assert.h>
#include <string.h>

#include "base/math.h"
#include "base/mutant.h"

#define NBD_BATCH_REPLIES 32
#define NBD_BATCH_BYTES (UINT32_C(1) << 20) /* then it is sent, so that the buffers come back soon */

/* ---- encoding ---- */

static void head_add(struct nbd_job *job, const void *bytes, size_t len)
{
	assert(job->head_len + len <= sizeof(job->head));
	memcpy(job->head + job->head_len, bytes, len);
	job->head_len += len;
}

static void head_add_simple(struct nbd_job *job)
{
	struct nbd_simple_reply_wire wire = {
		.magic = be32_of(NBD_SIMPLE_REPLY_MAGIC),
		.error = be32_of(job->error),
		.cookie = job->req.cookie,
	};

	head_add(job, &wire, sizeof(wire));
}

size_t nbd_chunk_head(const struct nbd_job *job, uint16_t type, bool last, uint64_t len, void *to)
{
	be16 flags = be16_of(last ? NBD_REPLY_FLAG_DONE : 0);
	struct nbd_extended_chunk_wire extended = {
		.magic = be32_of(NBD_EXTENDED_REPLY_MAGIC),
		.flags = flags,
		.type = be16_of(type),
		.cookie = job->req.cookie,
		.offset = be64_of(job->req.offset),
		.len = be64_of(len),
	};
	struct nbd_chunk_wire compact = {
		.magic = be32_of(NBD_STRUCTURED_REPLY_MAGIC),
		.flags = flags,
		.type = be16_of(type),
		.cookie = job->req.cookie,
		.len = be32_of((uint32_t)len),
	};

	if (job->conn->terms.extended)
		memcpy(to, &extended, sizeof(extended));
	else
		memcpy(to, &compact, sizeof(compact));
	return job->conn->terms.extended ? sizeof(extended) : sizeof(compact);
}

static void head_add_chunk(struct nbd_job *job, uint16_t type, bool last, uint64_t len)
{
	assert(job->head_len + NBD_CHUNK_BYTES <= sizeof(job->head));
	job->head_len += nbd_chunk_head(job, type, last, len, job->head + job->head_len);
}

static void encode_error_chunk(struct nbd_job *job)
{
	struct nbd_error_wire wire = {.error = be32_of(job->error)};

	head_add_chunk(job, NBD_REPLY_TYPE_ERROR, true, sizeof(wire));
	head_add(job, &wire, sizeof(wire));
}

static void encode_hole(struct nbd_job *job)
{
	struct nbd_hole_wire wire = {.offset = be64_of(job->req.offset), .len = be32_of(job->hole)};

	head_add_chunk(job, NBD_REPLY_TYPE_OFFSET_HOLE, job->hole == job->req.len, sizeof(wire));
	head_add(job, &wire, sizeof(wire));
}

static void encode_data(struct nbd_job *job)
{
	struct nbd_data_wire wire = {.offset = be64_of(job->req.offset + job->hole)};

	job->payload_len = job->req.len - job->hole;
	head_add_chunk(job, NBD_REPLY_TYPE_OFFSET_DATA, true, sizeof(wire) + job->payload_len);
	head_add(job, &wire, sizeof(wire));
}

static void encode_read(struct nbd_job *job)
{
	job->payload_len = 0;
	if (job->hole > 0)
		encode_hole(job);
	if (job->hole < job->req.len)
		encode_data(job);
	if (job->req.len == 0)
		head_add_chunk(job, NBD_REPLY_TYPE_NONE, true, 0);
}

/* With extended headers all replies are of chunks. */
static void encode(struct nbd_job *job)
{
	bool read = job->req.type == NBD_CMD_READ, status = job->req.type == NBD_CMD_BLOCK_STATUS;
	const struct nbd_terms *terms = &job->conn->terms;

	job->head_len = 0;
	if (!terms->extended && !(terms->structured && (read || status))) {
		head_add_simple(job);
		job->payload_len = read && job->error == NBD_SUCCESS ? job->req.len : 0;
	} else if (job->error != NBD_SUCCESS && !(MUTANT(130) && !read && !status)) {
		job->payload_len = 0;
		encode_error_chunk(job);
	} else if (read) {
		encode_read(job);
	} else if (!status) {
		job->payload_len = 0;
		head_add_chunk(job, NBD_REPLY_TYPE_NONE, true, 0);
	}
}

/* ---- the queue ---- */

struct batch {
	struct list jobs;
	struct iovec v[2 * NBD_BATCH_REPLIES];
	unsigned n;
	size_t bytes;
};

static void batch_add_bytes(struct batch *b, void *bytes, size_t len)
{
	if (len > 0)
		b->v[b->n++] = (struct iovec){.iov_base = bytes, .iov_len = len};
	b->bytes += len;
}

static void batch_take(struct nbd_conn *c, struct batch *b)
{
	list_init(&b->jobs);
	b->n = 0;
	b->bytes = 0;
	for (unsigned i = 0; i < NBD_BATCH_REPLIES && b->bytes < NBD_BATCH_BYTES && !list_empty(&c->replies); i++) {
		struct nbd_job *job = list_first(&c->replies, struct nbd_job, link);

		list_remove(&job->link);
		list_push(&b->jobs, &job->link);
		batch_add_bytes(b, job->head, job->head_len);
		batch_add_bytes(b, job->buffer.data, job->payload_len);
	}
}

static void batch_release(struct batch *b)
{
	list_for_each_safe(it, &b->jobs) {
		list_remove(it);
		nbd_job_put(list_entry(it, struct nbd_job, link));
	}
}

static void batch_send(struct co *co, struct nbd_conn *c)
{
	struct batch b;

	batch_take(c, &b);
	nbd_conn_watch(c, co_now(co) + c->channel.patience_ns);
	if (!c->broken && nbd_channel_send(co, &c->channel, iov_of(b.v, b.n)) < 0)
		nbd_conn_shutdown(c);
	batch_release(&b);
}

void nbd_reply(struct co *co, struct nbd_job *job)
{
	struct nbd_conn *c = job->conn;

	encode(job);
	list_push(&c->replies, &job->link);
	if (c->sending)
		return;
	c->sending = true;
	if (c->in_flight > 1)
		co_yield(co); /* whoever else is ready now has his reply sent along with ours */
	while (!list_empty(&c->replies))
		batch_send(co, c);
	c->sending = false;
}
