/* SPDX-License-Identifier: MIT */
/*
 * Files above the backend: requests are whole or fail, whatever short transfers, interruptions and vector limits lie
 * below. What an O_DIRECT file asks of a request is checked here, so that every backend refuses the same ones.
 */
#include "io/backend.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mutant.h"
#include "base/cleanup.h"
#include "base/math.h"
#include "io/posix.h"

/* How a file was opened, for who opens it so again. */
struct kept {
	struct list link; /* of io->kept_files while it is closed */
	int fd;
	unsigned flags;
	char *beneath; /* or NULL */
	char path[];
};

struct io_file {
	struct io_file_info info;
	int fd;
	unsigned busy;     /* operations under way: none may be left when it is closed */
	bool lost;         /* something of what was written may be */
	struct kept *kept; /* NULL: its descriptor is closed with it */
};

/* ---- descriptors that are kept ---- */

void io_files_keep(struct io *io) { io->keeps_files = true; }

static void kept_free(struct kept *k)
{
	if (k != NULL)
		free(k->beneath);
	free(k);
}

/* NULL: no memory, and then it is opened by its name alone. */
static struct kept *kept_new(const struct io_open *how)
{
	size_t len = strlen(how->path) + 1;
	struct kept *k = malloc(sizeof(*k) + len);

	if (k == NULL)
		return NULL;
	*k = (struct kept){.flags = how->flags, .beneath = how->beneath != NULL ? strdup(how->beneath) : NULL};
	memcpy(k->path, how->path, len);
	if (how->beneath == NULL || k->beneath != NULL)
		return k;
	free(k);
	return NULL;
}

static bool same_text(const char *a, const char *b) { return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0; }

/* NULL: none was opened so. */
static struct kept *kept_find(const struct io *io, unsigned flags, const char *beneath, const char *path)
{
	list_for_each(it, &io->kept_files) {
		struct kept *k = list_entry(it, struct kept, link);

		if (k->flags == flags && same_text(k->beneath, beneath) && strcmp(k->path, path) == 0)
			return k;
	}
	return NULL;
}

/* False: there is one already. */
static bool kept_put(struct co *co, struct io_file *f)
{
	struct io *io = io_of(co);
	struct kept *k = take(f->kept);

	if (k == NULL || kept_find(io, k->flags, k->beneath, k->path) != NULL) {
		kept_free(k);
		return false;
	}
	(void)io_do(co, &(struct io_op){.code = IO_OP_LOCK, .fd = f->fd, .flags = IO_LOCK_RELEASE_ALL});
	k->fd = f->fd;
	list_push(&io->kept_files, &k->link);
	return true;
}

void io_kept_files_fini(struct io *io)
{
	list_for_each_safe(it, &io->kept_files) {
		struct kept *k = list_entry(it, struct kept, link);

		list_remove(it);
		io_posix_close(k->fd);
		kept_free(k);
	}
}

/* ---- opening and closing ---- */

static int64_t kept_open(struct co *co, const struct io_open *how, struct io_file *f, struct err *err)
{
	struct kept *k = kept_find(io_of(co), how->flags, how->beneath, how->path);
	int64_t r;

	if (k == NULL)
		return -ENOENT;
	list_remove(&k->link);
	r = io_do(co, &(struct io_op){.code = IO_OP_REOPEN, .fd = k->fd, .open = how, .info = &f->info, .err = err});
	if (r < 0)
		list_push(&io_of(co)->kept_files, &k->link);
	else
		f->kept = k;
	return r;
}

static int64_t name_open(struct co *co, const struct io_open *how, struct io_file *f, struct err *err)
{
	bool keeps = io_of(co)->keeps_files && !(how->flags & IO_OPEN_CREATE);
	int64_t r = io_do(co, &(struct io_op){.code = IO_OP_OPEN, .open = how, .info = &f->info, .err = err});

	if (r >= 0 && keeps)
		f->kept = kept_new(how);
	return r;
}

int io_file_open(struct co *co, const struct io_open *how, struct io_file **out, struct err *err)
{
	AUTO_FREE struct io_file *f = calloc(1, sizeof(*f));
	int64_t r = -ENOENT;

	if (f == NULL)
		return err_set(err, -ENOMEM, "%s: no memory", how->path);
	if (io_of(co)->keeps_files)
		r = kept_open(co, how, f, err);
	if (r == -ENOENT)
		r = name_open(co, how, f, err);
	if (r < 0)
		return (int)r;
	f->fd = (int)r;
	*out = take(f);
	return 0;
}

const struct io_file_info *io_file_info(const struct io_file *f) { return &f->info; }

static int64_t file_do_once(struct co *co, struct io_file *f, struct io_op op)
{
	int64_t r;

	op.fd = f->fd;
	f->busy++;
	r = io_do(co, &op);
	f->busy--;
	return r;
}

static int64_t file_do(struct co *co, struct io_file *f, struct io_op op)
{
	unsigned tries = 0;
	int64_t r;

	do
		r = file_do_once(co, f, op);
	while (io_again(co, &tries, r));
	return r;
}

/*
 * After a failed sync the kernel takes the pages that it couldn't write for clean: it goes on showing what the storage
 * doesn't have, and no later sync covers it. Without them reads come from the storage. What is being written just now
 * stays, so that it is done again when nothing is under way any more.
 */
static void cache_drop(struct co *co, struct io_file *f)
{
	if (!MUTANT(150))
		(void)file_do_once(co, f, (struct io_op){.code = IO_OP_DROP});
}

/* Not where it failed before anything was done. */
static bool is_loss(int64_t r) { return r < 0 && r != -EAGAIN && r != -EINVAL && r != -EFAULT; }

static int durable_result(struct co *co, struct io_file *f, int64_t r)
{
	if (is_loss(r)) {
		f->lost = true;
		cache_drop(co, f);
	}
	return (int)r;
}

/* What close itself may report was due to sync, and comes too late to act on. */
void io_file_close(struct co *co, struct io_file *f)
{
	if (f == NULL)
		return;
	assert(f->busy == 0);
	if (f->lost)
		cache_drop(co, f);
	if (!kept_put(co, f))
		(void)io_do(co, &(struct io_op){.code = IO_OP_CLOSE, .fd = f->fd});
	free(f);
}

/* ---- read and write ---- */

static bool request_is_valid(const struct io_file *f, uint64_t off, struct iov it)
{
	uint64_t end;

	return !add_overflows(off, it.len, &end) && end <= INT64_MAX && is_aligned(off | it.len, f->info.align) &&
		(f->info.mem_align == 1 || iov_is_aligned(it, f->info.mem_align));
}

/* Takes excess bytes off the end of the vector; returns how many elements are left. */
static unsigned vector_cut(struct iovec *v, unsigned n, size_t excess)
{
	while (n > 0 && v[n - 1].iov_len <= excess)
		excess -= v[--n].iov_len;
	if (n > 0)
		v[n - 1].iov_len -= excess;
	return n;
}

/* As much of the request as one operation takes. A part of it must be a whole number of blocks, too. */
static int64_t file_transfer(
	struct co *co, struct io_file *f, enum io_code code, uint64_t off, struct iov it, unsigned flags)
{
	struct iovec v[IO_VECTOR];
	size_t bytes;
	unsigned n = iov_export(it, v, IO_VECTOR, &bytes);

	n = vector_cut(v, n, bytes & (f->info.align - 1));
	if (n == 0)
		return -EINVAL;
	return file_do(co, f, (struct io_op){.code = code, .offset = off, .v = v, .n = n, .flags = flags});
}

/* Whether a read that came to `end`, inside a block, came to the end of the file; else there is more to be read. */
static int file_ends_at(struct co *co, struct io_file *f, uint64_t end)
{
	uint64_t size;
	int r = io_file_size(co, f, &size);

	return r < 0 ? r : size <= end;
}

/*
 * Zeros follow where the file ends. Its end shows as a read of nothing, or, as an O_DIRECT file is read in blocks, as
 * one that ends inside a block. Where the file's size contradicts (it may just have grown), the block is read again.
 */
static int file_read(struct co *co, struct io_file *f, uint64_t off, struct iov to)
{
	unsigned flags = f->info.align == 1 ? IO_READ_CACHED : 0;
	unsigned stuck = 0;

	if (!request_is_valid(f, off, to))
		return -EINVAL;
	while (to.len > 0) {
		int64_t r = file_transfer(co, f, IO_OP_READ, off, to, flags);
		uint64_t got = (uint64_t)r, whole;
		int ends = r == 0;

		if (r < 0)
			return (int)r;
		whole = align_down(got, f->info.align);
		if (whole != got)
			ends = file_ends_at(co, f, off + got);
		if (ends < 0)
			return ends;
		if (ends) {
			iov_fill(iov_slice(to, got, to.len - got), 0);
			return 0;
		}
		if (whole == 0 && ++stuck == 16)
			return -EIO;
		off += MUTANT(47) ? 0 : whole;
		to = iov_slice(to, whole, to.len - whole);
	}
	return 0;
}

/* What was read while the cache was dropped may be of before or of after. */
int io_file_read(struct co *co, struct io_file *f, uint64_t off, struct iov to)
{
	int r = f->lost && !MUTANT(151) ? -EIO : file_read(co, f, off, to);

	return f->lost && !MUTANT(151) ? -EIO : r;
}

int io_file_write(struct co *co, struct io_file *f, uint64_t off, struct iov from, unsigned flags)
{
	if (!f->info.writable)
		return -EBADF;
	if (!request_is_valid(f, off, from))
		return -EINVAL;
	while (from.len > 0) {
		int64_t r = file_transfer(co, f, IO_OP_WRITE, off, from, flags);
		uint64_t whole;

		if (r < 0)
			return flags & IO_WRITE_DSYNC ? durable_result(co, f, r) : (int)r;
		whole = MUTANT(28) ? from.len : align_down((uint64_t)r, f->info.align);
		if (whole == 0) /* it would go on like this for ever */
			return -EIO;
		off += whole;
		from = iov_slice(from, whole, from.len - whole);
	}
	return 0;
}

/* ---- copying ---- */

/* What a file system that doesn't copy between these two files says; that, and the end of the other one, are no errors. */
static bool cannot_copy(int64_t r)
{
	return r == 0 || r == -EOPNOTSUPP || r == -ENOSYS || r == -EXDEV || r == -EINVAL || r == -EBADF || r == -EPERM;
}

int io_file_copy(struct co *co, struct io_file *f, uint64_t off, struct io_file *from, uint64_t from_off, uint64_t len)
{
	if (!f->info.writable)
		return -EBADF;
	while (len > 0) {
		int64_t r = file_do(co, f,
			(struct io_op){.code = IO_OP_COPY,
				.offset = off,
				.len = len,
				.from_fd = from->fd,
				.from_offset = from_off});

		if (cannot_copy(r))
			return -ENOTSUP;
		if (r < 0)
			return (int)r;
		off += (uint64_t)r;
		from_off += (uint64_t)r;
		len -= (uint64_t)r;
	}
	return 0;
}

/* ---- all the rest ---- */

int io_file_sync(struct co *co, struct io_file *f)
{
	return durable_result(co, f, file_do(co, f, (struct io_op){.code = IO_OP_SYNC}));
}

static int file_fallocate(struct co *co, struct io_file *f, uint64_t off, uint64_t len, unsigned what)
{
	uint64_t end;
	int r;

	if (!f->info.writable)
		return -EBADF;
	if (add_overflows(off, len, &end) || end > INT64_MAX)
		return -EINVAL;
	if (len == 0)
		return 0;
	r = (int)file_do(co, f, (struct io_op){.code = IO_OP_FALLOCATE, .offset = off, .len = len, .flags = what});
	return r == -EOPNOTSUPP || r == -ENOSYS || r == -ENODEV || r == -ENOTTY ? -ENOTSUP : r;
}

int io_file_zero(struct co *co, struct io_file *f, uint64_t off, uint64_t len)
{
	return file_fallocate(co, f, off, len, IO_FALLOC_ZERO);
}

int io_file_punch(struct co *co, struct io_file *f, uint64_t off, uint64_t len)
{
	return file_fallocate(co, f, off, len, IO_FALLOC_PUNCH);
}

int io_file_allocate(struct co *co, struct io_file *f, uint64_t off, uint64_t len)
{
	return file_fallocate(co, f, off, len, IO_FALLOC_ALLOCATE);
}

int io_file_truncate(struct co *co, struct io_file *f, uint64_t size)
{
	if (!f->info.writable)
		return -EBADF;
	if (size > INT64_MAX)
		return -EFBIG;
	return (int)file_do(co, f, (struct io_op){.code = IO_OP_TRUNCATE, .offset = size});
}

int io_file_size(struct co *co, struct io_file *f, uint64_t *size)
{
	struct io_file_info now;
	int r = (int)file_do(co, f, (struct io_op){.code = IO_OP_STAT, .info = &now});

	if (r < 0)
		return r;
	*size = now.size;
	return 0;
}

enum { SEEK_TO_DATA, SEEK_TO_HOLE };

static int64_t file_seek(struct co *co, struct io_file *f, uint64_t off, unsigned what)
{
	return file_do(co, f, (struct io_op){.code = IO_OP_SEEK, .offset = off, .flags = what});
}

/* Where host or file system can't tell, everything is data; that a file changes between two questions is fine. */
int io_file_extent(struct co *co, struct io_file *f, uint64_t off, uint64_t len, bool *data, uint64_t *run)
{
	uint64_t end;
	int64_t at;

	assert(len > 0);
	if (add_overflows(off, len, &end) || end > INT64_MAX)
		return -EINVAL;
	*data = true;
	*run = len;
	at = file_seek(co, f, off, SEEK_TO_DATA);
	if (at == -ENXIO || at > (int64_t)off) {
		*data = false;
	} else if (at == (int64_t)off) {
		at = file_seek(co, f, off, SEEK_TO_HOLE);
	}
	if (at > (int64_t)off)
		*run = MIN(len, (uint64_t)at - off);
	return 0;
}

/* ---- locks ---- */

/* Straight through: here -EAGAIN is the answer. */
static int file_lock_do(struct co *co, struct io_file *f, uint64_t at, unsigned what)
{
	return (int)file_do_once(co, f, (struct io_op){.code = IO_OP_LOCK, .offset = at, .flags = what});
}

int io_file_lock(struct co *co, struct io_file *f, uint64_t at) { return file_lock_do(co, f, at, IO_LOCK_SHARED); }

int io_file_unlock(struct co *co, struct io_file *f, uint64_t at) { return file_lock_do(co, f, at, IO_LOCK_RELEASE); }

int io_file_lock_test(struct co *co, struct io_file *f, uint64_t at) { return file_lock_do(co, f, at, IO_LOCK_TEST); }
