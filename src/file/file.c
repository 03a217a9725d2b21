/* SPDX-License-Identifier: MIT */
/* The storage node that is a host file: each request is one of io/'s. */
#include "file/file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "base/mutant.h"
#include "file/lock.h"

struct file {
	struct node node; /* first */
	struct io_file *io;
	char *path; /* that it is called */
	bool no_flush;
};

static struct file *file_of(const struct node *n) { return container_of(n, struct file, node); }

static int file_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	return io_file_read(co, file_of(n)->io, off, to);
}

static int file_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct file *f = file_of(n);
	bool durable = (flags & NODE_FUA) != 0 && !f->no_flush;

	return io_file_write(co, f->io, off, from, durable ? IO_WRITE_DSYNC : 0);
}

static int file_flush(struct co *co, struct node *n)
{
	struct file *f = file_of(n);

	return f->no_flush ? 0 : io_file_sync(co, f->io);
}

static int file_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct file *f = file_of(n);
	int err = -ENOTSUP;

	if (flags & NODE_MAY_UNMAP)
		err = io_file_punch(co, f->io, off, len);
	return err == -ENOTSUP ? io_file_zero(co, f->io, off, len) : err;
}

static int file_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	return io_file_punch(co, file_of(n)->io, off, len);
}

static int file_copy(struct co *co, struct node *n, uint64_t off, struct node *from, uint64_t from_off, uint64_t len)
{
	if (!node_is_file(from))
		return -ENOTSUP;
	return io_file_copy(co, file_of(n)->io, off, file_of(from)->io, from_off, len);
}

static int file_resize(struct co *co, struct node *n, uint64_t size)
{
	struct file *f = file_of(n);
	int err;

	if (!io_file_info(f->io)->regular)
		return -ENOTSUP;
	err = io_file_truncate(co, f->io, size);
	if (err == 0)
		n->size = size;
	return err;
}

static int file_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	bool data;
	uint64_t run;
	int err = io_file_extent(co, file_of(n)->io, at.off, len, &data, &run);

	if (err != 0)
		return err;
	*out = (struct node_extent){
		.kind = data ? NODE_DATA : NODE_ZERO,
		.in_place = data,
		.has_host = true,
		.host = {at.off},
		.len = run,
	};
	return 0;
}

static int file_close(struct co *co, struct node *n)
{
	struct file *f = file_of(n);

	io_file_close(co, f->io);
	node_fini(n);
	free(f->path);
	free(f);
	return 0;
}

static const struct node_ops file_ops = {
	.name = "file",
	.close = file_close,
	.flush = file_flush,
	.resize = file_resize,
	.read = file_read,
	.write = file_write,
	.zero = file_zero,
	.discard = file_discard,
	.copy = file_copy,
	.map = file_map,
};

bool node_is_file(const struct node *n) { return n->ops == &file_ops; }

const struct io_file_info *file_info(const struct node *n)
{
	assert(node_is_file(n));
	return io_file_info(file_of(n)->io);
}

const char *file_path(const struct node *n)
{
	assert(node_is_file(n));
	return file_of(n)->path;
}

/* ---- opening ---- */

/* The last component of a path; of a very long one its end, which tells more than its start. */
static void set_name(struct node *n, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *tail = slash != NULL && slash[1] != '\0' ? slash + 1 : path;
	size_t len = strlen(tail);
	size_t keep = MIN(len, sizeof(n->name) - 1);

	memcpy(n->name, tail + len - keep, keep);
	n->name[keep] = '\0';
}

/*
 * What was written before, by whomever, becomes durable before anybody acts on it. It need not be: where a flush had failed,
 * the storage may still be of two minds. An error that nobody has been told of yet is told here.
 */
static int settle(struct co *co, struct file *f, const struct file_open *how, struct err *err)
{
	int rc = how->write && !how->no_flush && !MUTANT(152) ? io_file_sync(co, f->io) : 0;

	if (rc == 0)
		return 0;
	err_set(err, rc, "\"%s\": what was written to it before can't be flushed, and may be lost: %s", f->node.name,
		strerror(-rc));
	err_hint(err, "opening it again goes on with what the storage has");
	return rc;
}

static int file_setup(struct co *co, struct file *f, const struct file_open *how, struct err *err)
{
	const struct io_file_info *info = io_file_info(f->io);
	struct node *n = &f->node;
	int rc;

	set_name(n, f->path);
	rc = how->no_lock ? 0 : file_lock(co, f->io, how->write, f->path, err);
	if (rc == 0)
		rc = settle(co, f, how, err);
	if (rc != 0)
		return rc;
	n->ops = &file_ops;
	n->size = info->size;
	n->align = info->align;
	n->mem_align = info->mem_align;
	n->cluster = 1;
	n->read_only = !how->write;
	n->grows_zeroed = info->regular;
	f->no_flush = how->no_flush;
	rc = node_init(n, co_sched_of(co));
	return rc != 0 ? err_set(err, rc, "\"%s\": no memory", n->name) : 0;
}

int file_open(struct co *co, const struct file_open *how, struct node **out, struct err *err)
{
	AUTO_FREE struct file *f = calloc(1, sizeof(*f));
	AUTO_FREE char *path = strdup(how->shown ? how->shown : how->path);
	struct io_open open = {.path = how->path, .beneath = how->beneath};
	int rc;

	if (f == NULL || path == NULL)
		return err_set(err, -ENOMEM, "\"%s\": no memory", how->path);
	f->path = path;
	open.flags = (how->write ? IO_OPEN_WRITE : 0) | (how->direct ? IO_OPEN_DIRECT : 0);
	rc = io_file_open(co, &open, &f->io, err);
	if (rc != 0)
		return rc;
	rc = file_setup(co, f, how, err);
	if (rc != 0) {
		io_file_close(co, f->io);
		return rc;
	}
	take(path);
	*out = &take(f)->node;
	return 0;
}
