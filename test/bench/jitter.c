/* SPDX-License-Identifier: MIT */
/*
 * bench-jitter FILE: how long is the event loop busy at a time, and what does one reader of a cached cluster notice, while
 * something else goes on in the same loop? In process, on an image of 1 TiB with preallocated metadata (holes in FILE).
 *
 * A line for each: name, longest turn of the loop in milliseconds, and of the reader p50, p99.9 and the longest, in
 * microseconds. The reader reads 4 KiB, then pauses for 100 us.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "export/stats.h"
#include "file/file.h"
#include "io/io.h"
#include "job/commit.h"
#include "qcow2/qcow2.h"

#define MS UINT64_C(1000000)
#define DISK (UINT64_C(1) << 40)
#define BLOCK 4096
#define DEPTH 32
#define LEAST (300 * MS) /* how long each is watched */

static const char *path;
static char overlay_path[4096];

static void must(int rc, const struct err *err, const char *what)
{
	if (rc) {
		fprintf(stderr, "bench-jitter: %s: %s\n", what, err && err->text[0] ? err->text : strerror(-rc));
		exit(1);
	}
}

static struct node *image_new(struct co *co, const char *name, uint64_t size, enum qcow2_preallocation preallocation)
{
	struct qcow2_create how = {
		.size = size, .version = 3, .cluster_bits = 16, .refcount_order = 4, .preallocation = preallocation};
	struct node *file, *image;
	struct err err = {0};

	remove(name);
	fclose(fopen(name, "w"));
	must(file_open(co, &(struct file_open){.path = name, .write = true}, &file, &err), &err, "open");
	must(qcow2_create(co, file, &how, &err), &err, "create");
	must(qcow2_open(co, file, &(struct qcow2_options){.write = true, .keep_leaks = true}, &image, &err), &err,
		"open");
	return image;
}

/* ---- the reader ---- */

struct watch {
	struct node *node;
	bool stop;
	struct export_stats stats;
	struct co_turns turns;
	struct co_group group;
};

static void reader(struct co *co, void *arg)
{
	struct watch *w = arg;
	char data[BLOCK];

	while (!w->stop) {
		uint64_t begun = co_now(co);

		must(node_read(co, w->node, 0, IOV_BUF(data, sizeof(data))), NULL, "read");
		export_stats_add(&w->stats, EXPORT_READ, BLOCK, co_now(co) - begun, true);
		co_sleep(co, MS / 10);
	}
}

static void no_limit(struct co_turns *turns ATTR_UNUSED, uint64_t ns ATTR_UNUSED) {}

typedef void background(struct co *co, struct node *n);

static void watched(struct co *co, const char *name, struct node *n, background *fn)
{
	struct watch w = {.node = n, .turns = {.limit_ns = CO_NEVER, .slow = no_limit}};
	uint64_t begun = co_now(co);
	const struct export_counter *c = &w.stats.op[EXPORT_READ];

	co_group_init(&w.group, co_sched_of(co));
	must(co_group_spawn(&w.group, "reader", reader, &w), NULL, "spawn");
	co_sleep(co, MS);
	w.stats = (struct export_stats){0};
	co_sched_watch(co_sched_of(co), &w.turns);
	fn(co, n);
	if (co_now(co) - begun < LEAST)
		co_sleep(co, LEAST - (co_now(co) - begun));
	co_sched_watch(co_sched_of(co), NULL);
	w.stop = true;
	co_group_wait(co, &w.group);
	printf("%s %.3f %.1f %.1f %.1f\n", name, (double)w.turns.longest_ns / (double)MS,
		(double)export_counter_percentile(c, 500) / 1e3, (double)export_counter_percentile(c, 999) / 1e3,
		(double)c->longest_ns / 1e3);
}

/* ---- what else goes on ---- */

struct crowd {
	struct node *node;
	unsigned left;
	uint64_t seed, step, at; /* step: 0: anywhere */
	bool write;
};

static uint64_t place_next(struct crowd *c)
{
	if (c->step)
		return (c->at += c->step) - c->step;
	c->seed = c->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (c->seed >> 24) % (c->node->size / BLOCK) * BLOCK;
}

static void member(struct co *co, void *arg)
{
	struct crowd *c = arg;
	char data[BLOCK] = "datum";

	while (c->left > 0) {
		uint64_t at = place_next(c);

		c->left--;
		if (c->write)
			must(node_write(co, c->node, at, IOV_BUF(data, sizeof(data)), 0), NULL, "write");
		else
			must(node_read(co, c->node, at, IOV_BUF(data, sizeof(data))), NULL, "read");
	}
}

static void crowd_run(struct co *co, struct crowd c)
{
	struct co_group group;

	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 0; i < DEPTH; i++)
		must(co_group_spawn(&group, "crowd", member, &c), NULL, "spawn");
	co_group_wait(co, &group);
}

static void nothing(struct co *co, struct node *n) { (void)co, (void)n; }
static void miss(struct co *co, struct node *n) { crowd_run(co, (struct crowd){.node = n, .left = 30000, .seed = 1}); }
static void overwrite(struct co *co, struct node *n)
{
	crowd_run(co, (struct crowd){.node = n, .left = 20000, .step = BLOCK, .write = true});
}
static void allocate(struct co *co, struct node *n)
{
	crowd_run(co, (struct crowd){.node = n, .left = 30000, .step = 65536, .at = 65536, .write = true});
	must(node_flush(co, n), NULL, "flush");
}
static void snapshot_create(struct co *co, struct node *n)
{
	struct qcow2_snapshot_new how = {.name = "bench"};
	struct err err = {0};

	must(qcow2_snapshot_create(co, n, &how, &err), &err, "snapshot create");
}
static void snapshot_delete(struct co *co, struct node *n)
{
	struct err err = {0};

	must(qcow2_snapshot_delete(co, n, "bench", &err), &err, "snapshot delete");
}
static void grow(struct co *co, struct node *n) { must(node_resize(co, n, 4 * DISK), NULL, "grow"); }
static void discard(struct co *co, struct node *n)
{
	for (uint64_t at = DISK / 2; at < DISK / 2 + (UINT64_C(64) << 30); at += UINT64_C(1) << 30)
		must(node_discard(co, n, at, UINT64_C(1) << 30), NULL, "discard");
	must(node_flush(co, n), NULL, "flush");
}
static void check(struct co *co, struct node *n)
{
	struct qcow2_check_how how = {0};
	struct qcow2_check *found = calloc(1, sizeof(*found));
	struct err err = {0};
	struct node *file;

	(void)n;
	must(file_open(co, &(struct file_open){.path = path, .no_lock = true}, &file, &err), &err, "open");
	must(qcow2_check_image(co, file, &how, found, &err), &err, "check");
	must(node_close(co, file), NULL, "close");
	free(found);
}
static struct node *overlay; /* of commit: made and removed while nobody watches */

static void commit(struct co *co, struct node *n)
{
	struct err err = {0};

	must(commit_run(co, &(struct commit_how){.top = overlay, .base = n}, &err), &err, "commit");
}

static void commit_watched(struct co *co, struct node *n)
{
	overlay = image_new(co, overlay_path, n->size, QCOW2_PREALLOCATE_OFF);
	overlay->backing = n;
	crowd_run(co, (struct crowd){.node = overlay, .left = 4000, .step = 1 << 20, .at = 1 << 20, .write = true});
	watched(co, "commit", n, commit);
	overlay->backing = NULL;
	must(node_close(co, overlay), NULL, "close");
	remove(overlay_path);
}

static void all(struct co *co, void *arg)
{
	struct node *n = image_new(co, path, DISK, QCOW2_PREALLOCATE_OFF);

	(void)arg;
	watched(co, "allocate", n, allocate);
	must(node_close(co, n), NULL, "close");
	n = image_new(co, path, DISK, QCOW2_PREALLOCATE_METADATA);
	watched(co, "nothing", n, nothing);
	watched(co, "misses", n, miss);
	watched(co, "overwrites", n, overwrite);
	watched(co, "snapshot-create", n, snapshot_create);
	watched(co, "snapshot-delete", n, snapshot_delete);
	watched(co, "discard", n, discard);
	commit_watched(co, n);
	watched(co, "check", n, check);
	watched(co, "grow", n, grow);
	must(node_close(co, n), NULL, "close");
	remove(path);
}

int main(int argc, char **argv)
{
	struct err err = {0};
	struct io *io;

	if (argc != 2) {
		fprintf(stderr, "usage: bench-jitter FILE\n");
		return 2;
	}
	path = argv[1];
	snprintf(overlay_path, sizeof(overlay_path), "%s.overlay", path);
	must(io_new(&io, IO_AUTO, NULL, &err), &err, "engine");
	must(co_main(io_sched(io), "bench", all, NULL), NULL, "start");
	io_free(io);
	return 0;
}
