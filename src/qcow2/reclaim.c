/* SPDX-License-Identifier: MIT */
/*
 * What was freed, from its unmapping in memory to its reuse.
 *
 *     freed           unmapped in memory                        (map: replaced or unmapped; L2 copy; moved tables)
 *     freed_commit    captured by the running commit            back to freed if that fails
 *     freed_durable   unmapped on disk                          waits until every request that began before has ended
 *     reclaim         punch the host space, then take the reference; at refcount 0 the allocator sees the cluster
 *
 * Until then the refcount in memory keeps the cluster from being given out: no list of what may not be allocated is needed
 * (crash-safety O8, O9, O10, O13).
 *
 * The keeper is the coroutine that does this in the background, and commits what has been dirty for too long.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/engine.h"

/* ---- the lists ---- */

static void compact(struct qcow2_freed_list *l)
{
	if (l->first == 0)
		return;
	memmove(l->v, l->v + l->first, l->n * sizeof(*l->v));
	l->first = 0;
}

static int freed_room(struct qcow2_freed_list *l, size_t n)
{
	struct qcow2_freed *v;
	size_t room = MAX(l->n + n, l->room);

	compact(l);
	if (room == l->room)
		return 0;
	room = MAX(room, 2 * l->room + 16);
	v = realloc(l->v, room * sizeof(*v));
	if (!v)
		return -ENOMEM;
	l->v = v;
	l->room = room;
	return 0;
}

/* Room in all three, so that moving an entry along can't fail: together they never hold more than was prepared. */
int qcow2_free_prepare(struct qcow2 *q, size_t n)
{
	size_t all = q->freed.n + q->freed_commit.n + q->freed_durable.n + n;
	int rc = freed_room(&q->freed, all - q->freed.n);

	if (!rc)
		rc = freed_room(&q->freed_commit, all - q->freed_commit.n);
	if (!rc)
		rc = freed_room(&q->freed_durable, all - q->freed_durable.n);
	return rc;
}

static uint64_t quarantine_limit(const struct qcow2 *q)
{
	uint64_t least = (uint64_t)QCOW2_MIN_QUARANTINE << q->cluster_bits;

	return MAX(least, MIN(q->file_bytes / 4, QCOW2_MAX_QUARANTINE));
}

static void append(struct qcow2_freed_list *l, struct qcow2_freed f)
{
	struct qcow2_freed *last = l->n ? &l->v[l->first + l->n - 1] : NULL;

	l->bytes += f.bytes;
	if (last && last->epoch == f.epoch && last->host + last->bytes == f.host) {
		last->bytes += f.bytes;
		return;
	}
	if (l->first + l->n == l->room)
		compact(l);
	assert(l->n < l->room);
	l->v[l->first + l->n++] = f;
}

void qcow2_freed_move(struct qcow2_freed_list *to, struct qcow2_freed_list *from)
{
	for (size_t i = 0; i < from->n; i++)
		append(to, from->v[from->first + i]);
	from->first = from->n = 0;
	from->bytes = 0;
}

void qcow2_free(struct qcow2 *q, uint64_t host, uint64_t bytes)
{
	if (!MUTANT(55))
		qcow2_leaks_not(q, host, bytes);
	append(MUTANT(1) || MUTANT(11) ? &q->freed_durable : &q->freed,
		(struct qcow2_freed){.host = host, .bytes = bytes, .epoch = node_epoch_now(&q->node)});
	qcow2_dirtied(q);
	if (q->freed.bytes > quarantine_limit(q) && !q->commit_soon) {
		q->commit_soon = true;
		co_queue_wake_one(&q->keeper_wake);
	}
}

/* Whoever frees a lot waits now and then, so that the lists stay short. */
int qcow2_free_throttle(struct co *co, struct qcow2 *q)
{
	return q->freed.bytes > 2 * quarantine_limit(q) ? qcow2_commit(co, q) : 0;
}

/* A failed commit's entries go back before those that came later: the list stays in order of epochs. */
void qcow2_freed_settle(struct qcow2 *q, bool durable)
{
	if (durable || MUTANT(30)) {
		qcow2_freed_move(&q->freed_durable, &q->freed_commit);
		co_queue_wake_one(&q->keeper_wake);
		return;
	}
	qcow2_freed_move(&q->freed_commit, &q->freed);
	qcow2_freed_move(&q->freed, &q->freed_commit);
}

/* ---- giving back ---- */

/* Another program may have left the file shorter than its last cluster. */
static int punch(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t host = cluster << q->cluster_bits, size = q->node.file->size;

	return host < size ? node_discard(co, q->node.file, host, MIN(n << q->cluster_bits, size - host)) : 0;
}

static int give_back(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n, bool last)
{
	int rc = MUTANT(31) ? qcow2_refcount_drop(co, q, cluster, n) : 0;

	if (MUTANT(31))
		co_sleep(co, QCOW2_EPOCH_POLL_NS);
	if (!rc && last && !q->options.no_discard)
		rc = punch(co, q, cluster, n);
	if (rc && rc != -ENOTSUP)
		return rc;
	return MUTANT(31) ? 0 : qcow2_refcount_drop(co, q, cluster, n);
}

/* Before it is punched out of the file. */
static int release_check(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t host = cluster << q->cluster_bits;

	if (!qcow2_cache_needs(&q->l2_cache, host, n << q->cluster_bits))
		return 0;
	return qcow2_corrupt(
		co, q, "an L2 table at %#" PRIx64 " or behind has more references than its refcount says", host);
}

/* In runs that are punched by one call. */
int qcow2_release(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	if (q->corrupt)
		return -EIO;
	node_event(co, q->node.file, NODE_EVENT_CLUSTER_FREE);
	while (n) {
		uint64_t run;
		bool last;
		int rc = qcow2_refcount_run(co, q, cluster, n, &last, &run);

		for (uint64_t i = 0; !rc && last && i < run; i++) /* nothing may be put there any more */
			qcow2_pack_close(q, cluster + i);
		if (!rc && last)
			rc = release_check(co, q, cluster, run);
		if (!rc)
			rc = give_back(co, q, cluster, run, last);
		if (rc) {
			q->stats.leaked += n;
			return rc;
		}
		cluster += run;
		n -= run;
	}
	return 0;
}

int qcow2_reclaim(struct co *co, struct qcow2 *q)
{
	struct qcow2_freed_list *l = &q->freed_durable;
	int first_error = 0;

	while (!q->corrupt && l->n && node_epoch_passed(&q->node, l->v[l->first].epoch)) {
		struct qcow2_freed f = l->v[l->first];
		int rc;

		l->first++;
		l->n--;
		l->bytes -= f.bytes;
		rc = qcow2_release(co, q, qcow2_cluster_of(q, f.host), f.bytes >> q->cluster_bits);
		if (rc && !first_error)
			first_error = rc;
	}
	return first_error;
}

/* ---- the keeper ---- */

void qcow2_dirtied(struct qcow2 *q)
{
	if (buggify("commit-soon")) {
		q->commit_soon = true;
		co_queue_wake_one(&q->keeper_wake);
	}
	if (q->dirty)
		return;
	q->dirty = true;
	q->dirty_since = co_sched_now(q->node.sched);
	co_queue_wake_one(&q->keeper_wake);
}

static uint64_t keeper_deadline(const struct qcow2 *q)
{
	uint64_t now = co_sched_now(q->node.sched);
	uint64_t deadline = q->dirty ? q->dirty_since + q->options.commit_interval_ns : CO_NEVER;

	if (q->commit_soon)
		return now;
	return q->freed_durable.n ? MIN(deadline, now + QCOW2_EPOCH_POLL_NS) : deadline;
}

static void keeper(struct co *co, void *arg)
{
	struct qcow2 *q = arg;

	while (!q->closing) {
		int rc = 0;

		if (q->commit_soon || (q->dirty && co_now(co) >= q->dirty_since + q->options.commit_interval_ns))
			rc = qcow2_commit(co, q);
		if (rc) { /* those who flush are told; here we try again later */
			q->dirty_since = co_now(co);
			q->commit_soon = false;
		}
		if (qcow2_reclaim(co, q))
			q->stats.reclaim_errors++;
		if (!q->closing && co_queue_wait_until(co, &q->keeper_wake, keeper_deadline(q)) == 0)
			continue;
	}
	q->keeper_alive = false;
	co_queue_wake_all(&q->keeper_done);
}

int qcow2_keeper_start(struct qcow2 *q)
{
	int rc = co_spawn(q->node.sched, "qcow2-keeper", keeper, q);

	q->keeper_alive = rc == 0;
	return rc;
}

void qcow2_keeper_stop(struct co *co, struct qcow2 *q)
{
	q->closing = true;
	co_queue_wake_all(&q->keeper_wake);
	while (q->keeper_alive)
		co_queue_wait(co, &q->keeper_done);
}
