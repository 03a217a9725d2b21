/* SPDX-License-Identifier: MIT */
/*
 * Operations as plain system calls. An open never blocks on what isn't a file, and never changes it: a FIFO or a
 * terminal is opened non-blocking, looked at and closed again.
 */
#include "io/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

static int64_t result_of(int64_t r) { return r < 0 ? -errno : r; }

void io_posix_close(int fd) { (void)close(fd); }

uint64_t io_posix_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int io_posix_dup(int fd)
{
	int r = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return r >= 0 ? r : -errno;
}

uint64_t io_posix_left(uint64_t deadline_ns)
{
	uint64_t now = deadline_ns == 0 ? 0 : io_posix_now();

	return deadline_ns > now ? deadline_ns - now : 0;
}

bool io_posix_shutdown(int fd) { return shutdown(fd, SHUT_RDWR) == 0 || errno != ENOTSOCK; }

char *io_posix_realpath(const char *path) { return realpath(path, NULL); }

/* ---- open ---- */

static int open_flags(const struct io_open *how)
{
	int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

	flags |= how->flags & (IO_OPEN_WRITE | IO_OPEN_CREATE) ? O_RDWR : O_RDONLY;
	if (how->flags & IO_OPEN_CREATE)
		flags |= O_CREAT | O_TRUNC;
	if (how->flags & IO_OPEN_DIRECT)
		flags |= O_DIRECT;
	return flags;
}

/* The kernel gives up with EAGAIN when a rename crosses its way; an attacker who does that for ever gets the error. */
static int open_beneath(const struct io_open *how)
{
	struct open_how kernel_how = {
		.flags = (uint64_t)open_flags(how),
		.mode = how->flags & IO_OPEN_CREATE ? 0644 : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	int dir = open(how->beneath, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = -EAGAIN;

	if (dir < 0)
		return -errno;
	for (unsigned tries = 0; fd == -EAGAIN && tries < 16; tries++)
		fd = (int)result_of(syscall(SYS_openat2, dir, how->path, &kernel_how, sizeof(kernel_how)));
	close(dir);
	return fd;
}

static int open_explain(const struct io_open *how, struct err *err, int r)
{
	if (r == -EXDEV && how->beneath != NULL)
		return err_set(err, r, "%s: lies outside the directory %s", how->path, how->beneath);
	if (r == -ENOSYS && how->beneath != NULL)
		return err_set(err, r, "%s: the kernel can't keep it inside %s (no openat2)", how->path, how->beneath);
	if (r == -EINVAL && how->flags & IO_OPEN_DIRECT)
		return err_set(err, r, "%s: its file system refuses O_DIRECT", how->path);
	if (r == -EISDIR || r == -ENXIO || r == -ENOTBLK)
		return err_set(err, -EINVAL, "'file' driver requires '%s' to be a regular file", how->path);
	return err_set(err, r, "Could not %s '%s': %s", how->flags & IO_OPEN_CREATE ? "create" : "open", how->path,
		strerror(-r));
}

static int info_get(int fd, struct io_file_info *info)
{
	struct stat st;
	uint64_t bytes;

	if (fstat(fd, &st) < 0)
		return -errno;
	info->regular = S_ISREG(st.st_mode);
	info->device = st.st_dev;
	info->inode = st.st_ino;
	info->size = (uint64_t)st.st_size;
	info->allocated = (uint64_t)st.st_blocks * 512;
	if (info->regular)
		return 0;
	if (!S_ISBLK(st.st_mode))
		return -ENOTBLK;
	if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
		return -errno;
	info->size = bytes;
	info->device = st.st_rdev;
	info->inode = 0;
	return 0;
}

/* ---- O_DIRECT alignment ---- */

static bool align_from_statx(int fd, struct io_file_info *info)
{
#ifdef STATX_DIOALIGN
	struct statx x;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) < 0 || !(x.stx_mask & STATX_DIOALIGN))
		return false;
	info->align = x.stx_dio_offset_align;
	info->mem_align = x.stx_dio_mem_align;
	return info->align != 0 && info->mem_align != 0;
#else
	(void)fd;
	(void)info;
	return false;
#endif
}

static uint32_t align_of_sectors(int fd)
{
	int bytes;

	return ioctl(fd, BLKSSZGET, &bytes) == 0 && bytes >= 512 ? (uint32_t)bytes : 4096;
}

/* An empty file can't be asked: any read of it succeeds. */
static uint32_t align_by_reading(int fd, uint64_t size)
{
	AUTO_FREE void *buf = io_alloc(4096);

	return size > 0 && buf != NULL && pread(fd, buf, 512, 0) >= 0 ? 512 : 4096;
}

static void align_get(int fd, bool direct, struct io_file_info *info)
{
	info->align = info->mem_align = 1;
	if (!direct || align_from_statx(fd, info))
		return;
	info->align = info->regular ? align_by_reading(fd, info->size) : align_of_sectors(fd);
	info->mem_align = info->align;
}

/* Non-blocking was for the open alone: io_uring would take it as a wish never to wait for the disk. */
static int open_settle(int fd, const struct io_open *how, struct io_file_info *info)
{
	int r = info_get(fd, info);
	int flags;

	if (r < 0)
		return r;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return -errno;
	info->writable = (how->flags & (IO_OPEN_WRITE | IO_OPEN_CREATE)) != 0;
	align_get(fd, how->flags & IO_OPEN_DIRECT, info);
	return 0;
}

static int64_t open_do(const struct io_op *op)
{
	const struct io_open *how = op->open;
	int fd = how->beneath != NULL ? open_beneath(how) : (int)result_of(open(how->path, open_flags(how), 0644));
	int r;

	if (fd < 0)
		return open_explain(how, op->err, fd);
	r = open_settle(fd, how, op->info);
	if (r < 0) {
		close(fd);
		return open_explain(how, op->err, r);
	}
	return fd;
}

static int64_t reopen_do(const struct io_op *op)
{
	int r = open_settle(op->fd, op->open, op->info);

	return r < 0 ? open_explain(op->open, op->err, r) : op->fd;
}

/* ---- the others ---- */

/* The locks go now: a request that the kernel hasn't put away wholly keeps the file, and so them, a little longer. */
static int64_t close_do(const struct io_op *op)
{
	struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	if (op->name != NULL)
		io_posix_unlink(op->name);
	else
		(void)fcntl(op->fd, F_OFD_SETLK, &all);
	return result_of(close(op->fd));
}

int io_posix_fallocate_mode(unsigned flags)
{
	switch (flags) {
	case IO_FALLOC_ZERO: return FALLOC_FL_ZERO_RANGE;
	case IO_FALLOC_PUNCH: return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	default: return 0;
	}
}

static int64_t lock_do(const struct io_op *op)
{
	static const short types[] = {
		[IO_LOCK_SHARED] = F_RDLCK,
		[IO_LOCK_RELEASE] = F_UNLCK,
		[IO_LOCK_TEST] = F_WRLCK,
		[IO_LOCK_RELEASE_ALL] = F_UNLCK,
	};
	struct flock l = {.l_type = types[op->flags], .l_whence = SEEK_SET, .l_start = (off_t)op->offset};

	l.l_len = op->flags == IO_LOCK_RELEASE_ALL ? 0 : 1; /* 0: to the end */

	if (fcntl(op->fd, op->flags == IO_LOCK_TEST ? F_OFD_GETLK : F_OFD_SETLK, &l) < 0)
		return errno == EACCES ? -EAGAIN : -errno;
	return op->flags == IO_LOCK_TEST && l.l_type != F_UNLCK ? -EAGAIN : 0;
}

struct msghdr *io_posix_message(struct io_op *op)
{
	op->msg = (struct msghdr){
		.msg_iov = (struct iovec *)op->v,
		.msg_iovlen = op->n,
		.msg_control = op->control,
		.msg_controllen = op->control_len,
	};
	return &op->msg;
}

void io_posix_message_done(struct io_op *op)
{
	op->control_len = op->msg.msg_controllen;
	op->control_cut = (op->msg.msg_flags & MSG_CTRUNC) != 0;
}

static int64_t recv_do(struct io_op *op)
{
	int64_t r = result_of(recvmsg(op->fd, io_posix_message(op), MSG_DONTWAIT | MSG_CMSG_CLOEXEC));

	if (r >= 0)
		io_posix_message_done(op);
	return r;
}

/*
 * Both ends may share the open file with somebody who changes its flags: whether a read waits is said with the read
 * where the kernel can, which is so for eventfds since 5.8. A pipe was opened anew when it was adopted.
 */
static int64_t event_wait_do(struct io_op *op)
{
	struct iovec v = {.iov_base = &op->event, .iov_len = sizeof(op->event)};
	int64_t r = result_of(preadv2(op->fd, &v, 1, -1, RWF_NOWAIT));

	return r == -EOPNOTSUPP ? result_of(readv(op->fd, &v, 1)) : r;
}

/* One that has no room for another signal has been signalled. */
static int64_t event_signal_do(struct io_op *op)
{
	struct pollfd p = {.fd = op->fd, .events = POLLOUT};

	op->event = 1;
	return poll(&p, 1, 0) > 0 ? result_of(write(op->fd, &op->event, sizeof(op->event))) : -EAGAIN;
}

static int64_t accept_do(const struct io_op *op)
{
	int fd = accept4(op->fd, NULL, NULL, SOCK_CLOEXEC);

	return fd < 0 ? -errno : io_posix_accepted(op, fd);
}

int64_t io_posix_read_cached(const struct io_op *op)
{
	return result_of(preadv2(op->fd, op->v, (int)op->n, (off_t)op->offset, RWF_NOWAIT));
}

static int64_t copy_do(const struct io_op *op)
{
	off_t from = (off_t)op->from_offset, to = (off_t)op->offset;

	return result_of(copy_file_range(op->from_fd, &from, op->fd, &to, op->len, 0));
}

int64_t io_posix_do(struct io_op *op)
{
	int mode = io_posix_fallocate_mode(op->flags);
	int n = (int)op->n;
	off_t off = (off_t)op->offset;

	switch (op->code) {
	case IO_OP_OPEN: return open_do(op);
	case IO_OP_REOPEN: return reopen_do(op);
	case IO_OP_STAT: return info_get(op->fd, op->info);
	case IO_OP_CLOSE: return close_do(op);
	case IO_OP_READ: return result_of(preadv2(op->fd, op->v, n, off, 0));
	case IO_OP_WRITE: return result_of(pwritev2(op->fd, op->v, n, off, op->flags & IO_WRITE_DSYNC ? RWF_DSYNC : 0));
	case IO_OP_SYNC: return result_of(fdatasync(op->fd));
	case IO_OP_DROP: return -posix_fadvise(op->fd, 0, 0, POSIX_FADV_DONTNEED);
	case IO_OP_FALLOCATE: return result_of(fallocate(op->fd, mode, off, (off_t)op->len));
	case IO_OP_COPY: return copy_do(op);
	case IO_OP_TRUNCATE: return result_of(ftruncate(op->fd, off));
	case IO_OP_SEEK: return result_of(lseek(op->fd, off, op->flags == 0 ? SEEK_DATA : SEEK_HOLE));
	case IO_OP_LOCK: return lock_do(op);
	case IO_OP_LISTEN: return io_posix_listen(op);
	case IO_OP_CONNECT: return io_posix_connect(op);
	case IO_OP_INHERIT: return io_posix_inherit(op);
	case IO_OP_ACCEPT: return accept_do(op);
	case IO_OP_RECV: return recv_do(op);
	case IO_OP_SEND: return result_of(sendmsg(op->fd, io_posix_message(op), MSG_DONTWAIT | MSG_NOSIGNAL));
	case IO_OP_EVENT_WAIT: return event_wait_do(op);
	case IO_OP_EVENT_SIGNAL: return event_signal_do(op);
	case IO_OP_ADOPT: return io_posix_adopt(op);
	case IO_OP_MEMORY: return io_posix_memory(op);
	case IO_OP_MAP: return io_posix_map(op);
	case IO_OP_UNMAP: return io_posix_unmap(op);
	case IO_OP_POLL: break;
	}
	return -ENOSYS;
}
