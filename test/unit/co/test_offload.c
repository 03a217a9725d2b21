/* SPDX-License-Identifier: MIT */
/* Work outside the scheduler's thread: by a thread for each, and by a host that does it at once. */
#include <pthread.h>

#include "host.h"

struct crowd { /* a host whose work is done by threads */
	struct world world;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct list finished;
	unsigned threads;
};

struct job {
	struct crowd *crowd;
	struct co_work *work;
};

static void *crowd_thread(void *arg)
{
	struct job *job = arg;

	job->work->fn(job->work->arg);
	pthread_mutex_lock(&job->crowd->lock);
	list_push(&job->crowd->finished, &job->work->link);
	pthread_cond_signal(&job->crowd->changed);
	pthread_mutex_unlock(&job->crowd->lock);
	free(job);
	return NULL;
}

static void crowd_offload(struct co_host *host, struct co_work *work)
{
	struct crowd *crowd = container_of(world_of(host), struct crowd, world);
	struct job *job = malloc(sizeof(*job));
	pthread_t thread;

	assert(job);
	*job = (struct job){crowd, work};
	crowd->threads++;
	must(pthread_create(&thread, NULL, crowd_thread, job));
	must(pthread_detach(thread));
}

static void crowd_wait(struct co_host *host, uint64_t deadline)
{
	struct crowd *crowd = container_of(world_of(host), struct crowd, world);

	pthread_mutex_lock(&crowd->lock);
	while (deadline == CO_NEVER && list_empty(&crowd->finished))
		pthread_cond_wait(&crowd->changed, &crowd->lock);
	list_for_each_safe(it, &crowd->finished) {
		list_remove(it);
		co_work_done(list_entry(it, struct co_work, link));
	}
	pthread_mutex_unlock(&crowd->lock);
}

static const struct co_host_ops crowd_ops = {.now = world_now, .wait = crowd_wait, .offload = crowd_offload};

struct sum {
	unsigned upto;
	uint64_t result;
	pthread_t thread;
};

static void add_up(void *arg)
{
	struct sum *sum = arg;

	sum->result = 0;
	for (unsigned i = 1; i <= sum->upto; i++)
		sum->result += i;
	sum->thread = pthread_self();
}

static void compute(struct co *co, void *arg)
{
	unsigned *good = arg;

	for (unsigned i = 0; i < 10; i++) {
		struct sum sum = {.upto = 1000 + i};

		co_offload(co, add_up, &sum);
		if (sum.result == (uint64_t)sum.upto * (sum.upto + 1) / 2 && !pthread_equal(sum.thread, pthread_self()))
			++*good;
	}
}

static void test_threads(void **state)
{
	struct crowd crowd;
	unsigned good = 0;

	(void)state;
	world_init_limits(&crowd.world, &crowd_ops, NULL);
	crowd.threads = 0;
	pthread_mutex_init(&crowd.lock, NULL);
	pthread_cond_init(&crowd.changed, NULL);
	list_init(&crowd.finished);
	for (int i = 0; i < 5; i++)
		go(&crowd.world, "compute", compute, &good);
	co_sched_run(crowd.world.sched);
	assert_int_equal(good, 50);
	assert_int_equal(crowd.threads, 50);
	world_fini(&crowd.world);
}

static void say(struct co *co, void *arg) { note(co, arg); }

static void offload_and_say(struct co *co, void *arg)
{
	struct sum sum = {.upto = 10};

	note(co, "(");
	co_offload(co, add_up, &sum);
	assert(sum.result == 55);
	note(co, arg);
}

static void test_the_others_go_on(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	go(&w, "one", offload_and_say, ")");
	go(&w, "two", say, "2");
	co_sched_run(w.sched);
	assert_string_equal(w.log, "(2)");
	world_fini(&w);
}

static void offload_at_once(struct co_host *host, struct co_work *work)
{
	(void)host;
	work->fn(work->arg);
	co_work_done(work);
}

static void test_a_host_may_compute_at_once(void **state)
{
	struct co_host_ops ops = world_ops;
	struct world w;

	(void)state;
	ops.offload = offload_at_once;
	world_init_limits(&w, &ops, NULL);
	go(&w, "one", offload_and_say, ")");
	go(&w, "two", say, "2");
	co_sched_run(w.sched);
	assert_string_equal(w.log, "(2)");
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_the_others_go_on),
		cmocka_unit_test(test_a_host_may_compute_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
