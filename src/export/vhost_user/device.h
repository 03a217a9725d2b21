/* SPDX-License-Identifier: MIT */
/*
 * The inside of the vhost-user-blk server: one server, at most one session with a front end, its queues, their requests.
 *
 * A session has one coroutine that receives messages and answers them, one after the other. Each queue has one that waits
 * for kicks, and whoever finds work takes chains from the ring and starts a coroutine for each. A chain occupies a job from
 * the moment it is taken until it has been given back; there are VU_JOBS of them, and when none is free the rings wait.
 *
 * A job keeps the table of memory that it began with. What the guest does wrong in a ring stops that queue until the front
 * end stops and starts it; what the front end does wrong in a message ends the session, unless it wants to be told.
 * Either is said in one line of the log.
 *
 * All of it belongs to one thread. Several of them will take a queue each: a queue touches nothing of the session while
 * it runs but the jobs, the log and the terms, and those change only while it stands still.
 *
 * A server that is frozen, to be handed over, has no coroutines: its session is between two messages, nothing of its queues is
 * under way. What there is to know of it are the messages that would bring a new session to where it stands (handover.c).
 *
 * The parts call downwards only: server -> handover, session -> handle -> queue -> serve -> job -> request.
 */
#ifndef CORRAL_EXPORT_VHOST_USER_DEVICE_H
#define CORRAL_EXPORT_VHOST_USER_DEVICE_H

#include "co/sync.h"
#include "export/export.h"
#include "export/vhost_user/chain.h"
#include "export/vhost_user/config.h"
#include "export/vhost_user/inflight.h"
#include "export/vhost_user/log.h"
#include "export/vhost_user/memory.h"
#include "export/vhost_user/message.h"
#include "export/vhost_user/ring.h"
#include "io/share.h"

#define VU_QUEUES 256 /* the most that the protocol can name */
#define VU_JOBS 512   /* requests of one session in flight */

struct vu_session;
struct vu_queue;

struct vu_job {
	struct list link; /* of session->idle */
	struct vu_session *session;
	struct vu_queue *queue;
	struct vu_memory *memory;
	struct vu_chain chain;
	uint16_t entry; /* of the record of what is in flight */
	struct vu_blk blk;
	struct vu_buffers buffers;
};

struct vu_queue {
	struct vu_session *session;
	unsigned index;

	/* What the front end said; it takes effect when the queue starts. */
	uint16_t size;
	uint32_t base;
	struct vu_vring_addr addr;
	bool has_addr;

	bool started; /* from SET_VRING_KICK to GET_VRING_BASE */
	bool enabled;
	bool broken; /* the guest did something wrong; until it is stopped */
	struct vu_ring ring;
	struct vu_terms terms;
	struct vu_memory *memory; /* that the ring lies in */
	struct vu_inflight inflight;
	uint16_t *again; /* room for VU_RING_MAX entries of a predecessor's record, which are to be done again */
	unsigned again_n, again_done;

	struct io_event *kick; /* NULL: none, or polled */
	struct io_event *call, *error;
	bool watched, unwatch; /* a coroutine waits for kicks, or polls; and shall end */
	bool serving, serve_again;
	bool signalling, signal_again;
	unsigned in_flight;
	uint64_t poll_ns;    /* how long it is worth looking for more: at most the server's poll_ns */
	uint64_t emptied_ns; /* when we last waited for a kick */
	struct vu_scratch *scratch;
};

struct vu_server {
	struct export export;
	const struct export_disk *disk;
	struct io_sock *listener;
	char *serial;
	uint32_t block;
	unsigned queues, queue_size;
	uint64_t poll_ns;
	bool hands_over; /* descriptors of memory are kept */

	bool stopping, frozen;
	struct vu_session *session;
	unsigned alive; /* coroutines: the acceptor and the session's */
	struct co_queue ended;
};

struct vu_kept { /* a descriptor that came with a message, to be handed over; and what the message said of it */
	int fd;  /* -1: it isn't kept */
	union vu_payload payload;
};

struct vu_session {
	struct vu_server *server;
	struct io_sock *sock;
	struct io_sock *backend; /* for requests of ours; NULL: none */
	unsigned telling;        /* how many of them are being sent */
	struct co_group group;   /* every coroutine but the one that receives */
	bool ending;             /* no more messages */
	bool stopping;           /* the queues take nothing more */
	bool freezing;           /* neither, and no more messages for now */
	bool frozen;             /* there are no coroutines any more */
	struct co_queue rested;  /* something of a queue has come to rest */

	uint64_t features, protocol; /* what was agreed on */
	uint64_t status;
	bool writeback;

	struct vu_memory *memory;
	unsigned breaks; /* io_map_breaks when the memory was last looked at */
	struct io_map *log_map;
	struct vu_kept log_kept;
	struct vu_log log;
	struct io_map *inflight_map;
	struct vu_kept inflight_kept;
	uint16_t inflight_queues;

	struct vu_queue *queue; /* server->queues of them */
	struct vu_job *jobs;
	struct list idle;
	struct co_sem idle_jobs;

	struct vu_message message; /* the one that is being handled */
	struct io_fds fds;         /* and what came with it; what isn't taken is closed */
	struct err err;
};

/* A line of the log about a front end or a guest that broke the rules, or met a limit. */
#define vu_say(server, format, ...)                                                                                    \
	log_line((server)->export.log, LOG_LEVEL_WARNING, "%s: " format, io_sock_address((server)->listener),          \
		##__VA_ARGS__)

/* ---- session.c ---- */

/* Takes the socket over. NULL: no memory. */
struct vu_session *vu_session_new(struct co *co, struct vu_server *server, struct io_sock *sock);
void vu_session_run(struct co *co, struct vu_session *s);  /* returns when the session has ended, or is frozen */
void vu_session_free(struct co *co, struct vu_session *s); /* closes the socket */
void vu_session_end(struct vu_session *s);                 /* vu_session_run returns as soon as it can */
bool vu_session_is_resting(const struct vu_session *s);    /* nothing of its queues is under way */
/* Looks whether memory was taken away; then the session ends. */
void vu_session_check(struct vu_session *s);
bool vu_session_logs(const struct vu_session *s); /* whether writes to memory are to be noted */
void vu_session_resized(struct vu_session *s);    /* the guest is told */
/* Its coroutine ends at the next boundary of messages, and is frozen then; or it ends for good. */
void vu_session_freeze(struct vu_session *s);
/* The queues come to rest, too. */
void vu_session_settle(struct co *co, struct vu_session *s);
/* It goes on, but for the coroutine that receives. */
void vu_session_thaw(struct co *co, struct vu_session *s);
/* A frozen one: everything is let go of, and the front end isn't told. */
void vu_session_release(struct co *co, struct vu_session *s);

/* ---- server.c ---- */

/* Accepting, and the session that there is. -EAGAIN: too many coroutines; then it hasn't begun. */
int vu_server_begin(struct co *co, struct vu_server *s) ATTR_MUST_USE;
void vu_server_shut(struct co *co, struct vu_server *s); /* no coroutine is left: the rest goes */

/* ---- handover.c ---- */

int vu_server_freeze(struct co *co, struct export *e, struct export_state *state, struct err *err) ATTR_MUST_USE;
void vu_server_thaw(struct co *co, struct export *e);
void vu_server_release(struct co *co, struct export *e);
/* Listener and session of a new server, which is frozen; descriptors that are left over are closed in any case. */
int vu_server_restore(struct co *co, struct vu_server *s, const struct export_state *state, struct err *err)
	ATTR_MUST_USE;

/* ---- handle.c and what it calls ---- */

/* Does what the message says. 0: *reply bytes of s->message.payload are the reply, and *fd goes with it unless it is -1;
 * or a negative errno, explained in s->err. */
int vu_handle(struct co *co, struct vu_session *s, uint32_t *reply, int *fd) ATTR_MUST_USE;
int vu_handle_memory(struct co *co, struct vu_session *s) ATTR_MUST_USE;
int vu_handle_vring(struct co *co, struct vu_session *s) ATTR_MUST_USE;
/* Takes the descriptor at i out of those that came with the message; -1: there is none. */
int vu_fd_take(struct vu_session *s, unsigned i);
/* Everything as when the session began, but for the memory. */
void vu_session_reset(struct co *co, struct vu_session *s);

/* ---- queue.c ---- */

/* Begins with what the front end said. */
int vu_queue_start(struct vu_queue *q, struct err *err) ATTR_MUST_USE;
/* Nothing is taken any more; returns when all that was has been given back. */
void vu_queue_stop(struct co *co, struct vu_queue *q);
uint32_t vu_queue_base(const struct vu_queue *q); /* where a successor has to go on */
/* The memory, or the addresses, have changed: the ring is looked up anew. */
int vu_queue_move(struct co *co, struct vu_queue *q, struct err *err) ATTR_MUST_USE;
bool vu_queue_is_resting(const struct vu_queue *q); /* nothing of it is under way */
void vu_queue_free(struct vu_queue *q);

/* ---- serve.c ---- */

/* Takes what there is. */
void vu_queue_serve(struct co *co, struct vu_queue *q);
/* The same, in a coroutine of its own. */
void vu_queue_poke(struct vu_queue *q);
/* Waits for kicks of q->kick, or polls if there is none, in a coroutine of its own. */
int vu_queue_watch(struct vu_queue *q) ATTR_MUST_USE;
void vu_queue_rest(struct co *co, struct vu_queue *q);    /* until it is watched again */
void vu_queue_unwatch(struct co *co, struct vu_queue *q); /* and closes q->kick */
/* Tells the driver of what was given back, if it wants to know. */
void vu_queue_signal(struct co *co, struct vu_queue *q);
/* The guest did something wrong: the queue stands still from now on. */
void vu_queue_break(struct co *co, struct vu_queue *q, const struct err *err);
void vu_queue_log(const struct vu_queue *q); /* what we write to the ring itself */

/* ---- job.c, request.c ---- */

struct vu_job *vu_job_get(struct co *co, struct vu_session *s); /* waits for one */
void vu_job_put(struct co *co, struct vu_job *job);
void vu_job_run(struct co *co, struct vu_job *job); /* does it and gives it back */
/* Does it: the status, and how many bytes of its memory were written besides. */
uint8_t vu_request_run(struct co *co, struct vu_job *job, uint32_t *written);

#endif
