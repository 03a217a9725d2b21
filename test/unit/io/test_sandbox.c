/* SPDX-License-Identifier: MIT */
/*
 * Inside the sandbox: what an open image takes goes on, what an attacker would want next doesn't. There is no way out, so
 * each test is a process of its own.
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "io/sandbox.h"

enum { SKIPPED = 77, BYTES = 64 << 10 };

/* Denied, by whichever part comes first. */
#define CHECK_DENIED(call) CHECK((call) < 0 && (errno == EPERM || errno == EACCES))

/* The parts that the kernel and the build have; the others are told and left out. */
static void enter(struct co *co, const struct io_sandbox *how, unsigned needed)
{
	struct io_sandbox_result in;

	io_sandbox_enter(co, how, IO_SANDBOX_ALL, &in);
	CHECK(in.missing == 0 || in.error < 0);
	if ((in.missing & needed) == 0)
		return;
	print_message("skipped: this machine or build lacks a part: %s\n", strerror(-in.error));
	_exit(SKIPPED);
}

static void in_a_process(co_entry *body)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		engine_run(body, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) != SKIPPED)
		assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- what goes on ---- */

static void compute(void *arg)
{
	unsigned char *buf = arg;

	for (size_t i = 0; i < BYTES; i++)
		buf[i] ^= 0x55;
}

static void use_file(struct co *co, struct io_file *f)
{
	unsigned char *out = io_alloc(BYTES), *in = io_alloc(BYTES);

	CHECK(out != NULL && in != NULL);
	pattern_fill(out, BYTES, 0);
	co_offload(co, compute, out);
	CHECK_INT(io_file_write(co, f, 0, IOV_BUF(out, BYTES), 0), 0);
	CHECK_INT(io_file_sync(co, f), 0);
	CHECK_INT(io_file_truncate(co, f, 2 * BYTES), 0);
	CHECK_INT(io_file_read(co, f, 0, IOV_BUF(in, BYTES)), 0);
	CHECK(memcmp(in, out, BYTES) == 0);
	(void)!io_file_punch(co, f, 0, 4096);
	CHECK_INT(io_file_lock(co, f, 100), 0);
	free(out);
	free(in);
}

static void client(struct co *co, void *arg)
{
	struct io_sock *s;
	char byte;

	CHECK_INT(io_connect(co, "unix:sock", &s, NULL), 0);
	CHECK_INT(io_recv(co, s, &byte, 1), 1);
	io_sock_close(co, s);
	*(bool *)arg = true;
}

/* Something is waited for in the engine while it goes inside, and helper threads are alive. */
static void body_serving_goes_on(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_sandbox how = {.connect = true};
	struct io_file *f = open_or_die(co, "a", RW_NEW);
	struct io_sock *listener, *s;
	struct co_group g;
	bool served = false;

	use_file(co, f);
	CHECK_INT(io_listen(co, "unix:sock", &listener, NULL), 0);
	enter(co, &how, IO_SANDBOX_PRIVILEGES);
	use_file(co, f);
	co_group_init(&g, co_sched_of(co));
	CHECK_INT(co_group_spawn(&g, "client", client, &served), 0);
	CHECK_INT(io_accept(co, listener, &s), 0);
	CHECK_INT(io_send(co, s, IOV_BUF("x", 1)), 0);
	co_group_wait(co, &g);
	CHECK(served);
	io_sock_close(co, s);
	io_sock_close(co, listener);
	io_file_close(co, f);
}

static void test_serving_goes_on(void **state)
{
	(void)state;
	in_a_process(body_serving_goes_on);
}

/* ---- what doesn't ---- */

static void connect_anywhere(void)
{
	struct sockaddr_in sa = {
		.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd >= 0)
		CHECK_DENIED(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	else
		CHECK(errno == EPERM || errno == EACCES);
}

static void body_calls_are_denied(struct co *co, void *arg ATTR_UNUSED)
{
	static char name[] = "true";
	char *const argv[] = {name, NULL};
	struct io_file *f = open_or_die(co, "a", RW_NEW), *other;
	struct io_open how = {.path = "a"};
	struct err err = {0};
	int r;

	enter(co, &(struct io_sandbox){0}, IO_SANDBOX_PRIVILEGES | IO_SANDBOX_LANDLOCK | IO_SANDBOX_SECCOMP);
	CHECK_DENIED(open("/etc/passwd", O_RDONLY));
	CHECK_DENIED(open("new", O_RDWR | O_CREAT, 0600));
	CHECK_DENIED(unlink("a"));
	CHECK_DENIED(syscall(SYS_execve, "/bin/true", argv, NULL));
	CHECK_DENIED(syscall(SYS_fork));
	CHECK_DENIED(syscall(SYS_ptrace, 0, 0, 0, 0));
	CHECK_DENIED(kill(getppid(), 0));
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	connect_anywhere();
	r = io_file_open(co, &how, &other, &err); /* on a helper thread that was born inside */
	CHECK(r == -EPERM || r == -EACCES);
	io_file_close(co, f);
}

static void test_calls_are_denied(void **state)
{
	(void)state;
	in_a_process(body_calls_are_denied);
}

/* Landlock alone: a build without libseccomp. */
static void body_files_may_be_removed(struct co *co, void *arg ATTR_UNUSED)
{
	static const char *const dirs[] = {"mine", NULL};
	int mine, other;

	CHECK(mkdir("mine", 0700) == 0 && mkdir("other", 0700) == 0);
	mine = open("mine/a", O_CREAT | O_WRONLY, 0600);
	other = open("other/a", O_CREAT | O_WRONLY, 0600);
	CHECK(mine >= 0 && other >= 0);
	enter(co, &(struct io_sandbox){.removal_dirs = dirs}, IO_SANDBOX_LANDLOCK);
	CHECK_DENIED(unlink("other/a"));
	CHECK(unlink("mine/a") == 0);
	CHECK_DENIED(open("mine/a", O_CREAT | O_WRONLY, 0600));
}

static void test_files_may_be_removed(void **state)
{
	(void)state;
	in_a_process(body_files_may_be_removed);
}

/* ---- the ring ---- */

/* The descriptor of the engine's ring; -1: none. */
static int ring_fd(void)
{
	for (int fd = 3; fd < 64; fd++) {
		char link[32], target[32] = "";

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (readlink(link, target, sizeof(target) - 1) > 0 && strcmp(target, "anon_inode:[io_uring]") == 0)
			return fd;
	}
	return -1;
}

/* An attacker maps the engine's ring and submits what he likes: the place of everything in it is known from a ring of the
 * same size. What the kernel says to an open. */
static int open_through(int fd)
{
	struct io_uring_params p = {.flags = IORING_SETUP_CQSIZE, .cq_entries = 4096};
	struct io_uring like, ring = {0};
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;

	CHECK(io_uring_queue_init_params(256, &like, &p) == 0);
	ring.ring_fd = ring.enter_ring_fd = fd;
	CHECK(io_uring_queue_mmap(fd, &p, &ring) == 0);
	for (unsigned i = 0; i < *ring.sq.kring_entries; i++)
		ring.sq.array[i] = i;
	ring.sq.sqe_head = ring.sq.sqe_tail = *ring.sq.ktail;
	sqe = io_uring_get_sqe(&ring);
	CHECK(sqe != NULL);
	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	sqe->user_data = 4711;
	CHECK(io_uring_submit_and_wait(&ring, 1) >= 0);
	do {
		CHECK(io_uring_wait_cqe(&ring, &cqe) == 0);
		if (cqe->user_data != 4711)
			io_uring_cqe_seen(&ring, cqe);
	} while (cqe->user_data != 4711);
	return cqe->res;
}

/* The whole of it is only there for the attack: the engine's own count of its ring is wrong after it. */
static void body_ring_opens_nothing(struct co *co, void *arg ATTR_UNUSED)
{
	int fd;

	CHECK_INT(io_file_sync(co, open_or_die(co, "a", RW_NEW)), 0);
	fd = ring_fd();
	if (fd < 0)
		_exit(SKIPPED);
	CHECK_INT(open_through(fd), -EACCES);
	_exit(0);
}

static void test_ring_opens_nothing(void **state)
{
	(void)state;
	in_a_process(body_ring_opens_nothing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(serving_goes_on),
		RUN(calls_are_denied),
		RUN(files_may_be_removed),
		RUN(ring_opens_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
