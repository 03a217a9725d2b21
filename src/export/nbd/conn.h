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
 * The time of clients that don't get through with the handshake, or don't take their replies, runs out: one coroutine of
 * the server, the watcher, sleeps until the next deadline.
 *
 * A server that is frozen, to be handed over, has no coroutines but the watcher: its connections are in the transmission
 * phase, all requests that were received whole are answered, and what was received of others is back in the stream.
 *
 * The parts call downwards only: server, handover -> conn -> handshake, request -> contexts, reply.
 */
#ifndef CORRAL_EXPORT_NBD_CONN_H
#define CORRAL_EXPORT_NBD_CONN_H

#include "export/export.h"
#include "export/nbd/parse.h"
#include "export/nbd/pool.h"
#include "export/nbd/stream.h"

#define NBD_JOBS 128
#define NBD_HEAD_BYTES 96 /* of a reply before its payload; the longest is a hole chunk and the head of a data chunk */

struct nbd_server {
	struct export export; /* first */
	struct io_sock *listener;
	const struct export_disk **disks;
	unsigned disks_n;
	const struct nbd_tls_creds *tls; /* NULL: no TLS */
	unsigned most_conns;
	bool patient; /* clients beyond them wait to be accepted */
	void (*left)(void *arg, unsigned clients);
	void *left_arg;
	uint64_t handshake_ns, patience_ns, grace_ns;
	struct nbd_budget budget;

	bool stopping, frozen;
	bool accepting; /* the coroutine that does */
	struct list conns;
	unsigned n_conns;
	unsigned alive; /* coroutines: the acceptor and one for each connection */
	struct co_queue ended;

	struct co_group watcher; /* one coroutine, which shows those out whose time is up */
	bool watching;           /* it has begun */
	struct co_queue watch;
	uint64_t watched_ns; /* until when it sleeps */
	bool watch_over;
};

struct nbd_job {
	struct list link; /* of conn->idle or conn->replies */
	struct nbd_conn *conn;
	struct nbd_request req;
	enum nbd_error error;
	uint64_t begun_ns;
	struct nbd_buffer buffer; /* what is written, or the payload of the reply */
	uint32_t hole; /* READ: so many bytes of the range, from its start, are zeros; the rest is in buffer */
	size_t head_len, payload_len;
	uint8_t head[NBD_HEAD_BYTES];
};

struct nbd_conn {
	struct list link; /* of server->conns */
	struct nbd_server *server;
	uint64_t number; /* for messages */
	struct nbd_channel channel;
	struct nbd_stream stream;
	const struct export_disk *disk;      /* that the client has chosen; NULL before */
	const struct export_disk *meta_disk; /* that contexts were selected of */
	uint32_t client_flags;               /* of the handshake */
	struct nbd_terms terms;
	struct co_group group; /* every coroutine but the one that receives */

	uint64_t handshake_deadline_ns; /* CO_NEVER: it is over */

	bool established; /* in the transmission phase */
	bool freezing;    /* nothing more is to be read, and the connection stays */
	bool frozen;      /* so it is */
	bool stopping;    /* nothing more is read */
	bool broken;      /* nothing more can be sent */
	union {           /* the head of the request that is being received */
		struct nbd_request_wire compact;
		struct nbd_extended_request_wire extended;
	} wire;
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
void nbd_conn_run(struct co *co, struct nbd_conn *c);     /* returns when the connection has ended, or is frozen */
int nbd_conn_establish(struct nbd_conn *c) ATTR_MUST_USE; /* it goes on after a handshake. -ENOMEM */
void nbd_conn_freeze(struct nbd_conn *c); /* nbd_conn_run returns soon; until nbd_conn_thaw and another run */
void nbd_conn_thaw(struct co *co, struct nbd_conn *c);
void nbd_conn_free(struct co *co, struct nbd_conn *c); /* closes the socket */
/* What was received is answered, then nbd_conn_run ends. */
void nbd_conn_stop(struct nbd_conn *c);
void nbd_conn_shutdown(struct nbd_conn *c); /* ends it whatever is in flight */
void nbd_job_put(struct nbd_job *job);
/* When it is to be shown out, unless something happens before; CO_NEVER: it may stay. */
uint64_t nbd_conn_deadline(const struct nbd_conn *c);
void nbd_conn_expire(struct nbd_conn *c); /* the deadline has passed */
/* Tells the watcher of a deadline to come, if it is earlier than those it knows. */
void nbd_conn_watch(struct nbd_conn *c, uint64_t deadline_ns);
/* A line that says which client is meant. */
void nbd_conn_log(const struct nbd_conn *c, enum log_level level, const char *format, ...) ATTR_PRINTF(3, 4);

/* ---- server.c ---- */

/* Accepting, and serving the connections that there are. -EAGAIN: too many coroutines; then it hasn't begun. */
int nbd_server_begin(struct co *co, struct nbd_server *s) ATTR_MUST_USE;
void nbd_server_shut(struct co *co, struct nbd_server *s); /* no coroutine but the watcher is left: the rest goes */
/* Whether all coroutines ended in time. */
bool nbd_server_wait(struct co *co, struct nbd_server *s, uint64_t deadline_ns) ATTR_MUST_USE;
void nbd_server_each(struct nbd_server *s, void (*fn)(struct nbd_conn *c));

/* ---- handover.c ---- */

int nbd_server_freeze(struct co *co, struct export *e, struct export_state *state, struct err *err) ATTR_MUST_USE;
void nbd_server_thaw(struct co *co, struct export *e);
void nbd_server_release(struct co *co, struct export *e);
/* Listener and connections of a new server, which is frozen; descriptors that are left over are closed in any case. */
int nbd_server_restore(struct co *co, struct nbd_server *s, const struct export_state *state, struct err *err)
	ATTR_MUST_USE;

/* ---- handshake.c ---- */

/* 0: the transmission phase begins; else the connection ends. */
int nbd_handshake(struct co *co, struct nbd_conn *c) ATTR_MUST_USE;

/* ---- request.c, contexts.c ---- */

/* Carries the job's request out, unless job->error is set already, and sends the reply. */
void nbd_request_run(struct co *co, struct nbd_job *job);
/* The reply's chunks, in the job's buffer: payload_len. */
enum nbd_error nbd_block_status(struct co *co, struct nbd_job *job);
/* The contexts of a disk by their number, their id less one; NULL: there is none of this number. */
const char *nbd_context_name(const struct export_disk *disk, unsigned number);

/* ---- reply.c ---- */

#define NBD_CHUNK_BYTES sizeof(struct nbd_extended_chunk_wire) /* at most */
/* The head of a chunk of the reply; how long it is. */
size_t nbd_chunk_head(const struct nbd_job *job, uint16_t type, bool last, uint64_t len, void *to);

/* Sends what the job has come to; the job is gone then. */
void nbd_reply(struct co *co, struct nbd_job *job);

#endif
