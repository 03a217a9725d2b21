/* SPDX-License-Identifier: MIT */
/*
 * Slices of metadata: a hash table by host address, and a clock for eviction.
 *
 * A slice that is loading, dirty, or captured by the running commit stays. Its load is shared: who wants the same slice
 * waits for it, nobody else does. When every entry must stay, the caller joins a commit (or waits for a load) and looks
 * again; so a cache of one slice is slow and right.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/engine.h"

int qcow2_cache_init(struct qcow2_cache *c, struct qcow2 *q, uint64_t bytes)
{
	*c = (struct qcow2_cache){.q = q, .slice_bytes = MIN(QCOW2_SLICE_BYTES, q->cluster_bytes)};
	list_init(&c->dirty);
	list_init(&c->writing);
	co_queue_init(&c->room);
	c->entries = (unsigned)MAX(bytes / c->slice_bytes, UINT64_C(1));
	c->buckets = 1;
	while (c->buckets < c->entries)
		c->buckets *= 2;
	c->slices = calloc(c->entries, sizeof(*c->slices));
	c->hash = calloc(c->buckets, sizeof(struct qcow2_slice *));
	c->memory = node_alloc((uint64_t)c->entries * c->slice_bytes);
	if (!c->slices || !c->hash || !c->memory)
		return -ENOMEM;
	for (unsigned i = 0; i < c->entries; i++) {
		c->slices[i].data = (char *)c->memory + (size_t)i * c->slice_bytes;
		list_init(&c->slices[i].dirty_link);
		list_init(&c->slices[i].writing_link);
		co_queue_init(&c->slices[i].loaded);
	}
	return 0;
}

void qcow2_cache_fini(struct qcow2_cache *c)
{
	free(c->slices);
	free(c->hash);
	free(c->memory);
	*c = (struct qcow2_cache){0};
}

static struct qcow2_slice **bucket_of(struct qcow2_cache *c, uint64_t host)
{
	uint64_t mixed = host / c->slice_bytes * UINT64_C(0x9e3779b97f4a7c15);

	return &c->hash[(mixed >> 32) & (c->buckets - 1)];
}

static struct qcow2_slice *find(struct qcow2_cache *c, uint64_t host)
{
	struct qcow2_slice *s = *bucket_of(c, host);

	while (s && s->host != host)
		s = s->hash_next;
	return s;
}

static void insert(struct qcow2_cache *c, struct qcow2_slice *s, uint64_t host)
{
	struct qcow2_slice **bucket = bucket_of(c, host);

	s->host = host;
	s->used = true;
	s->hash_next = *bucket;
	*bucket = s;
}

static void drop(struct qcow2_cache *c, struct qcow2_slice *s)
{
	struct qcow2_slice **at = bucket_of(c, s->host);

	while (*at != s)
		at = &(*at)->hash_next;
	*at = s->hash_next;
	s->hash_next = NULL;
	s->host = 0;
}

static bool must_stay(const struct qcow2_slice *s) { return (s->loading && !MUTANT(33)) || s->dirty || s->writing; }

/* A free entry, or one that can be evicted; NULL: all must stay. Two turns of the clock clear every `used`. */
static struct qcow2_slice *victim(struct qcow2_cache *c)
{
	for (unsigned turn = 0; turn < 2 * c->entries; turn++) {
		struct qcow2_slice *s = &c->slices[c->hand];

		c->hand = (c->hand + 1) % c->entries;
		if (must_stay(s))
			continue;
		if (s->host && s->used) {
			s->used = false;
			continue;
		}
		if (s->host)
			drop(c, s);
		return s;
	}
	return NULL;
}

/* Waits until an entry may have become free. */
static int make_room(struct co *co, struct qcow2_cache *c)
{
	if (!list_empty(&c->dirty)) {
		if (c == &c->q->refcount_cache)
			qcow2_refcounts_want(c->q);
		return qcow2_commit(co, c->q);
	}
	co_queue_wait(co, &c->room);
	return 0;
}

static int load(struct co *co, struct qcow2_cache *c, struct qcow2_slice *s)
{
	int rc;

	c->misses++;
	s->loading = true;
	node_event(co, c->q->node.file, c->load_event);
	rc = node_read(co, c->q->node.file, s->host, IOV_BUF(s->data, c->slice_bytes));
	s->loading = false;
	if (rc && !MUTANT(36))
		drop(c, s);
	co_queue_wake_all(&s->loaded);
	co_queue_wake_all(&c->room);
	return rc;
}

/* The slice if it is there and loaded; else an empty entry that is already in the table under host, in *fresh. */
static int look(
	struct co *co, struct qcow2_cache *c, uint64_t host, struct qcow2_slice **out, struct qcow2_slice **fresh)
{
	for (;;) {
		struct qcow2_slice *s = find(c, host);
		int rc;

		*out = *fresh = NULL;
		if (s && !s->loading) {
			s->used = true;
			*out = s;
			return 0;
		}
		if (s) {
			co_queue_wait(co, &s->loaded);
			continue;
		}
		s = victim(c);
		if (s) {
			insert(c, s, host);
			*fresh = s;
			return 0;
		}
		rc = make_room(co, c);
		if (rc)
			return rc;
	}
}

/* Nobody may count on what was loaded before. */
static void evict_for_fun(struct qcow2_cache *c, uint64_t host)
{
	struct qcow2_slice *s = find(c, host);

	if (s && !must_stay(s) && buggify("cache-evict"))
		drop(c, s);
}

int qcow2_cache_get(struct co *co, struct qcow2_cache *c, uint64_t host, struct qcow2_slice **out)
{
	struct qcow2_slice *fresh;
	int rc;

	if (buggify("cache-yield"))
		co_yield(co);
	evict_for_fun(c, host);
	rc = look(co, c, host, out, &fresh);
	if (rc)
		return rc;
	if (*out) {
		c->hits++;
		return 0;
	}
	rc = load(co, c, fresh);
	*out = rc ? NULL : fresh;
	return rc;
}

int qcow2_cache_get_zero(struct co *co, struct qcow2_cache *c, uint64_t host, struct qcow2_slice **out)
{
	struct qcow2_slice *fresh;
	int rc = look(co, c, host, out, &fresh);

	if (rc || *out)
		return rc;
	memset(fresh->data, 0, c->slice_bytes);
	*out = fresh;
	return 0;
}

/* How many there are, as far as `most` more. */
static unsigned count(const struct list *l, unsigned most)
{
	unsigned n = 0;

	for (const struct list *it = l->next; it != l && n < most; it = it->next)
		n++;
	return n;
}

int qcow2_cache_relieve(struct co *co, struct qcow2_cache *c)
{
	unsigned most = c->entries - c->entries / 4;

	return count(&c->dirty, most) + count(&c->writing, most) >= most ? qcow2_commit(co, c->q) : 0;
}

struct prefetch {
	struct qcow2_cache *c;
	uint64_t next, end;
};

static void prefetch_some(struct co *co, void *arg)
{
	struct prefetch *p = arg;

	while (p->next < p->end) {
		uint64_t host = p->next;
		struct qcow2_slice *s;

		p->next += p->c->slice_bytes;
		if (!find(p->c, host) && qcow2_cache_get(co, p->c, host, &s))
			p->next = p->end;
	}
}

/* Not where it would push out more than a part of what is cached. */
void qcow2_cache_prefetch(struct co *co, struct qcow2_cache *c, uint64_t host, uint64_t bytes)
{
	struct prefetch p = {.c = c, .next = host, .end = host + bytes};
	unsigned missing = 0;
	struct co_group group;

	for (uint64_t at = host; at < host + bytes; at += c->slice_bytes)
		missing += find(c, at) == NULL;
	if (missing < 2 || missing > c->entries / 4)
		return;
	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 1; i < MIN(missing, QCOW2_PREFETCH); i++)
		if (co_group_spawn(&group, "qcow2-prefetch", prefetch_some, &p))
			break;
	prefetch_some(co, &p);
	co_group_wait(co, &group);
}

void qcow2_cache_dirty(struct qcow2_cache *c, struct qcow2_slice *s, uint32_t at, uint32_t bytes)
{
	uint32_t unit = MIN(c->q->unit_bytes, c->slice_bytes);

	if (!s->dirty)
		list_push(&c->dirty, &s->dirty_link);
	for (uint32_t i = at / unit; i <= (at + bytes - 1) / unit; i++)
		s->dirty |= UINT32_C(1) << i;
	qcow2_dirtied(c->q);
}

bool qcow2_cache_needs(struct qcow2_cache *c, uint64_t host, uint64_t bytes)
{
	bool needed = false;

	for (uint64_t at = align_down(host, c->slice_bytes); !needed && at < host + bytes; at += c->slice_bytes) {
		const struct qcow2_slice *s = find(c, at);

		needed = s && must_stay(s);
	}
	return needed;
}

void qcow2_cache_forget(struct qcow2_cache *c, uint64_t host, uint64_t bytes)
{
	for (uint64_t at = align_down(host, c->slice_bytes); at < host + bytes; at += c->slice_bytes) {
		struct qcow2_slice *s = find(c, at);

		if (s) {
			assert(!must_stay(s));
			drop(c, s);
		}
	}
}
