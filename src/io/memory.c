/* SPDX-License-Identifier: MIT */
/*
 * Memory shared with another process, and what happens when that process cuts the file behind it short: the first touch of
 * what is gone is a SIGBUS. The handler puts zero pages over the whole mapping, marks it, and the instruction is tried
 * again. System calls meet EFAULT instead, or the zero pages.
 *
 * The disposition of a signal belongs to the process, and a handler has no argument: so the mappings that exist stand in a
 * table of the process, changed by single atomic operations and read by the handler without a lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/math.h"
#include "io/map.h"

#define MAPPINGS 4096 /* in the process: 8 devices with all the regions that they may have */

struct mapping {
	atomic_uintptr_t start; /* 0: free */
	atomic_uintptr_t end;   /* 0: not in force */
	atomic_bool broken;
};

static struct mapping mappings[MAPPINGS];
static atomic_uint breaks;
static struct sigaction previous;
static pthread_once_t installed = PTHREAD_ONCE_INIT;

/* ---- the table ---- */

static int mapping_take(void *bytes, size_t len)
{
	for (int i = 0; i < MAPPINGS; i++) {
		uintptr_t none = 0;

		if (!atomic_compare_exchange_strong(&mappings[i].start, &none, (uintptr_t)bytes))
			continue;
		atomic_store(&mappings[i].broken, false);
		atomic_store(&mappings[i].end, (uintptr_t)bytes + len);
		return i;
	}
	return -1;
}

static void mapping_give(int i)
{
	atomic_store(&mappings[i].end, 0);
	atomic_store(&mappings[i].start, 0);
}

bool io_map_broken(const struct io_map *m)
{
	return atomic_load_explicit(&mappings[m->slot].broken, memory_order_relaxed);
}

unsigned io_map_breaks(void) { return atomic_load_explicit(&breaks, memory_order_relaxed); }

static struct mapping *mapping_of(uintptr_t address)
{
	for (unsigned i = 0; i < MAPPINGS; i++) {
		struct mapping *m = &mappings[i];

		if (address < atomic_load(&m->end) && address >= atomic_load(&m->start))
			return m;
	}
	return NULL;
}

/* ---- the signal ---- */

static bool replace(struct mapping *m)
{
	void *start = (void *)atomic_load(&m->start);
	size_t len = atomic_load(&m->end) - (uintptr_t)start;

	atomic_store(&m->broken, true);
	atomic_fetch_add(&breaks, 1);
	return mmap(start, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
		       0) == start;
}

/* Lets it take its former course: a handler is called; without one the instruction is tried again, and is fatal. */
static void pass_on(int signal, siginfo_t *info, void *context)
{
	if (previous.sa_flags & SA_SIGINFO)
		previous.sa_sigaction(signal, info, context);
	else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
		previous.sa_handler(signal);
	else
		sigaction(signal, &previous, NULL);
}

static void on_bus_error(int signal, siginfo_t *info, void *context)
{
	struct mapping *m = info->si_code > 0 ? mapping_of((uintptr_t)info->si_addr) : NULL;
	int saved_errno = errno;

	if (m == NULL || !replace(m))
		pass_on(signal, info, context);
	errno = saved_errno;
}

static void install(void)
{
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigemptyset(&action.sa_mask);
	(void)sigaction(SIGBUS, &action, &previous); /* can't fail with these arguments */
}

/* ---- what may be mapped ---- */

/* A page fault must never wait for another program, as with FUSE, or for a network. */
static bool is_local(int fd)
{
	static const unsigned long known[] = {
		TMPFS_MAGIC,
		HUGETLBFS_MAGIC,
		RAMFS_MAGIC,
		EXT4_SUPER_MAGIC,
		BTRFS_SUPER_MAGIC,
		F2FS_SUPER_MAGIC,
		OVERLAYFS_SUPER_MAGIC,
		0x58465342 /* XFS */,
		0x2fc12fc1 /* ZFS */,
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	for (unsigned i = 0; i < ARRAY_ENTRIES(known); i++)
		if ((unsigned long)fs.f_type == known[i])
			return true;
	return false;
}

static int check(const struct io_op *op, struct stat *st)
{
	uint64_t end;

	if (fstat(op->fd, st) < 0)
		return err_set(op->err, -errno, "its descriptor can't be asked: %s", strerror(errno));
	if (!S_ISREG(st->st_mode) || !is_local(op->fd))
		return err_set(op->err, -EINVAL, "it is neither memory nor a file of a local file system");
	if (op->len == 0 || add_overflows(op->offset, op->len, &end) || end > (uint64_t)st->st_size)
		return err_set(op->err, -EINVAL,
			"%" PRIu64 " bytes at offset %" PRIu64 " aren't in its %" PRIu64 " bytes", op->len, op->offset,
			(uint64_t)st->st_size);
	return 0;
}

/* ---- mapping ---- */

/* Whole pages, as large as the file system has them. */
int io_posix_map(const struct io_op *op)
{
	struct io_map *m = op->map;
	struct stat st;
	int r = check(op, &st);

	if (r < 0)
		return r;
	uint64_t page = MAX((uint64_t)sysconf(_SC_PAGESIZE),
		is_power_of_two((uint64_t)st.st_blksize) ? (uint64_t)st.st_blksize : 1);
	uint64_t from = align_down(op->offset, page);

	m->span = align_up(op->offset + op->len, page) - from;
	m->start = mmap(NULL, m->span, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, op->fd, (off_t)from);
	if (m->start == MAP_FAILED)
		return err_set(op->err, -errno, "it can't be mapped: %s", strerror(errno));
	(void)madvise(m->start, m->span, MADV_DONTDUMP);
	(void)madvise(m->start, m->span, MADV_DONTFORK);
	pthread_once(&installed, install);
	m->slot = mapping_take(m->start, m->span);
	if (m->slot < 0) {
		munmap(m->start, m->span);
		return err_set(op->err, -ENOSPC, "this process has %d mappings already", MAPPINGS);
	}
	m->bytes = m->start + (op->offset - from);
	m->len = op->len;
	return 0;
}

int io_posix_unmap(const struct io_op *op)
{
	mapping_give(op->map->slot);
	munmap(op->map->start, op->map->span);
	return 0;
}

/* Sealed, so that whoever gets it can't cut it short. */
int io_posix_memory(const struct io_op *op)
{
	int fd = memfd_create("corral", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)op->len) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* ---- adopting a descriptor of a notification ---- */

static int never_wait(int fd) { return fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : fd; }

/*
 * Whether an operation on a pipe waits is a property of the open file, which the sender shares: so it is opened anew. In a
 * sandbox it can't be.
 */
static int pipe_reopen(int fd, bool waits)
{
	char path[40];
	int own;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, (waits ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_CLOEXEC);
	if (own < 0)
		return never_wait(fd);
	close(fd);
	return own;
}

int io_posix_adopt(struct io_op *op)
{
	struct stat st;

	if (fstat(op->fd, &st) < 0)
		return -errno;
	op->event = S_ISFIFO(st.st_mode);
	if (op->event)
		return pipe_reopen(op->fd, op->flags == IO_ADOPT_WAIT);
	if ((st.st_mode & S_IFMT) != 0) /* an eventfd has no type */
		return -EINVAL;
	return never_wait(op->fd);
}
