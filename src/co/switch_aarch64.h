/* SPDX-License-Identifier: MIT */
/*
 * The switch on 64-bit ARM: see co/switch.h.
 *
 * All registers but the stack pointer, x29 (frame pointer) and x19 (the base pointer of some functions) are declared as
 * clobbered, so that the compiler saves those that hold something; these three are saved by hand. `to` stays in x0: there
 * a flow that begins finds its argument, and one that continues finds its own context. hint #36 is "bti j", for branch target identification.
 */
#ifndef CORRAL_CO_SWITCH_AARCH64_H
#define CORRAL_CO_SWITCH_AARCH64_H

#include <stddef.h>
#include <stdint.h>

struct co_context {
	void *pc;
	void *sp;
	void *x29;
	void *x19;
};

void co_context_enter(void); /* switch_aarch64.S; entered by a jump, with the start function in x19 */

static inline void co_context_init(struct co_context *ctx, void *low, void *high, co_context_start *start)
{
	(void)low;
	ctx->pc = (void *)co_context_enter;
	ctx->sp = (void *)((uintptr_t)high & ~(uintptr_t)15);
	ctx->x29 = NULL;
	ctx->x19 = (void *)start;
}

#ifdef __ARM_FEATURE_SVE
#define CO_CLOBBER_SVE                                                                                                 \
	, "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11", "p12", "p13", "p14", "p15", "ffr"
#else
#define CO_CLOBBER_SVE
#endif

static inline __attribute__((always_inline)) struct co_context *co_context_switch(
	struct co_context *from, struct co_context *to)
{
	register struct co_context *x0 __asm__("x0") = to;
	register struct co_context *x1 __asm__("x1") = from;

	__asm__ volatile("adr x2, 1f\n\t"
			 "mov x3, sp\n\t"
			 "stp x2, x3, [x1]\n\t"
			 "stp x29, x19, [x1, #16]\n\t"
			 "ldp x2, x3, [x0]\n\t"
			 "ldp x29, x19, [x0, #16]\n\t"
			 "mov sp, x3\n\t"
			 "br x2\n"
			 "1:\n\t"
			 "hint #36"
			 : "+r"(x0), "+r"(x1)
			 :
			 : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
			 "x16", "x17", "x18", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30",
			 "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",
			 "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27",
			 "v28", "v29", "v30", "v31", "memory", "cc" CO_CLOBBER_SVE);
	return x0;
}

#endif
