/* SPDX-License-Identifier: MIT */
/* A queue at work: waiting for kicks, taking chains, telling the driver; see device.h. */
#include "export/vhost_user/device.h"

#include <errno.h>
#include <string.h>

#include "base/math.h"

#define POLL_LEAST_NS 4000u  /* looking for more begins with this long */
#define IDLE_LEAST_NS 20000u /* between two looks at a queue that has no kicks */
#define IDLE_MOST_NS 1000000u

static bool is_on(const struct vu_queue *q)
{
	const struct vu_session *s = q->session;

	return q->started && q->enabled && !q->broken && !s->stopping && !s->freezing && !s->ending;
}

void vu_queue_log(const struct vu_queue *q)
{
	const struct vu_session *s = q->session;
	const struct vu_ring *r = &q->ring;

	if (!vu_session_logs(s))
		return;
	vu_log_memory(&s->log, q->memory, r->device, vu_ring_device_bytes(r->packed, r->size));
	if (r->packed)
		vu_log_memory(&s->log, q->memory, r->desc, vu_ring_desc_bytes(r->size));
	else if (q->addr.flags & VU_VRING_LOG)
		vu_log_range(&s->log, q->addr.log, vu_ring_device_bytes(false, r->size));
}

void vu_queue_break(struct co *co, struct vu_queue *q, const struct err *err)
{
	if (q->broken)
		return;
	q->broken = true;
	q->session->status |= 0x40; /* DEVICE_NEEDS_RESET */
	vu_say(q->session->server, "queue %u stands still: %s", q->index, err->text);
	if (q->error)
		io_event_signal(co, q->error);
}

/* ---- taking ---- */

static int chain_next(struct vu_queue *q, struct vu_job *job)
{
	struct vu_scratch *s = q->scratch;

	if (q->again_done == q->again_n)
		return vu_ring_take(&q->ring, s->desc, &job->chain, &s->err);
	job->entry = q->again[q->again_done];
	return vu_inflight_again(&q->inflight, &q->ring, job->entry, s->desc, &job->chain, &s->err);
}

/* It is noted when it is known to be a request: so what can't be done isn't tried again by a successor. */
static int chain_note(struct vu_queue *q, struct vu_job *job)
{
	if (q->again_done < q->again_n) {
		q->again_done++;
		return 1;
	}
	return vu_inflight_take(&q->inflight, &job->chain, q->scratch->desc, &job->entry, &q->scratch->err) < 0
		? -EPROTO
		: 1;
}

/* 1: the job is the next request; 0: there is none; -EPROTO, explained. */
static int request_take(struct vu_queue *q, struct vu_job *job)
{
	struct vu_scratch *s = q->scratch;
	int r = chain_next(q, job);

	if (r <= 0)
		return r;
	job->memory = vu_memory_get(q->session->memory);
	r = vu_chain_map(job->memory, &q->terms, s, job->chain.n, &job->buffers, &s->err);
	if (r == 0)
		r = vu_blk_parse(&job->buffers, &job->blk, &s->err);
	return r < 0 ? r : chain_note(q, job);
}

static void job_entry(struct co *co, void *arg) { vu_job_run(co, arg); }

/* false: there is nothing to take, or it can't be taken. */
static bool take_one(struct co *co, struct vu_queue *q)
{
	struct vu_job *job = vu_job_get(co, q->session);
	int r = is_on(q) ? request_take(q, job) : 0;

	if (r <= 0) {
		vu_job_put(co, job);
		if (r < 0)
			vu_queue_break(co, q, &q->scratch->err);
		return false;
	}
	job->queue = q;
	q->in_flight++;
	/* Where there are too many coroutines already, we do the work ourselves and take nothing more meanwhile. */
	if (co_group_spawn(&q->session->group, "vhost-user-request", job_entry, job) < 0)
		vu_job_run(co, job);
	return true;
}

/* Looks for more for as long as it is worth it. */
static bool poll(struct co *co, struct vu_queue *q)
{
	uint64_t deadline;

	if (q->poll_ns == 0)
		return false;
	deadline = co_now(co) + q->poll_ns;
	while (is_on(q) && vu_ring_empty(&q->ring) && co_now(co) < deadline)
		co_yield(co);
	return is_on(q) && !vu_ring_empty(&q->ring);
}

static bool has_more(const struct vu_queue *q)
{
	return is_on(q) && (q->again_done < q->again_n || !vu_ring_empty(&q->ring));
}

static void serve(struct co *co, struct vu_queue *q)
{
	while (is_on(q)) {
		vu_ring_want_kicks(&q->ring, false);
		while (has_more(q) && take_one(co, q))
			;
		if (!is_on(q) || poll(co, q))
			continue;
		vu_ring_want_kicks(&q->ring, true);
		vu_queue_log(q);
		if (!has_more(q))
			return;
	}
}

void vu_queue_serve(struct co *co, struct vu_queue *q)
{
	q->serve_again = true;
	if (q->serving)
		return;
	q->serving = true;
	vu_session_check(q->session);
	while (q->serve_again) {
		q->serve_again = false;
		serve(co, q);
	}
	q->serving = false;
	co_queue_wake_all(&q->session->rested);
}

static void serve_entry(struct co *co, void *arg) { vu_queue_serve(co, arg); }

/* A kick, or the next look, comes anyway where there is no coroutine to be had. */
void vu_queue_poke(struct vu_queue *q)
{
	int r = co_group_spawn(&q->session->group, "vhost-user-poke", serve_entry, q);

	(void)r;
}

/* ---- waiting for kicks ---- */

/* A kick soon after we stopped looking: it would have been worth looking longer. */
static void poll_adapt(struct co *co, struct vu_queue *q)
{
	uint64_t most = q->session->server->poll_ns;

	if (most == 0)
		return;
	if (co_now(co) - q->emptied_ns <= most)
		q->poll_ns = MIN(most, MAX(2 * q->poll_ns, (uint64_t)POLL_LEAST_NS));
	else
		q->poll_ns /= 2;
}

static void watch_kicks(struct co *co, struct vu_queue *q)
{
	int r = 0;

	while (!q->unwatch && r == 0) {
		vu_queue_serve(co, q);
		if (q->session->server->poll_ns > 0)
			q->emptied_ns = co_now(co);
		r = io_event_wait(co, q->kick);
		poll_adapt(co, q);
	}
	if (r != -ECANCELED && !q->unwatch) {
		err_set(&q->scratch->err, r, "its descriptor for kicks fails: %s", strerror(-r));
		vu_queue_break(co, q, &q->scratch->err);
	}
}

static void watch_without(struct co *co, struct vu_queue *q)
{
	uint64_t pause = IDLE_LEAST_NS;

	while (!q->unwatch) {
		uint16_t before = q->ring.avail;

		vu_queue_serve(co, q);
		pause = q->ring.avail != before ? IDLE_LEAST_NS : MIN(2 * pause, (uint64_t)IDLE_MOST_NS);
		co_sleep(co, pause);
	}
}

static void watch_entry(struct co *co, void *arg)
{
	struct vu_queue *q = arg;

	if (q->kick)
		watch_kicks(co, q);
	else
		watch_without(co, q);
	q->watched = false;
	co_queue_wake_all(&q->session->rested);
}

int vu_queue_watch(struct vu_queue *q)
{
	if (q->session->frozen) /* a thaw does it */
		return 0;
	q->unwatch = false;
	if (co_group_spawn(&q->session->group, "vhost-user-queue", watch_entry, q) < 0)
		return -EAGAIN;
	q->watched = true;
	return 0;
}

void vu_queue_rest(struct co *co, struct vu_queue *q)
{
	q->unwatch = true;
	if (q->kick)
		io_event_cancel(q->kick);
	while (q->watched)
		co_queue_wait(co, &q->session->rested);
}

void vu_queue_unwatch(struct co *co, struct vu_queue *q)
{
	vu_queue_rest(co, q);
	io_event_close(co, take(q->kick));
}

/* ---- telling the driver ---- */

/* One at a time: what is given back while it is on its way may be covered by it or not, so it is asked once more. */
void vu_queue_signal(struct co *co, struct vu_queue *q)
{
	q->signal_again = true;
	if (q->signalling)
		return;
	q->signalling = true;
	while (q->signal_again) {
		q->signal_again = false;
		if (vu_ring_should_signal(&q->ring) && q->call)
			io_event_signal(co, q->call);
	}
	q->signalling = false;
}
