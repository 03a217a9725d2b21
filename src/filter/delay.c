/* SPDX-License-Identifier: MIT */
/* Every request waits first: to see what a slow disk does to others, and to hold one request while watching the rest. */
#include "filter/filter.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "filter/pass.h"

struct delay {
	struct node node; /* first; its file is the child */
	struct delay_rules rules;
	struct delay_counts counts;
	bool parked_once;
};

static struct delay *delay_of(const struct node *n) { return container_of(n, struct delay, node); }

/* Whether a park rule holds this request. One that is to hold once has done so then. */
static bool is_parked(struct delay *d, bool kind, uint64_t off, uint64_t len)
{
	const struct delay_rules *r = &d->rules;

	if (!kind || !ranges_overlap(off, len, r->park_off, r->park_len) || (r->park_once && d->parked_once))
		return false;
	d->parked_once = true;
	d->counts.parked++;
	return true;
}

static void request_begin(struct co *co, struct delay *d, uint64_t ns, bool parked)
{
	d->counts.in_flight++;
	d->counts.most_in_flight = MAX(d->counts.most_in_flight, d->counts.in_flight);
	if (parked)
		ns += d->rules.park_ns;
	if (ns > 0)
		co_sleep(co, ns);
}

static int request_end(struct delay *d, int err)
{
	d->counts.in_flight--;
	return err;
}

static void change_begin(struct co *co, struct delay *d, uint64_t off, uint64_t len)
{
	request_begin(co, d, d->rules.write_ns, is_parked(d, d->rules.park_writes, off, len));
}

static int delay_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	struct delay *d = delay_of(n);

	d->counts.reads++;
	request_begin(co, d, d->rules.read_ns, is_parked(d, d->rules.park_reads, off, to.len));
	return request_end(d, pass_read(co, n, off, to));
}

static int delay_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct delay *d = delay_of(n);

	d->counts.writes++;
	change_begin(co, d, off, from.len);
	return request_end(d, pass_write(co, n, off, from, flags));
}

static int delay_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct delay *d = delay_of(n);

	d->counts.zeroes++;
	change_begin(co, d, off, len);
	return request_end(d, pass_zero(co, n, off, len, flags));
}

static int delay_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	struct delay *d = delay_of(n);

	d->counts.discards++;
	change_begin(co, d, off, len);
	return request_end(d, pass_discard(co, n, off, len));
}

static int delay_flush(struct co *co, struct node *n)
{
	struct delay *d = delay_of(n);

	d->counts.flushes++;
	request_begin(co, d, d->rules.flush_ns, false);
	return request_end(d, pass_flush(co, n));
}

static int delay_close(struct co *co, struct node *n)
{
	(void)co;
	node_fini(n);
	free(delay_of(n));
	return 0;
}

static const struct node_ops delay_ops = {
	.name = "delay",
	.close = delay_close,
	.flush = delay_flush,
	.resize = pass_resize,
	.read = delay_read,
	.write = delay_write,
	.zero = delay_zero,
	.discard = delay_discard,
	.map = pass_map,
};

int delay_open(struct co *co, struct node *child, const struct delay_rules *rules, struct node **out)
{
	struct delay *d = calloc(1, sizeof(*d));
	int err;

	if (d == NULL)
		return -ENOMEM;
	d->rules = *rules;
	err = pass_init(co, &d->node, &delay_ops, child);
	if (err != 0) {
		free(d);
		return err;
	}
	*out = &d->node;
	return 0;
}

struct delay_rules *delay_rules(struct node *n)
{
	assert(n->ops == &delay_ops);
	return &delay_of(n)->rules;
}

const struct delay_counts *delay_counts(const struct node *n)
{
	assert(n->ops == &delay_ops);
	return &delay_of(n)->counts;
}
