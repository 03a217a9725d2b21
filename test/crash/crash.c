/* SPDX-License-Identifier: MIT */
/*
 * Runs the cases of a program and reports them in the Test Anything Protocol.
 *
 * usage: PROGRAM                                                       all of its cases
 *        PROGRAM CASE [--mutant M] [--schedule S] [--trace]            one of them, as a failure told
 */
#include "crash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/math.h"
#include "base/mutant.h"
#include "memory.h"
#include "report.h"
#include "run.h"

#define SCHEDULES 200
#define MUTANT_SCHEDULES 5000 /* a mutant that lives longer has survived; most die in the first few */
#define MUTANT_SECONDS 60     /* the same for a slow machine, or a case that hangs */

static const char *program;

/* ---- one run ---- */

static uint64_t either(uint64_t value, uint64_t otherwise) { return value ? value : otherwise; }

static void image_complete(struct sim_geometry *g, unsigned refcount_bits, uint32_t id)
{
	g->version = (uint32_t)either(g->version, 3);
	g->cluster_bits = (uint32_t)either(g->cluster_bits, 10);
	g->guest_bytes = either(g->guest_bytes, 32 * SIM_SECTOR);
	g->refcount_order = (uint32_t)__builtin_ctz((unsigned)either(refcount_bits, 16));
	g->id = id;
}

static void config_complete(const struct crash_case *k, struct sim_config *c)
{
	image_complete(&c->image, k->refcount_bits, SIM_ID_IMAGE);
	if (c->below != SIM_BELOW_NONE) {
		image_complete(&c->base, 0, SIM_ID_BACKING);
		c->image.backing = "base";
		c->image.backing_format = c->below == SIM_BELOW_RAW ? "raw" : "qcow2";
	}
	c->guest_most = either(c->guest_most, c->image.guest_bytes);
	c->file_bytes = either(c->file_bytes, UINT64_C(4) << 20);
	c->unit_bytes = (uint32_t)either(c->unit_bytes, SIM_SECTOR);
	c->depth = (unsigned)either(c->depth, 8);
	c->cuts = (unsigned)either(c->cuts, 4);
	c->all_cuts = either(c->all_cuts, 16);
	c->options.write = true;
	c->options.keep_leaks |= c->image.used_until != 0; /* what is used up there is to stay so */
	c->options.commit_interval_ns = either(c->options.commit_interval_ns, 1000000);
	c->overlap = true;
}

/* From a host where everything takes the same time to one where some operations outlive whole commits. */
static void latency_draw(struct sim_latency *l, struct sim_rng *r)
{
	static const uint64_t spreads[] = {0, 20000, 200000};

	l->least = 1000;
	l->spread = spreads[sim_below(r, 3)];
	l->flush = sim_below(r, 2) * 4 * l->spread;
	l->tail_in = 2 + sim_below(r, 20);
	l->tail = 2000 + 8 * l->spread;
	l->slow_in = sim_below(r, 2);
	l->slow_in *= 2 + sim_below(r, 8);
	l->slow = 20 * (1000 + l->spread + l->flush);
}

/* Numbers of their own: what doesn't recover isn't disturbed. */
static void recovery_cuts_draw(struct sim_config *c, uint64_t schedule)
{
	struct sim_rng r;

	sim_rng_init(&r, schedule, 7);
	for (unsigned i = 0; i < SIM_RECOVERY_CUTS; i++)
		c->recovery_cuts[i] = sim_below(&r, 2) ? 1 + sim_below(&r, 60) : 0;
}

static void ops_draw(const struct crash_case *k, struct sim_config *c, struct sim_rng *r)
{
	unsigned jitter = k->jitter_us ? k->jitter_us : 300;

	c->ops_count = k->ops_count * (k->rounds ? k->rounds : 3);
	c->ops = sim_alloc(c->ops_count * sizeof(*c->ops));
	for (uint32_t i = 0; i < c->ops_count; i++) {
		c->ops[i] = k->ops[i % k->ops_count];
		if (!c->ops[i].delay_us && sim_below(r, 2))
			c->ops[i].delay_us = sim_below(r, jitter);
	}
}

static void schedule_run(const struct crash_case *k, uint64_t schedule, struct sim_tally *tally)
{
	struct sim_config c = k->config;
	struct sim_rng r;
	char replay[200];

	snprintf(replay, sizeof(replay), "%s %s --mutant %d --schedule %" PRIu64 " --trace", program, k->name,
		mutant_selected, schedule);
	sim_report_replay(replay);
	sim_rng_init(&r, schedule, 6);
	c.seed = c.schedule = schedule;
	config_complete(k, &c);
	latency_draw(&c.latency, &r);
	c.fifo = sim_one_in(&r, 4);
	ops_draw(k, &c, &r);
	recovery_cuts_draw(&c, schedule);
	sim_run(&c, tally);
	sim_config_free(&c);
}

/* ---- many runs: a violation ends the process, so they have one of their own ---- */

struct outcome {
	bool died;
	char words[1 << 16]; /* the last ones of a run that died, or a summary */
};

static void child(const struct crash_case *k, int mutant, int to)
{
	uint64_t n = mutant ? MUTANT_SCHEDULES : (k->schedules ? k->schedules : SCHEDULES);
	struct sim_tally tally = {0};

	if (dup2(to, STDOUT_FILENO) < 0 || dup2(to, STDERR_FILENO) < 0)
		_exit(2);
	mutant_selected = mutant;
	sim_report_signals();
	if (mutant)
		alarm(MUTANT_SECONDS);
	for (uint64_t i = 0; i < n; i++)
		schedule_run(k, i, &tally);
	printf("%" PRIu64 " runs, %" PRIu64 " crash images", tally.seeds, tally.images);
	fflush(stdout);
	_exit(0);
}

static void words_read(int from, struct outcome *o)
{
	size_t used = 0;
	ssize_t n;

	while ((n = read(from, o->words + used, sizeof(o->words) - 1 - used)) > 0)
		used += (size_t)n;
	o->words[used] = '\0';
}

static void runs(const struct crash_case *k, int mutant, struct outcome *o)
{
	int pipes[2], status = 0;
	pid_t pid;

	fflush(stdout);
	if (pipe(pipes) != 0 || (pid = fork()) < 0) {
		printf("Bail out! %s\n", strerror(errno));
		exit(2);
	}
	if (pid == 0) {
		close(pipes[0]);
		child(k, mutant, pipes[1]);
	}
	close(pipes[1]);
	words_read(pipes[0], o);
	close(pipes[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	o->died = status != 0 && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
}

/* All of it as comments; of a mutant that died, what was found. */
static void tell(const char *words, bool all)
{
	while (*words) {
		size_t n = strcspn(words, "\n");

		if (all || strncmp(words, "VIOLATION", 9) == 0 || strncmp(words, "replay", 6) == 0)
			printf("#     %.*s\n", (int)n, words);
		words += n + (words[n] == '\n');
	}
}

static bool case_run(const struct crash_case *k, unsigned number)
{
	static struct outcome o;
	bool good;

	runs(k, 0, &o);
	good = !o.died;
	printf("# %s: %s\n", k->name, o.died ? "fails" : "holds");
	tell(o.words, true);
	for (unsigned i = 0; i < CRASH_MUTANTS && k->mutants[i]; i++) {
		runs(k, k->mutants[i], &o);
		printf("#   mutant %d %s\n", k->mutants[i], o.died ? "dies" : "SURVIVES");
		tell(o.words, !o.died);
		good = good && o.died;
	}
	printf("%s %u - %s\n", good ? "ok" : "not ok", number, k->name);
	fflush(stdout);
	return good;
}

/* ---- the command ---- */

static int one_run(const struct crash_case *k, int argc, char **argv)
{
	struct sim_tally tally = {0};
	uint64_t schedule = 0;

	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--trace") == 0)
			sim_tracing = true;
		else if (strcmp(argv[i], "--mutant") == 0 && i + 1 < argc)
			mutant_selected = atoi(argv[++i]);
		else if (strcmp(argv[i], "--schedule") == 0 && i + 1 < argc)
			schedule = strtoull(argv[++i], NULL, 0);
		else
			return 2;
	}
	sim_report_signals();
	schedule_run(k, schedule, &tally);
	printf("%" PRIu64 " crash images, no violation\n", tally.images);
	return 0;
}

int crash_main(const struct crash_case *cases, unsigned n, int argc, char **argv)
{
	bool good = true;

	program = argv[0];
	if (argc == 1)
		printf("1..%u\n", n);
	for (unsigned i = 0; i < n; i++) {
		if (argc == 1)
			good &= case_run(&cases[i], i + 1);
		else if (strcmp(argv[1], cases[i].name) == 0)
			return argc == 2 ? !case_run(&cases[i], 1) : one_run(&cases[i], argc, argv);
	}
	if (argc > 1)
		fprintf(stderr, "%s: there is no case %s\n", program, argv[1]);
	return argc == 1 && good ? 0 : 1;
}
