/* SPDX-License-Identifier: MIT */
/* What comes from another process: descriptors, notifications, and memory that its owner takes away. */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "io/share.h"

struct pair {
	struct io_sock *listener, *client, *server;
};

static void accept_entry(struct co *co, void *arg)
{
	struct pair *p = arg;

	CHECK_INT(io_accept(co, p->listener, &p->server), 0);
}

static void pair_make(struct co *co, struct pair *p)
{
	struct co_group group;
	struct err err;

	co_group_init(&group, co_sched_of(co));
	CHECK_INT(io_listen(co, "unix:share.sock", &p->listener, &err), 0);
	CHECK_INT(co_group_spawn(&group, "accept", accept_entry, p), 0);
	CHECK_INT(io_connect(co, "unix:share.sock", &p->client, &err), 0);
	co_group_wait(co, &group);
}

static void pair_end(struct co *co, struct pair *p)
{
	io_sock_close(co, p->client);
	io_sock_close(co, p->server);
	io_sock_close(co, p->listener);
}

static int memory_of(size_t bytes)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	return fd;
}

/* ---- descriptors ---- */

static void body_descriptors_come_with_their_bytes(struct co *co, void *arg ATTR_UNUSED)
{
	int mine[3] = {memory_of(1), memory_of(2), memory_of(3)};
	struct pair p;
	struct io_fds fds;
	char buf[8];

	pair_make(co, &p);
	CHECK_INT(io_send_fds(co, p.client, IOV_BUF("abcd", 4), mine, 3), 0);
	CHECK_INT(io_send_fds(co, p.client, IOV_BUF("efgh", 4), NULL, 0), 0);
	CHECK_INT(io_recv_fds(co, p.server, buf, 4, &fds), 4);
	CHECK_INT(memcmp(buf, "abcd", 4), 0);
	CHECK_INT(fds.n, 3);
	CHECK(!fds.cut);
	for (unsigned i = 0; i < 3; i++) {
		CHECK(fds.fd[i] != mine[i]);
		CHECK_INT(lseek(fds.fd[i], 0, SEEK_END), i + 1);
		CHECK_INT(fcntl(fds.fd[i], F_GETFD), FD_CLOEXEC);
		io_fd_close(co, fds.fd[i]);
		CHECK_INT(fcntl(fds.fd[i], F_GETFD), -1);
		io_fd_close(co, mine[i]);
	}
	CHECK_INT(io_recv_fds(co, p.server, buf, 4, &fds), 4);
	CHECK_INT(fds.n, 0);
	pair_end(co, &p);
}
TEST(descriptors_come_with_their_bytes)

/* ---- notifications ---- */

struct waiter {
	struct io_event *event;
	unsigned woken;
	int last;
};

static void wait_entry(struct co *co, void *arg)
{
	struct waiter *w = arg;

	while ((w->last = io_event_wait(co, w->event)) == 0)
		w->woken++;
}

static void signalled(struct co *co, int waits_fd, int signals_fd)
{
	struct waiter w = {0};
	struct io_event *signals;
	struct co_group group;

	co_group_init(&group, co_sched_of(co));
	CHECK_INT(io_event_adopt(co, waits_fd, true, &w.event), 0);
	CHECK_INT(io_event_adopt(co, signals_fd, false, &signals), 0);
	CHECK_INT(co_group_spawn(&group, "wait", wait_entry, &w), 0);
	co_sleep(co, 2000000);
	CHECK_INT(w.woken, 0);
	for (unsigned i = 1; i <= 3; i++) {
		io_event_signal(co, signals);
		co_sleep(co, 20000000);
		CHECK_INT(w.woken, i);
	}
	io_event_cancel(w.event);
	co_group_wait(co, &group);
	CHECK_INT(w.last, -ECANCELED);
	CHECK_INT(io_event_wait(co, w.event), -ECANCELED);
	io_event_close(co, w.event);
	io_event_close(co, signals);
}

static void body_events_are_waited_for(struct co *co, void *arg ATTR_UNUSED)
{
	int blocking = eventfd(0, 0), other = eventfd(0, EFD_NONBLOCK), pipes[2];

	signalled(co, blocking, dup(blocking));
	signalled(co, other, dup(other));
	CHECK_INT(pipe(pipes), 0);
	signalled(co, pipes[0], pipes[1]);
}
TEST(events_are_waited_for)

/* A counter that has no room left doesn't hold its signaller up. */
static void body_a_full_event_holds_nobody_up(struct co *co, void *arg ATTR_UNUSED)
{
	uint64_t most = UINT64_MAX - 1;
	int fd = eventfd(0, EFD_NONBLOCK);
	struct io_event *e;

	CHECK_INT(write(fd, &most, 8), 8);
	CHECK_INT(io_event_adopt(co, fd, false, &e), 0);
	io_event_signal(co, e);
	io_event_close(co, e);
}
TEST(a_full_event_holds_nobody_up)

static void body_other_descriptors_are_no_events(struct co *co, void *arg ATTR_UNUSED)
{
	int fd = memory_of(10);
	struct io_event *e;

	CHECK_INT(io_event_adopt(co, fd, true, &e), -EINVAL);
	CHECK_INT(fcntl(fd, F_GETFD), -1);
}
TEST(other_descriptors_are_no_events)

/* ---- memory ---- */

static void body_memory_is_shared(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_map *a, *b;
	struct err err;
	int fd;

	CHECK_INT(io_map_new(co, 10000, &a, &fd, &err), 0);
	CHECK_INT(io_map(co, fd, 5000, 5000, &b, &err), 0);
	CHECK_INT(io_map_len(b), 5000);
	memset(io_map_bytes(b), 7, 5000);
	CHECK_INT(io_map_bytes(a)[4999], 0);
	CHECK_INT(io_map_bytes(a)[5000], 7);
	CHECK_INT(ftruncate(fd, 0), -1);
	io_fd_close(co, fd);
	io_unmap(co, a);
	CHECK_INT(io_map_bytes(b)[4999], 7);
	CHECK(!io_map_broken(b));
	io_unmap(co, b);
}
TEST(memory_is_shared)

static void body_no_more_is_mapped_than_there_is(struct co *co, void *arg ATTR_UNUSED)
{
	static const struct {
		uint64_t off, len;
	} bad[] = {{0, 8193}, {8192, 1}, {UINT64_MAX, 2}, {1, UINT64_MAX}, {0, 0}};
	int fd = memory_of(8192), null = open("/dev/zero", O_RDWR | O_CLOEXEC);
	struct io_map *m;
	struct err err;

	for (unsigned i = 0; i < 5; i++)
		CHECK_INT(io_map(co, fd, bad[i].off, bad[i].len, &m, &err), -EINVAL);
	CHECK_INT(io_map(co, null, 0, 4096, &m, &err), -EINVAL);
	io_fd_close(co, fd);
	io_fd_close(co, null);
}
TEST(no_more_is_mapped_than_there_is)

static void body_memory_that_is_taken_away_breaks_alone(struct co *co, void *arg ATTR_UNUSED)
{
	int fd = memory_of(4 * 65536), file = open("taken", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct io_map *m, *other;
	struct err err;
	int r, zero = open("/dev/zero", O_RDWR | O_CLOEXEC);

	CHECK_INT(io_map(co, fd, 0, 4 * 65536, &m, &err), 0);
	CHECK_INT(io_map_new(co, 4096, &other, &r, &err), 0);
	io_fd_close(co, r);
	memset(io_map_bytes(m), 1, 4 * 65536);
	CHECK_INT(ftruncate(fd, 65536), 0);
	/* The kernel says EFAULT, and nothing is broken yet. */
	CHECK_INT(write(file, io_map_bytes(m) + 65536, 4096), -1);
	CHECK_INT(errno, EFAULT);
	CHECK(!io_map_broken(m));
	CHECK_INT(((volatile uint8_t *)io_map_bytes(m))[65536], 0);
	CHECK(io_map_broken(m));
	CHECK(!io_map_broken(other));
	memset(io_map_bytes(m), 2, 4 * 65536);
	CHECK_INT(write(file, io_map_bytes(m), 4 * 65536), 4 * 65536);
	io_unmap(co, m);
	io_unmap(co, other);
	io_fd_close(co, fd);
	io_fd_close(co, file);
	io_fd_close(co, zero);
}
TEST(memory_that_is_taken_away_breaks_alone)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(memory_that_is_taken_away_breaks_alone), /* first: cmocka's own handler comes before each test */
		RUN(descriptors_come_with_their_bytes),
		RUN(events_are_waited_for),
		RUN(a_full_event_holds_nobody_up),
		RUN(other_descriptors_are_no_events),
		RUN(memory_is_shared),
		RUN(no_more_is_mapped_than_there_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
