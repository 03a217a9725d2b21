/* SPDX-License-Identifier: MIT */
/* How a run tells what it does and what it found. A violation ends the program: what comes after it means nothing. */
#include "report.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

bool sim_tracing;
static char replay[256];
static void (*last_words)(void);

void sim_report_replay(const char *command) { snprintf(replay, sizeof(replay), "%s", command); }
void sim_report_last_words(void (*say)(void)) { last_words = say; }

static void end(void)
{
	if (last_words)
		last_words();
	printf("replay: %s\n", replay);
	fflush(stdout);
}

void sim_violation(const char *format, ...)
{
	va_list ap;

	printf("VIOLATION: ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	end();
	_exit(1);
}

void sim_trace(const char *format, ...)
{
	va_list ap;

	if (!sim_tracing)
		return;
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
}

/* An assert of the engine's, or a wild pointer: also a violation. */
static void on_signal(int number)
{
	printf("VIOLATION: signal %d (%s)\n", number, strsignal(number));
	end();
	signal(number, SIG_DFL);
	raise(number);
	_exit(1);
}

void sim_report_signals(void)
{
	static char stack[64 << 10];
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESETHAND | SA_NODEFER};
	static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

	sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof(stack)}, NULL);
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
}
