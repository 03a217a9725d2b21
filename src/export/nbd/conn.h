/* SPDX-License-Identifier: MIT */
/*
 * The inside of the NBD server: one server, its connections, their requests.
 *
 * A connection has one coroutine that receives, first the handshake and then requests, and one for each request. Who
 * has a reply puts it into the queue; if nobody is sending he sends until the queue is empty, several replies at a
 * time. A request occupies a job from the moment its header is understood until its reply was handed to the kernel;
 * there are NBD_JOBS of them, and when none is free the connection isn't read. Payloads are bounded by the pool in the
 * same way.
 *
 * The parts call downwards only: server -> conn -> handshake, request -> contexts, reply.
 */
#ifndef CORRAL_EXPORT_NBD_CONN_H
#define CORRAL_EXPORT_NBD_CONN_H

#include "export/export.h"
#include "export/nbd/parse.h"
#include "export/nbd/pool.h"
#include "export/nbd/stream.h"

#define NBD_JOBS 128
#define NBD_HEAD_BYTES 64 /* of a reply before its payload; the longest is a hole chunk and the head of a data chunk */

struct nbd_server {
	struct export export; /* first */
	struct io_sock *listener;
	const struct export_disk **disks;
	unsigned disks_n;
	unsigned most_conns;
	uint64_t handshake_ns, grace_ns;

	bool stopping;
	struct list conns;
	unsigned n_conns;
	unsigned alive; /* coroutines: the acceptor and one for each connection */
	struct co_queue ended;
};

struct nbd_job {
	struct list link; /* of conn->idle or conn->replies */
	struct nbd_conn *conn;
	struct nbd_request req;
	enum nbd_error error;
	uint64_t begun_ns;
	struct nbd_buffer buffer; /* what is written, or the payload of the reply */
	uint32_t hole;        /* READ: so many bytes of the range, from its start, are zeros; the rest is in buffer */
	uint32_t descriptors; /* BLOCK_STATUS: how many are in buffer */
	size_t head_len, payload_len;
	uint8_t head[NBD_HEAD_BYTES];
};

struct nbd_conn {
	struct list link; /* of server->conns */
	struct nbd_server *server;
	struct io_sock *sock;
	struct nbd_stream stream;
	const struct export_disk *disk; /* that the client has chosen; NULL before */
	uint32_t client_flags;          /* of the handshake */
	struct nbd_terms terms;
	struct co_group group; /* every coroutine but the one that receives */

	bool in_handshake;
	uint64_t handshake_deadline_ns;
	struct co_queue handshake_over;

	bool stopping; /* nothing more is read */
	bool broken;   /* nothing more can be sent */
	struct nbd_job *jobs;
	struct list idle;
	struct co_sem idle_jobs;
	unsigned in_flight;
	bool wrote; /* since its last flush; for a deliberate bug alone */
	struct nbd_pool pool;
	struct list replies;
	bool sending;
};

/* ---- conn.c ---- */

/* Takes the socket over. NULL: no memory. */
struct nbd_conn *nbd_conn_new(struct nbd_server *server, struct io_sock *sock);
void nbd_conn_run(struct co *co, struct nbd_conn *c);  /* returns when the connection has ended */
void nbd_conn_free(struct co *co, struct nbd_conn *c); /* closes the socket */
/* What was received is answered, then nbd_conn_run ends. */
void nbd_conn_stop(struct nbd_conn *c);
void nbd_conn_shutdown(struct nbd_conn *c); /* ends it whatever is in flight */
void nbd_job_put(struct nbd_job *job);

/* ---- handshake.c ---- */

/* 0: the transmission phase begins; else the connection ends. */
int nbd_handshake(struct co *co, struct nbd_conn *c) ATTR_MUST_USE;

/* ---- request.c, contexts.c ---- */

/* Carries the job's request out, unless job->error is set already, and sends the reply. */
void nbd_request_run(struct co *co, struct nbd_job *job);
enum nbd_error nbd_block_status(struct co *co, struct nbd_job *job);
/* The id by which replies name base:allocation. */
#define NBD_CONTEXT_ALLOCATION 1
#define NBD_DESCRIPTORS 1024 /* in one reply at most */

/* ---- reply.c ---- */

/* Sends what the job has come to; the job is gone then. */
void nbd_reply(struct co *co, struct nbd_job *job);

#endif
