/* SPDX-License-Identifier: MIT */
/* A node that is a file of the host. */
#include "../io/engine.h"

#include <errno.h>
#include <sys/stat.h>

#include "file/file.h"
#include "filter/filter.h"

static struct node *node_or_die(struct co *co, struct file_open how)
{
	struct err err = {0};
	struct node *n;

	if (file_open(co, &how, &n, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return n;
}

static void make_file(struct co *co, const char *path, uint64_t size)
{
	struct io_file *f = open_or_die(co, path, RW_NEW);

	CHECK_INT(io_file_truncate(co, f, size), 0);
	io_file_close(co, f);
}

static uint64_t blocks_of(const char *path)
{
	struct stat st;

	CHECK(stat(path, &st) == 0);
	return (uint64_t)st.st_blocks * 512;
}

static void body_requests(struct co *co, void *arg ATTR_UNUSED)
{
	unsigned char out[10000], in[10000];
	struct node *n;

	make_file(co, "a", 1 << 20);
	n = node_or_die(co, (struct file_open){.path = "a", .write = true});
	CHECK(node_is_file(n) && n->size == 1 << 20 && n->grows_zeroed && !n->read_only);
	CHECK(strcmp(n->name, "a") == 0 && file_info(n)->regular);
	pattern_fill(out, sizeof(out), 77);
	CHECK_INT(node_write(co, n, 77, IOV_BUF(out, sizeof(out)), 0), 0);
	CHECK_INT(node_write(co, n, 77, IOV_BUF(out, 5), NODE_FUA), 0);
	CHECK_INT(node_read(co, n, 77, IOV_BUF(in, sizeof(in))), 0);
	CHECK(memcmp(in, out, sizeof(in)) == 0);
	CHECK_INT(node_write(co, n, 1 << 20, IOV_BUF(out, 1), 0), -ENOSPC);
	CHECK_INT(node_flush(co, n), 0);
	CHECK_INT(node_resize(co, n, 2000), 0);
	CHECK_INT(node_resize(co, n, 3000), 0);
	CHECK_INT(node_read(co, n, 1990, IOV_BUF(in, 20)), 0);
	CHECK(memcmp(in, out + 1990 - 77, 10) == 0 && mem_is_zero(in + 10, 10));
	CHECK_INT(node_close(co, n), 0);
	n = node_or_die(co, (struct file_open){.path = "a"});
	CHECK(n->size == 3000 && n->read_only);
	CHECK_INT(node_write(co, n, 0, IOV_BUF(out, 1), 0), -EROFS);
	CHECK_INT(node_close(co, n), 0);
}

static void body_zero(struct co *co, void *arg ATTR_UNUSED)
{
	enum { SIZE = 1 << 20 };
	AUTO_FREE unsigned char *data = malloc(SIZE);
	struct node_status st;
	struct node *n;

	CHECK(data != NULL);
	memset(data, 0x55, SIZE);
	make_file(co, "a", SIZE);
	n = node_or_die(co, (struct file_open){.path = "a", .write = true});
	CHECK_INT(node_write(co, n, 0, IOV_BUF(data, SIZE), 0), 0);
	CHECK_INT(node_flush(co, n), 0);
	CHECK(blocks_of("a") >= SIZE);

	CHECK_INT(node_zero(co, n, 0, SIZE / 4, 0), 0);
	CHECK(blocks_of("a") >= SIZE); /* the space stays */
	CHECK_INT(node_zero(co, n, SIZE / 4, SIZE / 4, NODE_MAY_UNMAP), 0);
	CHECK_INT(node_discard(co, n, SIZE / 2, SIZE / 4), 0);
	CHECK(blocks_of("a") <= SIZE / 2 + 65536);
	CHECK_INT(node_read(co, n, 0, IOV_BUF(data, SIZE)), 0);
	CHECK(mem_is_zero(data, SIZE * 3 / 4) && data[SIZE * 3 / 4] == 0x55 && data[SIZE - 1] == 0x55);

	CHECK_INT(node_status(co, n, SIZE / 2, SIZE / 2, true, &st), 0);
	CHECK(st.zero && st.len == SIZE / 4 && st.allocated);
	CHECK_INT(node_status(co, n, SIZE * 3 / 4, SIZE / 4, true, &st), 0);
	CHECK(!st.zero && st.len == SIZE / 4 && st.has_host && st.host.off == SIZE * 3 / 4 && st.holder == n);
	CHECK_INT(node_close(co, n), 0);
}

/* O_DIRECT, with requests and memory of any alignment. */
static void body_direct(struct co *co, void *arg ATTR_UNUSED)
{
	struct file_open how = {.path = "a", .write = true, .direct = true};
	unsigned char out[20000], in[20000];
	struct err err = {0};
	struct node *n;
	int rc;

	make_file(co, "a", 100000);
	rc = file_open(co, &how, &n, &err);
	if (rc == -EINVAL || rc == -EOPNOTSUPP || rc == -ENOTSUP) {
		print_message("skipped: no O_DIRECT here: %s\n", err.text);
		return;
	}
	CHECK_INT(rc, 0);
	CHECK(n->align >= 512);
	pattern_fill(out, sizeof(out), 12345);
	CHECK_INT(node_write(co, n, 12345, IOV_BUF(out + 1, 19999), 0), 0);
	CHECK_INT(node_read(co, n, 12345, IOV_BUF(in + 3, 19997)), 0);
	CHECK(memcmp(in + 3, out + 1, 19997) == 0);
	CHECK_INT(node_write(co, n, 99990, IOV_BUF(out, 10), 0), 0);
	CHECK_INT(node_read(co, n, 99980, IOV_BUF(in, 20)), 0);
	CHECK(mem_is_zero(in, 10) && memcmp(in + 10, out, 10) == 0);
	CHECK_INT(node_zero(co, n, 12346, 9000, 0), 0);
	CHECK_INT(node_read(co, n, 12345, IOV_BUF(in, 9002)), 0);
	CHECK(in[0] == out[1] && mem_is_zero(in + 1, 9000) && in[9001] == out[9002]);
	CHECK_INT(node_close(co, n), 0);
}

static void body_missing(struct co *co, void *arg ATTR_UNUSED)
{
	struct file_open how = {.path = "none"};
	struct err err = {0};
	struct node *n;

	CHECK_INT(file_open(co, &how, &n, &err), -ENOENT);
	CHECK(strstr(err.text, "none") != NULL);
}

/* Of a path the last component, of a long one its end. */
static void body_name(struct co *co, void *arg ATTR_UNUSED)
{
	char path[120] = "./";
	struct node *n;

	memset(path + 2, 'x', 100);
	memcpy(path + 95, ".qcow2", 7);
	make_file(co, path, 0);
	n = node_or_die(co, (struct file_open){.path = path});
	CHECK_INT(strlen(n->name), sizeof(n->name) - 1);
	CHECK(strcmp(n->name + 63 - 6, ".qcow2") == 0 && n->name[0] == 'x');
	CHECK_INT(node_close(co, n), 0);
}

/* Where the file system can't, nothing is wrong. */
static void body_copy(struct co *co, void *arg ATTR_UNUSED)
{
	enum { BYTES = 100000 };
	AUTO_FREE unsigned char *out = malloc(BYTES), *in = malloc(BYTES);
	struct raw_window window = {.off = 4096, .size = RAW_ALL};
	struct node *from, *file, *to;
	struct err err;
	int ret;

	make_file(co, "f", 1 << 20);
	make_file(co, "t", 1 << 20);
	from = node_or_die(co, (struct file_open){.path = "f", .write = true});
	file = node_or_die(co, (struct file_open){.path = "t", .write = true});
	CHECK_INT(raw_open(co, file, &window, &to, &err), 0);
	pattern_fill(out, BYTES, 5);
	CHECK_INT(node_write(co, from, 12345, IOV_BUF(out, BYTES), 0), 0);
	ret = node_copy(co, to, 777, from, 12345, BYTES);
	CHECK(ret == 0 || ret == -ENOTSUP);
	CHECK_INT(node_read(co, file, 4096 + 777, IOV_BUF(in, BYTES)), 0);
	CHECK(ret != 0 || memcmp(in, out, BYTES) == 0);
	CHECK_INT(node_copy(co, to, (1 << 20) - 4096, from, 0, 1), -ENOSPC);
	CHECK_INT(node_copy(co, to, 0, from, 1 << 20, 1), -EINVAL);
	CHECK_INT(node_copy(co, to, 0, to, 5000, 1), -ENOTSUP);
	CHECK_INT(node_close(co, to), 0);
	CHECK_INT(node_close(co, from), 0);
}

TEST(requests)
TEST(zero)
TEST(direct)
TEST(missing)
TEST(name)
TEST(copy)

int main(void)
{
	const struct CMUnitTest tests[] = {RUN(requests), RUN(zero), RUN(direct), RUN(missing), RUN(name), RUN(copy)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
