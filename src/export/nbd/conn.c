/* SPDX-License-Identifier: MIT */
/* A connection: its life, and the coroutine that receives; see conn.h. */
#include "export/nbd/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct nbd_conn *nbd_conn_new(struct nbd_server *server, struct io_sock *sock)
{
	struct nbd_conn *c = calloc(1, sizeof(*c));

	if (!c || nbd_stream_init(&c->stream, sock) < 0) {
		free(c);
		return NULL;
	}
	c->server = server;
	c->sock = sock;
	c->in_handshake = true;
	list_init(&c->idle);
	list_init(&c->replies);
	co_queue_init(&c->handshake_over);
	co_sem_init(&c->idle_jobs, NBD_JOBS);
	nbd_pool_init(&c->pool);
	list_push(&server->conns, &c->link);
	return c;
}

void nbd_conn_free(struct co *co, struct nbd_conn *c)
{
	assert(c->in_flight == 0 && list_empty(&c->replies));
	list_remove(&c->link);
	io_sock_close(co, c->sock);
	nbd_stream_fini(&c->stream);
	nbd_pool_fini(&c->pool);
	free(c->jobs);
	free(c);
}

void nbd_conn_shutdown(struct nbd_conn *c)
{
	c->stopping = true;
	c->broken = true;
	io_sock_shutdown(c->sock);
}

void nbd_conn_stop(struct nbd_conn *c)
{
	c->stopping = true;
	if (c->in_flight == 0)
		nbd_conn_shutdown(c);
}

/* ---- jobs ---- */

/* Made when the handshake is over, so that those who only connect cost little. */
static int jobs_make(struct nbd_conn *c)
{
	c->jobs = calloc(NBD_JOBS, sizeof(*c->jobs));
	if (!c->jobs)
		return -ENOMEM;
	for (unsigned i = 0; i < NBD_JOBS; i++) {
		c->jobs[i].conn = c;
		list_push(&c->idle, &c->jobs[i].link);
	}
	return 0;
}

static struct nbd_job *job_get(struct co *co, struct nbd_conn *c, const struct nbd_request *req)
{
	c->in_flight++; /* before we wait, so that a stop knows that this request was received */
	co_sem_acquire(co, &c->idle_jobs, 1);

	struct nbd_job *job = list_first(&c->idle, struct nbd_job, link);

	list_remove(&job->link);
	job->req = *req;
	job->begun_ns = co_now(co);
	job->error = nbd_check_request(&c->terms, req);
	job->hole = job->descriptors = 0;
	return job;
}

void nbd_job_put(struct nbd_job *job)
{
	struct nbd_conn *c = job->conn;

	nbd_pool_put(&c->pool, &job->buffer);
	list_push_front(&c->idle, &job->link); /* the one whose memory is warm goes first */
	co_sem_release(&c->idle_jobs, 1);
	c->in_flight--;
	if (c->stopping && c->in_flight == 0)
		nbd_conn_shutdown(c);
}

/* ---- receiving requests ---- */

/* Takes the data of a write off the stream, into the job's buffer or, if it is refused, to nowhere. */
static int payload_receive(struct co *co, struct nbd_conn *c, struct nbd_job *job)
{
	uint32_t len = job->req.len;

	if (job->error == NBD_SUCCESS && len > 0)
		job->error = nbd_error_of(nbd_pool_get(co, &c->pool, len, &job->buffer));
	if (job->error != NBD_SUCCESS)
		return nbd_stream_skip(co, &c->stream, len);
	return len > 0 ? nbd_stream_read(co, &c->stream, job->buffer.data, len) : 0;
}

static void job_entry(struct co *co, void *arg) { nbd_request_run(co, arg); }

static void job_start(struct co *co, struct nbd_conn *c, struct nbd_job *job)
{
	/* Where there are too many coroutines already, we do the work ourselves and read nothing more meanwhile. */
	if (co_group_spawn(&c->group, "nbd-request", job_entry, job) < 0)
		nbd_request_run(co, job);
}

/* Receives one request and starts it; false: it was the last. */
static bool request_next(struct co *co, struct nbd_conn *c)
{
	struct nbd_request req;
	const void *wire;

	if (nbd_stream_need(co, &c->stream, sizeof(struct nbd_request_wire), &wire) < 0 || c->stopping)
		return false;
	if (!nbd_parse_request(wire, &req) || req.type == NBD_CMD_DISC)
		return false;

	struct nbd_job *job = job_get(co, c, &req);
	/* "Block size constraints": so much data may be taken for an attack. It is refused, and not read. */
	bool attack = req.type == NBD_CMD_WRITE && req.len > NBD_PAYLOAD_BYTES;

	if (req.type == NBD_CMD_WRITE && !attack && payload_receive(co, c, job) < 0) {
		nbd_job_put(job);
		return false;
	}
	job_start(co, c, job);
	return !attack;
}

/* ---- the life of a connection ---- */

static void handshake_watch(struct co *co, void *arg)
{
	struct nbd_conn *c = arg;

	if (c->in_handshake && co_queue_wait_until(co, &c->handshake_over, c->handshake_deadline_ns) == -ETIMEDOUT)
		nbd_conn_shutdown(c);
}

static int handshake(struct co *co, struct nbd_conn *c)
{
	c->handshake_deadline_ns = co_now(co) + c->server->handshake_ns;

	int r = co_group_spawn(&c->group, "nbd-deadline", handshake_watch, c);

	if (r == 0)
		r = nbd_handshake(co, c);
	c->in_handshake = false;
	co_queue_wake_all(&c->handshake_over);
	return r;
}

void nbd_conn_run(struct co *co, struct nbd_conn *c)
{
	co_group_init(&c->group, co_sched_of(co));
	if (handshake(co, c) == 0 && jobs_make(c) == 0) {
		while (request_next(co, c))
			;
	}
	co_group_wait(co, &c->group);
}
