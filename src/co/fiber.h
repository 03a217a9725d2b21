/* SPDX-License-Identifier: MIT */
/*
 * What the sanitizers want to know of a switch. In a plain build struct co_fiber is empty and all of this is nothing.
 *
 * AddressSanitizer must know which stack runs, and keeps a fake stack for each flow; ThreadSanitizer keeps a shadow call
 * stack and a clock for each. co_fiber_leave stands directly before a switch and co_fiber_arrive directly after it, on
 * the other side.
 */
#ifndef CORRAL_CO_FIBER_H
#define CORRAL_CO_FIBER_H

#include <stdbool.h>
#include <stddef.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define CO_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#else
#define CO_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define CO_TSAN 1
#include <sanitizer/tsan_interface.h>
#else
#define CO_TSAN 0
#endif

struct co_fiber {
#if CO_ASAN
	void *fake_stack;
	const void *low;
	size_t bytes;
#endif
#if CO_TSAN
	void *tsan;
#endif
};

/* For a flow that will begin on the stack [low, high), which may have been in use before. */
static inline void co_fiber_init(struct co_fiber *f, void *low, void *high)
{
	(void)f, (void)low, (void)high;
#if CO_ASAN
	f->fake_stack = NULL;
	f->low = low;
	f->bytes = (size_t)((char *)high - (char *)low);
	ASAN_UNPOISON_MEMORY_REGION(low, f->bytes);
#endif
#if CO_TSAN
	f->tsan = __tsan_create_fiber(0);
#endif
}

/* After the last switch away from it. */
static inline void co_fiber_fini(struct co_fiber *f)
{
	(void)f;
#if CO_TSAN
	__tsan_destroy_fiber(f->tsan);
#endif
}

/* For the flow that runs now: a thread with its own stack. */
static inline void co_fiber_init_thread(struct co_fiber *f)
{
	(void)f;
#if CO_TSAN
	f->tsan = __tsan_get_current_fiber();
#endif
}

/* last: from will never be continued. */
static inline __attribute__((always_inline)) void co_fiber_leave(struct co_fiber *from, struct co_fiber *to, bool last)
{
	(void)from, (void)to, (void)last;
#if CO_ASAN
	__sanitizer_start_switch_fiber(last ? NULL : &from->fake_stack, to->low, to->bytes);
#endif
#if CO_TSAN
	__tsan_switch_to_fiber(to->tsan, 0);
#endif
}

static inline __attribute__((always_inline)) void co_fiber_arrive(struct co_fiber *self, struct co_fiber *previous)
{
	(void)self, (void)previous;
#if CO_ASAN
	__sanitizer_finish_switch_fiber(self->fake_stack, &previous->low, &previous->bytes);
#endif
}

#endif
