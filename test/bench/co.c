/* SPDX-License-Identifier: MIT */
/*
 * What coroutines cost, in nanoseconds, beside ucontext in the same run. Each figure is the median of several rounds.
 *
 *   bench-co [--json]
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

#include "base/attr.h"
#include "co/co.h"
#include "co/switch.h"
#include "co/sync.h"

#define ROUNDS 11
#define STACK_BYTES (64 << 10)

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- a host without a world ---- */

static uint64_t host_now(struct co_host *host)
{
	(void)host;
	return clock_ns();
}

static void host_wait(struct co_host *host, uint64_t deadline_ns)
{
	(void)host;
	assert(deadline_ns == 0);
}

static const struct co_host_ops host_ops = {.now = host_now, .wait = host_wait};
static struct co_host host = {&host_ops};

/* ---- the bare switch ---- */

static char stack[STACK_BYTES] __attribute__((aligned(64)));
static struct co_context outside, inside;
static ucontext_t u_outside, u_inside;

static void bounce(struct co_context *self)
{
	for (;;)
		co_context_switch(self, &outside);
}

static void run_switch(unsigned n)
{
	co_context_init(&inside, stack, stack + sizeof(stack), bounce);
	for (unsigned i = 0; i < n; i += 2)
		co_context_switch(&outside, &inside);
}

static void u_bounce(void)
{
	for (;;)
		swapcontext(&u_inside, &u_outside);
}

static void u_create(void (*fn)(void))
{
	getcontext(&u_inside);
	u_inside.uc_stack.ss_sp = stack;
	u_inside.uc_stack.ss_size = sizeof(stack);
	u_inside.uc_link = &u_outside;
	makecontext(&u_inside, fn, 0);
}

static void run_u_switch(unsigned n)
{
	u_create(u_bounce);
	for (unsigned i = 0; i < n; i += 2)
		swapcontext(&u_outside, &u_inside);
}

static void u_nothing(void) {}

static void run_u_create(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		u_create(u_nothing);
		swapcontext(&u_outside, &u_inside);
	}
}

/* ---- through the scheduler ---- */

struct load {
	struct co_mutex mutex;
	unsigned each;
};

static void yielder(struct co *co, void *arg)
{
	struct load *load = arg;

	for (unsigned i = 0; i < load->each; i++)
		co_yield(co);
}

static void locker(struct co *co, void *arg)
{
	struct load *load = arg;

	for (unsigned i = 0; i < load->each; i++) {
		co_mutex_lock(co, &load->mutex);
		co_yield(co);
		co_mutex_unlock(&load->mutex);
	}
}

/* Unlocking hands the lock to the other one, so that each pass waits for it: a hand-over and a switch. */
static void hander(struct co *co, void *arg)
{
	struct load *load = arg;

	co_mutex_lock(co, &load->mutex);
	co_yield(co);
	for (unsigned i = 0; i < load->each; i++) {
		co_mutex_unlock(&load->mutex);
		co_mutex_lock(co, &load->mutex);
	}
	co_mutex_unlock(&load->mutex);
}

static void run_many(co_entry *entry, unsigned many, unsigned n)
{
	struct co_sched *sched = co_sched_new(&host, NULL);
	struct load load = {.each = n / many};

	assert(sched);
	co_mutex_init(&load.mutex);
	for (unsigned i = 0; i < many; i++) {
		int rc = co_spawn(sched, "bench", entry, &load);

		assert(rc == 0);
	}
	co_sched_run(sched);
	co_sched_free(sched);
}

static void run_yield_2(unsigned n) { run_many(yielder, 2, n); }
static void run_yield_32(unsigned n) { run_many(yielder, 32, n); }
static void run_yield_1000(unsigned n) { run_many(yielder, 1000, n); }
static void run_hand_over(unsigned n) { run_many(hander, 2, n); }
static void run_lock_32(unsigned n) { run_many(locker, 32, n); }

static void nothing(struct co *co, void *arg) { (void)co, (void)arg; }

static void spawner(struct co *co, void *arg)
{
	struct load *load = arg;

	for (unsigned i = 0; i < load->each; i++) {
		int rc = co_spawn(co_sched_of(co), "short", nothing, NULL);

		assert(rc == 0);
		if (i % 16 == 15)
			co_yield(co);
	}
}

static void run_create(unsigned n) { run_many(spawner, 1, n); }

/* ---- the table ---- */

static const struct bench {
	const char *key, *what;
	void (*run)(unsigned n);
	unsigned n;
} benches[] = {
	{"switch", "switch, one direction", run_switch, 2000000},
	{"ucontext_switch", "  ucontext: swapcontext", run_u_switch, 200000},
	{"yield_2", "yield through the scheduler, 2 coroutines", run_yield_2, 2000000},
	{"yield_32", "yield through the scheduler, 32 coroutines", run_yield_32, 2000000},
	{"yield_1000", "yield through the scheduler, 1000 coroutines", run_yield_1000, 2000000},
	{"create", "create and finish, from the pool", run_create, 1000000},
	{"ucontext_create", "  ucontext: makecontext, run, finish", run_u_create, 100000},
	{"mutex", "mutex hand-over, 2 coroutines", run_hand_over, 1000000},
	{"mutex_32", "lock, yield, unlock, 32 coroutines", run_lock_32, 1000000},
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double measure(const struct bench *b)
{
	double ns[ROUNDS];

	b->run(b->n / 10);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t start = clock_ns();

		b->run(b->n);
		ns[i] = (double)(clock_ns() - start) / b->n;
	}
	qsort(ns, ROUNDS, sizeof(ns[0]), compare);
	return ns[ROUNDS / 2];
}

int main(int argc, char **argv)
{
	bool json = argc == 2 && strcmp(argv[1], "--json") == 0;

	if (argc > 1 && !json) {
		fprintf(stderr, "usage: bench-co [--json]\n");
		return 2;
	}
	if (json)
		printf("{\"unit\": \"ns\", \"rounds\": %d", ROUNDS);
	for (unsigned i = 0; i < ARRAY_ENTRIES(benches); i++) {
		double ns = measure(&benches[i]);

		if (json)
			printf(", \"%s\": %.2f", benches[i].key, ns);
		else
			printf("%-48s %8.2f ns\n", benches[i].what, ns);
		fflush(stdout);
	}
	if (json)
		printf("}\n");
	return 0;
}
