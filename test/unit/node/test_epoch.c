/* SPDX-License-Identifier: MIT */
/* Epochs pass when the oldest have gone, whatever the order in which they go; a drain waits for all, and keeps others out. */
#include "toy.h"

struct bench {
	struct rig rig; /* first */
	struct toy_format *f;
};

static void bench_init(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	rig_init(&b->rig, 1, NULL);
	b->f = toy_format_new(&b->rig, &toy_storage_new(&b->rig, 65536, 65536, 1)->node, NULL, 32768, 4096);
}

static void close_main(struct co *co, void *arg) { must(node_close(co, &((struct bench *)arg)->f->node)); }

static void bench_run(struct bench *b, co_entry *entry)
{
	rig_run(&b->rig, entry, b);
	rig_run(&b->rig, close_main, b);
	rig_fini(&b->rig);
}

static void epochs_main(struct co *co, void *arg)
{
	struct node *n = &((struct bench *)arg)->f->node;
	struct node_op a, b, c;
	uint64_t before = node_epoch_now(n), with_a, with_b;

	assert(node_epoch_passed(n, before));
	node_op_begin(co, n, &a);
	assert(node_epoch_passed(n, before));
	with_a = node_epoch_now(n);
	assert(!node_epoch_passed(n, with_a));
	node_op_begin(co, n, &b);
	with_b = node_epoch_now(n);
	node_op_begin(co, n, &c);

	node_op_end(n, &b);
	assert(!node_epoch_passed(n, with_a) && !node_epoch_passed(n, with_b));
	node_op_end(n, &a);
	assert(node_epoch_passed(n, with_a) && node_epoch_passed(n, with_b));
	assert(!node_epoch_passed(n, node_epoch_now(n)));
	node_op_end(n, &c);
	assert(node_epoch_passed(n, node_epoch_now(n)));
}

static void epoch_passes_with_the_oldest(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_run(&b, epochs_main);
}

/* ---- drain ---- */

static void slow_request(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct node_op op;

	node_op_begin(co, &b->f->node, &op);
	note(co, "(");
	co_sleep(co, 100);
	note(co, ")");
	node_op_end(&b->f->node, &op);
}

static void late_request(struct co *co, void *arg)
{
	struct bench *b = arg;
	char data[16];

	note(co, "?");
	must(node_read(co, &b->f->node, 0, IOV_BUF(data, sizeof(data))));
	note(co, "!");
}

static void drain_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	go(&b->rig.world, "slow", slow_request, b);
	co_sleep(co, 10);
	must(node_drain_begin(co, &b->f->node));
	note(co, "D");
	assert(b->f->flushes == 1 && toy_storage_of(b->f->node.file)->flushes == 1);
	go(&b->rig.world, "late", late_request, b);
	co_sleep(co, 10);
	must(node_drain_begin(co, &b->f->node)); /* they nest */
	node_drain_end(&b->f->node);
	co_sleep(co, 10);
	note(co, "E");
	node_drain_end(&b->f->node);
}

static void drain_waits_flushes_and_keeps_others_out(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	rig_run(&b.rig, drain_main, &b);
	assert_string_equal(b.rig.world.log, "()D?E!");
	rig_run(&b.rig, close_main, &b);
	rig_fini(&b.rig);
}

static void failing_drain_main(struct co *co, void *arg)
{
	struct bench *b = arg;
	char data[16];

	b->rig.fail_at = 1;
	assert(node_drain_begin(co, &b->f->node) == -EIO);
	node_drain_end(&b->f->node);
	assert(node_flush(co, &b->f->node) == -EIO);
	must(node_read(co, &b->f->node, 0, IOV_BUF(data, sizeof(data))));
	assert(node_close(co, &b->f->node) == -EIO);
}

static void failed_drain_is_told_and_remembered(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	rig_run(&b.rig, failing_drain_main, &b);
	rig_fini(&b.rig);
}

/* Work of a driver's own holds its epoch, but keeps no drain waiting, and isn't kept out by one. */
static void join_main(struct co *co, void *arg)
{
	struct node *n = &((struct bench *)arg)->f->node;
	struct node_op a, b;
	uint64_t with_a;

	node_op_join(n, &a);
	with_a = node_epoch_now(n);
	assert(node_drain_begin(co, n) == 0);
	assert(!node_epoch_passed(n, with_a));
	node_op_join(n, &b);
	node_op_end(n, &a);
	assert(node_epoch_passed(n, with_a) && !node_epoch_passed(n, node_epoch_now(n)));
	node_op_end(n, &b);
	assert(node_epoch_passed(n, node_epoch_now(n)));
	node_drain_end(n);
}

static void own_work_holds_an_epoch_and_no_drain(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_run(&b, join_main);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(epoch_passes_with_the_oldest),
		cmocka_unit_test(drain_waits_flushes_and_keeps_others_out),
		cmocka_unit_test(failed_drain_is_told_and_remembered),
		cmocka_unit_test(own_work_holds_an_epoch_and_no_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
