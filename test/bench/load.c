/* SPDX-License-Identifier: MIT */
/*
 * bench-load nbd|vhost SOCKET NAME=VALUE...: requests to a server, as lean as a client can be, so that what is measured is
 * the server; prints one JSON object.
 *
 *   depth=32 bytes=4096 requests=100000 disk=1073741824 reads=100 (percent) order=random|sequential|stride step=65536
 *   sync=0|1 seed=1
 */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static uint64_t started_ns;

void load_die(const char *what)
{
	fprintf(stderr, "bench-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

uint64_t load_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void load_begin(struct load *l)
{
	(void)l;
	started_ns = load_now();
}

int load_connect(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		load_die(path);
	return fd;
}

void load_send(int fd, const void *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			load_die("send");
		data = (const char *)data + n;
		len -= (size_t)n;
	}
}

void load_receive(int fd, void *to, size_t len)
{
	while (len > 0) {
		ssize_t n = recv(fd, to, len, MSG_WAITALL);

		if (n <= 0)
			load_die("the server closed the connection");
		to = (char *)to + n;
		len -= (size_t)n;
	}
}

/* ---- requests ---- */

static uint64_t random_next(struct load *l)
{
	l->seed ^= l->seed << 13;
	l->seed ^= l->seed >> 7;
	l->seed ^= l->seed << 17;
	return l->seed;
}

static uint64_t offset_next(struct load *l)
{
	uint64_t at = l->at, n = l->disk / l->step;

	switch (l->order) {
	case LOAD_SEQUENTIAL: l->at = (at + l->bytes) % (l->disk - l->disk % l->bytes); return at;
	case LOAD_STRIDE: l->at++; return at * UINT64_C(1000003) % n * l->step; /* a prime: no place comes twice */
	default: return random_next(l) % (l->disk / l->bytes) * l->bytes;
	}
}

bool load_next(struct load *l, struct load_slot *slot)
{
	if (slot->flush_next) {
		*slot = (struct load_slot){.op = EXPORT_FLUSH, .begun_ns = load_now()};
		return true;
	}
	if (l->begun == l->requests)
		return false;
	l->begun++;
	slot->op = random_next(l) % 100 < l->reads_percent ? EXPORT_READ : EXPORT_WRITE;
	slot->offset = offset_next(l);
	slot->flush_next = l->sync && slot->op == EXPORT_WRITE;
	slot->begun_ns = load_now();
	return true;
}

void load_done(struct load *l, struct load_slot *slot, bool succeeded)
{
	l->done += slot->op != EXPORT_FLUSH;
	export_stats_add(&l->stats, slot->op, l->bytes, load_now() - slot->begun_ns, succeeded);
	if (!succeeded) {
		errno = EIO;
		load_die("a request");
	}
}

/* ---- the command line, the report ---- */

static enum load_order order_of(const char *name)
{
	return strcmp(name, "sequential") == 0 ? LOAD_SEQUENTIAL
		: strcmp(name, "stride") == 0  ? LOAD_STRIDE
					       : LOAD_RANDOM;
}

static void set(struct load *l, const char *text)
{
	const char *value = strchr(text, '=');
	size_t len = value ? (size_t)(value - text) : 0;
	unsigned long long n = value ? strtoull(++value, NULL, 0) : 0;

#define IS(name) (len == strlen(name) && strncmp(text, name, len) == 0)
	if (IS("depth") && n > 0 && n <= LOAD_DEPTH)
		l->depth = (unsigned)n;
	else if (IS("bytes"))
		l->bytes = (unsigned)n;
	else if (IS("requests"))
		l->requests = n;
	else if (IS("disk"))
		l->disk = n;
	else if (IS("reads"))
		l->reads_percent = (unsigned)n;
	else if (IS("step"))
		l->step = n;
	else if (IS("sync"))
		l->sync = n;
	else if (IS("seed"))
		l->seed = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
	else if (IS("order"))
		l->order = order_of(value);
	else
		load_die(text);
#undef IS
}

static void report(const struct load *l)
{
	double seconds = (double)(load_now() - started_ns) / 1e9;
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	printf("{\"seconds\": %.6f, \"requests-per-second\": %.1f, \"client-cpu-seconds\": %.6f", seconds,
		(double)l->requests / seconds,
		(double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
			(double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
	for (unsigned op = 0; op < EXPORT_OPS; op++) {
		const struct export_counter *c = &l->stats.op[op];

		if (c->requests > 0)
			printf(", \"%s\": {\"requests\": %llu, \"p50-us\": %.1f, \"p99-us\": %.1f, \"p99.9-us\": %.1f, "
			       "\"max-us\": %.1f}",
				export_op_name((enum export_op)op), (unsigned long long)c->requests,
				(double)export_counter_percentile(c, 500) / 1e3,
				(double)export_counter_percentile(c, 990) / 1e3,
				(double)export_counter_percentile(c, 999) / 1e3, (double)c->longest_ns / 1e3);
	}
	puts("}");
}

int main(int argc, char **argv)
{
	struct load l = {.depth = 32,
		.bytes = 4096,
		.requests = 100000,
		.disk = UINT64_C(1) << 30,
		.reads_percent = 100,
		.step = 65536,
		.seed = UINT64_C(0x9e3779b97f4a7c15)};

	if (argc < 3) {
		fprintf(stderr, "usage: bench-load nbd|vhost SOCKET NAME=VALUE...\n");
		return 2;
	}
	l.socket = argv[2];
	for (int i = 3; i < argc; i++)
		set(&l, argv[i]);
	if (strcmp(argv[1], "nbd") == 0)
		load_nbd(&l);
	else
		load_vhost(&l);
	report(&l);
	return 0;
}
