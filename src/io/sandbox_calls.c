/* SPDX-License-Identifier: MIT */
/*
 * The system calls that an engine needs once its files are open; all others fail with EPERM. They fail rather than kill,
 * since a library's harmless call for something that it can do without must not take a disk away from its user.
 *
 * Nothing in the list opens a file by name, runs a program or makes memory executable. A new thread is fine, a new
 * process isn't; clone3 hides its flags from us, so that it is said not to exist, and the C library takes clone.
 */
#include <errno.h>
#include <linux/fs.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/math.h"
#include "io/sandbox.h"

static const char *const calls[] = {
	/* files that are open */
	"read",
	"readv",
	"pread64",
	"preadv",
	"preadv2",
	"write",
	"writev",
	"pwrite64",
	"pwritev",
	"pwritev2",
	"fsync",
	"fdatasync",
	"sync_file_range",
	"fallocate",
	"ftruncate",
	"lseek",
	"fstat",
	"fstatfs",
	"newfstatat",
	"statx",
	"fcntl",
	"close",
	"copy_file_range",
	"splice",
	"fadvise64",
	"dup",
	"dup2",
	"dup3",
	"unlink",
	"unlinkat",
	/* sockets that are open or come in */
	"accept",
	"accept4",
	"recvfrom",
	"recvmsg",
	"sendto",
	"sendmsg",
	"shutdown",
	"getsockopt",
	"setsockopt",
	"getsockname",
	"getpeername",
	/* waiting */
	"poll",
	"ppoll",
	"eventfd2",
	"signalfd4",
	"io_uring_enter",
	"io_uring_register",
	"clock_gettime",
	"clock_nanosleep",
	"nanosleep",
	"gettimeofday",
	"futex",
	"restart_syscall",
	"sched_yield",
	/* memory */
	"munmap",
	"mremap",
	"madvise",
	"brk",
	"mlock",
	"munlock",
	"mincore",
	"memfd_create",
	"membarrier",
	/* threads, signals, the end */
	"set_robust_list",
	"rseq",
	"sigaltstack",
	"rt_sigaction",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigpending",
	"tgkill",
	"gettid",
	"getpid",
	"getuid",
	"geteuid",
	"getgid",
	"getegid",
	"sched_getaffinity",
	"getrandom",
	"getrusage",
	"sysinfo",
	"uname",
	"exit",
	"exit_group",
};

static const char *const looking[] = {
	"getcwd", "readlink", "readlinkat", "stat", "lstat", "access", "faccessat", "faccessat2"};
static const char *const connecting[] = {"socket", "connect", "socketpair"};

/* Requests to block devices and file systems. */
static const unsigned long ioctls[] = {BLKGETSIZE64, BLKSSZGET, BLKDISCARD, BLKZEROOUT, FICLONE, FICLONERANGE};

static int allow(scmp_filter_ctx filter, const char *const *names, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		int number = seccomp_syscall_resolve_name(names[i]);

		if (number != __NR_SCMP_ERROR)
			r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
	}
	return r == -EDOM ? 0 : r; /* a call that this processor doesn't have */
}

static int allow_ioctls(scmp_filter_ctx filter)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_ENTRIES(ioctls); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, ioctls[i], 0));
	return r;
}

/* Those that depend on what they are asked for. */
static int allow_some(scmp_filter_ctx filter)
{
	const scmp_datum_t thread = CLONE_THREAD | CLONE_VM | CLONE_SIGHAND;
	int r = seccomp_rule_add(
		filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));

	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (r == 0)
		r = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	return r == 0 ? allow_ioctls(filter) : r;
}

static int filter_fill(scmp_filter_ctx filter, const struct io_sandbox *how)
{
	int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree rather than a list */
	if (r == 0)
		r = allow(filter, calls, ARRAY_ENTRIES(calls));
	if (r == 0 && how->lookup)
		r = allow(filter, looking, ARRAY_ENTRIES(looking));
	if (r == 0 && how->connect)
		r = allow(filter, connecting, ARRAY_ENTRIES(connecting));
	return r == 0 ? allow_some(filter) : r;
}

int io_sandbox_calls(const struct io_sandbox *how)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (filter == NULL)
		return -ENOMEM;
	r = filter_fill(filter, how);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}
