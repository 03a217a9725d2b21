/* SPDX-License-Identifier: MIT */
/*
 * The switch on x86-64: see co/switch.h.
 *
 * All registers but four are declared as clobbered, so that the compiler saves those that hold something. rsp can't be;
 * rbp and rbx may be the frame and base pointer of the function that this is inlined into, so they are saved by hand.
 * The fourth is the place to continue at. Nothing is pushed: the red zone below rsp may be in use.
 *
 * `to` stays in rdi: there a flow that begins finds its argument, and one that continues finds its own context. endbr64 is for indirect branch tracking. A shadow stack
 * would need to be switched, too; switch_x86_64.S lacks the mark that claims this, so linkers and loaders leave it off.
 */
#ifndef CORRAL_CO_SWITCH_X86_64_H
#define CORRAL_CO_SWITCH_X86_64_H

#include <stddef.h>
#include <stdint.h>

struct co_context {
	void *pc;
	void *sp;
	void *rbp;
	void *rbx;
};

void co_context_enter(void); /* switch_x86_64.S; entered by a jump, with the start function in rbx */

static inline void co_context_init(struct co_context *ctx, void *low, void *high, co_context_start *start)
{
	(void)low;
	ctx->pc = (void *)co_context_enter;
	ctx->sp = (void *)((uintptr_t)high & ~(uintptr_t)15);
	ctx->rbp = NULL;
	ctx->rbx = (void *)start;
}

#ifdef __AVX512F__
#define CO_CLOBBER_AVX512                                                                                              \
	, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27",  \
		"xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#else
#define CO_CLOBBER_AVX512
#endif

static inline __attribute__((always_inline)) struct co_context *co_context_switch(
	struct co_context *from, struct co_context *to)
{
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rax, 0(%0)\n\t"
			 "movq %%rsp, 8(%0)\n\t"
			 "movq %%rbp, 16(%0)\n\t"
			 "movq %%rbx, 24(%0)\n\t"
			 "movq 8(%1), %%rsp\n\t"
			 "movq 16(%1), %%rbp\n\t"
			 "movq 24(%1), %%rbx\n\t"
			 "jmpq *0(%1)\n"
			 "1:\n\t"
			 "endbr64"
			 : "+S"(from), "+D"(to)
			 :
			 : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
			 "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
			 "xmm13", "xmm14", "xmm15", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)",
			 "memory", "cc" CO_CLOBBER_AVX512);
	return to;
}

#endif
