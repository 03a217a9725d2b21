/* SPDX-License-Identifier: MIT */
/* corral-sim: runs seeds, and tells the one command that repeats a violation. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mutant.h"
#include "exhaust.h"
#include "nbd.h"
#include "report.h"
#include "shrink.h"

#define LEAKS_SLACK 64 /* clusters: what a life frees before it must commit */
#define SAMPLE_IN 5000

struct options {
	uint64_t start, seeds, seconds;
	enum sim_overlap overlap;
	const char *nbd; /* "0", "1", or NULL: the seed says */
	uint32_t ops, cycles;
	bool trace, damage;
	const char *without, *workload;
	struct sim_exhaust exhaust;
	bool one_case, shrink;
	const char *program;
};

static struct sim_tally tally;
static const struct sim_config *running;
static double begun;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void usage(FILE *to)
{
	fputs("usage: corral-sim [--seeds N] [--start S] [--time SECONDS] [--mutant M] [--overlap 0|1|auto]\n"
	      "                  [--nbd 0|1|auto] [--ops N] [--cycles N] [--without KIND] [--damage]\n"
	      "                  [--trace] [--workload plain|zero-unmap|compressed|lazy]\n"
	      "                  [--samples FOLDER [--sample-in N]]\n"
	      "       corral-sim --exhaustive operations|io|memory [--case C [--nth N]] [--time SECONDS] [--ops N] [--mutant M]\n"
	      "                  [--nbd 0|1] [--trace]\n"
	      "       corral-sim --shrink SEED [--mutant M] [--overlap 0|1|auto] [--nbd 0|1|auto] [--ops N] [--without KIND]\n"
	      "Runs the engine in a simulated world, a run per seed, and cuts the power at every step.\n",
		to);
}

static enum sim_overlap overlap_parse(const char *text)
{
	if (strcmp(text, "0") == 0)
		return SIM_OVERLAP_NO;
	return strcmp(text, "1") == 0 ? SIM_OVERLAP_YES : SIM_OVERLAP_AUTO;
}

static void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {{"seeds", required_argument, NULL, 'n'},
		{"start", required_argument, NULL, 's'}, {"time", required_argument, NULL, 't'},
		{"mutant", required_argument, NULL, 'm'}, {"overlap", required_argument, NULL, 'o'},
		{"ops", required_argument, NULL, 'p'}, {"exhaustive", required_argument, NULL, 'x'},
		{"cycles", required_argument, NULL, 'y'}, {"shrink", required_argument, NULL, 'k'},
		{"case", required_argument, NULL, 'c'}, {"nth", required_argument, NULL, 'N'},
		{"without", required_argument, NULL, 'w'}, {"workload", required_argument, NULL, 'W'},
		{"nbd", required_argument, NULL, 'b'}, {"samples", required_argument, NULL, 'S'},
		{"sample-in", required_argument, NULL, 'I'}, {"trace", no_argument, NULL, 'v'},
		{"damage", no_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'n': o->seeds = strtoull(optarg, NULL, 0); break;
		case 's': o->start = strtoull(optarg, NULL, 0); break;
		case 't': o->seconds = strtoull(optarg, NULL, 0); break;
		case 'm': mutant_selected = atoi(optarg); break;
		case 'o': o->overlap = overlap_parse(optarg); break;
		case 'p': o->ops = (uint32_t)strtoul(optarg, NULL, 0); break;
		case 'x':
			if (!sim_tier_parse(optarg, &o->exhaust.tier)) {
				usage(stderr);
				exit(2);
			}
			break;
		case 'y': o->cycles = (uint32_t)strtoul(optarg, NULL, 0); break;
		case 'k':
			o->start = strtoull(optarg, NULL, 0);
			o->shrink = true;
			break;
		case 'c':
			o->exhaust.number = strtoull(optarg, NULL, 0);
			o->one_case = true;
			break;
		case 'N': o->exhaust.nth = strtoull(optarg, NULL, 0); break;
		case 'w': o->without = optarg; break;
		case 'W': o->workload = optarg; break;
		case 'b': o->nbd = strcmp(optarg, "auto") == 0 ? NULL : optarg; break;
		case 'S': tally.samples.folder = optarg; break;
		case 'I': tally.samples.one_in = strtoull(optarg, NULL, 0); break;
		case 'v': o->trace = true; break;
		case 'd': o->damage = true; break;
		case 'h': usage(stdout); exit(0);
		default: usage(stderr); exit(2);
		}
	}
}

static void say_sums(unsigned violations)
{
	double took = now() - begun;

	printf("runs %" PRIu64 ", operations %" PRIu64 ", lives %" PRIu64 ", crash images %" PRIu64 ", violations %u, "
	       "%.1f s, %.0f images/s, most leaks %" PRIu64 "\n",
		tally.seeds, tally.operations, tally.lives, tally.images, violations, took, (double)tally.images / took,
		tally.most_leaks);
}

static void say_last(void)
{
	if (running)
		sim_config_tell(running);
	say_sums(1);
}

static void say_replay(const struct options *o, uint64_t seed)
{
	char text[256];
	int at = snprintf(text, sizeof(text), "%s --start %" PRIu64 " --seeds 1 --trace", o->program, seed);

	if (mutant_selected)
		at += snprintf(text + at, sizeof(text) - (size_t)at, " --mutant %d", mutant_selected);
	if (o->overlap != SIM_OVERLAP_AUTO)
		at += snprintf(text + at, sizeof(text) - (size_t)at, " --overlap %d", o->overlap == SIM_OVERLAP_YES);
	if (o->nbd)
		at += snprintf(text + at, sizeof(text) - (size_t)at, " --nbd %s", o->nbd);
	if (o->workload)
		at += snprintf(text + at, sizeof(text) - (size_t)at, " --workload %s", o->workload);
	if (o->without)
		at += snprintf(text + at, sizeof(text) - (size_t)at, " --without %s", o->without);
	if (o->damage)
		at += snprintf(text + at, sizeof(text) - (size_t)at, " --damage");
	if (o->cycles)
		at += snprintf(text + at, sizeof(text) - (size_t)at, " --cycles %u", o->cycles);
	if (o->ops)
		snprintf(text + at, sizeof(text) - (size_t)at, " --ops %u", o->ops);
	sim_report_replay(text);
}

static void run_config(const struct options *o, const struct sim_config *c)
{
	running = c;
	if (o->trace)
		sim_config_tell(c);
	sim_run(c, &tally);
	running = NULL;
}

static void config_draw(const struct options *o, uint64_t seed, struct sim_config *c)
{
	sim_config_draw(c, seed, o->overlap, o->ops);
	c->nbd = o->nbd ? strcmp(o->nbd, "1") == 0 : sim_nbd_drawn(seed);
	if (o->damage)
		sim_config_damage(c);
	if (o->cycles)
		sim_config_cycles(c, o->cycles);
	if (o->workload && !sim_config_workload(c, o->workload)) {
		fprintf(stderr, "corral-sim: there is no workload %s\n", o->workload);
		exit(2);
	}
	if (!o->without || sim_config_without(c, o->without))
		return;
	fprintf(stderr, "corral-sim: there is no operation %s\n", o->without);
	exit(2);
}

static int run_shrink(const struct options *o)
{
	struct sim_config c;
	char name[64];
	bool failed;

	config_draw(o, o->start, &c);
	snprintf(name, sizeof(name), "Found by seed %" PRIu64 ".", o->start);
	failed = sim_shrink(&c, name);
	if (!failed)
		fprintf(stderr, "corral-sim: seed %" PRIu64 " doesn't fail\n", o->start);
	sim_config_free(&c);
	return failed ? 0 : 2;
}

static void run_seed(const struct options *o, uint64_t seed)
{
	struct sim_config c;

	config_draw(o, seed, &c);
	say_replay(o, seed);
	run_config(o, &c);
	sim_config_free(&c);
}

static bool time_is_up(const struct options *o) { return o->seconds != 0 && now() - begun >= (double)o->seconds; }

static void say_replay_case(const struct options *o, const struct sim_exhaust *x)
{
	static const char *const names[] = {"none", "operations", "io", "memory"};
	char text[256];
	int at = snprintf(text, sizeof(text), "%s --exhaustive %s --case %" PRIu64 " --nth %" PRIu64 " --trace",
		o->program, names[x->tier], x->number, x->nth);

	if (o->nbd)
		at += snprintf(text + at, sizeof(text) - (size_t)at, " --nbd %s", o->nbd);
	if (mutant_selected)
		snprintf(text + at, sizeof(text) - (size_t)at, " --mutant %d", mutant_selected);
	sim_report_replay(text);
}

/* True: it was reached, whatever was to fail. */
static bool run_case(const struct options *o, const struct sim_exhaust *x, struct sim_config *c)
{
	uint64_t failures = tally.failures;

	c->nbd = o->nbd && strcmp(o->nbd, "1") == 0;
	say_replay_case(o, x);
	run_config(o, c);
	sim_config_free(c);
	return x->tier == SIM_TIER_IO ? tally.failures > failures : tally.allocations >= x->nth;
}

static void run_exhaustive(struct options *o)
{
	struct sim_exhaust x = o->exhaust;
	struct sim_config c;

	x.most_ops = o->ops;
	if (x.nth == 0)
		x.nth = 1;
	while (!time_is_up(o) && sim_exhaust_config(&x, &c)) {
		bool hit = run_case(o, &x, &c);

		if (o->one_case)
			return;
		sim_exhaust_next(&x, hit);
	}
	if (time_is_up(o))
		printf("not finished: stopped at case %" PRIu64 "\n", x.number);
}

/* M13: from cut to cut the leaks stay what one life may leave behind. */
static int leaks_status(void)
{
	if (tally.leaks_late <= 2 * tally.leaks_early + LEAKS_SLACK)
		return 0;
	puts("VIOLATION: M13: leaks grow from power cut to power cut");
	return 1;
}

int main(int argc, char **argv)
{
	struct options o = {.seeds = UINT64_MAX, .program = argv[0]};

	begun = now();
	tally.samples.one_in = SAMPLE_IN;
	options_parse(&o, argc, argv);
	if (o.seeds == UINT64_MAX && o.seconds == 0 && o.exhaust.tier == SIM_TIER_NONE)
		o.seconds = 5;
	sim_tracing = o.trace;
	sim_report_signals();
	sim_report_last_words(say_last);
	if (o.shrink)
		return run_shrink(&o);
	if (o.exhaust.tier != SIM_TIER_NONE)
		run_exhaustive(&o);
	for (uint64_t i = 0; o.exhaust.tier == SIM_TIER_NONE && i < o.seeds && !time_is_up(&o); i++)
		run_seed(&o, o.start + i);
	say_sums(0);
	if (tally.connections)
		printf("NBD connections %" PRIu64 ", requests answered %" PRIu64 ", lost %" PRIu64 "\n",
			tally.connections, tally.answered, tally.lost);
	if (tally.handovers)
		printf("the server changed hands %" PRIu64 " times\n", tally.handovers);
	if (tally.cuts)
		printf("power cuts %" PRIu64 ", leaks in the first half of a run at most %" PRIu64
		       ", in the second %" PRIu64 "\n",
			tally.cuts, tally.leaks_early, tally.leaks_late);
	if (tally.spared)
		printf("processes that ended while their host went on %" PRIu64 "\n", tally.spared);
	return o.cycles ? leaks_status() : 0;
}
