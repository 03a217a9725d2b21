/* SPDX-License-Identifier: MIT */
/* Byte locks, between two opens of a file and against QEMU, whose bytes they are. */
#include "engine.h"

#include <errno.h>
#include <sys/wait.h>

/* From QEMU's block/file-posix.c: who writes holds byte 101; who bears no other writer holds byte 201. */
#define QEMU_WRITES 101
#define QEMU_LONE_WRITER 201

static void body_two_opens(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_file *a = open_or_die(co, "a", RW_NEW), *b = open_or_die(co, "a", 0);

	CHECK_INT(io_file_lock(co, a, 100), 0);
	CHECK_INT(io_file_lock(co, a, 100), 0);
	CHECK_INT(io_file_lock_test(co, a, 100), 0); /* one's own lock is no obstacle */
	CHECK_INT(io_file_lock_test(co, b, 100), -EAGAIN);
	CHECK_INT(io_file_lock_test(co, b, 99), 0);
	CHECK_INT(io_file_lock_test(co, b, 101), 0);
	CHECK_INT(io_file_lock(co, b, 100), 0); /* shared */
	CHECK_INT(io_file_lock_test(co, a, 100), -EAGAIN);
	CHECK_INT(io_file_unlock(co, b, 100), 0);
	CHECK_INT(io_file_lock_test(co, a, 100), 0);
	CHECK_INT(io_file_unlock(co, a, 100), 0);
	CHECK_INT(io_file_lock_test(co, b, 100), 0);
	io_file_close(co, a);
	io_file_close(co, b);
}

/* As soon as close returns, the lock is gone, even if the kernel has just been busy with the file. */
static void body_close_releases(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_file *b = open_or_die(co, "a", RW_NEW);
	char buf[4096] = {1};

	for (unsigned i = 0; i < 50; i++) {
		struct io_file *a = open_or_die(co, "a", IO_OPEN_WRITE);

		CHECK_INT(io_file_lock(co, a, 7), 0);
		CHECK_INT(io_file_write(co, a, i * sizeof(buf), IOV_BUF(buf, sizeof(buf)), 0), 0);
		if (i % 10 == 0)
			CHECK_INT(io_file_sync(co, a), 0);
		CHECK_INT(io_file_lock_test(co, b, 7), -EAGAIN);
		io_file_close(co, a);
		CHECK_INT(io_file_lock_test(co, b, 7), 0);
	}
	io_file_close(co, b);
}

/* POSIX record locks would be lost here: whoever closes any descriptor of the file drops all that the process has. */
static void body_others_close(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_file *a = open_or_die(co, "a", RW_NEW), *b = open_or_die(co, "a", 0);
	FILE *plain;

	CHECK_INT(io_file_lock(co, a, 100), 0);
	io_file_close(co, open_or_die(co, "a", IO_OPEN_WRITE));
	CHECK_INT(io_file_lock_test(co, b, 100), -EAGAIN);
	plain = fopen("a", "r+");
	CHECK(plain != NULL && fclose(plain) == 0);
	CHECK_INT(io_file_lock_test(co, b, 100), -EAGAIN);
	io_file_close(co, a);
	CHECK_INT(io_file_lock_test(co, b, 100), 0);
	io_file_close(co, b);
}

static bool qemu_is_here(void)
{
	if (system("qemu-io --version >/dev/null 2>&1") == 0)
		return true;
	print_message("skipped: no qemu-io\n");
	return false;
}

/* A qemu-io that has the file open until its input ends. */
static FILE *qemu_start(void)
{
	FILE *in = popen("qemu-io -f raw a >out 2>&1", "w");

	CHECK(in != NULL);
	fprintf(in, "read 0 512\n");
	fflush(in);
	for (unsigned i = 0; i < 1000 && system("grep -q 'read 512/512' out") != 0; i++)
		usleep(10000);
	return in;
}

static void body_sees_qemu(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_file *a = open_or_die(co, "a", RW_NEW);
	FILE *qemu;

	CHECK_INT(io_file_truncate(co, a, 65536), 0);
	if (qemu_is_here()) {
		qemu = qemu_start();
		CHECK_INT(io_file_lock_test(co, a, QEMU_WRITES), -EAGAIN);
		pclose(qemu);
		CHECK_INT(io_file_lock_test(co, a, QEMU_WRITES), 0);
	}
	io_file_close(co, a);
}

static void body_seen_by_qemu(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_file *a = open_or_die(co, "a", RW_NEW);

	CHECK_INT(io_file_truncate(co, a, 65536), 0);
	if (qemu_is_here()) {
		CHECK_INT(io_file_lock(co, a, QEMU_LONE_WRITER), 0);
		CHECK(system("qemu-io -f raw -c 'read 0 512' a >out 2>&1") != 0);
		CHECK(system("grep -q 'Failed to get \"write\" lock' out") == 0);
		CHECK(system("qemu-io -r -f raw -c 'read 0 512' a >out 2>&1") == 0);
		CHECK_INT(io_file_unlock(co, a, QEMU_LONE_WRITER), 0);
		CHECK(system("qemu-io -f raw -c 'read 0 512' a >out 2>&1") == 0);
	}
	io_file_close(co, a);
}

/* A file that was kept is the one that was opened, whatever has the name now; nothing is locked meanwhile. */
static void body_kept(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_file *other = open_or_die(co, "a", RW_NEW), *f;
	char buf[2];

	io_files_keep(io_of(co));
	f = open_or_die(co, "a", IO_OPEN_WRITE);
	CHECK_INT(io_file_lock(co, f, 100), 0);
	CHECK_INT(io_file_lock(co, f, 203), 0);
	CHECK_INT(io_file_write(co, f, 0, IOV_BUF("x", 1), 0), 0);
	io_file_close(co, f);
	CHECK_INT(io_file_lock_test(co, other, 100), 0);
	CHECK_INT(io_file_lock_test(co, other, 203), 0);
	CHECK_INT(rename("a", "b"), 0);
	for (unsigned i = 0; i < 3; i++) {
		f = open_or_die(co, "a", IO_OPEN_WRITE);
		CHECK_INT(io_file_info(f)->size, 1);
		CHECK_INT(io_file_lock(co, f, 100), 0);
		CHECK_INT(io_file_lock_test(co, other, 100), -EAGAIN);
		CHECK_INT(io_file_read(co, f, 0, IOV_BUF(buf, 1)), 0);
		CHECK_INT(buf[0], 'x');
		io_file_close(co, f);
	}
	/* Only in the same way. */
	CHECK_INT(io_file_open(co, &(struct io_open){.path = "a"}, &f, &(struct err){0}), -ENOENT);
	io_file_close(co, other);
}

TEST(kept)
TEST(two_opens)
TEST(close_releases)
TEST(others_close)
TEST(sees_qemu)
TEST(seen_by_qemu)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(two_opens), RUN(close_releases), RUN(others_close), RUN(sees_qemu), RUN(seen_by_qemu), RUN(kept)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
