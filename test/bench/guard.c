/* SPDX-License-Identifier: MIT */
/*
 * What does the guard of metadata cost? Warm 4 KiB overwrites in process, with it and without, in turn, on one image: over
 * a storage node that does nothing, so that nothing but the engine's own work is there to hide it; and over a real file.
 *
 * usage: bench-guard FILE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/math.h"
#include "file/file.h"
#include "io/io.h"
#include "qcow2/qcow2.h"

#define BLOCK 4096u
#define ROUNDS 15

static char data[2 * MiB];
static const char *path;

static void must(int rc, const char *what)
{
	if (rc) {
		fprintf(stderr, "bench-guard: %s: %s\n", what, strerror(-rc));
		exit(1);
	}
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* whatever else the machine does */
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- storage that does nothing with writes, while it is told so ---- */

static int write_nothing(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	(void)co, (void)n, (void)off, (void)from, (void)flags;
	return 0;
}

/* ---- one image ---- */

struct bench {
	struct node *image, *file;
	uint64_t disk;
	struct node_ops with, without;
};

static void fill(struct co *co, struct bench *b)
{
	for (uint64_t off = 0; off < b->disk; off += sizeof(data))
		must(node_write(co, b->image, off, IOV_BUF(data, sizeof(data)), 0), "write");
	must(node_flush(co, b->image), "flush");
}

static void image_make(struct co *co, struct bench *b, unsigned cluster_bits)
{
	struct qcow2_create how = {.size = b->disk, .version = 3, .cluster_bits = cluster_bits, .refcount_order = 4};
	struct err err = {0};
	FILE *fresh = fopen(path, "w");

	if (fresh)
		fclose(fresh);
	must(file_open(co, &(struct file_open){.path = path, .write = true}, &b->file, &err), "open");
	must(qcow2_create(co, b->file, &how, &err), "create");
	must(qcow2_open(co, b->file, &(struct qcow2_options){.write = true}, &b->image, &err), "open");
	b->with = b->without = *b->image->ops;
	b->without.overwriting = NULL;
	fill(co, b);
}

/* Nanoseconds of processor time a write, over the blocks of the disk in an order of their own. */
static double measure(struct co *co, struct bench *b, bool guarded, unsigned writes)
{
	uint64_t blocks = b->disk / BLOCK;
	double start;

	b->image->ops = guarded ? &b->with : &b->without;
	start = now_ns();
	for (uint64_t i = 0; i < writes; i++)
		must(node_write(co, b->image, i * 7919 % blocks * BLOCK, IOV_BUF(data, BLOCK), 0), "write");
	return (now_ns() - start) / writes;
}

/* The fastest round of each: what disturbs only ever adds. */
static void compare(struct co *co, struct bench *b, const char *name, unsigned writes)
{
	const struct node_ops *ops = b->image->ops;
	double with = 1e18, without = 1e18;

	measure(co, b, true, writes);
	for (unsigned i = 0; i < ROUNDS; i++) {
		double plain = measure(co, b, false, writes), guarded = measure(co, b, true, writes);

		without = MIN(without, plain);
		with = MIN(with, guarded);
	}
	b->image->ops = ops;
	printf("%-26s without %8.0f ns, with %8.0f ns, difference %6.0f ns of processor time\n", name, without, with,
		with - without);
}

static void geometry(struct co *co, unsigned cluster_bits, uint64_t disk, const char *name)
{
	struct bench b = {.disk = disk};
	struct node_ops idle;
	const struct node_ops *real;
	char text[60];

	image_make(co, &b, cluster_bits);
	snprintf(text, sizeof(text), "%s, file", name);
	compare(co, &b, text, 4000);
	real = b.file->ops;
	idle = *real;
	idle.write = write_nothing;
	b.file->ops = &idle;
	snprintf(text, sizeof(text), "%s, nothing", name);
	compare(co, &b, text, 200000);
	b.file->ops = real;
	must(node_close(co, b.image), "close");
	remove(path);
}

static void all(struct co *co, void *arg)
{
	(void)arg;
	memset(data, 0x5a, sizeof(data));
	geometry(co, 16, 256 * MiB, "64 KiB clusters");
	geometry(co, 9, 64 * MiB, "512-byte clusters");
}

int main(int argc, char **argv)
{
	const char *engine = getenv("CORRAL_AIO");
	struct err err;
	struct io *io;

	if (argc != 2) {
		fprintf(stderr, "usage: bench-guard FILE\n");
		return 2;
	}
	path = argv[1];
	must(io_new(&io, engine && !strcmp(engine, "threads") ? IO_THREADS : IO_AUTO, NULL, &err), "io");
	must(co_main(io_sched(io), "bench", all, NULL), "start");
	io_free(io);
	return 0;
}
