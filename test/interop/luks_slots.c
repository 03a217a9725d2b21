/* SPDX-License-Identifier: MIT */
/*
 * Adds a passphrase to an encrypted image, or removes it.
 * usage: luks-slots add IMAGE PASSPHRASE-FILE NEW-FILE SLOT | remove IMAGE PASSPHRASE-FILE SLOT     (SLOT -1: any)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "file/file.h"
#include "io/io.h"
#include "qcow2/qcow2.h"

struct job {
	bool add;
	const char *image;
	struct qcow2_luks_change change;
	int rc;
};

static struct crypto_secret secret_read(const char *path)
{
	char *bytes = malloc(4096);
	FILE *f = fopen(path, "r");
	size_t len = f && bytes ? fread(bytes, 1, 4096, f) : 0;

	if (!f || !bytes || fclose(f) != 0)
		exit(2);
	return (struct crypto_secret){bytes, len};
}

static void run(struct co *co, void *arg)
{
	struct job *j = arg;
	struct file_open open = {.path = j->image, .write = true};
	struct err err = {0};
	struct node *file;

	j->rc = file_open(co, &open, &file, &err);
	if (j->rc == 0) {
		j->rc = j->add ? qcow2_luks_add(co, file, &j->change, &err)
			       : qcow2_luks_remove(co, file, &j->change, &err);
		if (node_close(co, file) < 0 && j->rc == 0)
			j->rc = 1;
	}
	if (j->rc)
		fprintf(stderr, "%s: %s\n", j->image, err.text);
}

int main(int argc, char **argv)
{
	struct job j = {.add = argc == 6 && strcmp(argv[1], "add") == 0, .change.iter_ms = 5};
	struct err err = {0};
	struct io *io;

	if (!j.add && (argc != 5 || strcmp(argv[1], "remove") != 0))
		return 2;
	j.image = argv[2];
	j.change.slot = atoi(argv[argc - 1]);
	if (j.add)
		j.change.unlock = secret_read(argv[3]);
	if (j.add || j.change.slot < 0)
		j.change.passphrase = secret_read(argv[argc - 2]);
	if (io_new(&io, IO_THREADS, NULL, &err) != 0 || co_main(io_sched(io), "luks-slots", run, &j) != 0)
		return 2;
	io_free(io);
	free((void *)j.change.unlock.bytes);
	free((void *)j.change.passphrase.bytes);
	return j.rc != 0;
}
