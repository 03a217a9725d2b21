/* SPDX-License-Identifier: MIT */
/* What may be opened, and from where. */
#include "engine.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static int open_code(struct co *co, const char *path, const char *beneath, unsigned flags, struct err *err)
{
	struct io_open how = {.path = path, .beneath = beneath, .flags = flags};
	struct io_file *f = NULL;
	int r;

	*err = (struct err){0};
	r = io_file_open(co, &how, &f, err);
	if (r == 0)
		io_file_close(co, f);
	else
		CHECK(err->code == r && strstr(err->text, path) != NULL);
	return r;
}

static void touch(const char *path)
{
	FILE *f = fopen(path, "w");

	CHECK(f != NULL && fclose(f) == 0);
}

/* beneath/{inner/file, link -> inner/file, dotdot -> ../outside, absolute -> /.../outside}, outside */
static void tree_make(void)
{
	AUTO_FREE char *outside = NULL;

	CHECK(mkdir("beneath", 0755) == 0 && mkdir("beneath/inner", 0755) == 0);
	touch("beneath/inner/file");
	touch("outside");
	outside = realpath("outside", NULL);
	CHECK(outside != NULL);
	CHECK(symlink("inner/file", "beneath/link") == 0);
	CHECK(symlink("../outside", "beneath/dotdot") == 0);
	CHECK(symlink(outside, "beneath/absolute") == 0);
	CHECK(symlink("..", "beneath/up") == 0);
}

static void body_beneath(struct co *co, void *arg ATTR_UNUSED)
{
	static const char *const escapes[] = {
		"../outside", "dotdot", "absolute", "up/outside", "inner/../../outside", "/etc/passwd"};
	struct err err;

	tree_make();
	CHECK_INT(open_code(co, "inner/file", "beneath", 0, &err), 0);
	CHECK_INT(open_code(co, "inner/../inner/file", "beneath", IO_OPEN_WRITE, &err), 0);
	CHECK_INT(open_code(co, "link", "beneath", 0, &err), 0);
	CHECK_INT(open_code(co, "new", "beneath", RW_NEW, &err), 0);
	CHECK(access("beneath/new", F_OK) == 0);
	for (size_t i = 0; i < ARRAY_ENTRIES(escapes); i++) {
		CHECK_INT(open_code(co, escapes[i], "beneath", 0, &err), -EXDEV);
		CHECK(strstr(err.text, "outside the directory") != NULL);
	}
	CHECK_INT(open_code(co, "../created", "beneath", RW_NEW, &err), -EXDEV);
	CHECK(access("created", F_OK) != 0);
	CHECK_INT(open_code(co, "missing", "beneath", 0, &err), -ENOENT);
	CHECK_INT(open_code(co, "file", "nowhere", 0, &err), -ENOENT);
	CHECK_INT(open_code(co, "dotdot", ".", 0, &err), -ENOENT); /* relative to the directory, not to the link */
}

static void socket_make(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(sa.sun_path, path);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	close(fd);
}

static void body_odd_files(struct co *co, void *arg ATTR_UNUSED)
{
	static const char *const odd[] = {"fifo", "dir", "socket", "/dev/null"};
	struct err err;

	CHECK(mkfifo("fifo", 0600) == 0 && mkdir("dir", 0700) == 0);
	socket_make("socket");
	for (size_t i = 0; i < ARRAY_ENTRIES(odd); i++) {
		CHECK_INT(open_code(co, odd[i], NULL, 0, &err), -EINVAL);
		CHECK(strstr(err.text, "to be a regular file") != NULL);
		CHECK_INT(open_code(co, odd[i], NULL, IO_OPEN_WRITE, &err), -EINVAL);
	}
	CHECK_INT(open_code(co, "missing", NULL, 0, &err), -ENOENT);
	CHECK_INT(open_code(co, "fifo/below", NULL, 0, &err), -ENOTDIR);
}

static void body_identity(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_file *a = open_or_die(co, "a", RW_NEW);
	struct io_file *b, *c = open_or_die(co, "c", RW_NEW);
	char text[] = "some";

	CHECK_INT(io_file_write(co, a, 0, IOV_BUF(text, 4), 0), 0);
	CHECK(link("a", "b") == 0);
	b = open_or_die(co, "b", 0);
	CHECK_INT(io_file_info(b)->size, 4);
	CHECK(io_file_info(a)->inode == io_file_info(b)->inode && io_file_info(a)->device == io_file_info(b)->device);
	CHECK(io_file_info(a)->inode != io_file_info(c)->inode);
	io_file_close(co, b);
	b = open_or_die(co, "b", RW_NEW);
	CHECK_INT(io_file_info(b)->size, 0);
	io_file_close(co, a);
	io_file_close(co, b);
	io_file_close(co, c);
	io_file_close(co, NULL);
}

static void dirname_is(const char *path, const char *want)
{
	AUTO_FREE char *got = io_dirname(path);

	assert_non_null(got);
	assert_string_equal(got, want);
}

static void test_dirname(void **state)
{
	AUTO_FREE char *here = realpath(".", NULL);
	char want[4096];

	(void)state;
	assert_non_null(here);
	assert_int_equal(mkdir("real", 0755), 0);
	assert_int_equal(symlink("real", "alias"), 0);
	snprintf(want, sizeof(want), "%s/real", here);
	dirname_is("a.img", ".");
	dirname_is("/a.img", "/");
	dirname_is("./a.img", here);
	dirname_is("real/a.img", want);
	dirname_is("alias/a.img", want);
	dirname_is("missing/a.img", "missing");
}

TEST(beneath)
TEST(odd_files)
TEST(identity)

int main(void)
{
	const struct CMUnitTest tests[] = {RUN(beneath), RUN(odd_files), RUN(identity), RUN(dirname)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
