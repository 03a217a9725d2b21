/* SPDX-License-Identifier: MIT */
/*
 * What does a snapshot cost the guest? In process, on a fully mapped image without data (preallocated metadata on a sparse
 * file): workers read and write 4 KiB at random places, each up to a thousand times a second, so that the storage isn't the
 * limit; a snapshot is created, later deleted.
 *
 *   create, delete    from call to return
 *   quiet             before: the longest request, and how many a second
 *   during            the longest request that was under way while the snapshot was created, or deleted; reads and writes
 *
 *   turn              the longest turn of the loop meanwhile
 *   storage           the longest read, write, flush and punch of the file itself meanwhile
 *
 * What the storage takes, guests wait for, whether there are snapshots or not: a write that needs a new refcount block for a
 * flush, and on a file system that locks a file while a hole is punched in it, whoever wants that file for the punch.
 *
 * bench-snapshot FILE BYTES [DEPTH] makes its image there, and prints one line "name value unit" for each figure.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "file/file.h"
#include "filter/pass.h"
#include "io/io.h"
#include "qcow2/qcow2.h"

#define MS UINT64_C(1000000)
#define REQUEST 4096
#define QUIET (1000 * MS)
#define THINK MS
#define FLUSH_EVERY (50 * MS)
#define MOST_DEPTH 64u

static const char *path;
static uint64_t disk_bytes;
static unsigned depth = 8;

static void must(int rc, const struct err *err, const char *what)
{
	if (rc) {
		fprintf(stderr, "bench-snapshot: %s: %s\n", what, err && err->text[0] ? err->text : strerror(-rc));
		exit(1);
	}
}

static void create(struct co *co)
{
	struct qcow2_create how = {.size = disk_bytes,
		.version = 3,
		.cluster_bits = 16,
		.refcount_order = 4,
		.preallocation = QCOW2_PREALLOCATE_METADATA};
	struct node *file;
	struct err err = {0};

	remove(path);
	fclose(fopen(path, "w"));
	must(file_open(co, &(struct file_open){.path = path, .write = true}, &file, &err), &err, "open");
	must(qcow2_create(co, file, &how, &err), &err, "create");
	must(node_close(co, file), NULL, "close");
}

/* ---- the storage, with a look at the clock ---- */

static struct { /* since the last look */
	uint64_t read, write, flush, punch;
} storage;

static int took(struct co *co, uint64_t begun, uint64_t *worst, int rc)
{
	*worst = MAX(*worst, co_now(co) - begun);
	return rc;
}

static int timed_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	uint64_t begun = co_now(co);

	return took(co, begun, &storage.read, pass_read(co, n, off, to));
}

static int timed_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	uint64_t begun = co_now(co);

	return took(co, begun, &storage.write, pass_write(co, n, off, from, flags));
}

static int timed_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	uint64_t begun = co_now(co);

	return took(co, begun, &storage.punch, pass_discard(co, n, off, len));
}

static int timed_flush(struct co *co, struct node *n)
{
	uint64_t begun = co_now(co);

	return took(co, begun, &storage.flush, pass_flush(co, n));
}

static int timed_close(struct co *co, struct node *n)
{
	(void)co;
	node_fini(n);
	free(n);
	return 0;
}

static const struct node_ops timed_ops = {
	.name = "timed",
	.close = timed_close,
	.flush = timed_flush,
	.resize = pass_resize,
	.read = timed_read,
	.write = timed_write,
	.zero = pass_zero,
	.discard = timed_discard,
	.map = pass_map,
};

static struct node *image_open(struct co *co)
{
	struct node *file, *node, *timed = calloc(1, sizeof(*timed));
	struct err err = {0};

	must(timed ? 0 : -ENOMEM, NULL, "open");
	must(file_open(co, &(struct file_open){.path = path, .write = true}, &file, &err), &err, "open");
	must(pass_init(co, timed, &timed_ops, file), NULL, "open");
	must(qcow2_open(co, timed, &(struct qcow2_options){.write = true, .keep_leaks = true}, &node, &err), &err,
		"open");
	return node;
}

/* ---- the guest ---- */

struct load {
	struct node *node;
	bool stop;
	uint64_t worst_read, worst_write, worst_flush, requests; /* since the last look */
	uint64_t seed;
	struct co_turns turns;
	struct co_group workers;
};

static uint64_t random_offset(struct load *g)
{
	g->seed = g->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (g->seed >> 24) % (disk_bytes / REQUEST) * REQUEST;
}

static void worker(struct co *co, void *arg)
{
	struct load *g = arg;
	char data[REQUEST] = "datum";

	while (!g->stop) {
		uint64_t at = random_offset(g), start = co_now(co), took;
		bool write = g->requests++ % 2;

		if (write)
			must(node_write(co, g->node, at, IOV_BUF(data, sizeof(data)), 0), NULL, "write");
		else
			must(node_read(co, g->node, at, IOV_BUF(data, sizeof(data))), NULL, "read");
		took = co_now(co) - start;
		if (write)
			g->worst_write = MAX(g->worst_write, took);
		else
			g->worst_read = MAX(g->worst_read, took);
		co_sleep(co, THINK);
	}
}

static void flusher(struct co *co, void *arg)
{
	struct load *g = arg;

	while (!g->stop) {
		uint64_t start = co_now(co);

		must(node_flush(co, g->node), NULL, "flush");
		g->worst_flush = MAX(g->worst_flush, co_now(co) - start);
		co_sleep(co, FLUSH_EVERY);
	}
}

static void look(struct load *g, const char *when, uint64_t ns)
{
	printf("%s-longest-read %.2f ms\n", when, (double)g->worst_read / (double)MS);
	printf("%s-longest-write %.2f ms\n", when, (double)g->worst_write / (double)MS);
	printf("%s-longest-flush %.2f ms\n", when, (double)g->worst_flush / (double)MS);
	printf("%s-longest-turn %.2f ms\n", when, (double)g->turns.longest_ns / (double)MS);
	printf("%s-storage-read %.2f ms\n", when, (double)storage.read / (double)MS);
	printf("%s-storage-write %.2f ms\n", when, (double)storage.write / (double)MS);
	printf("%s-storage-flush %.2f ms\n", when, (double)storage.flush / (double)MS);
	printf("%s-storage-punch %.2f ms\n", when, (double)storage.punch / (double)MS);
	printf("%s-requests %.0f /s\n", when, (double)g->requests * 1e9 / (double)ns);
	memset(&storage, 0, sizeof(storage));
	g->turns.longest_ns = 0;
	g->worst_read = g->worst_write = g->worst_flush = g->requests = 0;
}

static void all(struct co *co, void *arg)
{
	struct load g = {.seed = 1, .turns.limit_ns = CO_NEVER};
	struct qcow2_snapshot_new how = {.name = "bench"};
	struct err err = {0};
	uint64_t start;

	(void)arg;
	create(co);
	g.node = image_open(co);
	co_sched_watch(co_sched_of(co), &g.turns);
	co_group_init(&g.workers, co_sched_of(co));
	for (unsigned i = 0; i < depth; i++)
		must(co_group_spawn(&g.workers, "guest", worker, &g), NULL, "spawn");
	must(co_group_spawn(&g.workers, "guest-flush", flusher, &g), NULL, "spawn");
	co_sleep(co, QUIET);
	g.worst_read = g.worst_write = g.worst_flush = g.requests = g.turns.longest_ns = 0;
	memset(&storage, 0, sizeof(storage));
	co_sleep(co, QUIET);
	look(&g, "before", QUIET);
	start = co_now(co);
	must(qcow2_snapshot_create(co, g.node, &how, &err), &err, "create");
	printf("create %.1f ms\n", (double)(co_now(co) - start) / (double)MS);
	look(&g, "create", co_now(co) - start);
	co_sleep(co, QUIET);
	look(&g, "shared", QUIET);
	start = co_now(co);
	must(qcow2_snapshot_delete(co, g.node, "bench", &err), &err, "delete");
	printf("delete %.1f ms\n", (double)(co_now(co) - start) / (double)MS);
	look(&g, "delete", co_now(co) - start);
	g.stop = true;
	co_group_wait(co, &g.workers);
	co_sched_watch(co_sched_of(co), NULL);
	must(node_close(co, g.node), NULL, "close");
}

int main(int argc, char **argv)
{
	const char *engine = getenv("CORRAL_AIO");
	struct err err = {0};
	struct io *io;

	if (argc < 3) {
		fprintf(stderr, "usage: bench-snapshot FILE BYTES [DEPTH]\n");
		return 2;
	}
	path = argv[1];
	disk_bytes = strtoull(argv[2], NULL, 0);
	if (argc > 3)
		depth = MIN((unsigned)atoi(argv[3]), MOST_DEPTH);
	must(io_new(&io, engine && !strcmp(engine, "threads") ? IO_THREADS : IO_AUTO, NULL, &err), &err, "engine");
	must(co_main(io_sched(io), "bench", all, NULL), NULL, "start");
	io_free(io);
	return 0;
}
