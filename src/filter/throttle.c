/* SPDX-License-Identifier: MIT */
/*
 * I/O limits. The levels of buckets are integers, in billionths of a unit: a rate of units a second is the same number of
 * billionths each nanosecond, so nothing is ever rounded and the long run is exact.
 *
 * Each direction of a group has a gate. One request stands in it, sleeps until every bucket that it touches has room, pours
 * in its cost and goes; then the next member's turn comes. Those behind it need no clock. Of two in the gates that could
 * both go, the one that stands there longer goes first: so neither direction can take all that they share.
 */
#include "filter/throttle.h"

#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "filter/pass.h"

typedef unsigned __int128 level; /* billionths; what is poured in is at most 2^64 units */

#define UNIT ((level)1000000000)
#define LOOK_NS                                                                                                        \
	UINT64_C(100000000) /* a request looks so often whether its node is being drained: then nothing holds it */

enum { READS, WRITES, DIRECTIONS };

struct bucket {
	uint64_t rate; /* units a second, leaks; 0: no limit */
	level size;
	level full;
};

struct member {
	struct list link;                  /* of the group's members */
	struct co_queue queue[DIRECTIONS]; /* those before the gate */
	unsigned waiting[DIRECTIONS];
};

struct gate {
	bool busy;
	struct member *last;    /* whose request stands in it, or was the last one */
	struct co_queue inside; /* who sleeps in it, for its time or other limits */
	uint64_t bytes, turn;   /* of who stands in it */
};

struct throttle_group {
	unsigned refs;
	uint64_t iops_size;
	struct bucket steady[THROTTLE_KINDS], burst[THROTTLE_KINDS];
	uint64_t leaked_ns; /* the levels are of this moment */
	struct list members;
	struct gate gate[DIRECTIONS];
	uint64_t turns;
	struct co_sched *sched;
};

struct throttle {
	struct node node; /* first */
	struct throttle_group *group;
	struct member member;
};

static struct throttle *throttle_of(const struct node *n) { return container_of(n, struct throttle, node); }

/* ---- buckets ---- */

static void bucket_leak(struct bucket *b, uint64_t ns)
{
	level leaked = (level)b->rate * ns;

	b->full -= MIN(b->full, leaked);
}

/* Nanoseconds until it has room. */
static uint64_t bucket_wait(const struct bucket *b)
{
	if (b->rate == 0 || b->full <= b->size)
		return 0;
	return (uint64_t)((b->full - b->size + b->rate - 1) / b->rate);
}

static void buckets_set(struct bucket *steady, struct bucket *burst, const struct throttle_limit *l)
{
	bool long_burst = l->length > 1;

	*steady = (struct bucket){.rate = l->avg};
	steady->size = l->max != 0 ? l->max * MAX(l->length, UINT64_C(1)) * UNIT : l->avg * UNIT / 10;
	*burst = (struct bucket){.rate = long_burst ? l->max : 0, .size = l->max * UNIT / 10};
}

/* ---- what a request touches ---- */

struct cost {
	unsigned kinds[4];
	level of[4];
};

static struct cost cost_of(const struct throttle_group *g, unsigned direction, uint64_t bytes)
{
	bool counts_more = g->iops_size != 0 && bytes > g->iops_size;
	level ops = counts_more ? bytes * UNIT / g->iops_size : UNIT;

	return (struct cost){
		.kinds = {THROTTLE_BPS_TOTAL, direction == READS ? THROTTLE_BPS_READ : THROTTLE_BPS_WRITE,
			THROTTLE_IOPS_TOTAL, direction == READS ? THROTTLE_IOPS_READ : THROTTLE_IOPS_WRITE},
		.of = {bytes * UNIT, bytes * UNIT, ops, ops},
	};
}

static void group_leak(struct throttle_group *g, uint64_t now_ns)
{
	for (unsigned i = 0; i < THROTTLE_KINDS; i++) {
		bucket_leak(&g->steady[i], now_ns - g->leaked_ns);
		bucket_leak(&g->burst[i], now_ns - g->leaked_ns);
	}
	g->leaked_ns = now_ns;
}

static uint64_t cost_wait(const struct throttle_group *g, const struct cost *c)
{
	uint64_t ns = 0;

	for (unsigned i = 0; i < ARRAY_ENTRIES(c->kinds); i++) {
		ns = MAX(ns, bucket_wait(&g->steady[c->kinds[i]]));
		ns = MAX(ns, bucket_wait(&g->burst[c->kinds[i]]));
	}
	return ns;
}

static void cost_pay(struct throttle_group *g, const struct cost *c)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(c->kinds); i++) {
		g->steady[c->kinds[i]].full += c->of[i];
		g->burst[c->kinds[i]].full += c->of[i];
	}
}

/* ---- the gate ---- */

/* Whose turn it is after the last one's; NULL: nobody waits. */
static struct member *gate_next(const struct throttle_group *g, unsigned direction)
{
	struct list *last = g->gate[direction].last ? &g->gate[direction].last->link : NULL;

	for (struct list *it = last ? last->next : g->members.next;; it = it->next) {
		struct member *m = list_entry(it, struct member, link);

		if (it != &g->members && m->waiting[direction] > 0)
			return m;
		if (it == (last ? last : &g->members))
			return NULL;
	}
}

/* A gate that is left to somebody stays busy. */
static void gate_leave(struct throttle_group *g, unsigned direction)
{
	struct member *next = gate_next(g, direction);

	g->gate[direction].busy = next != NULL;
	if (next == NULL)
		return;
	next->waiting[direction]--;
	g->gate[direction].last = next;
	co_queue_wake_one(&next->queue[direction]);
}

static void gate_enter(struct co *co, struct throttle_group *g, struct member *m, unsigned direction)
{
	struct gate *gate = &g->gate[direction];

	if (gate->busy) {
		m->waiting[direction]++;
		co_queue_wait(co, &m->queue[direction]);
		return;
	}
	gate->busy = true;
	gate->last = m;
}

/* How long the one who stands in the gate has to wait. */
static uint64_t gate_wait(const struct throttle_group *g, unsigned direction, struct cost *cost)
{
	*cost = cost_of(g, direction, g->gate[direction].bytes);
	return cost_wait(g, cost);
}

/* Whether the other direction's goes first; then it is awake. */
static bool gate_yields(struct throttle_group *g, unsigned direction)
{
	struct gate *mine = &g->gate[direction], *other = &g->gate[!direction];
	struct cost cost;

	if (!other->busy || other->turn > mine->turn || gate_wait(g, !direction, &cost) > 0)
		return false;
	co_queue_wake_all(&other->inside);
	return true;
}

static void limit(struct co *co, struct throttle *t, unsigned direction, uint64_t bytes)
{
	struct throttle_group *g = t->group;
	struct gate *gate = &g->gate[direction];
	struct cost cost;

	gate_enter(co, g, &t->member, direction);
	gate->bytes = bytes;
	gate->turn = g->turns++;
	for (;;) {
		uint64_t ns;

		group_leak(g, co_now(co));
		ns = gate_wait(g, direction, &cost);
		if (ns > 0 && t->node.drains == 0)
			(void)!co_queue_wait_until(co, &gate->inside, co_now(co) + MIN(ns, LOOK_NS));
		else if (gate_yields(g, direction))
			co_yield(co);
		else
			break;
	}
	cost_pay(g, &cost);
	gate_leave(g, direction);
}

/* ---- groups ---- */

static void limits_take(struct throttle_group *g, const struct throttle_limits *limits)
{
	g->iops_size = limits->iops_size;
	g->leaked_ns = co_sched_now(g->sched);
	for (unsigned i = 0; i < THROTTLE_KINDS; i++)
		buckets_set(&g->steady[i], &g->burst[i], &limits->of[i]);
}

struct throttle_group *throttle_group_new(struct co_sched *sched, const struct throttle_limits *limits)
{
	struct throttle_group *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return NULL;
	g->refs = 1;
	g->sched = sched;
	list_init(&g->members);
	for (unsigned i = 0; i < DIRECTIONS; i++)
		co_queue_init(&g->gate[i].inside);
	limits_take(g, limits);
	return g;
}

struct throttle_group *throttle_group_ref(struct throttle_group *g)
{
	g->refs++;
	return g;
}

void throttle_group_unref(struct throttle_group *g)
{
	if (g != NULL && --g->refs == 0)
		free(g);
}

void throttle_group_limit(struct throttle_group *g, const struct throttle_limits *limits)
{
	limits_take(g, limits);
	for (unsigned i = 0; i < DIRECTIONS; i++)
		co_queue_wake_all(&g->gate[i].inside);
}

/* ---- the node ---- */

static int throttle_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	limit(co, throttle_of(n), READS, to.len);
	return pass_read(co, n, off, to);
}

static int throttle_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	limit(co, throttle_of(n), WRITES, from.len);
	return pass_write(co, n, off, from, flags);
}

static int throttle_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	limit(co, throttle_of(n), WRITES, len);
	return pass_zero(co, n, off, len, flags);
}

static int throttle_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	limit(co, throttle_of(n), WRITES, len);
	return pass_discard(co, n, off, len);
}

/* The gates must not go on from a member that is no more. */
static void member_leave(struct throttle_group *g, struct member *m)
{
	for (unsigned i = 0; i < DIRECTIONS; i++)
		if (g->gate[i].last == m)
			g->gate[i].last =
				m->link.prev != &g->members ? list_entry(m->link.prev, struct member, link) : NULL;
	list_remove(&m->link);
}

static int throttle_close(struct co *co ATTR_UNUSED, struct node *n)
{
	struct throttle *t = throttle_of(n);

	member_leave(t->group, &t->member);
	throttle_group_unref(t->group);
	node_fini(n);
	free(t);
	return 0;
}

static const struct node_ops throttle_ops = {
	.name = "throttle",
	.close = throttle_close,
	.flush = pass_flush,
	.resize = pass_resize,
	.read = throttle_read,
	.write = throttle_write,
	.zero = throttle_zero,
	.discard = throttle_discard,
	.map = pass_map,
};

int throttle_open(struct co *co, struct node *child, struct throttle_group *group, struct node **out)
{
	struct throttle *t = calloc(1, sizeof(*t));
	int err = t != NULL ? pass_init(co, &t->node, &throttle_ops, child) : -ENOMEM;

	if (err != 0) {
		free(t);
		return err;
	}
	t->group = throttle_group_ref(group);
	list_push(&group->members, &t->member.link);
	for (unsigned i = 0; i < DIRECTIONS; i++)
		co_queue_init(&t->member.queue[i]);
	*out = &t->node;
	return 0;
}
