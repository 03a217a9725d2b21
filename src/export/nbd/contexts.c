/* SPDX-License-Identifier: MIT */
/* Metadata contexts: base:allocation, the only one so far, from what the node knows ("Metadata querying"). */
#include "export/nbd/conn.h"

#include "base/math.h"

/* Questions to the node for one request. The rest of a long fragmented range is for the client's next request, so that
 * nobody makes everybody else wait with one of 4 GiB. */
#define STATUS_STEPS 4096

struct status_walk {
	struct nbd_descriptor_wire *list;
	uint32_t n;
	uint32_t steps;
	uint32_t len, flags; /* the run that is still growing */
};

/*
 * "base:allocation": a hole is what may need space when it is written. A zero cluster of a format that kept its space
 * needs none; in storage a run of zeros always is a hole, wherever it lies.
 */
static uint32_t status_flags(const struct node_status *st)
{
	bool keeps_space = st->has_host && st->holder && st->holder->cluster > 1;

	if (!st->zero)
		return 0;
	return keeps_space ? NBD_STATE_ZERO : NBD_STATE_ZERO | NBD_STATE_HOLE;
}

static void walk_close_run(struct status_walk *w)
{
	if (w->len > 0)
		w->list[w->n++] = (struct nbd_descriptor_wire){.len = be32_of(w->len), .status = be32_of(w->flags)};
	w->len = 0;
}

static void walk_add(struct status_walk *w, uint32_t len, uint32_t flags)
{
	if (flags != w->flags)
		walk_close_run(w);
	w->flags = flags;
	w->len += len;
}

/* Adds what lies at off; *len is how much of it. */
static int walk_step(struct co *co, struct node *n, struct status_walk *w, uint64_t off, uint32_t left, uint32_t *len)
{
	struct node_status st;
	int r = node_status(co, n, off, left, true, &st);

	if (r < 0)
		return r;
	*len = MIN(st.len, (uint64_t)left);
	walk_add(w, *len, status_flags(&st));
	return 0;
}

static int walk(struct co *co, struct nbd_job *job, struct status_walk *w)
{
	const struct nbd_request *req = &job->req;
	uint32_t most = req->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : NBD_DESCRIPTORS;

	uint32_t done = 0, len;

	while (done < req->len && w->n < most && w->steps++ < STATUS_STEPS) {
		int r = walk_step(co, job->conn->disk->node, w, req->offset + done, req->len - done, &len);

		if (r < 0)
			return r;
		done += len;
	}
	if (w->n < most)
		walk_close_run(w);
	return 0;
}

enum nbd_error nbd_block_status(struct co *co, struct nbd_job *job)
{
	int r = nbd_pool_get(co, &job->conn->pool, NBD_DESCRIPTORS * sizeof(struct nbd_descriptor_wire), &job->buffer);

	if (r < 0)
		return nbd_error_of(r);

	struct status_walk w = {.list = job->buffer.data};

	r = walk(co, job, &w);
	job->descriptors = w.n;
	return nbd_error_of(r);
}
