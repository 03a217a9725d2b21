/* SPDX-License-Identifier: MIT */
/* Between the configuration of blkdebug and the node. */
#ifndef CORRAL_FILTER_BLKDEBUG_RULES_H
#define CORRAL_FILTER_BLKDEBUG_RULES_H

#include "filter/blkdebug.h"

enum blkdebug_action { BLKDEBUG_INJECT_ERROR, BLKDEBUG_SET_STATE, BLKDEBUG_SUSPEND };
enum blkdebug_io {
	BLKDEBUG_READ = 1 << 0,
	BLKDEBUG_WRITE = 1 << 1,
	BLKDEBUG_WRITE_ZEROES = 1 << 2,
	BLKDEBUG_DISCARD = 1 << 3,
	BLKDEBUG_FLUSH = 1 << 4,
	BLKDEBUG_BLOCK_STATUS = 1 << 5,
};

struct blkdebug_rule {
	struct list link;
	enum blkdebug_action action;
	unsigned number; /* among those of its action, as options count them */
	enum node_event event;
	bool has_event;
	int64_t state; /* 0: any */

	unsigned io; /* inject-error: of which kinds */
	int error;
	bool everywhere;
	uint64_t off; /* unless everywhere: requests that have this byte */
	bool once, immediately;
	bool active; /* its event has come */

	int64_t new_state; /* set-state */
	char *tag;         /* suspend */
};

/* At the end of the list; NULL: no memory. */
struct blkdebug_rule *blkdebug_rule_new(struct list *rules, enum blkdebug_action action, unsigned number);
void blkdebug_rule_free(struct blkdebug_rule *r);                                  /* takes it out of its list */
int blkdebug_rules_check(const struct list *rules, struct err *err) ATTR_MUST_USE; /* each has its event */

#endif
