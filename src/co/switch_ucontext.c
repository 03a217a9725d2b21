/* SPDX-License-Identifier: MIT */
/* The portable switch. makecontext passes ints only, so the context's address travels in two halves. */
#include "co/switch.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

static void context_enter(unsigned high_half, unsigned low_half)
{
	struct co_context *self = (void *)(uintptr_t)((uint64_t)high_half << 32 | low_half);

	self->start(self);
}

void co_context_init(struct co_context *ctx, void *low, void *high, co_context_start *start)
{
	uint64_t self = (uintptr_t)ctx;
	int rc = getcontext(&ctx->state);

	assert(rc == 0);
	ctx->start = start;
	ctx->state.uc_stack.ss_sp = low;
	ctx->state.uc_stack.ss_size = (size_t)((char *)high - (char *)low);
	ctx->state.uc_link = NULL;
	makecontext(&ctx->state, (void (*)(void))context_enter, 2, (unsigned)(self >> 32), (unsigned)self);
}

struct co_context *co_context_switch(struct co_context *from, struct co_context *to)
{
	int rc = swapcontext(&from->state, &to->state);

	assert(rc == 0);
	return from;
}
