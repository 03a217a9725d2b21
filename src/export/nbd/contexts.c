/* SPDX-License-Identifier: MIT */
/*
 * Metadata contexts ("Metadata querying"): base:allocation and qemu:allocation-depth from what the node knows, and those
 * that a disk has of its own. A reply holds a chunk for each that was asked for, laid out one after the other in the job's
 * buffer.
 */
#include "export/nbd/conn.h"

#include <string.h>

#include "base/math.h"

/* Questions to the node for one request. The rest of a long fragmented range is for the client's next request, so that
 * nobody makes everybody else wait with one of 4 GiB. */
#define STATUS_STEPS 4096
#define STATUS_TURN 128         /* then others have their turn: what is cached is answered without waiting */
#define STATUS_DESCRIPTORS 1000 /* of one context in one reply */

enum { CONTEXT_ALLOCATION, CONTEXT_DEPTH, CONTEXT_OWN }; /* the disk's own come last */

const char *nbd_context_name(const struct export_disk *disk, unsigned number)
{
	if (number == CONTEXT_ALLOCATION)
		return "base:allocation";
	if (number == CONTEXT_DEPTH)
		return "qemu:allocation-depth";
	return number - CONTEXT_OWN < disk->contexts_n ? disk->contexts[number - CONTEXT_OWN]->name : NULL;
}

/* ---- what holds at one place ---- */

/*
 * "base:allocation": a hole is what may need space when it is written. A zero cluster of a format that kept its space
 * needs none; in storage a run of zeros always is a hole, wherever it lies.
 */
static uint32_t allocation_flags(const struct node_status *st)
{
	bool keeps_space = st->has_host && st->holder && st->holder->cluster > 1;

	if (!st->zero)
		return 0;
	return keeps_space ? NBD_STATE_ZERO : NBD_STATE_ZERO | NBD_STATE_HOLE;
}

static int status_at(struct co *co, const struct export_disk *disk, unsigned number, uint64_t off, uint64_t len,
	uint32_t *flags, uint64_t *run)
{
	struct node_status st;

	if (number >= CONTEXT_OWN) {
		const struct export_context *own = disk->contexts[number - CONTEXT_OWN];

		return own->status(co, own, off, len, flags, run);
	}
	int r = node_status(co, export_disk_image(disk), off, len, true, &st);

	if (r < 0)
		return r;
	*run = MIN(st.len, len);
	*flags = number == CONTEXT_ALLOCATION ? allocation_flags(&st) : st.allocated ? st.depth + 1 : 0;
	return 0;
}

/* ---- descriptors ---- */

struct walk {
	uint8_t *at; /* where the next descriptor goes */
	bool extended;
	uint32_t n;
	uint32_t steps;
	uint64_t len; /* of the run that is still growing */
	uint32_t flags;
};

static void descriptor_add(struct walk *w)
{
	struct nbd_descriptor_ext_wire wide = {.len = be64_of(w->len), .status = be64_of(w->flags)};
	struct nbd_descriptor_wire narrow = {.len = be32_of((uint32_t)w->len), .status = be32_of(w->flags)};
	size_t bytes = w->extended ? sizeof(wide) : sizeof(narrow);

	memcpy(w->at, w->extended ? (void *)&wide : (void *)&narrow, bytes);
	w->at += bytes;
	w->n++;
}

static void walk_close_run(struct walk *w)
{
	if (w->len > 0)
		descriptor_add(w);
	w->len = 0;
}

static int walk(struct co *co, const struct nbd_job *job, unsigned number, struct walk *w)
{
	const struct nbd_request *req = &job->req;
	uint32_t most = req->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : STATUS_DESCRIPTORS;

	for (uint64_t done = 0, run; done < req->len && w->n < most && w->steps++ < STATUS_STEPS; done += run) {
		uint32_t flags;
		int r = status_at(co, job->conn->disk, number, req->offset + done, req->len - done, &flags, &run);

		if (r < 0)
			return r;
		if (w->steps % STATUS_TURN == 0)
			co_yield(co);
		if (flags != w->flags)
			walk_close_run(w);
		w->flags = flags;
		w->len += run;
	}
	if (w->n < most)
		walk_close_run(w);
	return 0;
}

/* ---- the reply ---- */

/* The longest chunk. */
#define STATUS_CHUNK_BYTES                                                                                             \
	(NBD_CHUNK_BYTES + sizeof(struct nbd_status_ext_wire) +                                                        \
		STATUS_DESCRIPTORS * sizeof(struct nbd_descriptor_ext_wire))

/* What stands before the descriptors; how long it is. */
static size_t chunk_begin(const struct nbd_job *job, unsigned number, bool last, const struct walk *w, void *to)
{
	struct nbd_status_ext_wire wide = {.context = be32_of(number + 1), .count = be32_of(w->n)};
	size_t bytes = w->extended ? sizeof(wide) : sizeof(wide.context);
	size_t unit = w->extended ? sizeof(struct nbd_descriptor_ext_wire) : sizeof(struct nbd_descriptor_wire);
	uint16_t type = w->extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
	size_t head = nbd_chunk_head(job, type, last, bytes + w->n * unit, to);

	memcpy((char *)to + head, &wide, bytes);
	return head + bytes;
}

static int chunk_add(struct co *co, struct nbd_job *job, unsigned number, bool last)
{
	uint8_t *to = (uint8_t *)job->buffer.data + job->payload_len;
	struct walk w = {.extended = job->conn->terms.extended};
	int r;

	w.at = to + chunk_begin(job, number, last, &w, to);
	r = walk(co, job, number, &w);
	if (r < 0)
		return r;
	(void)chunk_begin(job, number, last, &w, to); /* now that their number is known */
	job->payload_len += (size_t)(w.at - to);
	return 0;
}

enum nbd_error nbd_block_status(struct co *co, struct nbd_job *job)
{
	uint64_t left = job->req.contexts;
	size_t bytes = (size_t)__builtin_popcountll(left) * STATUS_CHUNK_BYTES;
	int r = nbd_pool_get(co, &job->conn->pool, bytes, &job->buffer);

	job->payload_len = 0;
	while (r == 0 && left != 0) {
		unsigned number = (unsigned)__builtin_ctzll(left);

		left &= left - 1;
		r = chunk_add(co, job, number, left == 0);
	}
	return nbd_error_of(r);
}
