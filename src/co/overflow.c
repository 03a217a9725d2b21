/* SPDX-License-Identifier: MIT */
/*
 * A fault in the guard of a coroutine's stack becomes a sentence.
 *
 * The disposition of a signal belongs to the process, and a handler has no argument: so this file, alone in the library,
 * has globals: the pools that exist (a few words, changed by single atomic operations as schedulers come and go on any
 * thread, read by the handler without a lock) and what was installed before. A pool that finds the table full is not
 * watched: its overflow is a bare SIGSEGV.
 *
 * The pool in which a coroutine overflows can't go away meanwhile, for the thread that would free it is the one in the
 * handler. Should another one go away while the handler looks at it, the process dies of a second fault instead.
 */
#include "co/overflow.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/math.h"
#include "co/co.h"

#define POOLS 128

static _Atomic(const struct co_stack_pool *) pools[POOLS];
static atomic_flag installed = ATOMIC_FLAG_INIT;
static struct sigaction previous_segv, previous_bus;

void co_overflow_watch(const struct co_stack_pool *p)
{
	for (unsigned i = 0; i < POOLS; i++) {
		const struct co_stack_pool *none = NULL;

		if (atomic_compare_exchange_strong(&pools[i], &none, p))
			return;
	}
}

void co_overflow_unwatch(const struct co_stack_pool *p)
{
	for (unsigned i = 0; i < POOLS; i++) {
		const struct co_stack_pool *it = p;

		if (atomic_compare_exchange_strong(&pools[i], &it, NULL))
			return;
	}
}

void co_overflow_enter(const struct co_stack_pool *p, stack_t *given)
{
	stack_t mine = {0};

	mine.ss_sp = co_stack_for_signals(p, &mine.ss_size);
	given->ss_flags = SS_DISABLE;
	if (sigaltstack(NULL, given) == 0 && (given->ss_flags & SS_DISABLE) && sigaltstack(&mine, NULL) == 0)
		*given = mine;
	else
		given->ss_flags = SS_DISABLE;
}

void co_overflow_leave(const stack_t *given)
{
	stack_t none = {.ss_flags = SS_DISABLE};
	stack_t now;

	if (!(given->ss_flags & SS_DISABLE) && sigaltstack(NULL, &now) == 0 && now.ss_sp == given->ss_sp)
		sigaltstack(&none, NULL);
}

static const struct co_stack *find_overflow(const void *address)
{
	for (unsigned i = 0; i < POOLS; i++) {
		const struct co_stack_pool *p = atomic_load(&pools[i]);
		const struct co_stack *s = p ? co_stack_of_guard(p, address) : NULL;

		if (s && s->name)
			return s;
	}
	return NULL;
}

/* stdio is not for signal handlers. What doesn't fit is left out. */
static void text_add(char *text, size_t *used, size_t max, const char *what)
{
	while (*what && *used < max)
		text[(*used)++] = *what++;
}

static void text_add_number(char *text, size_t *used, size_t max, size_t number)
{
	char digits[24];
	char *at = digits + sizeof(digits) - 1;

	*at = '\0';
	do {
		*--at = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	text_add(text, used, max, at);
}

static void report(const struct co_stack *s)
{
	char text[256];
	size_t used = 0, max = sizeof(text);
	ssize_t written;

	text_add(text, &used, max, "corral: stack overflow in coroutine \"");
	text_add(text, &used, max - 32, s->name);
	text_add(text, &used, max, "\" (");
	text_add_number(text, &used, max, (size_t)((const char *)s - s->low) / KiB);
	text_add(text, &used, max, " KiB)\n");
	written = write(STDERR_FILENO, text, used);
	(void)written;
}

/* Lets the signal take its former course: a handler is called; without one the instruction is tried again and the signal
 * does by itself what it does, or is sent again if no instruction caused it. */
static void pass_on(int signal, siginfo_t *info, void *context, const struct sigaction *previous)
{
	if (previous->sa_flags & SA_SIGINFO) {
		previous->sa_sigaction(signal, info, context);
	} else if (previous->sa_handler != SIG_DFL && previous->sa_handler != SIG_IGN) {
		previous->sa_handler(signal);
	} else {
		sigaction(signal, previous, NULL);
		if (info->si_code <= 0)
			raise(signal);
	}
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	static const struct sigaction fatal = {.sa_handler = SIG_DFL};
	const struct co_stack *s = info->si_code > 0 ? find_overflow(info->si_addr) : NULL;
	int saved_errno = errno;

	if (s) {
		report(s);
		sigaction(signal, &fatal, NULL);
	} else {
		pass_on(signal, info, context, signal == SIGSEGV ? &previous_segv : &previous_bus);
	}
	errno = saved_errno;
}

int co_report_overflow(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	if (atomic_flag_test_and_set(&installed))
		return 0;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGSEGV, NULL, &previous_segv) != 0 || sigaction(SIGBUS, NULL, &previous_bus) != 0 ||
		sigaction(SIGSEGV, &action, NULL) != 0 || sigaction(SIGBUS, &action, NULL) != 0) {
		atomic_flag_clear(&installed);
		return -errno;
	}
	return 0;
}
