/* SPDX-License-Identifier: MIT */
/*
 * The node that lets requests fail and holds them: see the header. An injected error comes instead of the request, which
 * doesn't reach the child. A request that is larger than a limit reaches it in pieces.
 */
#include "filter/blkdebug.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "filter/blkdebug_rules.h"
#include "filter/pass.h"

#define ZEROS_BYTES MiB /* the most that is written as zeros at once */

struct blkdebug {
	struct node node; /* first */
	struct blkdebug_config config;
	int64_t state;
	struct list suspended;    /* of struct parked */
	struct co_queue arrivals; /* for those who wait until somebody is suspended */
	blkdebug_watch_fn *watch;
	void *watch_arg;
};

struct parked { /* on the stack of who stands at a breakpoint */
	struct list link;
	const char *tag;
	bool resumed;
	struct co_queue go;
};

static struct blkdebug *blkdebug_of(const struct node *n) { return container_of(n, struct blkdebug, node); }
static struct blkdebug_rule *rule_of(struct list *l) { return list_entry(l, struct blkdebug_rule, link); }
static struct parked *parked_of(struct list *l) { return list_entry(l, struct parked, link); }

/* ---- events ---- */

static void tell(const struct blkdebug *b, const char *tag, bool resumed)
{
	if (b->watch != NULL)
		b->watch(b->watch_arg, tag, resumed);
}

/* The breakpoint is used up; the request takes its tag along. */
static void suspend(struct co *co, struct blkdebug *b, struct blkdebug_rule *r)
{
	char *tag = take(r->tag);
	struct parked p = {.tag = tag};

	blkdebug_rule_free(r);
	co_queue_init(&p.go);
	list_push(&b->suspended, &p.link);
	tell(b, tag, false);
	co_queue_wake_all(&b->arrivals);
	while (!p.resumed)
		co_queue_wait(co, &p.go);
	tell(b, tag, true);
	free(tag);
}

static bool applies(const struct blkdebug *b, const struct blkdebug_rule *r, enum node_event event)
{
	return r->event == event && (r->state == 0 || r->state == b->state);
}

/* Injections that became active at another event end when this one has some. */
static void activate(struct blkdebug *b, enum node_event event)
{
	bool any = false;

	list_for_each(it, &b->config.rules)
		any |= rule_of(it)->action == BLKDEBUG_INJECT_ERROR && applies(b, rule_of(it), event);
	list_for_each(it, &b->config.rules) {
		if (any && rule_of(it)->action == BLKDEBUG_INJECT_ERROR)
			rule_of(it)->active = applies(b, rule_of(it), event);
	}
}

static struct blkdebug_rule *first_rule(struct blkdebug *b, enum blkdebug_action action, enum node_event event)
{
	list_for_each(it, &b->config.rules) {
		if (rule_of(it)->action == action && applies(b, rule_of(it), event))
			return rule_of(it);
	}
	return NULL;
}

/* All rules see the state that the event found. */
static void happened(struct co *co, struct blkdebug *b, enum node_event event)
{
	struct blkdebug_rule *next = first_rule(b, BLKDEBUG_SET_STATE, event);
	struct blkdebug_rule *stop = first_rule(b, BLKDEBUG_SUSPEND, event);

	activate(b, event);
	if (next != NULL)
		b->state = next->new_state;
	if (stop != NULL)
		suspend(co, b, stop);
}

static void blkdebug_event(struct co *co, struct node *n, enum node_event event)
{
	if (event != NODE_EVENT_NONE)
		happened(co, blkdebug_of(n), event);
}

/* ---- errors ---- */

static bool hits(const struct blkdebug_rule *r, unsigned io, uint64_t off, uint64_t len)
{
	return r->active && (r->io & io) != 0 && (r->everywhere || ranges_overlap(off, len, r->off, 1));
}

static int inject(struct co *co, struct blkdebug *b, unsigned io, uint64_t off, uint64_t len)
{
	list_for_each(it, &b->config.rules) {
		struct blkdebug_rule *r = rule_of(it);
		bool immediately = r->immediately;
		int error = r->error;

		if (!hits(r, io, off, len) || error == 0)
			continue;
		if (r->once)
			blkdebug_rule_free(r);
		if (!immediately)
			co_yield(co);
		return -error;
	}
	return 0;
}

/* ---- requests ---- */

static uint64_t step(uint64_t limit, uint64_t left) { return limit != 0 ? MIN(limit, left) : left; }

static int blkdebug_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	struct blkdebug *b = blkdebug_of(n);
	int err = 0;

	while (err == 0 && to.len > 0) {
		uint64_t now = step(b->config.max_transfer, to.len);

		err = inject(co, b, BLKDEBUG_READ, off, now);
		if (err == 0)
			err = pass_read(co, n, off, iov_slice(to, 0, now));
		off += now;
		to = iov_slice(to, now, to.len - now);
	}
	return err;
}

static int blkdebug_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct blkdebug *b = blkdebug_of(n);
	int err = 0;

	while (err == 0 && from.len > 0) {
		uint64_t now = step(b->config.max_transfer, from.len);

		err = inject(co, b, BLKDEBUG_WRITE, off, now);
		if (err == 0)
			err = pass_write(co, n, off, iov_slice(from, 0, now), flags);
		off += now;
		from = iov_slice(from, now, from.len - now);
	}
	return err;
}

/* How much of [off, off + len) one call may have: up to the limit, and never both a part of a preferred unit and others. */
static uint64_t piece(uint64_t off, uint64_t len, uint64_t unit, uint64_t limit)
{
	if (unit > 1 && off % unit != 0)
		return MIN(len, unit - off % unit);
	if (unit > 1 && len > unit)
		len -= len % unit;
	return step(limit != 0 && unit > 1 ? MAX(limit - limit % unit, unit) : limit, len);
}

static int write_zeros(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	int err;
	void *zeros;

	err = node_buffer_get(co, n, len, &zeros);
	if (err != 0)
		return err;
	memset(zeros, 0, len);
	err = blkdebug_write(co, n, off, IOV_BUF(zeros, len), flags);
	node_buffer_put(n, zeros, len);
	return err;
}

/* What is smaller than the preferred unit is not for the child's zeroing: it is written. */
static int blkdebug_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct blkdebug *b = blkdebug_of(n);
	int err = 0;

	while (err == 0 && len > 0) {
		uint64_t now = piece(off, len, b->config.opt_write_zero, b->config.max_write_zero);

		if (now < b->config.opt_write_zero) {
			now = MIN(now, ZEROS_BYTES);
			err = write_zeros(co, n, off, now, flags & NODE_FUA);
		} else {
			err = inject(co, b, BLKDEBUG_WRITE_ZEROES, off, now);
			if (err == 0)
				err = pass_zero(co, n, off, now, flags);
		}
		off += now;
		len -= now;
	}
	return err;
}

/* What is smaller than the preferred unit is left alone. */
static int blkdebug_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	struct blkdebug *b = blkdebug_of(n);
	int err = 0;

	while (err == 0 && len > 0) {
		uint64_t now = piece(off, len, b->config.opt_discard, b->config.max_discard);

		if (now >= b->config.opt_discard) {
			err = inject(co, b, BLKDEBUG_DISCARD, off, now);
			if (err == 0)
				err = pass_discard(co, n, off, now);
		}
		off += now;
		len -= now;
	}
	return err;
}

static int blkdebug_flush(struct co *co, struct node *n)
{
	int err = inject(co, blkdebug_of(n), BLKDEBUG_FLUSH, 0, 0);

	return err != 0 ? err : pass_flush(co, n);
}

static int blkdebug_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	int err = inject(co, blkdebug_of(n), BLKDEBUG_BLOCK_STATUS, at.off, len);

	return err != 0 ? err : pass_map(co, n, at, len, out);
}

static int blkdebug_close(struct co *co ATTR_UNUSED, struct node *n)
{
	struct blkdebug *b = blkdebug_of(n);

	blkdebug_config_fini(&b->config);
	node_fini(n);
	free(b);
	return 0;
}

static const struct node_ops blkdebug_ops = {
	.name = "blkdebug",
	.close = blkdebug_close,
	.flush = blkdebug_flush,
	.resize = pass_resize,
	.read = blkdebug_read,
	.write = blkdebug_write,
	.zero = blkdebug_zero,
	.discard = blkdebug_discard,
	.event = blkdebug_event,
	.map = blkdebug_map,
};

/* ---- opening ---- */

static int check_limit(const char *name, uint64_t limit, uint64_t align, struct err *err)
{
	if (limit % align != 0 || limit > INT32_MAX)
		return err_set(err, -EINVAL, "Cannot meet constraints with %s %llu", name, (unsigned long long)limit);
	return 0;
}

static int config_check(const struct blkdebug_config *c, const struct node *child, struct err *err)
{
	uint64_t align = MAX(c->align, (uint64_t)child->align);
	int rc = blkdebug_rules_check(&c->rules, err);

	if (rc == 0 && c->align != 0 && !is_power_of_two(c->align))
		rc = err_set(err, -EINVAL, "Cannot meet constraints with align %llu", (unsigned long long)c->align);
	if (rc == 0)
		rc = check_limit("align", align, 1, err);
	if (rc == 0)
		rc = check_limit("max-transfer", c->max_transfer, align, err);
	if (rc == 0)
		rc = check_limit("opt-write-zero", c->opt_write_zero, align, err);
	if (rc == 0)
		rc = check_limit("max-write-zero", c->max_write_zero, MAX(c->opt_write_zero, align), err);
	if (rc == 0)
		rc = check_limit("opt-discard", c->opt_discard, align, err);
	if (rc == 0)
		rc = check_limit("max-discard", c->max_discard, MAX(c->opt_discard, align), err);
	return rc;
}

static void rules_move(struct blkdebug *b, struct blkdebug_config *from)
{
	b->config = *from;
	list_init(&b->config.rules);
	list_splice(&b->config.rules, &from->rules);
}

int blkdebug_open(struct co *co, struct node *child, struct blkdebug_config *config, struct node **out, struct err *err)
{
	struct blkdebug *b;
	int rc = config_check(config, child, err);

	if (rc != 0)
		return rc;
	b = calloc(1, sizeof(*b));
	rc = b != NULL ? pass_init(co, &b->node, &blkdebug_ops, child) : -ENOMEM;
	if (rc != 0) {
		free(b);
		return err_set(err, rc, "no memory for blkdebug");
	}
	b->node.align = MAX(b->node.align, (uint32_t)config->align);
	b->state = 1;
	list_init(&b->suspended);
	co_queue_init(&b->arrivals);
	rules_move(b, config);
	happened(co, b, NODE_EVENT_NONE);
	*out = &b->node;
	return 0;
}

void blkdebug_add_rules(struct node *n, struct blkdebug_config *from)
{
	list_splice(&blkdebug_of(n)->config.rules, &from->rules);
}

/* ---- breakpoints ---- */

struct node *blkdebug_find(struct node *n)
{
	while (n != NULL && n->ops != &blkdebug_ops)
		n = n->file;
	return n;
}

int blkdebug_break(struct node *n, const char *event, const char *tag)
{
	struct blkdebug *b = blkdebug_of(n);
	enum node_event at;
	struct blkdebug_rule *r;

	if (node_event_parse(event, &at) < 0)
		return -ENOENT;
	r = blkdebug_rule_new(&b->config.rules, BLKDEBUG_SUSPEND, 0);
	if (r == NULL)
		return -ENOMEM;
	r->event = at;
	r->has_event = true;
	r->tag = strdup(tag);
	if (r->tag == NULL) {
		blkdebug_rule_free(r);
		return -ENOMEM;
	}
	return 0;
}

static struct parked *parked_find(const struct blkdebug *b, const char *tag)
{
	list_for_each(it, &b->suspended) {
		if (strcmp(parked_of(it)->tag, tag) == 0)
			return parked_of(it);
	}
	return NULL;
}

static bool resume_one(struct blkdebug *b, const char *tag)
{
	struct parked *p = parked_find(b, tag);

	if (p == NULL)
		return false;
	list_remove(&p->link);
	p->resumed = true;
	co_queue_wake_one(&p->go);
	return true;
}

int blkdebug_resume(struct node *n, const char *tag) { return resume_one(blkdebug_of(n), tag) ? 0 : -ENOENT; }

int blkdebug_remove_break(struct node *n, const char *tag)
{
	struct blkdebug *b = blkdebug_of(n);
	bool any = false;

	list_for_each_safe(it, &b->config.rules) {
		if (rule_of(it)->action != BLKDEBUG_SUSPEND || strcmp(rule_of(it)->tag, tag) != 0)
			continue;
		blkdebug_rule_free(rule_of(it));
		any = true;
	}
	while (resume_one(b, tag))
		any = true;
	return any ? 0 : -ENOENT;
}

bool blkdebug_is_suspended(const struct node *n, const char *tag) { return parked_find(blkdebug_of(n), tag) != NULL; }

void blkdebug_wait(struct co *co, struct node *n, const char *tag)
{
	while (!blkdebug_is_suspended(n, tag))
		co_queue_wait(co, &blkdebug_of(n)->arrivals);
}

void blkdebug_watch(struct node *n, blkdebug_watch_fn *fn, void *arg)
{
	blkdebug_of(n)->watch = fn;
	blkdebug_of(n)->watch_arg = arg;
}
