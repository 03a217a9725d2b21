/* SPDX-License-Identifier: MIT */
/* The switch by POSIX means, for processors without assembly: see co/switch.h. Each one costs two system calls. */
#ifndef CORRAL_CO_SWITCH_UCONTEXT_H
#define CORRAL_CO_SWITCH_UCONTEXT_H

#include <ucontext.h>

struct co_context {
	ucontext_t state;
	co_context_start *start;
};

void co_context_init(struct co_context *ctx, void *low, void *high, co_context_start *start);
struct co_context *co_context_switch(struct co_context *from, struct co_context *to);

#endif
