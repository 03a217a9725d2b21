/* SPDX-License-Identifier: MIT */
/*
 * What the tests of this room share: each test body is a coroutine on a fresh engine, the one that CORRAL_AIO names
 * ("uring" or "threads"; meson runs every program once with each). Files are made under the working directory, as its
 * file system is the one that is likely to know O_DIRECT.
 */
#ifndef TEST_IO_ENGINE_H
#define TEST_IO_ENGINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../check.h"
#include "base/cleanup.h"
#include "co/sync.h"
#include "io/io.h"

static inline enum io_engine engine_wanted(void)
{
	const char *name = getenv("CORRAL_AIO");

	return name != NULL && strcmp(name, "threads") == 0 ? IO_THREADS : IO_URING;
}

/* Runs body(co, arg) and everything it spawns. */
static inline void engine_run(co_entry *body, void *arg)
{
	struct err err = {0};
	struct io *io;

	if (io_new(&io, engine_wanted(), NULL, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(co_main(io_sched(io), "test", body, arg), 0);
	io_free(io);
}

/* Each test works in a new directory of its own, under the one that it was started in. */
static inline int scratch_enter(void **state)
{
	char *dir = strdup("io-test-XXXXXX");

	CHECK(dir != NULL && mkdtemp(dir) != NULL && chdir(dir) == 0);
	*state = dir;
	return 0;
}

static inline int scratch_leave(void **state)
{
	char command[40];

	CHECK(chdir("..") == 0);
	snprintf(command, sizeof(command), "rm -rf ./%s", (char *)*state);
	CHECK(system(command) == 0);
	free(*state);
	return 0;
}

#define TEST(name)                                                                                                     \
	static void test_##name(void **state)                                                                          \
	{                                                                                                              \
		(void)state;                                                                                           \
		engine_run(body_##name, NULL);                                                                         \
	}
#define RUN(name) cmocka_unit_test_setup_teardown(test_##name, scratch_enter, scratch_leave)

static inline struct io_file *open_or_die(struct co *co, const char *path, unsigned flags)
{
	struct io_open how = {.path = path, .flags = flags};
	struct io_file *f;
	struct err err = {0};

	if (io_file_open(co, &how, &f, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return f;
}

#define RW_NEW (IO_OPEN_WRITE | IO_OPEN_CREATE)

/* Bytes that tell where they belong. */
static inline void pattern_fill(unsigned char *buf, size_t len, uint64_t at)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (unsigned char)((at + i) * 37 + ((at + i) >> 9) + 1);
}

#endif
