/* SPDX-License-Identifier: MIT */
/*
 * Errors where one wants them, requests that stop where one wants them, and limits that the storage doesn't have: to test
 * what is above. Rules wait for an event (node/event.h), in one state or in any:
 *
 *     [inject-error]  from the event on, until one of the same kind takes its place, requests fail
 *     [set-state]     the event brings another state; the first one is 1
 *     a breakpoint    the next request that comes by the event stops there, until it is resumed by the breakpoint's tag
 *
 * Options, rules and their file have the names and the meaning that they have in QEMU.
 */
#ifndef CORRAL_FILTER_BLKDEBUG_H
#define CORRAL_FILTER_BLKDEBUG_H

#include "node/node.h"

struct blkdebug_config { /* all zeros but for the list: no rule, no limit */
	struct list rules;
	uint64_t align, max_transfer, opt_write_zero, max_write_zero, opt_discard, max_discard; /* 0: none */
};

void blkdebug_config_init(struct blkdebug_config *c);
void blkdebug_config_fini(struct blkdebug_config *c);
/*
 * One option: "align", "max-transfer", ..., "inject-error.0.event", "set-state.2.new_state", ... The number tells which
 * rule is meant. -EINVAL, -ENOMEM, explained; -ENOENT, not explained: no option of that name.
 */
int blkdebug_config_set(struct blkdebug_config *c, const char *name, const char *value, struct err *err) ATTR_MUST_USE;
/* The rules of a configuration file, given as its text. */
int blkdebug_config_text(struct blkdebug_config *c, const char *text, struct err *err) ATTR_MUST_USE;

/* On success the child belongs to the node, and the rules have moved into it; on failure both stay. */
int blkdebug_open(struct co *co, struct node *child, struct blkdebug_config *config, struct node **out, struct err *err)
	ATTR_MUST_USE;

/* More rules, which move into the node; each has its event. */
void blkdebug_add_rules(struct node *n, struct blkdebug_config *from);

/* The node itself, or the first below it that is one; NULL: there is none. */
struct node *blkdebug_find(struct node *n);

/* -ENOENT: there is no such event. -ENOMEM. */
int blkdebug_break(struct node *n, const char *event, const char *tag) ATTR_MUST_USE;
/* Takes the breakpoints of that tag away, and resumes those who stand at one. -ENOENT: there is none. */
int blkdebug_remove_break(struct node *n, const char *tag) ATTR_MUST_USE;
int blkdebug_resume(struct node *n, const char *tag) ATTR_MUST_USE; /* one of them; -ENOENT */
bool blkdebug_is_suspended(const struct node *n, const char *tag);
void blkdebug_wait(struct co *co, struct node *n, const char *tag); /* until somebody stands there */

/* Is told of each request that stops at a breakpoint, and of each that goes on. */
typedef void blkdebug_watch_fn(void *arg, const char *tag, bool resumed);
void blkdebug_watch(struct node *n, blkdebug_watch_fn *fn, void *arg);

#endif
