/* SPDX-License-Identifier: MIT */
/* How far it is: see the header. */
#include "cli/progress.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/math.h"
#include "cli/options.h"

#define STEP 1.0                              /* per cent between two lines */
#define TERMINAL_NS (UINT64_C(200) * 1000000) /* between two on a terminal */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* "  1.2 GiB/s, 0:42 left", behind the percentage; what stood there before is overwritten. */
static void rate_print(struct progress *p, uint64_t done, uint64_t all, uint64_t now)
{
	double seconds = (double)(now - p->start_ns) / 1e9;
	double rate = seconds > 0 ? (double)done / seconds : 0;
	uint64_t left = rate > 0 ? (uint64_t)((double)(all - done) / rate + 0.5) : 0;
	char text[CLI_SIZE_TEXT], line[96];
	int n = snprintf(line, sizeof(line), "  %s/s, %u:%02u left", cli_size_text((uint64_t)rate, text),
		(unsigned)(left / 60), (unsigned)(left % 60));
	unsigned width = n > 0 ? (unsigned)n : 0;

	fprintf(p->to, "%s%*s", line, p->width > width ? (int)(p->width - width) : 0, "");
	p->width = width;
}

static void print(struct progress *p, double percent)
{
	fprintf(p->to, "    (%3.2f/100%%)", percent);
	p->last = percent;
}

static sigset_t usr1(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return set;
}

/* The signal is never delivered: it stays pending until somebody looks, so that no handler has to keep anything. */
static bool is_asked(void)
{
	sigset_t set = usr1();

	return sigtimedwait(&set, NULL, &(struct timespec){0}) == SIGUSR1;
}

void progress_begin(struct progress *p, bool shown, FILE *to)
{
	*p = (struct progress){.to = to,
		.shown = shown,
		.terminal = isatty(to == stdout ? STDOUT_FILENO : STDERR_FILENO) == 1,
		.start_ns = now_ns()};
	if (!shown) {
		sigset_t set = usr1();

		pthread_sigmask(SIG_BLOCK, &set, NULL);
		return;
	}
	print(p, 0);
	putc('\r', p->to);
	fflush(p->to);
}

void progress_show(struct progress *p, uint64_t done, uint64_t all)
{
	double percent = all == 0 ? 100.0 : (double)done * 100.0 / (double)all;
	uint64_t now;

	if (!p->shown && is_asked())
		fprintf(stderr, "    (%3.2f/100%%)\n", percent);
	if (!p->shown || (!p->terminal && percent < p->last + STEP))
		return;
	now = p->terminal ? now_ns() : 0;
	if (p->terminal && now < p->last_ns + TERMINAL_NS)
		return;
	p->last_ns = now;
	print(p, percent);
	if (p->terminal)
		rate_print(p, done, all, now);
	putc('\r', p->to);
	fflush(p->to);
}

void progress_end(struct progress *p, bool done)
{
	if (!p->shown)
		return;
	if (done) {
		print(p, 100);
		fprintf(p->to, "%*s\r", (int)p->width, "");
	}
	putc('\n', p->to);
	fflush(p->to);
}
