/* SPDX-License-Identifier: MIT */
/* Storage that keeps nothing: what it reads, what it takes, where it ends. */
#include "../co/host.h"

#include <errno.h>

#include "filter/null.h"

struct bench {
	struct world world; /* first */
	struct null_open how;
	co_entry *body;
	struct node *n;
};

static void bench_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	must(null_open(co, &b->how, &b->n));
	b->body(co, b);
	must(node_close(co, b->n));
}

static void bench_run(co_entry *body, struct null_open how)
{
	struct bench b = {.how = how, .body = body};

	world_init(&b.world);
	b.how = how;
	b.body = body;
	go(&b.world, "main", bench_main, &b);
	co_sched_run(b.world.sched);
	world_fini(&b.world);
}

static void zeros_body(struct co *co, void *arg)
{
	struct node *n = ((struct bench *)arg)->n;
	uint8_t data[512];
	struct node_status st;

	memset(data, 7, sizeof(data));
	must(node_write(co, n, 0, IOV_BUF(data, sizeof(data)), NODE_FUA));
	must(node_read(co, n, 100, IOV_BUF(data, 100)));
	assert(mem_is_zero(data, 100) && data[100] == 7);
	assert(node_read(co, n, 4000, IOV_BUF(data, 97)) == -EINVAL);
	assert(node_write(co, n, 4000, IOV_BUF(data, 97), 0) == -ENOSPC);
	assert(node_resize(co, n, 8192) == -ENOTSUP && n->size == 4096);
	must(node_status(co, n, 96, 8192, true, &st));
	assert(st.zero && st.len == 4000 && st.has_host && st.host.off == 96);
	assert(co_now(co) == 0);
}

static void reads_zeros_whatever_was_written(void **state)
{
	(void)state;
	bench_run(zeros_body, (struct null_open){.size = 4096});
}

static void unread_body(struct co *co, void *arg)
{
	struct node *n = ((struct bench *)arg)->n;
	uint8_t data[4] = {1, 2, 3, 4};
	struct node_status st;

	must(node_read(co, n, 0, IOV_BUF(data, 4)));
	assert(data[0] == 1 && data[3] == 4 && co_now(co) == 10);
	must(node_write(co, n, 0, IOV_BUF(data, 4), 0));
	must(node_zero(co, n, 0, 4, 0));
	must(node_discard(co, n, 0, 4));
	must(node_flush(co, n));
	assert(co_now(co) == 50);
	must(node_status(co, n, 0, 4096, true, &st));
	assert(!st.zero && st.len == 4096);
}

static void each_request_takes_its_latency(void **state)
{
	(void)state;
	bench_run(unread_body, (struct null_open){.size = 4096, .latency_ns = 10, .unread = true});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_zeros_whatever_was_written),
		cmocka_unit_test(each_request_takes_its_latency),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
