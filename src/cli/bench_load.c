/* SPDX-License-Identifier: MIT */
/*
 * The load of corral bench: `depth` coroutines, each of which takes the next request when its last one is done. After each
 * flush_interval requests the storage is flushed; unless asked otherwise, what is in flight is waited for before, and
 * nothing begins until the flush is done.
 */
#include "cli/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/math.h"
#include "cli/io.h"
#include "io/io.h"

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		(double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- which request is next ---- */

static uint64_t random_next(struct bench *b) /* xorshift: a seed is a sequence */
{
	b->seed ^= b->seed << 13;
	b->seed ^= b->seed >> 7;
	b->seed ^= b->seed << 17;
	return b->seed;
}

/* A multiple of the request's length, anywhere; or one step on, from the start again behind the end. */
static uint64_t offset_next(struct bench *b)
{
	uint64_t at = b->offset;

	if (b->seed)
		return random_next(b) % MAX(b->node->size / MAX(b->bytes, UINT64_C(1)), UINT64_C(1)) * b->bytes;
	b->offset += b->step ? b->step : b->bytes;
	if (b->node->size > 0)
		b->offset %= b->node->size;
	return at;
}

static bool is_write(struct bench *b) { return b->mix ? random_next(b) % 100 >= b->reads_percent : b->write; }

/* ---- requests ---- */

static void fail(struct bench *b, int ret)
{
	if (ret < 0 && b->failed == 0)
		b->failed = ret;
}

static void request(struct co *co, struct bench *b, char *buffer)
{
	bool write = is_write(b);
	uint64_t off = offset_next(b), begun = co_now(co);
	int ret = cli_io_request_do(co, b->node,
		&(struct cli_io_request){
			.kind = write ? CLI_IO_WRITE : CLI_IO_READ, .off = off, .bytes = b->bytes, .buffer = buffer});

	export_stats_add(&b->stats, write ? EXPORT_WRITE : EXPORT_READ, b->bytes, co_now(co) - begun, ret == 0);
	fail(b, ret);
}

static void flush(struct co *co, struct bench *b)
{
	uint64_t begun = co_now(co);
	int ret = node_flush(co, b->node);

	export_stats_add(&b->stats, EXPORT_FLUSH, 0, co_now(co) - begun, ret == 0);
	fail(b, ret);
}

static void flush_entry(struct co *co, void *arg) { flush(co, arg); }

static void drained(struct co *co, struct bench *b)
{
	flush(co, b);
	b->draining = false;
	co_queue_wake_all(&b->gate);
}

/* Where the request was the last before a flush: due. */
static void flush_if_due(struct co *co, struct bench *b, bool due)
{
	if (b->draining && b->in_flight == 0)
		drained(co, b);
	else if (due && b->no_drain && co_group_spawn(&b->group, "bench-flush", flush_entry, b) < 0)
		flush(co, b);
}

static void worker(struct co *co, void *arg)
{
	struct bench *b = arg;
	char *buffer = b->memory + b->workers++ * b->bytes;

	for (;;) {
		bool due;

		while (b->draining)
			co_queue_wait(co, &b->gate);
		if (b->left == 0 || b->failed)
			return;
		b->left--;
		b->in_flight++;
		due = b->flush_interval && b->left % b->flush_interval == 0;
		b->draining = due && !b->no_drain;
		request(co, b, buffer);
		b->in_flight--;
		flush_if_due(co, b, due);
	}
}

/* ---- the run ---- */

static int start(struct co *co, struct bench *b)
{
	co_group_init(&b->group, co_sched_of(co));
	co_queue_init(&b->gate);
	for (unsigned i = 0; i < MIN(b->depth, b->requests); i++) {
		int ret = co_group_spawn(&b->group, "bench-request", worker, b);

		if (ret < 0)
			return ret;
	}
	return 0;
}

static void turn_slow(struct co_turns *turns ATTR_UNUSED, uint64_t ns ATTR_UNUSED) {}

int bench_load_run(struct co *co, struct bench *b)
{
	uint64_t total, began;
	double cpu;

	if (mul_overflows(MIN(b->depth, b->requests), b->bytes, &total) || total > SIZE_MAX / 2)
		return -ENOMEM;
	b->memory = io_alloc(MAX(total, UINT64_C(1)));
	if (!b->memory)
		return -ENOMEM;
	memset(b->memory, b->pattern, total);
	b->left = b->requests;
	b->turns = (struct co_turns){.limit_ns = CO_NEVER, .slow = turn_slow};
	co_sched_watch(co_sched_of(co), &b->turns);
	cpu = cpu_seconds();
	began = co_now(co);
	fail(b, start(co, b));
	co_group_wait(co, &b->group);
	b->ns = co_now(co) - began;
	b->cpu_s = cpu_seconds() - cpu;
	co_sched_watch(co_sched_of(co), NULL);
	free(b->memory);
	return b->failed;
}
