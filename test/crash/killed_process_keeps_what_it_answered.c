/* SPDX-License-Identifier: MIT */
/*
 * A process that is killed, while its host goes on: of what it wrote, everything is there that had ended, and what it had
 * in memory is gone. A write with NODE_LASTING that had returned must be found by whoever opens the image next: where it
 * allocated, where it lay in place, and where it lay in place in space that somebody else's write had just allocated.
 *
 * usage: PROGRAM [MUTANT]      with one, the status tells whether it was found
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mutant.h"
#include "co/sync.h"
#include "file/file.h"
#include "make.h"
#include "memory.h"
#include "qcow2/qcow2.h"
#include "report.h"
#include "world.h"

#define SEEDS 400
#define WRITERS 6u
#define SECTORS 96u
#define GUEST_BYTES (SECTORS * SIM_SECTOR)

struct sector { /* of which a writer expects that it lasts */
	uint8_t answered, pending;
	bool writing;
};

struct run {
	struct sim_world world;
	struct sim_rng rng;
	struct sim_disk *disk;
	struct node *node;
	struct co_group group;
	struct sector sector[SECTORS];
	uint8_t buffer[WRITERS][SIM_SECTOR];
	uint64_t pause; /* between two requests of a writer, at most */
	bool killed;
};

struct writer {
	struct run *run;
	unsigned id;
};

/* ---- before ---- */

/* Each has the sectors of its own that remain: in every cluster there are some of everybody's. The last one promises
 * nothing, and writes what others write around. */
static void step(struct co *co, struct run *r, unsigned id)
{
	unsigned s = (unsigned)sim_below(&r->rng, SECTORS / WRITERS) * WRITERS + id;
	bool lasts = id != WRITERS - 1, zero = sim_one_in(&r->rng, 5);
	struct sector *it = &r->sector[s];
	uint8_t value = zero ? 0 : (uint8_t)(1 + sim_below(&r->rng, 255));
	unsigned flags = lasts ? NODE_LASTING : 0;
	int rc;

	memset(r->buffer[id], value, SIM_SECTOR);
	it->pending = value;
	it->writing = true;
	if (zero)
		rc = node_zero(co, r->node, s * SIM_SECTOR, SIM_SECTOR, flags | NODE_MAY_UNMAP);
	else
		rc = node_write(co, r->node, s * SIM_SECTOR, IOV_BUF(r->buffer[id], SIM_SECTOR), flags);
	if (rc != 0 || r->killed)
		return;
	it->writing = !lasts;
	it->answered = value;
}

static void writer(struct co *co, void *arg)
{
	struct writer *w = arg;

	while (!w->run->killed) {
		step(co, w->run, w->id);
		co_sleep(co, sim_between(&w->run->rng, 1, w->run->pause));
	}
}

static void opened(struct co *co, struct run *r, bool write)
{
	static struct err err;
	struct node *file;

	if (file_open(co, &(struct file_open){.path = "image", .write = write}, &file, &err) != 0 ||
		qcow2_open(co, file, &(struct qcow2_options){.write = write}, &r->node, &err) != 0)
		sim_violation("can't open: %s", err.text);
}

static void before(struct co *co, void *arg)
{
	struct run *r = arg;
	struct writer w[WRITERS];

	opened(co, r, true);
	co_group_init(&r->group, co_sched_of(co));
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){r, i};
		if (co_group_spawn(&r->group, "writer", writer, &w[i]) != 0)
			sim_violation("no coroutine");
	}
	co_sleep(co, sim_between(&r->rng, 1, 20000000 + 40 * r->pause));
	r->killed = true;
	sim_world_cut(&r->world);
	co_group_wait(co, &r->group);
	(void)node_close(co, r->node);
}

/* ---- after ---- */

static bool is_all(const uint8_t *bytes, uint8_t value)
{
	for (unsigned i = 0; i < SIM_SECTOR; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

static void after(struct co *co, void *arg)
{
	struct run *r = arg;
	static uint8_t bytes[GUEST_BYTES];

	opened(co, r, false);
	if (node_read(co, r->node, 0, IOV_BUF(bytes, GUEST_BYTES)) != 0)
		sim_violation("can't read");
	for (unsigned s = 0; s < SECTORS; s++) {
		const struct sector *it = &r->sector[s];
		const uint8_t *found = bytes + s * SIM_SECTOR;

		if (s % WRITERS == WRITERS - 1 || is_all(found, it->answered) ||
			(it->writing && is_all(found, it->pending)))
			continue;
		sim_violation("sector %u reads %#x, and %#x was answered%s", s, found[0], it->answered,
			it->writing ? ", with another write under way" : "");
	}
	if (node_close(co, r->node) != 0)
		sim_violation("can't close");
}

static void run(uint64_t seed)
{
	struct sim_geometry g = {.version = 3,
		.cluster_bits = seed & 1 ? 9 : 11,
		.refcount_order = 4,
		.guest_bytes = GUEST_BYTES,
		.id = 7};
	struct run *r = sim_alloc(sizeof(*r));
	struct sim_made made;
	char replay[40];

	snprintf(replay, sizeof(replay), "seed %" PRIu64 " of this test", seed);
	sim_report_replay(replay);
	memset(r, 0, sizeof(*r));
	sim_rng_init(&r->rng, seed, 1);
	r->pause = seed & 2 ? 30000 : 5000000;
	sim_world_init(&r->world, seed);
	r->world.latency = (struct sim_latency){.least = 1000, .spread = 200000, .flush = 400000};
	sim_make(&made, &g, &r->rng);
	r->disk = sim_world_file(&r->world, "image", UINT64_C(4) << 20, SIM_SECTOR, false);
	sim_disk_load(r->disk, 0, made.bytes, made.len);
	if (co_main(r->world.io.sched, "before", before, r) != 0)
		sim_violation("no coroutine");
	sim_disk_cut(r->disk, SIM_CUT_DONE, &r->rng);
	sim_disk_become(r->disk);
	sim_world_restart(&r->world);
	if (co_main(r->world.io.sched, "after", after, r) != 0)
		sim_violation("no coroutine");
	sim_world_fini(&r->world);
	sim_made_free(&made);
	sim_free(r);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		mutant_selected = atoi(argv[1]);
	sim_report_signals();
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run(seed);
	printf("%d runs\n", SEEDS);
	return 0;
}
