/* SPDX-License-Identifier: MIT */
/* A disk that forgets: see scratch.h. */
#include "cli/scratch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file/file.h"
#include "qcow2/qcow2.h"

/* A file that is gone when it is closed, for what is written. */
static int overlay_file(struct co *co, struct node **out, struct err *err)
{
	char path[] = "/var/tmp/corral-XXXXXX";
	struct file_open open = {.path = path, .write = true, .no_lock = true, .no_flush = true};
	int fd = mkstemp(path), ret;

	if (fd < 0)
		return err_set(err, -errno, "Could not create a temporary file: %s", strerror(errno));
	close(fd);
	ret = file_open(co, &open, out, err);
	unlink(path);
	return ret;
}

static int overlay_make(struct co *co, uint64_t size, struct node **file, struct err *err)
{
	struct qcow2_create create = {.size = size, .version = 3, .cluster_bits = 16, .refcount_order = 4};
	int ret = overlay_file(co, file, err);

	return ret < 0 ? ret : qcow2_create(co, *file, &create, err);
}

int cli_scratch_open(struct co *co, struct node *below, struct node **out, struct err *err)
{
	static const struct qcow2_options options = {.write = true, .keep_leaks = true};
	struct node *file = NULL;
	int ret = overlay_make(co, below->size, &file, err);

	if (ret == 0)
		ret = qcow2_open(co, file, &options, out, err);
	if (ret < 0) {
		(void)!node_close(co, file);
		(void)!node_close(co, below);
		return ret;
	}
	(*out)->backing = below;
	return 0;
}
