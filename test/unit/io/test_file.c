/* SPDX-License-Identifier: MIT */
/* Reading, writing and shaping files, buffered and with O_DIRECT. */
#include "engine.h"

#include <errno.h>

#include "base/iovec.h"

static void body_write_read(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_file *f = open_or_die(co, "a", RW_NEW);
	unsigned char out[10000], in[10000];
	uint64_t size;

	pattern_fill(out, sizeof(out), 0);
	CHECK(io_file_info(f)->regular && io_file_info(f)->writable && io_file_info(f)->align == 1);
	CHECK_INT(io_file_info(f)->size, 0);
	CHECK_INT(io_file_write(co, f, 123, IOV_BUF(out, sizeof(out)), 0), 0);
	CHECK_INT(io_file_size(co, f, &size), 0);
	CHECK_INT(size, 10123);
	CHECK_INT(io_file_read(co, f, 123, IOV_BUF(in, sizeof(in))), 0);
	CHECK(memcmp(in, out, sizeof(in)) == 0);
	CHECK_INT(io_file_write(co, f, 5, IOV_BUF(out, 100), IO_WRITE_DSYNC), 0);
	CHECK_INT(io_file_read(co, f, 5, IOV_BUF(in, 100)), 0);
	CHECK(memcmp(in, out, 100) == 0);
	CHECK_INT(io_file_sync(co, f), 0);
	CHECK_INT(io_file_read(co, f, 0, IOV_BUF(in, 0)), 0);
	io_file_close(co, f);
}

static void body_end_of_file(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_file *f = open_or_die(co, "a", RW_NEW);
	unsigned char out[100], in[5000];

	pattern_fill(out, sizeof(out), 0);
	CHECK_INT(io_file_write(co, f, 0, IOV_BUF(out, sizeof(out)), 0), 0);
	memset(in, 0xee, sizeof(in));
	CHECK_INT(io_file_read(co, f, 40, IOV_BUF(in, sizeof(in))), 0);
	CHECK(memcmp(in, out + 40, 60) == 0);
	CHECK(mem_is_zero(in + 60, sizeof(in) - 60));
	memset(in, 0xee, sizeof(in));
	CHECK_INT(io_file_read(co, f, 1 << 20, IOV_BUF(in, sizeof(in))), 0);
	CHECK(mem_is_zero(in, sizeof(in)));
	CHECK_INT(io_file_read(co, f, INT64_MAX - 10, IOV_BUF(in, 100)), -EINVAL);
	CHECK_INT(io_file_read(co, f, UINT64_MAX - 10, IOV_BUF(in, 100)), -EINVAL);
	io_file_close(co, f);
}

/* 300 elements of odd lengths, some empty, of which the first bytes and the last are skipped. */
static void body_vectors(struct co *co, void *arg ATTR_UNUSED)
{
	enum { N = 300, BYTES = N * 17 };
	struct io_file *f = open_or_die(co, "a", RW_NEW);
	static unsigned char out[BYTES], in[BYTES], straight[BYTES];
	struct iovec from[N], to[N];
	size_t at = 0, skip = 41;
	struct iov a, b;

	pattern_fill(out, sizeof(out), 0);
	memset(in, 0, sizeof(in));
	for (unsigned i = 0; i < N; i++) {
		size_t len = i % 7 == 3 ? 0 : i % 17 + 1;

		from[i] = (struct iovec){out + at, len};
		to[N - 1 - i] = (struct iovec){in + BYTES - at - len, len};
		at += len;
	}
	a = iov_slice(iov_of(from, N), skip, at - skip - 5);
	CHECK_INT(io_file_write(co, f, 1000, a, 0), 0);
	CHECK_INT(io_file_read(co, f, 1000, IOV_BUF(straight, a.len)), 0);
	CHECK(memcmp(straight, out + skip, a.len) == 0);
	b = iov_slice(iov_of(to, N), skip, a.len);
	CHECK_INT(io_file_read(co, f, 1000, b), 0);
	CHECK(memcmp(in + BYTES - at + skip, out + skip, a.len) == 0);
	CHECK(in[BYTES - at + skip - 1] == 0 && in[BYTES - 5] == 0);
	io_file_close(co, f);
}

/* One element longer than the ring's 32 bits can say would wrap to a short length, or to none at all. */
static void body_long_element(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_file *f = open_or_die(co, "a", RW_NEW);
	uint64_t size;
	struct iovec v = {.iov_base = (void *)body_long_element, .iov_len = ((size_t)4 << 30) + 512};

	CHECK_INT(io_file_truncate(co, f, 10), 0);
	CHECK_INT(
		io_file_write(co, f, 0, iov_of(&v, 1), 0), -EFAULT); /* as all of it is asked for, some of it is bad */
	CHECK_INT(io_file_size(co, f, &size), 0);
	CHECK(size < (uint64_t)1 << 30);
	io_file_close(co, f);
}

static void body_shape(struct co *co, void *arg ATTR_UNUSED)
{
	enum { K64 = 65536 };
	struct io_file *f = open_or_die(co, "a", RW_NEW);
	static unsigned char buf[K64];
	uint64_t run, size;
	bool data;

	memset(buf, 0x5a, sizeof(buf));
	for (unsigned i = 0; i < 4; i++)
		CHECK_INT(io_file_write(co, f, i * K64, IOV_BUF(buf, K64), 0), 0);
	CHECK_INT(io_file_truncate(co, f, 8 * K64), 0);
	CHECK_INT(io_file_extent(co, f, 0, 100 * K64, &data, &run), 0);
	CHECK(data);
	CHECK_INT(run, 4 * K64);
	CHECK_INT(io_file_extent(co, f, K64 + 7, 100, &data, &run), 0);
	CHECK(data);
	CHECK_INT(run, 100);
	CHECK_INT(io_file_extent(co, f, 5 * K64, 100 * K64, &data, &run), 0);
	CHECK(!data);
	CHECK_INT(run, 100 * K64);
	CHECK_INT(io_file_extent(co, f, 50 * K64, 1, &data, &run), 0);
	CHECK(!data && run == 1);

	if (io_file_punch(co, f, K64, K64) == 0) {
		CHECK_INT(io_file_extent(co, f, K64, 100 * K64, &data, &run), 0);
		CHECK(!data);
		CHECK_INT(run, K64);
		CHECK_INT(io_file_read(co, f, K64, IOV_BUF(buf, K64)), 0);
		CHECK(mem_is_zero(buf, K64));
		CHECK_INT(io_file_punch(co, f, 8 * K64, K64), 0);
		CHECK_INT(io_file_size(co, f, &size), 0);
		CHECK_INT(size, 8 * K64);
	} else {
		print_message("holes can't be punched here\n");
	}
	if (io_file_zero(co, f, 2 * K64, K64) == 0) {
		CHECK_INT(io_file_read(co, f, 2 * K64, IOV_BUF(buf, K64)), 0);
		CHECK(mem_is_zero(buf, K64));
		CHECK_INT(io_file_read(co, f, 3 * K64, IOV_BUF(buf, K64)), 0);
		CHECK(buf[0] == 0x5a && buf[K64 - 1] == 0x5a);
	} else {
		print_message("ranges can't be zeroed here\n");
	}
	CHECK_INT(io_file_allocate(co, f, 0, 16 * K64), 0);
	CHECK_INT(io_file_size(co, f, &size), 0);
	CHECK_INT(size, 16 * K64);
	CHECK_INT(io_file_punch(co, f, 0, 0), 0);
	CHECK_INT(io_file_zero(co, f, UINT64_MAX, 2), -EINVAL);
	CHECK_INT(io_file_truncate(co, f, 1000), 0);
	CHECK_INT(io_file_size(co, f, &size), 0);
	CHECK_INT(size, 1000);
	CHECK_INT(io_file_truncate(co, f, UINT64_MAX), -EFBIG);
	io_file_close(co, f);
}

static void body_read_only(struct co *co, void *arg ATTR_UNUSED)
{
	char buf[10] = {0};
	struct io_file *f;

	io_file_close(co, open_or_die(co, "a", RW_NEW));
	f = open_or_die(co, "a", 0);
	CHECK(!io_file_info(f)->writable);
	CHECK_INT(io_file_write(co, f, 0, IOV_BUF(buf, sizeof(buf)), 0), -EBADF);
	CHECK_INT(io_file_punch(co, f, 0, 10), -EBADF);
	CHECK_INT(io_file_truncate(co, f, 0), -EBADF);
	CHECK_INT(io_file_read(co, f, 0, IOV_BUF(buf, sizeof(buf))), 0);
	io_file_close(co, f);
}

/* The end of the file lies inside a block; 130 elements of one block each need three operations. */
static void direct_use(struct co *co, struct io_file *f, const char *path)
{
	const size_t block = io_file_info(f)->align, n = 130;
	unsigned char *buf = io_alloc(n * block), *want = malloc(n * block);
	struct iovec v[130];

	CHECK(buf != NULL && want != NULL);
	CHECK(block >= 512 && io_file_info(f)->mem_align >= 1);
	pattern_fill(want, n * block, 0);
	memcpy(buf, want, n * block);
	for (size_t i = 0; i < n; i++)
		v[i] = (struct iovec){buf + i * block, block};
	CHECK_INT(io_file_write(co, f, 4 * block, iov_of(v, n), 0), 0);
	memset(buf, 0, n * block);
	CHECK_INT(io_file_read(co, f, 4 * block, iov_of(v, n)), 0);
	CHECK(memcmp(buf, want, n * block) == 0);
	CHECK_INT(truncate(path, (off_t)(10 * block + 100)), 0);
	memset(buf, 0xee, n * block);
	CHECK_INT(io_file_read(co, f, 4 * block, iov_of(v, n)), 0);
	CHECK(memcmp(buf, want, 6 * block + 100) == 0);
	CHECK(mem_is_zero(buf + 6 * block + 100, (n - 6) * block - 100));
	CHECK_INT(io_file_read(co, f, 100 * block, iov_of(v, n)), 0);
	CHECK(mem_is_zero(buf, n * block));
	CHECK_INT(io_file_read(co, f, 1, IOV_BUF(buf, block)), -EINVAL);
	CHECK_INT(io_file_read(co, f, 0, IOV_BUF(buf, block - 1)), -EINVAL);
	CHECK_INT(io_file_sync(co, f), 0);
	free(buf);
	free(want);
}

static void body_direct(struct co *co, void *arg ATTR_UNUSED)
{
	const char *path = "direct";
	struct io_open how = {.path = path, .flags = RW_NEW | IO_OPEN_DIRECT};
	struct io_file *f;
	struct err err = {0};
	int r = io_file_open(co, &how, &f, &err);

	if (r != 0) {
		CHECK_INT(r, -EINVAL);
		CHECK(strstr(err.text, "O_DIRECT") != NULL);
		print_message("skipped: %s\n", err.text);
		return;
	}
	direct_use(co, f, path);
	io_file_close(co, f);
}

/* Holes are punched in one half of a file while the other half is read and looked at. */

#define HALF (512u << 10)

struct beside {
	struct io_file *f;
	unsigned punching;
};

static void punch_all(struct co *co, void *arg)
{
	struct beside *b = arg;

	for (unsigned i = 0; i < HALF / 4096; i++) {
		int rc = io_file_punch(co, b->f, HALF + i * 4096, 4096);

		CHECK(rc == 0 || rc == -ENOTSUP);
	}
	b->punching--;
}

static void read_meanwhile(struct co *co, void *arg)
{
	struct beside *b = arg;
	unsigned char buf[4096];
	uint64_t run;
	bool data;

	for (unsigned i = 0; b->punching > 0; i++) {
		uint64_t at = i * UINT64_C(4096) % HALF;

		CHECK_INT(io_file_read(co, b->f, at, IOV_BUF(buf, sizeof(buf))), 0);
		CHECK(buf[0] == 0x5a && buf[sizeof(buf) - 1] == 0x5a);
		CHECK_INT(io_file_extent(co, b->f, at, 4096, &data, &run), 0);
		CHECK(data && run == 4096);
	}
}

static void body_beside_punches(struct co *co, void *arg ATTR_UNUSED)
{
	struct beside b = {.f = open_or_die(co, "a", RW_NEW), .punching = 2};
	unsigned char *content = malloc(2 * HALF);
	struct co_group group;

	CHECK(content != NULL);
	memset(content, 0x5a, 2 * HALF);
	CHECK_INT(io_file_write(co, b.f, 0, IOV_BUF(content, 2 * HALF), 0), 0);
	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 0; i < 2; i++) {
		CHECK_INT(co_group_spawn(&group, "punch", punch_all, &b), 0);
		CHECK_INT(co_group_spawn(&group, "read", read_meanwhile, &b), 0);
	}
	co_group_wait(co, &group);
	free(content);
	io_file_close(co, b.f);
}

TEST(write_read)
TEST(end_of_file)
TEST(vectors)
TEST(long_element)
TEST(shape)
TEST(beside_punches)
TEST(read_only)
TEST(direct)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(write_read),
		RUN(end_of_file),
		RUN(vectors),
		RUN(long_element),
		RUN(shape),
		RUN(beside_punches),
		RUN(read_only),
		RUN(direct),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
