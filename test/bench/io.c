/* SPDX-License-Identifier: MIT */
/*
 * bench-io [FILE]: random reads and writes of 4 KiB, each line half a second: requests per second, and microseconds of
 * processor time that a request costs the process, kernel and helper threads included. "plain" is a loop of system calls,
 * for scale. Without a name it makes a file of 256 MiB in the working directory, and removes it; a FILE is only read.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/math.h"
#include "co/sync.h"
#include "io/io.h"

#define BLOCK 4096
#define FILE_BYTES (256 * MiB)
#define RUN_NS 500000000ull

struct bench {
	const char *path;
	bool direct, write;
	unsigned depth;

	struct io_file *f;
	uint64_t blocks, seed, until_ns, requests;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return seconds(u.ru_utime) + seconds(u.ru_stime);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t offset_next(struct bench *b)
{
	b->seed ^= b->seed << 13;
	b->seed ^= b->seed >> 7;
	b->seed ^= b->seed << 17;
	return b->seed % b->blocks * BLOCK;
}

static void report(const struct bench *b, const char *engine, uint64_t ns, double cpu)
{
	printf("%-8s %-6s %-8s %5u %10.0f %10.2f\n", engine, b->write ? "write" : "read",
		b->direct ? "direct" : "buffered", b->depth, (double)b->requests * 1e9 / (double)ns,
		cpu * 1e6 / (double)b->requests);
	fflush(stdout);
}

/* ---- the engines ---- */

static int request(struct co *co, struct bench *b, void *buf)
{
	if (b->write)
		return io_file_write(co, b->f, offset_next(b), IOV_BUF(buf, BLOCK), 0);
	return io_file_read(co, b->f, offset_next(b), IOV_BUF(buf, BLOCK));
}

static void requester(struct co *co, void *arg)
{
	struct bench *b = arg;
	void *buf = io_alloc(BLOCK);

	memset(buf, 1, BLOCK);
	while (co_now(co) < b->until_ns) {
		if (request(co, b, buf) != 0)
			abort();
		b->requests++;
	}
	free(buf);
}

static void measure(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct io_open how = {
		.path = b->path, .flags = (b->direct ? IO_OPEN_DIRECT : 0) | (b->write ? IO_OPEN_WRITE : 0)};
	struct co_group g;
	uint64_t start;
	struct err err;
	double cpu;

	if (io_file_open(co, &how, &b->f, &err) != 0) {
		printf("%s\n", err.text);
		return;
	}
	co_group_init(&g, co_sched_of(co));
	start = co_now(co);
	cpu = cpu_seconds();
	b->until_ns = start + RUN_NS;
	for (unsigned i = 0; i < b->depth; i++) {
		if (co_group_spawn(&g, "requester", requester, b) != 0)
			abort();
	}
	co_group_wait(co, &g);
	report(b, io_engine_name(io_of(co)), co_now(co) - start, cpu_seconds() - cpu);
	io_file_close(co, b->f);
}

static void run_engine(struct bench b, enum io_engine engine)
{
	struct err err;
	struct io *io;

	if (io_new(&io, engine, NULL, &err) != 0) {
		printf("%s\n", err.text);
		return;
	}
	if (co_main(io_sched(io), "bench", measure, &b) != 0)
		abort();
	io_free(io);
}

static void run_plain(struct bench b)
{
	int fd = open(b.path, (b.write ? O_RDWR : O_RDONLY) | O_CLOEXEC | (b.direct ? O_DIRECT : 0));
	struct iovec v = {.iov_base = io_alloc(BLOCK), .iov_len = BLOCK};
	uint64_t start = now_ns();
	double cpu = cpu_seconds();

	if (fd < 0)
		die(b.path);
	for (; now_ns() < start + RUN_NS; b.requests++) {
		off_t off = (off_t)offset_next(&b);

		if ((b.write ? pwritev(fd, &v, 1, off) : preadv(fd, &v, 1, off)) != BLOCK)
			die(b.path);
	}
	report(&b, "plain", now_ns() - start, cpu_seconds() - cpu);
	free(v.iov_base);
	close(fd);
}

/* ---- the file ---- */

static void file_make(const char *path)
{
	static char buf[MiB];
	FILE *f = fopen(path, "w");

	if (f == NULL)
		die(path);
	for (uint64_t i = 0; i < FILE_BYTES / MiB; i++) {
		memset(buf, (int)i + 1, sizeof(buf));
		if (fwrite(buf, sizeof(buf), 1, f) != 1)
			die(path);
	}
	if (fflush(f) != 0 || fsync(fileno(f)) != 0 || fclose(f) != 0)
		die(path);
}

static uint64_t file_blocks(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (end < BLOCK)
		die(path);
	close(fd);
	return (uint64_t)end / BLOCK;
}

int main(int argc, char **argv)
{
	static const unsigned depths[] = {1, 32};
	const char *path = argc > 1 ? argv[1] : "bench-io.tmp";

	if (argc < 2)
		file_make(path);
	printf("%-8s %-6s %-8s %5s %10s %10s\n", "engine", "what", "cache", "depth", "requests/s", "cpu us");
	for (unsigned i = 0; i < (argc > 1 ? 4 : 8); i++) {
		struct bench b = {.path = path,
			.direct = i & 2,
			.write = i & 4,
			.depth = depths[i % 2],
			.seed = 88172645463325252ull};

		b.blocks = file_blocks(path);
		if (b.depth == 1)
			run_plain(b);
		run_engine(b, IO_URING);
		run_engine(b, IO_THREADS);
	}
	if (argc < 2)
		unlink(path);
	return 0;
}
