/* SPDX-License-Identifier: MIT */
/* What is watched while `corral serve` serves: signals, statistics, how long the event loop was busy; see serve.h. */
#include "cli/serve.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)

static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

/* ---- statistics ---- */

static void counter_log(struct log *log, const char *where, const char *op, const struct export_counter *c)
{
	if (c->requests == 0)
		return;
	log_line(log, LOG_LEVEL_INFO,
		"%s: %s: %llu requests, %llu bytes, %llu errors; us: p50 %llu, p99 %llu, p99.9 %llu, longest %llu",
		where, op, (unsigned long long)c->requests, (unsigned long long)c->bytes, (unsigned long long)c->errors,
		(unsigned long long)export_counter_percentile(c, 500) / 1000,
		(unsigned long long)export_counter_percentile(c, 990) / 1000,
		(unsigned long long)export_counter_percentile(c, 999) / 1000, (unsigned long long)c->longest_ns / 1000);
}

static void export_log(struct log *log, const struct serve_export *e)
{
	const struct export *x = e->export;
	unsigned now = 0;

	for (unsigned d = 0; d < e->disks_n; d++)
		now += x->ops->clients(x, e->disks[d]);
	log_line(log, LOG_LEVEL_INFO, "%s: %u clients, %llu in all, %llu refused", e->where, now,
		(unsigned long long)x->stats.clients, (unsigned long long)x->stats.refused);
	for (unsigned op = 0; op < EXPORT_OPS; op++)
		counter_log(log, e->where, export_op_name((enum export_op)op), &x->stats.op[op]);
}

void serve_stats_log(struct serve *s)
{
	for (unsigned i = 0; i < s->exports_n; i++) {
		if (s->exports[i].export)
			export_log(&s->log.log, &s->exports[i]);
	}
	log_line(&s->log.log, LOG_LEVEL_INFO, "event loop: %llu turns, the longest %llu us",
		(unsigned long long)s->turns.turns, (unsigned long long)s->turns.longest_ns / 1000);
}

static void stats_entry(struct co *co, void *arg)
{
	struct serve *s = arg;

	while (!s->ending) {
		if (co_queue_wait_until(co, &s->end, co_now(co) + s->stats_ns) == -ETIMEDOUT)
			serve_stats_log(s);
	}
}

/* ---- the event loop ---- */

static void turn_slow(struct co_turns *turns, uint64_t ns)
{
	struct serve *s = container_of(turns, struct serve, turns);

	log_line(&s->log.log, LOG_LEVEL_WARNING, "the event loop was busy for %llu ms: every client waited meanwhile",
		(unsigned long long)(ns / MS));
}

int serve_watch_start(struct co *co, struct serve *s, struct co_group *group, struct err *err)
{
	co_queue_init(&s->end);
	s->turns.slow = turn_slow;
	co_sched_watch(co_sched_of(co), &s->turns);
	co_group_init(group, co_sched_of(co));
	if (s->stats_ns > 0 && co_group_spawn(group, "serve-stats", stats_entry, s) < 0)
		return err_set(err, -EAGAIN, "no coroutine for the statistics");
	return 0;
}

void serve_watch_end(struct serve *s)
{
	s->ending = true;
	co_queue_wake_all(&s->end);
}

/* ---- signals ---- */

int serve_signals_take(void) { return io_signals_take(signals, ARRAY_ENTRIES(signals)); }

static void debug_toggle(struct serve *s)
{
	bool on = s->log.log.level != LOG_LEVEL_DEBUG;

	s->log.log.level = LOG_LEVEL_INFO;
	log_line(&s->log.log, LOG_LEVEL_INFO, "the log's level is now %s",
		log_level_name(on ? LOG_LEVEL_DEBUG : s->quiet_level));
	s->log.log.level = on ? LOG_LEVEL_DEBUG : s->quiet_level;
}

void serve_log_level_set(struct serve *s, enum log_level level)
{
	s->log.log.level = level;
	if (level != LOG_LEVEL_DEBUG)
		s->quiet_level = level;
}

int serve_wait(struct co *co, struct serve *s, struct err *err)
{
	for (;;) {
		int r = io_signal_wait(co, signals, ARRAY_ENTRIES(signals));

		if (r == -ECANCELED) /* by a command, which has told */
			return s->lost ? err_set(err, -EIO, "nothing can be served any more") : 0;
		if (r < 0)
			return err_set(err, r, "can't wait for signals: %s", strerror(-r));
		if (r == SIGUSR1) {
			serve_stats_log(s);
		} else if (r == SIGUSR2) {
			debug_toggle(s);
		} else {
			log_line(&s->log.log, LOG_LEVEL_INFO, "ending: signal %d", r);
			return 0;
		}
	}
}
