/* SPDX-License-Identifier: MIT */
/* A request from when it is taken until it is given back; see device.h. */
#include "export/vhost_user/device.h"

struct vu_job *vu_job_get(struct co *co, struct vu_session *s)
{
	struct vu_job *job;

	co_sem_acquire(co, &s->idle_jobs, 1);
	job = list_first(&s->idle, struct vu_job, link);
	list_remove(&job->link);
	job->memory = NULL;
	return job;
}

void vu_job_put(struct co *co, struct vu_job *job)
{
	struct vu_session *s = job->session;
	struct vu_memory *memory = job->memory;

	list_push_front(&s->idle, &job->link); /* the one whose memory is warm goes first */
	co_sem_release(&s->idle_jobs, 1);
	vu_memory_put(co, memory);
}

/* Nothing in here yields: record, ring and log change together. */
static void give(struct vu_job *job, uint8_t status, uint32_t written)
{
	struct vu_queue *q = job->queue;
	struct vu_session *s = q->session;

	*(volatile uint8_t *)job->blk.status = status;
	if (vu_session_logs(s))
		vu_log_iov(&s->log, job->memory, job->buffers.in);
	vu_inflight_giving(&q->inflight, &q->ring, &job->chain, job->entry);
	vu_ring_give(&q->ring, &job->chain, written + 1);
	vu_inflight_given(&q->inflight, &q->ring, job->entry);
	vu_queue_log(q);
}

static enum export_op op_of(uint32_t type)
{
	switch (type) {
	case VIRTIO_BLK_T_IN: return EXPORT_READ;
	case VIRTIO_BLK_T_OUT: return EXPORT_WRITE;
	case VIRTIO_BLK_T_FLUSH: return EXPORT_FLUSH;
	case VIRTIO_BLK_T_DISCARD: return EXPORT_DISCARD;
	case VIRTIO_BLK_T_WRITE_ZEROES: return EXPORT_ZERO;
	default: return EXPORT_OTHER;
	}
}

static void count(struct co *co, struct vu_job *job, uint8_t status, uint64_t began_ns)
{
	const struct vu_blk *blk = &job->blk;

	export_stats_add(&job->session->server->export.stats, op_of(blk->type),
		blk->type == VIRTIO_BLK_T_IN ? blk->in.len : blk->out.len, co_now(co) - began_ns,
		status == VIRTIO_BLK_S_OK);
}

void vu_job_run(struct co *co, struct vu_job *job)
{
	struct vu_queue *q = job->queue;
	struct vu_session *s = q->session;
	uint32_t written = 0;
	uint64_t began_ns = co_now(co);
	uint8_t status = vu_request_run(co, job, &written);

	count(co, job, status, began_ns);
	give(job, status, written);
	vu_job_put(co, job);
	vu_session_check(s);
	vu_queue_signal(co, q);
	q->in_flight--;
	co_queue_wake_all(&s->rested);
}
