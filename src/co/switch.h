/* SPDX-License-Identifier: MIT */
/*
 * The switch from one stack to another: where a suspended flow of control is kept, how one is made, how one is entered.
 *
 *   co_context_init    the first switch to ctx calls start(ctx) on the stack [low, high). start never returns.
 *   co_context_switch  suspends the running flow in *from and continues *to, which was initialised or suspended before.
 *                      Returns from when somebody switches back: the same pointer, but fresh in a register, where what
 *                      the caller remembers must be read from a stack that has only just become current.
 *
 * Each processor has a header with the switch (inlined, so that each place that switches has its own jump for the
 * processor to predict, and the compiler saves only what is live there) and an assembly file with the few instructions
 * under the first frame of a stack. CO_SWITCH_UCONTEXT selects the portable form.
 *
 * Not kept for each flow: the signal mask (but by ucontext) and the control words of the floating point unit (rounding,
 * traps). Nothing here changes them, and saving them would cost more than all the rest of a switch.
 */
#ifndef CORRAL_CO_SWITCH_H
#define CORRAL_CO_SWITCH_H

struct co_context;
typedef void co_context_start(struct co_context *self);

#if defined(CO_SWITCH_UCONTEXT)
#include "co/switch_ucontext.h"
#elif defined(__x86_64__)
#include "co/switch_x86_64.h"
#elif defined(__aarch64__)
#include "co/switch_aarch64.h"
#else
#error "no assembly for this processor: configure with -Dco_switch=ucontext"
#endif

#endif
