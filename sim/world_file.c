/* SPDX-License-Identifier: MIT */
/* What operations on files do, and how they fail. A write takes effect from its submission on: see disk.h. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/math.h"
#include "world.h"

static uint64_t vector_bytes(const struct io_op *op)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < op->n; i++)
		bytes += op->v[i].iov_len;
	return bytes;
}

static struct sim_fd *fd_of(struct sim_world *w, int fd)
{
	if (fd < 0 || fd >= SIM_FDS || !w->fds[fd].file)
		sim_violation("operation on descriptor %d, which is not open", fd);
	return &w->fds[fd];
}

/* ---- faults ---- */

static bool counted(bool it, uint64_t *count)
{
	*count += it;
	return it;
}

/* The n-th operation that reads or changes the file fails, whatever it is. */
static bool nth_fails(struct sim_world *w) { return w->faults.nth != 0 && --w->faults.nth == 0; }

static bool fails(struct sim_world *w, uint32_t in)
{
	bool it = sim_one_in(&w->fault, in);

	return counted(nth_fails(w) || it, &w->counts.failures);
}

static bool sticky(struct sim_world *w, const struct sim_file *f, uint64_t off, uint64_t len)
{
	uint64_t bad = w->faults.sticky_to - w->faults.sticky_from;

	return counted(f == &w->files[0] && ranges_overlap(off, len, w->faults.sticky_from, bad), &w->counts.failures);
}

static bool annoys(struct sim_world *w, uint32_t in) { return sim_one_in(&w->fault, in); }

/* What may come of any transfer, before anything happened. */
static int nuisance(struct sim_world *w)
{
	if (annoys(w, w->faults.interrupt_in))
		return -EINTR;
	return annoys(w, w->faults.again_in) ? -EAGAIN : 0;
}

static bool is_full(struct sim_world *w, const struct sim_file *f, uint64_t end)
{
	if (end > (uint64_t)f->disk.sectors * SIM_SECTOR)
		return true;
	if (end <= f->disk.size || f != &w->files[0])
		return false;
	return counted(
		(w->faults.limit != 0 && end > w->faults.limit) || annoys(w, w->faults.full_in), &w->counts.failures);
}

/* A part of a transfer: whole blocks of it. */
static uint64_t shortened(struct sim_world *w, const struct sim_file *f, uint64_t off, uint64_t len)
{
	uint64_t block = MAX(f->align, (uint32_t)SIM_SECTOR);
	uint64_t blocks = (align_up(off + len, block) - align_down(off, block)) / block;
	uint64_t end;

	if (blocks < 2 || !annoys(w, w->faults.short_in))
		return len;
	end = align_down(off, block) + (1 + sim_below(&w->fault, (uint32_t)(blocks - 1))) * block;
	return end - off;
}

/* ---- begin ---- */

static void begin_write(struct sim_world *w, struct sim_event *e, struct sim_file *f)
{
	const struct io_op *op = e->op;
	uint64_t len = vector_bytes(op);

	w->counts.writes++;
	w->counts.dsyncs += (op->flags & IO_WRITE_DSYNC) != 0;
	e->result = nuisance(w);
	if (e->result == 0 && is_full(w, f, op->offset + len))
		e->result = -ENOSPC;
	if (e->result < 0)
		return;
	e->write = sim_disk_write(&f->disk, op->offset, op->v, len);
	if (e->write == 0)
		sim_violation("A2: a write of %#" PRIx64 "+%#" PRIx64 " of %s while another one is in flight there",
			op->offset, len, f->name);
	e->failed = fails(w, w->faults.write_in) || sticky(w, f, op->offset, len);
	e->result = e->failed ? -EIO : (int64_t)shortened(w, f, op->offset, len);
}

static void do_read(struct sim_world *w, struct sim_event *e, struct sim_file *f)
{
	e->result = (int64_t)sim_disk_read(&f->disk, e->op->offset, e->op->v, (uint64_t)e->result, &w->schedule);
}

static void begin_read(struct sim_world *w, struct sim_event *e, struct sim_file *f)
{
	uint64_t len = vector_bytes(e->op);

	w->counts.reads++;
	e->result = nuisance(w);
	if (e->result < 0)
		return;
	if (fails(w, w->faults.read_in) || sticky(w, f, e->op->offset, len)) {
		e->result = -EIO;
		return;
	}
	e->result = (int64_t)shortened(w, f, e->op->offset, len);
	e->early = sim_below(&w->schedule, 2) == 0;
	if (e->early)
		do_read(w, e, f);
}

static uint32_t fallocate_write(struct sim_file *f, const struct io_op *op)
{
	uint64_t end;

	if (op->flags == IO_FALLOC_ALLOCATE)
		return sim_disk_allocate(&f->disk, op->offset, op->len);
	end = op->flags == IO_FALLOC_PUNCH ? MIN(op->offset + op->len, align_up(f->disk.size, SIM_SECTOR))
					   : op->offset + op->len;
	return sim_disk_zero(
		&f->disk, op->offset, end > op->offset ? end - op->offset : 0, op->flags == IO_FALLOC_ZERO);
}

static int fallocate_refused(struct sim_world *w, const struct sim_file *f, const struct io_op *op)
{
	if ((op->flags == IO_FALLOC_ZERO && w->faults.no_zero) ||
		(op->flags == IO_FALLOC_PUNCH && w->faults.no_punch) ||
		(op->flags == IO_FALLOC_ALLOCATE && f->disk.device) || (op->offset | op->len) % SIM_SECTOR)
		return -EOPNOTSUPP;
	if (op->flags != IO_FALLOC_PUNCH && is_full(w, f, op->offset + op->len))
		return -ENOSPC;
	return nuisance(w);
}

static void begin_fallocate(struct sim_world *w, struct sim_event *e, struct sim_file *f)
{
	w->counts.zeroes += e->op->flags == IO_FALLOC_ZERO;
	w->counts.punches += e->op->flags == IO_FALLOC_PUNCH;
	e->result = fallocate_refused(w, f, e->op);
	if (e->result < 0)
		return;
	e->write = fallocate_write(f, e->op);
	if (e->write == 0)
		sim_violation("A2: zeroes or a punch of %#" PRIx64 "+%#" PRIx64
			      " of %s while a write is in flight there",
			e->op->offset, e->op->len, f->name);
	e->failed = fails(w, w->faults.zero_in);
	e->result = e->failed ? -EIO : 0;
}

static void begin_truncate(struct sim_world *w, struct sim_event *e, struct sim_file *f)
{
	e->result = f->disk.device ? -EINVAL : nuisance(w);
	if (e->result == 0 && is_full(w, f, e->op->offset))
		e->result = -ENOSPC;
	if (e->result < 0)
		return;
	e->write = sim_disk_truncate(&f->disk, e->op->offset);
	if (e->write == 0)
		sim_violation(
			"A2: truncate of %s to %#" PRIx64 " while a write is in flight beyond", f->name, e->op->offset);
	e->failed = fails(w, 0);
	e->result = e->failed ? -EIO : 0;
}

static void begin_sync(struct sim_world *w, struct sim_event *e, struct sim_file *f)
{
	w->counts.flushes++;
	e->result = nuisance(w);
	if (e->result < 0)
		return;
	e->covers = sim_disk_flush_begin(&f->disk);
	e->failed = fails(w, w->faults.flush_in);
	e->result = e->failed ? -EIO : 0;
}

/* ---- files ---- */

static void info_fill(struct sim_world *w, const struct sim_file *f, struct io_file_info *info)
{
	info->size = f->disk.size;
	info->device = 1;
	info->inode = (uint64_t)(f - w->files) + 1;
	info->regular = !f->disk.device;
}

static int64_t file_open_(struct sim_world *w, const struct io_op *op)
{
	struct sim_file *f = sim_world_find(w, op->open->path);
	bool write = op->open->flags & IO_OPEN_WRITE;

	if (!f)
		return err_set(op->err, -ENOENT, "%s: there is no such file", op->open->path);
	if (write && f->read_only)
		return err_set(op->err, -EACCES, "%s: read only", f->name);
	for (int fd = 0; fd < SIM_FDS; fd++) {
		if (w->fds[fd].file)
			continue;
		w->fds[fd] = (struct sim_fd){f, write};
		info_fill(w, f, op->info);
		op->info->align = f->align;
		op->info->mem_align = f->align;
		op->info->writable = write;
		return fd;
	}
	return -EMFILE;
}

static void locks_drop(struct sim_world *w, int fd)
{
	for (unsigned i = 0; i < SIM_LOCKS; i++) {
		if (w->locks[i].fd == fd)
			w->locks[i].fd = -1;
	}
}

static int lock_take(struct sim_world *w, int fd, uint64_t at)
{
	for (unsigned i = 0; i < SIM_LOCKS; i++) {
		if (w->locks[i].fd == -1) {
			w->locks[i] = (struct sim_lock){fd, at};
			return 0;
		}
	}
	return -ENOLCK;
}

static int lock_do(struct sim_world *w, const struct io_op *op)
{
	if (op->flags == IO_LOCK_SHARED)
		return lock_take(w, op->fd, op->offset);
	for (unsigned i = 0; i < SIM_LOCKS; i++) {
		struct sim_lock *l = &w->locks[i];

		if (l->fd == -1 || l->at != op->offset)
			continue;
		if (op->flags == IO_LOCK_RELEASE && l->fd == op->fd)
			l->fd = -1;
		else if (op->flags == IO_LOCK_TEST && l->fd != op->fd && w->fds[l->fd].file == w->fds[op->fd].file)
			return -EAGAIN;
	}
	return 0;
}

/* A hole is what was never written since it was punched last; a file system may call more of it data. */
static int64_t seek_do(const struct sim_disk *d, uint64_t off, bool hole)
{
	if (off >= d->size)
		return -ENXIO;
	for (uint64_t s = off / SIM_SECTOR; s * SIM_SECTOR < d->size; s++) {
		if ((d->newest[s] == 0) == hole)
			return (int64_t)MAX(off, s * SIM_SECTOR);
	}
	return hole ? (int64_t)d->size : -ENXIO;
}

static int64_t plain_do(struct sim_world *w, const struct io_op *op)
{
	switch (op->code) {
	case IO_OP_OPEN: return file_open_(w, op);
	case IO_OP_STAT: info_fill(w, fd_of(w, op->fd)->file, op->info); return 0;
	case IO_OP_CLOSE:
		fd_of(w, op->fd);
		locks_drop(w, op->fd);
		w->fds[op->fd].file = NULL;
		return 0;
	case IO_OP_SEEK: return seek_do(&fd_of(w, op->fd)->file->disk, op->offset, op->flags == 1);
	case IO_OP_LOCK: return lock_do(w, op);
	default: return -EOPNOTSUPP;
	}
}

/* ---- the two moments of an operation ---- */

void sim_file_begin(struct sim_world *w, struct sim_event *e)
{
	struct io_op *op = e->op;

	switch (op->code) {
	case IO_OP_READ: begin_read(w, e, fd_of(w, op->fd)->file); break;
	case IO_OP_WRITE: begin_write(w, e, fd_of(w, op->fd)->file); break;
	case IO_OP_FALLOCATE: begin_fallocate(w, e, fd_of(w, op->fd)->file); break;
	case IO_OP_TRUNCATE: begin_truncate(w, e, fd_of(w, op->fd)->file); break;
	case IO_OP_SYNC: begin_sync(w, e, fd_of(w, op->fd)->file); break;
	default: break;
	}
	if (sim_tracing)
		sim_trace("%12" PRIu64 " #%" PRIu64 " begin op %d fd %d off %#" PRIx64 " len %#" PRIx64 " flags %u",
			w->now, e->number, op->code, op->fd, op->offset, op->v ? vector_bytes(op) : op->len, op->flags);
}

static void finish_write(struct sim_world *w, struct sim_event *e, struct sim_disk *d)
{
	const struct io_op *op = e->op;
	uint64_t first = op->offset / SIM_SECTOR;

	if (op->code == IO_OP_WRITE && !sim_disk_same(d, e->write, op->offset, op->v, vector_bytes(op)))
		sim_violation("the memory of the write of %#" PRIx64 "+%#" PRIx64 " changed while it was in flight",
			op->offset, vector_bytes(op));
	if (e->failed)
		sim_disk_fail(d, e->write, &w->fault);
	else if (op->code == IO_OP_WRITE)
		sim_disk_end(
			d, e->write, (uint32_t)(div_round_up(op->offset + (uint64_t)e->result, SIM_SECTOR) - first));
	else
		sim_disk_end(d, e->write, UINT32_MAX);
	if (op->code == IO_OP_WRITE && (op->flags & IO_WRITE_DSYNC) && !e->failed)
		sim_disk_force(d, e->write);
}

static void finish_sync(struct sim_event *e, struct sim_disk *d)
{
	if (e->result == -EINTR || e->result == -EAGAIN)
		return;
	if (e->failed)
		sim_disk_flush_failed(d, e->covers);
	else
		sim_disk_flush_end(d, e->covers);
}

void sim_file_finish(struct sim_world *w, struct sim_event *e)
{
	struct io_op *op = e->op;

	switch (op->code) {
	case IO_OP_READ:
		if (!e->early && e->result > 0)
			do_read(w, e, fd_of(w, op->fd)->file);
		break;
	case IO_OP_WRITE:
	case IO_OP_FALLOCATE:
	case IO_OP_TRUNCATE:
		if (e->write != 0)
			finish_write(w, e, &fd_of(w, op->fd)->file->disk);
		break;
	case IO_OP_SYNC: finish_sync(e, &fd_of(w, op->fd)->file->disk); break;
	case IO_OP_DROP: sim_disk_drop(&fd_of(w, op->fd)->file->disk, &w->fault); break;
	default: e->result = plain_do(w, op); break;
	}
	if (sim_tracing)
		sim_trace("%12" PRIu64 " #%" PRIu64 " end   op %d -> %" PRId64, w->now, e->number, op->code, e->result);
}

/* A flush has happened or not, so it needn't. That a failed one has its consequence is kinder than a host is: of that instant
 * nobody could know. */
void sim_file_kill(struct sim_world *w, const struct sim_event *e)
{
	struct io_op *op = e->op;

	if (e->write != 0)
		sim_disk_fail(&fd_of(w, op->fd)->file->disk, e->write, &w->fault);
	else if (op->code == IO_OP_DROP)
		sim_disk_drop(&fd_of(w, op->fd)->file->disk, &w->fault);
}
