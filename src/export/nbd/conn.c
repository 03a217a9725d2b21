/* SPDX-License-Identifier: MIT */
/* A connection: its life, and the coroutine that receives; see conn.h. */
#include "export/nbd/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/mutant.h"

struct nbd_conn *nbd_conn_new(struct nbd_server *server, struct io_sock *sock)
{
	struct nbd_conn *c = calloc(1, sizeof(*c));

	if (!c || nbd_stream_init(&c->stream, &c->channel) < 0) {
		free(c);
		return NULL;
	}
	c->server = server;
	c->number = ++server->export.stats.clients;
	c->channel = (struct nbd_channel){.sock = sock, .patience_ns = server->patience_ns, .deadline_ns = CO_NEVER};
	c->handshake_deadline_ns = CO_NEVER;
	list_init(&c->idle);
	list_init(&c->replies);
	co_sem_init(&c->idle_jobs, NBD_JOBS);
	nbd_pool_init(&c->pool, &server->budget);
	list_push(&server->conns, &c->link);
	return c;
}

void nbd_conn_log(const struct nbd_conn *c, enum log_level level, const char *format, ...)
{
	char text[LOG_LINE_BYTES];
	va_list args;

	if (!c->server->export.log || level > c->server->export.log->level)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_line(c->server->export.log, level, "NBD client %llu of %s: %s", (unsigned long long)c->number,
		io_sock_address(c->server->listener), text);
}

void nbd_conn_free(struct co *co, struct nbd_conn *c)
{
	assert(c->in_flight == 0 && list_empty(&c->replies));
	list_remove(&c->link);
	io_sock_close(co, c->channel.sock);
	nbd_tls_free(c->channel.tls);
	nbd_stream_fini(&c->stream);
	nbd_pool_fini(&c->pool);
	free(c->jobs);
	free(c);
}

void nbd_conn_shutdown(struct nbd_conn *c)
{
	c->stopping = true;
	c->broken = true;
	io_sock_shutdown(c->channel.sock);
}

/* Everything is answered. Who has TLS is still told that this is the end. */
static void conn_rest(struct nbd_conn *c)
{
	if (c->channel.tls)
		io_sock_pause(c->channel.sock);
	else
		nbd_conn_shutdown(c);
}

void nbd_conn_stop(struct nbd_conn *c)
{
	c->stopping = true;
	if (c->in_flight == 0)
		conn_rest(c);
}

void nbd_conn_freeze(struct nbd_conn *c)
{
	c->freezing = true;
	io_sock_pause(c->channel.sock);
}

void nbd_conn_thaw(struct co *co, struct nbd_conn *c)
{
	c->freezing = c->frozen = false;
	io_sock_resume(co, c->channel.sock);
}

/* ---- jobs ---- */

/* Jobs are made when the handshake is over, so that those who only connect cost little. */
int nbd_conn_establish(struct nbd_conn *c)
{
	c->jobs = calloc(NBD_JOBS, sizeof(*c->jobs));
	if (!c->jobs)
		return -ENOMEM;
	for (unsigned i = 0; i < NBD_JOBS; i++) {
		c->jobs[i].conn = c;
		list_push(&c->idle, &c->jobs[i].link);
	}
	c->established = true;
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
	job->error = NBD_SUCCESS;
	job->hole = 0;
	job->payload_len = 0;
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
		conn_rest(c);
}

/* ---- receiving requests ---- */

/* What is still to be skipped when we are interrupted, somebody else skips: it doesn't keep the request from its answer. */
static int payload_skip(struct co *co, struct nbd_conn *c, uint64_t len)
{
	int r = nbd_stream_skip(co, &c->stream, len);

	return r == -ECANCELED && c->freezing ? 0 : r;
}

/* The request that was being received comes once more, as far as it had come. */
static int request_return(struct nbd_conn *c, const void *data, size_t len)
{
	if (MUTANT(180))
		len = 0;

	size_t head = c->terms.extended ? sizeof(c->wire.extended) : sizeof(c->wire.compact);
	const struct iovec v[] = {{&c->wire, head}, {(void *)data, len}};
	int r = nbd_stream_return(&c->stream, iov_of(v, 2));

	return r < 0 ? r : -ECANCELED;
}

/* Takes the data of a write off the stream, into the job's buffer or, if it is refused, to nowhere. */
static int data_receive(struct co *co, struct nbd_conn *c, struct nbd_job *job)
{
	uint64_t len = job->req.payload;
	size_t done;
	int r;

	if (job->error == NBD_SUCCESS && len > 0)
		job->error = nbd_error_of(nbd_pool_get(co, &c->pool, len, &job->buffer));
	if (job->error != NBD_SUCCESS)
		return payload_skip(co, c, len);
	if (len == 0)
		return 0;
	r = nbd_stream_read(co, &c->stream, job->buffer.data, len, &done);
	if (MUTANT(182) && r == -ECANCELED)
		return 0;
	return r == -ECANCELED && c->freezing ? request_return(c, job->buffer.data, done) : r;
}

/* What a BLOCK_STATUS asks for. */
static int status_receive(struct co *co, struct nbd_conn *c, struct nbd_job *job)
{
	const void *data;
	int r;

	if (job->req.payload > NBD_STATUS_PAYLOAD_BYTES) {
		job->error = NBD_EINVAL;
		return payload_skip(co, c, job->req.payload);
	}
	r = nbd_stream_need(co, &c->stream, job->req.payload, &data);
	if (r == -ECANCELED && c->freezing)
		return request_return(c, NULL, 0);
	if (r == 0 && !nbd_parse_status_payload(&c->terms, data, job->req.payload, &job->req))
		job->error = NBD_EINVAL;
	return r;
}

/* Takes what follows the request off the stream, and says whether it is permitted. */
static int payload_receive(struct co *co, struct nbd_conn *c, struct nbd_job *job)
{
	int r = 0;

	job->req.contexts = c->terms.contexts;
	if (job->req.payload > 0 && job->req.type == NBD_CMD_BLOCK_STATUS)
		r = status_receive(co, c, job);
	if (job->error == NBD_SUCCESS)
		job->error = nbd_check_request(&c->terms, &job->req);
	if (job->req.type == NBD_CMD_WRITE)
		return data_receive(co, c, job);
	if (job->req.payload > 0 && job->req.type != NBD_CMD_BLOCK_STATUS)
		return payload_skip(co, c, job->req.payload);
	return r;
}

static void job_entry(struct co *co, void *arg) { nbd_request_run(co, arg); }

static void job_start(struct co *co, struct nbd_conn *c, struct nbd_job *job)
{
	/* Where there are too many coroutines already, we do the work ourselves and read nothing more meanwhile. */
	if (co_group_spawn(&c->group, "nbd-request", job_entry, job) < 0)
		nbd_request_run(co, job);
}

/* The head of the next request: 0, or why there is none. */
static int request_receive(struct co *co, struct nbd_conn *c, struct nbd_request *req)
{
	bool extended = c->terms.extended;
	size_t bytes = extended ? sizeof(struct nbd_extended_request_wire) : sizeof(struct nbd_request_wire);
	const void *wire;
	int r = nbd_stream_need(co, &c->stream, bytes, &wire);

	if (r < 0)
		return r;
	memcpy(&c->wire, wire, bytes);
	if (extended ? nbd_parse_extended_request(wire, req) : nbd_parse_request(wire, req))
		return 0;
	nbd_conn_log(c, LOG_LEVEL_WARNING, "what should be a request has a wrong magic number");
	return -EPROTO;
}

/* Receives one request and starts it: 0; else it was the last. */
static int request_next(struct co *co, struct nbd_conn *c)
{
	struct nbd_request req;
	int r = request_receive(co, c, &req);

	if (r < 0 || c->stopping || req.type == NBD_CMD_DISC)
		return r < 0 ? r : -ESHUTDOWN;

	struct nbd_job *job = job_get(co, c, &req);
	/* "Block size constraints": so much data may be taken for an attack. It is refused, and not read. */
	bool attack = req.payload > NBD_PAYLOAD_BYTES;

	if (attack) {
		nbd_conn_log(c, LOG_LEVEL_WARNING,
			"a request comes with %llu bytes, more than the %u that are permitted",
			(unsigned long long)req.payload, NBD_PAYLOAD_BYTES);
		job->error = NBD_EINVAL;
	} else {
		r = payload_receive(co, c, job);
		if (r < 0) {
			nbd_job_put(job);
			return r;
		}
	}
	job_start(co, c, job);
	return attack ? -EPROTO : 0;
}

/* ---- the life of a connection ---- */

uint64_t nbd_conn_deadline(const struct nbd_conn *c)
{
	return c->broken ? CO_NEVER : MIN(c->handshake_deadline_ns, c->channel.deadline_ns);
}

void nbd_conn_watch(struct nbd_conn *c, uint64_t deadline_ns)
{
	if (deadline_ns < c->server->watched_ns)
		co_queue_wake_all(&c->server->watch);
}

void nbd_conn_expire(struct nbd_conn *c)
{
	nbd_conn_log(c, LOG_LEVEL_WARNING, "shown out: %s",
		c->handshake_deadline_ns == CO_NEVER ? "it doesn't take its replies"
						     : "it wasn't through with the handshake in time");
	c->server->export.stats.refused++;
	nbd_conn_shutdown(c);
}

static int handshake(struct co *co, struct nbd_conn *c)
{
	c->handshake_deadline_ns = co_now(co) + c->server->handshake_ns;
	nbd_conn_watch(c, c->handshake_deadline_ns);

	int r = nbd_handshake(co, c);

	c->handshake_deadline_ns = CO_NEVER;
	if (r == 0)
		nbd_conn_log(c, LOG_LEVEL_DEBUG, "has opened '%s', %s headers%s", c->disk->name,
			c->terms.extended ? "extended" : "compact", c->terms.read_only ? ", read-only" : "");
	else if (r == -EPROTO)
		nbd_conn_log(c, LOG_LEVEL_WARNING, "broke the protocol in the handshake");
	else
		nbd_conn_log(c, LOG_LEVEL_DEBUG, "left in the handshake");
	return r;
}

void nbd_conn_run(struct co *co, struct nbd_conn *c)
{
	int r = 0;

	co_group_init(&c->group, co_sched_of(co));
	if (!c->established)
		r = handshake(co, c);
	if (r == 0 && !c->established)
		r = nbd_conn_establish(c);
	while (r == 0)
		r = request_next(co, c);
	co_group_wait(co, &c->group);
	c->frozen = r == -ECANCELED && c->freezing && !c->broken;
	if (c->frozen)
		return;
	if (!c->broken) {
		nbd_conn_watch(c, co_now(co) + c->channel.patience_ns);
		nbd_channel_bye(co, &c->channel);
	}
	nbd_conn_log(c, LOG_LEVEL_DEBUG, "has gone");
}
