/* SPDX-License-Identifier: MIT */
/*
 * How concurrent is metadata? In process, over the delay node, so that every request of the storage takes a given time.
 *
 *   cold     4 KiB random reads, each of which needs an L2 table that isn't cached: two round trips, 32 of them at once
 *   tables   writes, each of which needs a new L2 table
 *   victim   the worst latency of reads of a cached, allocated cluster while another request is parked for 1.5 s in the load
 *            of an L2 slice, in the load of a refcount block, in the making of an L2 table, in the growth of the L1 table
 *
 * bench-metadata FILE makes its image there, and prints one line "name value unit" for each figure: metadata.sh puts QEMU's
 * figures beside them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "file/file.h"
#include "filter/filter.h"
#include "io/io.h"
#include "qcow2/qcow2.h"

#define MS UINT64_C(1000000)
#define DELAY (2 * MS)
#define PARK (1500 * MS)
#define SLICE_COVERS (32 * MiB)
#define TABLE_COVERS (512 * MiB)
#define READS 2048
#define WRITES 256
#define DEPTH 32

static const char *path;

static void must(int rc, const char *what)
{
	if (rc) {
		fprintf(stderr, "bench-metadata: %s: %s\n", what, strerror(-rc));
		exit(1);
	}
}

static void must_explained(int rc, const struct err *err)
{
	if (rc) {
		fprintf(stderr, "bench-metadata: %s\n", err->text);
		exit(1);
	}
}

/* ---- the image ---- */

static void create(struct co *co, uint64_t size)
{
	struct qcow2_create how = {.size = size, .version = 3, .cluster_bits = 16, .refcount_order = 4};
	struct node *file;
	struct err err;

	remove(path);
	fclose(fopen(path, "w"));
	must_explained(file_open(co, &(struct file_open){.path = path, .write = true}, &file, &err), &err);
	must_explained(qcow2_create(co, file, &how, &err), &err);
	must(node_close(co, file), "close");
}

struct image {
	struct node *node, *delay;
};

/* Nothing of it is cached in the engine; the storage is as fast as it is until delay_rules says otherwise. */
static struct image open_cold(struct co *co, bool no_discard)
{
	struct image im;
	struct node *file;
	struct err err;

	must_explained(file_open(co, &(struct file_open){.path = path, .write = true}, &file, &err), &err);
	must(delay_open(co, file, &(struct delay_rules){0}, &im.delay), "delay");
	must_explained(qcow2_open(co, im.delay,
			       &(struct qcow2_options){.write = true, .no_discard = no_discard, .keep_leaks = true},
			       &im.node, &err),
		&err);
	return im;
}

static void slow(struct image *im)
{
	struct delay_rules *rules = delay_rules(im->delay);

	rules->read_ns = rules->write_ns = rules->flush_ns = DELAY;
}

static void put(struct co *co, struct image *im, uint64_t at)
{
	static char data[4096] = "datum";

	must(node_write(co, im->node, at, IOV_BUF(data, sizeof(data)), 0), "write");
}

static void get(struct co *co, struct image *im, uint64_t at)
{
	char data[4096];

	must(node_read(co, im->node, at, IOV_BUF(data, sizeof(data))), "read");
}

/* ---- many at once ---- */

struct load {
	struct image *im;
	const uint64_t *at;
	unsigned next, n;
	bool write;
};

static void worker(struct co *co, void *arg)
{
	struct load *l = arg;

	while (l->next < l->n) {
		uint64_t at = l->at[l->next++];

		if (l->write)
			put(co, l->im, at);
		else
			get(co, l->im, at);
	}
}

/* Requests a second. */
static double run(struct co *co, struct load *l, unsigned depth)
{
	uint64_t start = co_now(co);
	struct co_group group;

	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 0; i < depth; i++)
		must(co_group_spawn(&group, "bench-worker", worker, l), "spawn");
	co_group_wait(co, &group);
	return l->n * 1e9 / (double)(co_now(co) - start);
}

static void shuffled(uint64_t *at, unsigned n, uint64_t step)
{
	unsigned seed = 1;

	for (unsigned i = 0; i < n; i++)
		at[i] = i * step;
	for (unsigned i = n - 1; i > 0; i--) {
		unsigned j = (unsigned)rand_r(&seed) % (i + 1);
		uint64_t other = at[j];

		at[j] = at[i];
		at[i] = other;
	}
}

static void cold(struct co *co)
{
	static uint64_t at[READS];
	struct image im;
	double rate;

	shuffled(at, READS, TABLE_COVERS);
	create(co, READS * TABLE_COVERS);
	im = open_cold(co, false);
	for (unsigned i = 0; i < READS; i++)
		put(co, &im, i * TABLE_COVERS);
	must(node_close(co, im.node), "close");
	im = open_cold(co, false);
	slow(&im);
	rate = run(co, &(struct load){.im = &im, .at = at, .n = READS}, DEPTH);
	printf("cold-reads-depth-%d %.0f /s\n", DEPTH, rate);
	printf("cold-reads-of-ideal %.1f %%\n", 100 * rate / (DEPTH * 1e9 / (2.0 * DELAY)));
	must(node_close(co, im.node), "close");
}

static double tables_at(struct co *co, unsigned depth)
{
	static uint64_t at[WRITES];
	struct image im;
	double rate;

	shuffled(at, WRITES, TABLE_COVERS);
	create(co, WRITES * TABLE_COVERS);
	im = open_cold(co, false);
	slow(&im);
	rate = run(co, &(struct load){.im = &im, .at = at, .n = WRITES, .write = true}, depth);
	must(node_close(co, im.node), "close");
	printf("new-tables-depth-%u %.0f /s\n", depth, rate);
	return rate;
}

static void tables(struct co *co)
{
	double one = tables_at(co, 1), many = tables_at(co, DEPTH);

	printf("new-tables-ratio %.1f x\n", many / one);
}

/* ---- the victim ---- */

enum parked { L2_SLICE, REFCOUNT_BLOCK, L2_TABLE, L1_TABLE };

struct parking {
	struct image im;
	enum parked what;
	bool done;
};

static void park(struct parking *p, bool reads, uint64_t from, uint64_t len)
{
	struct delay_rules *rules = delay_rules(p->im.delay);

	rules->park_reads = reads;
	rules->park_writes = !reads;
	rules->park_once = true;
	rules->park_off = from;
	rules->park_len = len;
	rules->park_ns = PARK;
}

static void parked_request(struct co *co, void *arg)
{
	struct parking *p = arg;

	switch (p->what) {
	case L2_SLICE: get(co, &p->im, SLICE_COVERS); break;
	case REFCOUNT_BLOCK:
		put(co, &p->im, 65536); /* an allocation: the image was opened cold */
		break;
	case L2_TABLE: put(co, &p->im, 2 * TABLE_COVERS); break;
	case L1_TABLE: must(node_resize(co, p->im.node, 64 * TiB), "resize"); break;
	}
	p->done = true;
}

/* Parks the next storage request of the kind that the case is about. The victim's cluster and slice are cached by then. */
static void arm(struct parking *p) { park(p, p->what == L2_SLICE || p->what == REFCOUNT_BLOCK, 0, UINT64_MAX / 2); }

static void victim(struct co *co, enum parked what, const char *name)
{
	struct parking p = {.what = what};
	uint64_t worst = 0, reads = 0;

	create(co, 4 * TABLE_COVERS);
	p.im = open_cold(co, true);
	put(co, &p.im, 0);
	put(co, &p.im, SLICE_COVERS);
	put(co, &p.im, 128 * 1024);
	must(node_discard(co, p.im.node, 128 * 1024, 64 * 1024),
		"discard"); /* a free cluster that isn't known to be zero */
	must(node_close(co, p.im.node), "close");
	p.im = open_cold(co, true);
	get(co, &p.im, 0);
	arm(&p);
	must(co_spawn(co_sched_of(co), "parked", parked_request, &p), "spawn");
	co_sleep(co, 20 * MS);
	while (!p.done) {
		uint64_t start = co_now(co);

		get(co, &p.im, 0);
		worst = MAX(worst, co_now(co) - start);
		reads++;
		co_sleep(co, MS);
	}
	if (delay_counts(p.im.delay)->parked != 1 || reads < 100)
		must(-EPROTO, name);
	printf("victim-%s %.2f ms\n", name, (double)worst / (double)MS);
	must(node_close(co, p.im.node), "close");
}

static void all(struct co *co, void *arg)
{
	(void)arg;
	cold(co);
	tables(co);
	victim(co, L2_SLICE, "l2-slice-load");
	victim(co, REFCOUNT_BLOCK, "refcount-block-load");
	victim(co, L2_TABLE, "l2-table-made");
	victim(co, L1_TABLE, "l1-growth");
	remove(path);
}

int main(int argc, char **argv)
{
	const char *engine = getenv("CORRAL_AIO");
	struct err err;
	struct io *io;

	if (argc != 2) {
		fprintf(stderr, "usage: bench-metadata FILE\n");
		return 2;
	}
	path = argv[1];
	must_explained(io_new(&io, engine && !strcmp(engine, "threads") ? IO_THREADS : IO_AUTO, NULL, &err), &err);
	must(co_main(io_sched(io), "bench", all, NULL), "start");
	io_free(io);
	return 0;
}
