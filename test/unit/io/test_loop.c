/* SPDX-License-Identifier: MIT */
/* The engine as a loop: many operations at once, timers, helper threads and signals beside them. */
#include "engine.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { FILE_BYTES = 4 << 20, BLOCK = 4096 };

struct many {
	struct io_file *f;
	struct co_group group;
	unsigned done;
};

static struct io_file *file_make(struct co *co)
{
	struct io_file *f = open_or_die(co, "a", RW_NEW);
	unsigned char *buf = malloc(FILE_BYTES);

	CHECK(buf != NULL);
	pattern_fill(buf, FILE_BYTES, 0);
	CHECK_INT(io_file_write(co, f, 0, IOV_BUF(buf, FILE_BYTES), 0), 0);
	free(buf);
	return f;
}

/* ---- many at once ---- */

static void read_some(struct co *co, void *arg)
{
	struct many *m = arg;
	unsigned char *in = malloc(BLOCK), want[BLOCK];
	unsigned seed = m->group.members * 2654435761u;

	CHECK(in != NULL);
	for (unsigned i = 0; i < 5; i++) {
		uint64_t off = (seed = seed * 1103515245 + 12345) % (FILE_BYTES - BLOCK);

		pattern_fill(want, BLOCK, off);
		CHECK_INT(io_file_read(co, m->f, off, IOV_BUF(in, BLOCK)), 0);
		CHECK(memcmp(in, want, BLOCK) == 0);
	}
	free(in);
	m->done++;
}

/* More than the ring's submission entries, and more than it takes of files at once. */
static void body_many_reads(struct co *co, void *arg ATTR_UNUSED)
{
	struct many m = {.f = file_make(co)};

	co_group_init(&m.group, co_sched_of(co));
	for (unsigned i = 0; i < 2000; i++)
		CHECK_INT(co_group_spawn(&m.group, "read", read_some, &m), 0);
	co_group_wait(co, &m.group);
	CHECK_INT(m.done, 2000);
	io_file_close(co, m.f);
}

/* ---- timers ---- */

struct sleeper {
	uint64_t until;
	bool awake;
	unsigned reads; /* of the other one, while this one slept */
	struct many *m;
};

static void sleep_then_stop(struct co *co, void *arg)
{
	struct sleeper *s = arg;

	co_sleep_until(co, s->until);
	CHECK(co_now(co) >= s->until);
	s->reads = s->m->done;
	s->awake = true;
}

static void body_timers(struct co *co, void *arg ATTR_UNUSED)
{
	struct many m = {.f = file_make(co)};
	struct sleeper s = {.until = co_now(co) + 50000000, .m = &m};
	char buf[BLOCK];

	co_group_init(&m.group, co_sched_of(co));
	CHECK_INT(co_group_spawn(&m.group, "sleeper", sleep_then_stop, &s), 0);
	for (; !s.awake; m.done++)
		CHECK_INT(io_file_read(co, m.f, 0, IOV_BUF(buf, BLOCK)), 0);
	CHECK(s.reads > 10);
	CHECK(co_now(co) < s.until + 2000000000ull);
	co_group_wait(co, &m.group);
	co_sleep(co, 20000000); /* with nothing else to wait for */
	io_file_close(co, m.f);
}

/* ---- offload ---- */

struct gate { /* pure work that lasts until the loop says so: it can only end if the loop goes on meanwhile */
	bool open;
	bool entered;
};

static void work_until_open(void *arg)
{
	struct gate *g = arg;

	__atomic_store_n(&g->entered, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&g->open, __ATOMIC_ACQUIRE))
		usleep(100);
}

static void offload_one(struct co *co, void *arg) { co_offload(co, work_until_open, arg); }

static void body_offload(struct co *co, void *arg ATTR_UNUSED)
{
	struct many m = {.f = file_make(co)};
	struct gate gates[3] = {0};
	char buf[BLOCK];

	co_group_init(&m.group, co_sched_of(co));
	for (unsigned i = 0; i < 3; i++)
		CHECK_INT(co_group_spawn(&m.group, "offload", offload_one, &gates[i]), 0);
	for (unsigned i = 0; i < 3; i++) { /* all three run at once, in parallel with the reads */
		while (!__atomic_load_n(&gates[i].entered, __ATOMIC_ACQUIRE))
			CHECK_INT(io_file_read(co, m.f, 0, IOV_BUF(buf, BLOCK)), 0);
	}
	for (unsigned i = 0; i < 100; i++)
		CHECK_INT(io_file_read(co, m.f, i * BLOCK, IOV_BUF(buf, BLOCK)), 0);
	for (unsigned i = 0; i < 3; i++)
		__atomic_store_n(&gates[i].open, true, __ATOMIC_RELEASE);
	co_group_wait(co, &m.group);
	io_file_close(co, m.f);
}

static void add_one(void *arg) { (*(unsigned *)arg)++; }

static void offload_add(struct co *co, void *arg)
{
	unsigned own = 0;

	for (unsigned i = 0; i < 20; i++)
		co_offload(co, add_one, &own);
	*(unsigned *)arg += own;
}

/* Far more work than threads. */
static void body_offload_many(struct co *co, void *arg ATTR_UNUSED)
{
	struct co_group g;
	unsigned sum = 0;

	co_group_init(&g, co_sched_of(co));
	for (unsigned i = 0; i < 200; i++)
		CHECK_INT(co_group_spawn(&g, "add", offload_add, &sum), 0);
	co_group_wait(co, &g);
	CHECK_INT(sum, 4000);
}

/* ---- signals ---- */

static const int signals[] = {SIGUSR1, SIGUSR2};

static void send_signals(struct co *co, void *arg ATTR_UNUSED)
{
	co_sleep(co, 20000000);
	CHECK(kill(getpid(), SIGUSR2) == 0);
	co_sleep(co, 20000000);
	CHECK(kill(getpid(), SIGUSR1) == 0);
	co_sleep(co, 20000000);
	io_signal_end(io_of(co));
}

static void body_signals(struct co *co, void *arg ATTR_UNUSED)
{
	struct co_group g;

	CHECK_INT(io_signals_take(signals, 2), 0);
	CHECK(kill(getpid(), SIGUSR1) == 0); /* one that came before anybody waited */
	CHECK_INT(io_signal_wait(co, signals, 2), SIGUSR1);
	co_group_init(&g, co_sched_of(co));
	CHECK_INT(co_group_spawn(&g, "kill", send_signals, NULL), 0);
	CHECK_INT(io_signal_wait(co, signals, 2), SIGUSR2);
	CHECK_INT(io_signal_wait(co, signals, 2), SIGUSR1);
	CHECK_INT(io_signal_wait(co, signals, 2), -ECANCELED);
	CHECK_INT(io_signal_wait(co, signals, 2), -ECANCELED);
	co_group_wait(co, &g);
}

static void end_at_once(struct co *co, void *arg ATTR_UNUSED) { io_signal_end(io_of(co)); }

/* The waiter's poll was submitted, but the kernel hasn't seen it yet. */
static void body_signal_end(struct co *co, void *arg ATTR_UNUSED)
{
	struct co_group g;

	CHECK_INT(io_signals_take(signals, 2), 0);
	co_group_init(&g, co_sched_of(co));
	CHECK_INT(co_group_spawn(&g, "end", end_at_once, NULL), 0);
	CHECK_INT(io_signal_wait(co, signals, 2), -ECANCELED);
	co_group_wait(co, &g);
}

/* ---- engines ---- */

/* Without io_uring, as in most containers. The filter lasts, so it is put on a child. */
static int without_uring(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = ARRAY_ENTRIES(filter), .filter = filter};
	struct err err = {0};
	struct io *io;

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		return 77;
	CHECK_INT(io_new(&io, IO_URING, NULL, &err), -EPERM);
	CHECK(strstr(err.text, "io_uring") != NULL && strstr(err.text, "sandbox") != NULL);
	CHECK_INT(io_new(&io, IO_AUTO, NULL, &err), 0);
	CHECK(strcmp(io_engine_name(io), "threads") == 0);
	io_free(io);
	return 0;
}

static void test_fall_back(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(without_uring());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		print_message("skipped: no seccomp\n");
	else
		assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_names(void **state)
{
	struct io *io, *other;

	(void)state;
	assert_int_equal(io_new(&io, engine_wanted(), NULL, NULL), 0);
	assert_string_equal(io_engine_name(io), engine_wanted() == IO_THREADS ? "threads" : "uring");
	assert_int_equal(io_new(&other, IO_AUTO, NULL, NULL), 0); /* two on one thread */
	assert_ptr_not_equal(io_sched(io), io_sched(other));
	io_free(other);
	io_free(io);
	io_free(NULL);
}

static void test_alloc(void **state)
{
	static const size_t sizes[] = {0, 1, 4095, 4096, 4097};

	(void)state;
	for (size_t i = 0; i < ARRAY_ENTRIES(sizes); i++) {
		AUTO_FREE unsigned char *p = io_alloc(sizes[i]);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 4096, 0);
		memset(p, 1, sizes[i]);
	}
}

TEST(many_reads)
TEST(timers)
TEST(offload)
TEST(offload_many)
TEST(signals)
TEST(signal_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(many_reads),
		RUN(timers),
		RUN(offload),
		RUN(offload_many),
		RUN(signals),
		RUN(signal_end),
		RUN(names),
		RUN(fall_back),
		RUN(alloc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
