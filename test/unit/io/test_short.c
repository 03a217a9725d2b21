/* SPDX-License-Identifier: MIT */
/*
 * Requests are whole over a backend that isn't: between the engine and its backend sits one that cuts transfers short
 * and fails some of them with -EINTR and -EAGAIN, or a sync or durable write for good.
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/math.h"
#include "io/backend.h"

struct tricky {
	const struct io_ops *real;
	struct io_ops ops;
	size_t most;   /* bytes that a transfer may have */
	unsigned fail; /* every so many operations fail; 0: none */
	unsigned torn; /* so many reads end after 100 bytes, inside a block of whatever size */
	int lost;      /* what the next sync, or durable write, is told; 0: nothing */
	unsigned count, interrupted, refused, drops;
	struct iovec cut;
};

static struct tricky tricky; /* an operation leads to its engine, but not to what a test adds to it */

static void complete_failed(struct co *co ATTR_UNUSED, void *arg)
{
	bool again = tricky.count % (2 * tricky.fail) == 0;

	tricky.refused += again;
	tricky.interrupted += !again;
	io_complete(arg, again ? -EAGAIN : -EINTR);
}

static void complete_torn(struct co *co ATTR_UNUSED, void *arg) { io_complete(arg, 100); }

static bool is_transfer(const struct io_op *op)
{
	return op->code == IO_OP_READ || op->code == IO_OP_WRITE || op->code == IO_OP_SEND || op->code == IO_OP_RECV;
}

static bool is_durable(const struct io_op *op)
{
	return op->code == IO_OP_SYNC || (op->code == IO_OP_WRITE && (op->flags & IO_WRITE_DSYNC));
}

static void complete_lost(struct co *co ATTR_UNUSED, void *arg)
{
	struct io_op *op = arg;
	int r = tricky.lost;

	tricky.lost = 0;
	io_complete(op, r);
}

static void tricky_submit(struct io *io, struct io_op *op)
{
	tricky.drops += op->code == IO_OP_DROP;
	if (is_durable(op) && tricky.lost != 0) {
		CHECK_INT(co_spawn(io->sched, "lost", complete_lost, op), 0);
		return;
	}
	if (is_transfer(op) && tricky.fail != 0 && ++tricky.count % tricky.fail == 0) {
		CHECK_INT(co_spawn(io->sched, "fail", complete_failed, op), 0);
		return;
	}
	if (op->code == IO_OP_READ && tricky.torn > 0) {
		tricky.torn--;
		CHECK_INT(co_spawn(io->sched, "torn", complete_torn, op), 0);
		return;
	}
	if (is_transfer(op)) {
		tricky.cut = op->v[0];
		tricky.cut.iov_len = MIN(tricky.cut.iov_len, tricky.most);
		op->v = &tricky.cut;
		op->n = 1;
	}
	tricky.real->submit(io, op);
}

static void tricky_begin(struct co *co, size_t most, unsigned fail)
{
	struct io *io = io_of(co);

	tricky = (struct tricky){.real = io->ops, .ops = *io->ops, .most = most, .fail = fail};
	tricky.ops.submit = tricky_submit;
	io->ops = &tricky.ops;
}

static void tricky_end(struct co *co) { io_of(co)->ops = tricky.real; }

static void body_whole(struct co *co, void *arg ATTR_UNUSED)
{
	static unsigned char out[50000], in[50000];
	struct io_file *f = open_or_die(co, "a", RW_NEW);
	struct iovec v[3] = {{in, 20000}, {in + 20000, 1}, {in + 20001, 29999}};

	pattern_fill(out, sizeof(out), 0);
	tricky_begin(co, 777, 5);
	CHECK_INT(io_file_write(co, f, 99, IOV_BUF(out, sizeof(out)), 0), 0);
	CHECK_INT(io_file_read(co, f, 99, iov_of(v, 3)), 0);
	CHECK(memcmp(in, out, sizeof(in)) == 0);
	CHECK(tricky.interrupted > 5 && tricky.refused > 5);
	memset(in, 0xee, sizeof(in));
	CHECK_INT(io_file_read(co, f, 99 + sizeof(out) - 1000, IOV_BUF(in, 3000)), 0);
	CHECK(memcmp(in, out + sizeof(out) - 1000, 1000) == 0 && mem_is_zero(in + 1000, 2000));
	tricky_end(co);
	io_file_close(co, f);
}

static void body_stream(struct co *co, void *arg ATTR_UNUSED)
{
	unsigned char out[20000], in[20000];
	struct io_sock *listener, *a, *b;
	struct err err;

	pattern_fill(out, sizeof(out), 0);
	CHECK_INT(io_listen(co, "unix:s", &listener, &err), 0);
	CHECK_INT(io_connect(co, "unix:s", &a, &err), 0);
	CHECK_INT(io_accept(co, listener, &b), 0);
	tricky_begin(co, 777, 5);
	CHECK_INT(io_send(co, a, IOV_BUF(out, sizeof(out))), 0);
	for (size_t got = 0; got < sizeof(in);) {
		ssize_t n = io_recv(co, b, in + got, sizeof(in) - got);

		CHECK(n > 0 && n <= 777);
		got += (size_t)n;
	}
	CHECK(memcmp(in, out, sizeof(in)) == 0);
	CHECK(tricky.interrupted > 2 && tricky.refused > 2);
	tricky_end(co);
	io_sock_close(co, a);
	io_sock_close(co, b);
	io_sock_close(co, listener);
}

/* A transfer that ends inside a block, where the file doesn't, is an error in the end; it must never become zeros. */
static void direct_use(struct co *co, struct io_file *f)
{
	const size_t block = io_file_info(f)->align;
	unsigned char *buf = io_alloc(8 * block), *want = malloc(8 * block);

	CHECK(buf != NULL && want != NULL);
	pattern_fill(want, 8 * block, 0);
	memcpy(buf, want, 8 * block);
	tricky_begin(co, 3 * block, 3);
	CHECK_INT(io_file_write(co, f, 0, IOV_BUF(buf, 8 * block), 0), 0);
	memset(buf, 0, 8 * block);
	CHECK_INT(io_file_read(co, f, 0, IOV_BUF(buf, 8 * block)), 0);
	CHECK(memcmp(buf, want, 8 * block) == 0);
	tricky.fail = 0;
	tricky.torn = 3;
	memset(buf, 0, 8 * block);
	CHECK_INT(io_file_read(co, f, 0, IOV_BUF(buf, 8 * block)), 0);
	CHECK(memcmp(buf, want, 8 * block) == 0);
	tricky.torn = 1000;
	CHECK_INT(io_file_read(co, f, 0, IOV_BUF(buf, 8 * block)), -EIO);
	tricky_end(co);
	free(buf);
	free(want);
}

static void body_direct(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_open how = {.path = "a", .flags = RW_NEW | IO_OPEN_DIRECT};
	struct io_file *f;
	struct err err;

	if (io_file_open(co, &how, &f, &err) != 0) {
		print_message("skipped: %s\n", err.text);
		return;
	}
	direct_use(co, f);
	io_file_close(co, f);
}

/* How many of its pages are in the page cache. */
static unsigned cached_pages(const char *path, size_t bytes)
{
	static char page[4096];
	struct iovec v = {page, sizeof(page)};
	int fd = open(path, O_RDONLY);
	unsigned n = 0;

	CHECK(fd >= 0);
	for (size_t at = 0; at < bytes; at += sizeof(page))
		n += preadv2(fd, &v, 1, (off_t)at, RWF_NOWAIT) > 0;
	close(fd);
	return n;
}

/* The cache no longer shows what may be lost; whoever has the file open reads nothing of it any more. */
static void lost_use(struct co *co, bool write, int error)
{
	static unsigned char data[1 << 18];
	struct io_file *f = open_or_die(co, "lost", RW_NEW);
	unsigned cached;

	CHECK_INT(io_file_write(co, f, 0, IOV_BUF(data, sizeof(data)), 0), 0);
	CHECK_INT(io_file_sync(co, f), 0);
	cached = cached_pages("lost", sizeof(data)); /* not every file system has a cache that can be asked */
	tricky_begin(co, SIZE_MAX, 0);
	tricky.lost = error;
	if (write)
		CHECK_INT(io_file_write(co, f, 0, IOV_BUF(data, 4096), IO_WRITE_DSYNC), error);
	else
		CHECK_INT(io_file_sync(co, f), error);
	CHECK_INT(tricky.drops, error != -EINVAL);
	CHECK_INT(io_file_read(co, f, 0, IOV_BUF(data, 4096)), error == -EINVAL ? 0 : -EIO);
	if (cached && error != -EINVAL) /* one that the kernel has in its hands stays */
		CHECK(cached_pages("lost", sizeof(data)) <= cached / 2);
	io_file_close(co, f);
	CHECK_INT(tricky.drops, error != -EINVAL ? 2 : 0);
	tricky_end(co);
}

static void body_lost(struct co *co, void *arg ATTR_UNUSED)
{
	lost_use(co, false, -EIO);
	lost_use(co, true, -EIO);
	lost_use(co, true, -ENOSPC);
	lost_use(co, true, -EINVAL);
}

TEST(whole)
TEST(stream)
TEST(direct)
TEST(lost)

int main(void)
{
	const struct CMUnitTest tests[] = {RUN(whole), RUN(stream), RUN(direct), RUN(lost)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
