/* SPDX-License-Identifier: MIT */
/*
 * Fills a qcow2 image with a raw file, compressed, several requests at once; what reads zeros is left out. For the scripts.
 *
 * usage: write-compressed IMAGE RAW     (CORRAL_AIO: the engine)
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "co/sync.h"
#include "file/file.h"
#include "io/io.h"
#include "qcow2/qcow2.h"

#define REQUEST (4 * MiB)
#define AT_ONCE 3

struct job {
	const char *image;
	char *raw;
	uint64_t bytes, next;
	struct node *node;
};

static void must(int rc, const char *what, const struct err *err)
{
	if (rc == 0)
		return;
	fprintf(stderr, "%s: %s\n", what, err && err->text[0] ? err->text : strerror(-rc));
	exit(1);
}

static void work(struct co *co, void *arg)
{
	struct job *j = arg;

	while (j->next < j->bytes) {
		uint64_t off = j->next, len = MIN(REQUEST, j->bytes - off);

		j->next += len;
		if (!mem_is_zero(j->raw + off, len))
			must(node_write_compressed(co, j->node, off, IOV_BUF(j->raw + off, len), 0), "write", NULL);
	}
}

static void fill(struct co *co, void *arg)
{
	struct job *j = arg;
	struct err err = {0};
	struct node *file;
	struct co_group group;

	must(file_open(co, &(struct file_open){.path = j->image, .write = true}, &file, &err), "open", &err);
	must(qcow2_open(co, file, &(struct qcow2_options){.write = true}, &j->node, &err), "open", &err);
	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 0; i < AT_ONCE; i++)
		must(co_group_spawn(&group, "writer", work, j), "co_group_spawn", NULL);
	co_group_wait(co, &group);
	must(node_close(co, j->node), "close", NULL);
}

int main(int argc, char **argv)
{
	const char *engine = getenv("CORRAL_AIO");
	int fd = argc == 3 ? open(argv[2], O_RDONLY) : -1;
	struct job j = {.image = argv[1]};
	struct err err = {0};
	struct stat st;
	struct io *io;

	if (fd < 0 || fstat(fd, &st) != 0)
		return 2;
	j.bytes = (uint64_t)st.st_size;
	j.raw = mmap(NULL, j.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	if (j.raw == MAP_FAILED)
		return 2;
	must(io_new(&io, engine && strcmp(engine, "threads") == 0 ? IO_THREADS : IO_URING, NULL, &err), "io", &err);
	must(co_main(io_sched(io), "main", fill, &j), "co_main", NULL);
	io_free(io);
	return 0;
}
