/* SPDX-License-Identifier: MIT */
/* The model of a guest's disk: which values the promises G1 to G12 allow, and which they don't. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model.h"
#include "stamp.h"

static struct sim_model m;

static int set_up(void **state)
{
	(void)state;
	sim_model_init(&m, 8);
	sim_model_set(&m, 3, sim_tag(3, 1));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sim_model_fini(&m);
	return 0;
}

static uint64_t begin(uint32_t id) { return sim_model_write_begin(&m, 3, 1, id, id == 0); }
static void end(uint64_t start, enum sim_outcome how) { sim_model_write_end(&m, 3, 1, start, how); }
static void put(uint32_t id) { end(begin(id), SIM_DONE); }
static void flush(void) { sim_model_flush_end(&m, sim_model_flush_begin(&m)); }
static uint64_t tag(uint32_t id) { return id ? sim_tag(3, id) : SIM_TAG_ZERO; }
static bool may_find(uint32_t id) { return sim_model_may_find(&m, 3, tag(id)); }

static bool may_read(uint32_t id)
{
	uint64_t start = sim_model_read_begin(&m);
	bool ok = sim_model_read_check(&m, start, 3, tag(id));

	sim_model_read_end(&m, start);
	return ok;
}

static void a_completed_write_is_read(void **state)
{
	(void)state;
	put(2);
	assert_false(may_read(1));
	assert_true(may_read(2));
}

static void a_power_cut_gives_old_or_new(void **state)
{
	(void)state;
	put(2);
	assert_true(may_find(1) && may_find(2));
	assert_false(may_find(0));
	assert_false(sim_model_may_find(&m, 3, sim_tag(4, 2)));
	flush();
	assert_true(may_find(2));
	assert_false(may_find(1));
}

static void a_flush_doesnt_cover_what_returns_later(void **state)
{
	uint64_t w = begin(2), f = sim_model_flush_begin(&m);

	(void)state;
	end(w, SIM_DONE);
	sim_model_flush_end(&m, f);
	assert_true(may_find(1) && may_find(2));
	flush();
	assert_false(may_find(1));
}

static void fua_is_durable_at_once(void **state)
{
	(void)state;
	put(2);
	end(begin(3), SIM_DURABLE);
	assert_false(may_find(1) || may_find(2));
	assert_true(may_find(3));
}

static void what_is_in_flight_may_be_found_and_read(void **state)
{
	uint64_t w = begin(2);

	(void)state;
	assert_true(may_find(2) && may_find(1));
	assert_true(may_read(2));
	assert_true(may_read(1));
	end(w, SIM_DONE);
	assert_false(may_read(1));
}

static void overlapping_writes_end_as_one_value(void **state)
{
	uint64_t a = begin(2), b = begin(3);

	(void)state;
	end(b, SIM_DONE);
	end(a, SIM_DONE);
	assert_false(may_read(1));
	assert_true(may_read(2));
	assert_false(may_read(3));
	flush();
	assert_true(may_find(2));
	assert_false(may_find(3));
}

static void a_flush_before_the_pin_leaves_both(void **state)
{
	uint64_t a = begin(2), b = begin(3);

	(void)state;
	end(b, SIM_DONE);
	end(a, SIM_DONE);
	flush();
	assert_true(may_find(2) && may_find(3));
	assert_false(may_find(1));
}

static void a_slow_read_may_give_what_it_began_with(void **state)
{
	uint64_t r = sim_model_read_begin(&m);

	(void)state;
	put(2);
	flush();
	assert_true(sim_model_read_check(&m, r, 3, tag(1)));
	sim_model_read_end(&m, r);
	assert_false(may_read(1));
}

static void a_failed_write_is_old_or_new(void **state)
{
	(void)state;
	end(begin(2), SIM_UNCERTAIN);
	flush();
	assert_true(may_find(1) && may_find(2));
	assert_true(may_read(1));
	assert_false(may_read(2));
	put(3);
	flush();
	assert_true(may_find(3));
	assert_false(may_find(1) || may_find(2));
}

static void after_a_failed_flush_reads_may_give_what_a_cut_may_leave(void **state)
{
	uint64_t slow = sim_model_read_begin(&m);

	(void)state;
	put(2);
	flush();
	put(3);
	m.fallen = true;
	assert_true(may_read(2));
	assert_true(may_read(3));
	assert_false(may_read(1));
	assert_true(sim_model_read_check(&m, slow, 3, tag(1)));
	sim_model_read_end(&m, slow);
}

static void zeros_are_a_value(void **state)
{
	(void)state;
	put(0);
	assert_true(may_read(0));
	assert_false(may_read(1));
	assert_true(may_find(1));
	flush();
	assert_false(may_find(1));
}

static void what_is_seen_by_the_next_process_may_still_be_lost(void **state)
{
	uint64_t w;

	(void)state;
	put(2);
	w = begin(3);
	(void)w;
	sim_model_seen(&m, 3, tag(1));
	assert_true(may_read(1));
	assert_false(may_read(2) || may_read(3));
	assert_true(may_find(1) && may_find(2) && may_find(3));
	flush();
	assert_true(may_find(1));
	assert_false(may_find(2) || may_find(3));
}

static void what_lasts_is_seen_by_the_next_process(void **state)
{
	(void)state;
	put(2);
	end(begin(3), SIM_LASTING);
	assert_true(may_find(1) && may_find(2));
	assert_false(sim_model_may_see(&m, 3, tag(1)) || sim_model_may_see(&m, 3, tag(2)));
	put(4); /* which doesn't last */
	assert_true(sim_model_may_see(&m, 3, tag(3)) && sim_model_may_see(&m, 3, tag(4)));
}

static void the_size_is_a_register(void **state)
{
	uint32_t reg = sim_model_size_register(&m);
	uint64_t start;

	(void)state;
	sim_model_set(&m, reg, 4096);
	start = sim_model_size_begin(&m, 8192);
	assert_true(sim_model_may_find(&m, reg, 4096) && sim_model_may_find(&m, reg, 8192));
	sim_model_size_end(&m, start, SIM_DONE);
	flush();
	assert_false(sim_model_may_find(&m, reg, 4096));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_completed_write_is_read),
		TEST(a_power_cut_gives_old_or_new),
		TEST(a_flush_doesnt_cover_what_returns_later),
		TEST(fua_is_durable_at_once),
		TEST(what_is_in_flight_may_be_found_and_read),
		TEST(overlapping_writes_end_as_one_value),
		TEST(a_flush_before_the_pin_leaves_both),
		TEST(a_slow_read_may_give_what_it_began_with),
		TEST(a_failed_write_is_old_or_new),
		TEST(after_a_failed_flush_reads_may_give_what_a_cut_may_leave),
		TEST(zeros_are_a_value),
		TEST(what_is_seen_by_the_next_process_may_still_be_lost),
		TEST(what_lasts_is_seen_by_the_next_process),
		TEST(the_size_is_a_register),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
