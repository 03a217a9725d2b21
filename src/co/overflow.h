/* SPDX-License-Identifier: MIT */
/* For the scheduler: which pools of stacks there are, and the stack on which a signal handler runs when its own is full. */
#ifndef CORRAL_CO_OVERFLOW_H
#define CORRAL_CO_OVERFLOW_H

#include <signal.h>

#include "co/stack.h"

void co_overflow_watch(const struct co_stack_pool *p);
void co_overflow_unwatch(const struct co_stack_pool *p);

/* Gives the thread a signal stack if it has none; leave takes back what enter gave. */
void co_overflow_enter(const struct co_stack_pool *p, stack_t *given);
void co_overflow_leave(const stack_t *given);

#endif
