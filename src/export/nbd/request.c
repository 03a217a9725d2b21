/* SPDX-License-Identifier: MIT */
/* The transmission phase: what each command does to the node ("Request types"). Permission was checked before. */
#include "export/nbd/conn.h"

#include <errno.h>

#include "base/math.h"
#include "base/mutant.h"

#define NBD_CACHE_PIECE (UINT64_C(1) << 20)
#define NBD_HOLE_PROBE (64u << 10) /* reads from this length on are worth the question whether they begin with a hole */

static struct node *job_node(const struct nbd_job *job) { return job->conn->disk->node; }

static bool job_durable(const struct nbd_job *job)
{
	bool asked = (job->req.flags & NBD_CMD_FLAG_FUA) && (!MUTANT(64) || job->req.type == NBD_CMD_WRITE);

	return asked || job->conn->disk->writethrough;
}

/*
 * How much of the range, from its start, may be answered as a hole chunk. Only formats are asked: their mapping is in
 * memory, where a file's would be a system call.
 */
static uint32_t hole_len(struct co *co, const struct nbd_job *job)
{
	const struct nbd_request *req = &job->req;
	struct node *n = export_disk_image(job->conn->disk);
	struct node_status st;

	if (!job->conn->terms.structured || (req->flags & NBD_CMD_FLAG_DF) || req->len < NBD_HOLE_PROBE ||
		n->cluster <= 1)
		return 0;
	if (node_status(co, n, req->offset, req->len, true, &st) < 0 || !st.zero)
		return 0;
	return (uint32_t)MIN(st.len, req->len);
}

static enum nbd_error run_read(struct co *co, struct nbd_job *job)
{
	job->hole = hole_len(co, job);

	uint32_t left = (uint32_t)job->req.len - job->hole;

	if (left == 0)
		return NBD_SUCCESS;
	int r = nbd_pool_get(co, &job->conn->pool, left, &job->buffer);

	if (r == 0)
		r = node_read(co, job_node(job), job->req.offset + job->hole, IOV_BUF(job->buffer.data, left));
	return nbd_error_of(r);
}

static enum nbd_error run_write(struct co *co, struct nbd_job *job)
{
	unsigned flags = job_durable(job) ? NODE_FUA : 0;

	if (job->req.len == 0)
		return NBD_SUCCESS;
	return nbd_error_of(
		node_write(co, job_node(job), job->req.offset, IOV_BUF(job->buffer.data, job->req.len), flags));
}

static enum nbd_error run_flush(struct co *co, struct nbd_job *job)
{
	if (MUTANT(63) && !job->conn->wrote)
		return NBD_SUCCESS;
	job->conn->wrote = false;
	return nbd_error_of(node_flush(co, job_node(job)));
}

/* A trim is a hint: where the node can't take it, it is done. */
static enum nbd_error run_trim(struct co *co, struct nbd_job *job)
{
	if (job->conn->disk->no_discard || job->req.len == 0)
		return NBD_SUCCESS;
	int r = node_discard(co, job_node(job), job->req.offset, job->req.len);

	if (r == -EOPNOTSUPP)
		return NBD_SUCCESS;
	if (r == 0 && job_durable(job))
		r = node_flush(co, job_node(job));
	return nbd_error_of(r);
}

static enum nbd_error run_write_zeroes(struct co *co, struct nbd_job *job)
{
	bool keep = (job->req.flags & NBD_CMD_FLAG_NO_HOLE) || job->conn->disk->no_discard;
	bool fast = job->req.flags & NBD_CMD_FLAG_FAST_ZERO;
	unsigned flags =
		(job_durable(job) ? NODE_FUA : 0) | (keep ? 0 : NODE_MAY_UNMAP) | (fast ? NODE_NO_FALLBACK : 0);

	if (job->req.len == 0)
		return NBD_SUCCESS;
	int r = node_zero(co, job_node(job), job->req.offset, job->req.len, flags);

	return r == -EOPNOTSUPP && fast ? NBD_ENOTSUP : nbd_error_of(r);
}

/* Brings the range into the host's cache by reading it and forgetting what it read. */
static enum nbd_error run_cache(struct co *co, struct nbd_job *job)
{
	uint64_t piece = MIN(job->req.len, NBD_CACHE_PIECE);
	int r = nbd_pool_get(co, &job->conn->pool, piece, &job->buffer);

	for (uint64_t done = 0; r == 0 && done < job->req.len && !job->conn->stopping; done += piece) {
		uint64_t n = MIN(piece, job->req.len - done);

		r = node_read(co, job_node(job), job->req.offset + done, IOV_BUF(job->buffer.data, n));
	}
	return nbd_error_of(r);
}

static enum nbd_error (*const run[])(struct co *co, struct nbd_job *job) = {
	[NBD_CMD_READ] = run_read,
	[NBD_CMD_WRITE] = run_write,
	[NBD_CMD_FLUSH] = run_flush,
	[NBD_CMD_TRIM] = run_trim,
	[NBD_CMD_CACHE] = run_cache,
	[NBD_CMD_WRITE_ZEROES] = run_write_zeroes,
	[NBD_CMD_BLOCK_STATUS] = nbd_block_status,
};

static void job_count(struct co *co, const struct nbd_job *job)
{
	static const enum export_op ops[] = {
		[NBD_CMD_READ] = EXPORT_READ,
		[NBD_CMD_WRITE] = EXPORT_WRITE,
		[NBD_CMD_DISC] = EXPORT_OTHER,
		[NBD_CMD_FLUSH] = EXPORT_FLUSH,
		[NBD_CMD_TRIM] = EXPORT_DISCARD,
		[NBD_CMD_CACHE] = EXPORT_OTHER,
		[NBD_CMD_WRITE_ZEROES] = EXPORT_ZERO,
		[NBD_CMD_BLOCK_STATUS] = EXPORT_OTHER,
	};
	unsigned type = job->req.type;
	enum export_op op = type < ARRAY_ENTRIES(ops) ? ops[type] : EXPORT_OTHER;
	uint64_t bytes = op == EXPORT_FLUSH || op == EXPORT_OTHER ? 0 : job->req.len; /* else it may be anything */

	export_stats_add(
		&job->conn->server->export.stats, op, bytes, co_now(co) - job->begun_ns, job->error == NBD_SUCCESS);
}

static bool replies_too_early(const struct nbd_job *job)
{
	return (MUTANT(61) && job->req.type == NBD_CMD_FLUSH) ||
		(MUTANT(62) && job->req.type == NBD_CMD_WRITE && job->error == NBD_SUCCESS);
}

/* A deliberate bug: the reply first, then the work. */
static void request_run_late(struct co *co, struct nbd_job *job)
{
	struct nbd_job late = *job;

	job->buffer.data = NULL;
	nbd_reply(co, job);
	(void)run[late.req.type](co, &late);
	nbd_pool_put(&late.conn->pool, &late.buffer);
}

void nbd_request_run(struct co *co, struct nbd_job *job)
{
	job->conn->wrote |= job->req.type != NBD_CMD_READ && job->req.type != NBD_CMD_FLUSH;
	if (replies_too_early(job)) {
		request_run_late(co, job);
		return;
	}
	if (job->error == NBD_SUCCESS)
		job->error = run[job->req.type](co, job);
	/* What was written isn't needed any more, and the next write may be waiting for the space. */
	if (job->req.type == NBD_CMD_WRITE || job->req.type == NBD_CMD_CACHE || job->error != NBD_SUCCESS)
		nbd_pool_put(&job->conn->pool, &job->buffer);
	job_count(co, job);
	nbd_reply(co, job);
}
