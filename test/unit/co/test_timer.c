/* SPDX-License-Identifier: MIT */
/* The heap of deadlines, against a plain search through an array. */
#include "co/timer.h"
#include "host.h"

#define TIMERS 200

struct model {
	struct co_timers timers;
	struct co_timer timer[TIMERS];
	uint64_t deadline[TIMERS], serial[TIMERS], next_serial;
	uint32_t seed;
};

static unsigned any(struct model *m, unsigned below)
{
	m->seed = m->seed * 1664525 + 1013904223;
	return (m->seed >> 8) % below;
}

/* The number of the first armed timer, or TIMERS. */
static unsigned model_first(const struct model *m)
{
	unsigned first = TIMERS;

	for (unsigned i = 0; i < TIMERS; i++) {
		if (!co_timer_armed(&m->timer[i]))
			continue;
		if (first == TIMERS || m->deadline[i] < m->deadline[first] ||
			(m->deadline[i] == m->deadline[first] && m->serial[i] < m->serial[first]))
			first = i;
	}
	return first;
}

static void model_toggle(struct model *m, unsigned i)
{
	if (co_timer_armed(&m->timer[i])) {
		co_timers_disarm(&m->timers, &m->timer[i]);
		return;
	}
	m->deadline[i] = any(m, 50); /* few, so that many are equal */
	m->serial[i] = m->next_serial++;
	co_timers_arm(&m->timers, &m->timer[i], m->deadline[i]);
}

static void model_expire(struct model *m)
{
	unsigned first = model_first(m);

	if (first == TIMERS) {
		assert_true(co_timers_next(&m->timers) == UINT64_MAX);
		assert_null(co_timers_expire(&m->timers, UINT64_MAX));
		return;
	}
	assert_true(co_timers_next(&m->timers) == m->deadline[first]);
	if (m->deadline[first] > 0)
		assert_null(co_timers_expire(&m->timers, m->deadline[first] - 1));
	assert_ptr_equal(co_timers_expire(&m->timers, m->deadline[first]), &m->timer[first]);
	assert_false(co_timer_armed(&m->timer[first]));
}

static void test_against_a_plain_search(void **state)
{
	static struct model m = {.seed = 1};

	(void)state;
	assert_int_equal(co_timers_init(&m.timers, TIMERS), 0);
	for (unsigned i = 0; i < TIMERS; i++)
		co_timer_init(&m.timer[i]);
	for (unsigned step = 0; step < 20000; step++) {
		if (any(&m, 3) == 0)
			model_expire(&m);
		else
			model_toggle(&m, any(&m, TIMERS));
	}
	while (m.timers.n)
		model_expire(&m);
	model_expire(&m);
	co_timers_fini(&m.timers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_a_plain_search)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
