/* SPDX-License-Identifier: MIT */
/*
 * The copy engine between nodes in memory whose requests end in any order: what arrives, what isn't written, what order is
 * kept, and what becomes of errors, whichever request they strike.
 */
#include "../node/toy.h"

#include "job/copy.h"

#define BYTES (1024 * 1024u)
#define CLUSTER 16384u

struct bench {
	struct rig rig; /* first */
	struct toy_storage *from;
	struct node *to;
	struct copy_how how;
	struct copy_counts counts;
	struct err err;
	uint64_t took_ns, last_done, all;
	unsigned told, cancel_after;
	uint64_t unreadable[8];
	unsigned unreadables;
	int ret;
};

static bool progress(void *arg, uint64_t done, uint64_t all)
{
	struct bench *b = arg;

	assert(done >= b->last_done && done <= all);
	b->last_done = done;
	b->all = all;
	return ++b->told != b->cancel_after;
}

static void unreadable(void *arg, uint64_t off, uint64_t len, int err)
{
	struct bench *b = arg;

	assert(len == 512 && err == -EIO && b->unreadables < ARRAY_ENTRIES(b->unreadable));
	b->unreadable[b->unreadables++] = off;
}

/* Data, zeros and holes of many lengths; a hole is a block of 4 KiB in which nothing was written. */
static void fill(struct rig *r, uint8_t *data, uint64_t len)
{
	uint64_t now;

	for (uint64_t at = 0; at < len; at += now) {
		now = MIN(len - at, 512 * (1 + rig_random(r, rig_random(r, 8) ? 16 : 400)));
		if (rig_random(r, 2))
			memset(data + at, (int)(1 + rig_random(r, 255)), now);
	}
}

static void bench_init(struct bench *b, uint64_t seed, bool format)
{
	*b = (struct bench){.cancel_after = 0};
	rig_init(&b->rig, seed, NULL);
	b->rig.dawdle = 1000;
	b->from = toy_storage_new(&b->rig, BYTES, BYTES, 1);
	b->from->holes = true;
	fill(&b->rig, b->from->data, BYTES);
	b->to = &toy_storage_new(&b->rig, format ? 0 : BYTES, 4 * BYTES, 1)->node;
	if (format)
		b->to = &toy_format_new(&b->rig, b->to, NULL, BYTES, CLUSTER)->node;
	b->how = (struct copy_how){.from = &b->from->node,
		.to = b->to,
		.len = BYTES,
		.request_bytes = 65536,
		.sparse = 4096,
		.target_zero = true,
		.progress = progress,
		.unreadable = unreadable,
		.arg = b};
}

static void bench_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	uint64_t since = co_now(co);

	b->ret = copy_run(co, &b->how, &b->counts, &b->err);
	b->took_ns = co_now(co) - since;
}

static void bench_end(struct co *co, void *arg)
{
	struct bench *b = arg;

	b->rig.fail_at = 0;
	(void)!node_close(co, &b->from->node);
	(void)!node_close(co, b->to);
}

static void bench_run(struct bench *b) { rig_run(&b->rig, bench_body, b); }

static void bench_fini(struct bench *b)
{
	rig_run(&b->rig, bench_end, b);
	rig_fini(&b->rig);
}

static void check_same(const struct bench *b)
{
	for (uint64_t at = 0; at < BYTES; at++)
		assert(toy_peek(b->to, at) == b->from->data[at]);
}

static void content_arrives(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct bench b;

		bench_init(&b, seed, seed % 2);
		b.how.requests = (unsigned)(1 + seed % 7);
		b.how.sparse = seed % 3 ? 512u << seed % 5 : 0;
		bench_run(&b);
		assert_int_equal(b.ret, 0);
		check_same(&b);
		assert_int_equal(b.counts.data_bytes + b.counts.zero_bytes, BYTES);
		assert_int_equal(b.last_done, b.all);
		assert_true(b.how.sparse != 0 || b.counts.data_bytes == BYTES);
		bench_fini(&b);
	}
}

static void what_was_there_is_replaced(void **state)
{
	struct bench b;
	struct toy_storage *to;

	(void)state;
	bench_init(&b, 3, false);
	to = toy_storage_of(b.to);
	memset(to->data, 0x55, BYTES);
	b.how.target_zero = false;
	bench_run(&b);
	assert_int_equal(b.ret, 0);
	check_same(&b);
	assert_true(to->zeroes > 0);
	bench_fini(&b);
}

static void zeros_in_data_become_holes_where_they_are_enough(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, 1, false);
	b.from->holes = false;
	memset(b.from->data, 1, BYTES);
	memset(b.from->data + 8192, 0, 8192);  /* a hole */
	memset(b.from->data + 32768, 0, 4096); /* too short */
	memset(b.from->data + 50000, 0, 8192); /* too short, in whole blocks */
	memset(b.from->data + BYTES - 8192, 0, 8192);
	b.how.sparse = 8192;
	bench_run(&b);
	assert_int_equal(b.ret, 0);
	check_same(&b);
	assert_int_equal(b.counts.zero_bytes, 16384);
	bench_fini(&b);
}

static void a_longer_target_ends_in_zeros(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, 1, false);
	b.from->node.size = BYTES - 1000;
	memset(b.from->data + BYTES - 1000, 0, 1000);
	memset(toy_storage_of(b.to)->data, 0x55, BYTES);
	b.how.target_zero = false;
	bench_run(&b);
	assert_int_equal(b.ret, 0);
	check_same(&b);
	bench_fini(&b);
}

static void requests_are_bounded(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, 5, false);
	b.how.requests = 3;
	b.how.progress = NULL;
	b.from->holes = false;
	bench_run(&b);
	assert_int_equal(b.from->most_in_flight, 3);
	bench_fini(&b);
}

static void a_stream_gets_every_byte_in_order(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, 7, false);
	b.how.in_order = true;
	b.how.sparse = 0;
	bench_run(&b);
	assert_int_equal(b.ret, 0);
	check_same(&b);
	assert_int_equal(b.counts.data_bytes, BYTES);
	assert_int_equal(toy_storage_of(b.to)->most_in_flight, 1);
	bench_fini(&b);
}

/* 1 MiB at 1 MiB/s, of which the first request is free. */
static void the_rate_is_kept(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, 1, false);
	memset(b.from->data, 1, BYTES);
	b.how.rate = BYTES;
	bench_run(&b);
	assert_int_equal(b.ret, 0);
	assert_true(b.took_ns > 900000000 && b.took_ns < 1000000000);
	bench_fini(&b);
}

static void cancelling_ends_it(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, 1, false);
	b.cancel_after = 2;
	bench_run(&b);
	assert_int_equal(b.ret, -ECANCELED);
	assert_true(b.counts.data_bytes < BYTES / 2);
	bench_fini(&b);
}

/* Whichever request fails, the copy fails and says so; without a failure it has succeeded. */
static void every_error_is_told(void **state)
{
	unsigned n = 0;
	bool done = false;

	(void)state;
	while (!done) {
		struct bench b;

		bench_init(&b, 9, n % 2);
		b.how.in_order = n % 3 == 0 && n % 2 == 0;
		b.rig.fail_at = ++n;
		bench_run(&b);
		assert_int_equal(b.ret, b.rig.failed ? -EIO : 0);
		assert_true(b.ret == 0 || strstr(b.err.text, " at byte "));
		done = !b.rig.failed;
		if (done)
			check_same(&b);
		bench_fini(&b);
	}
	assert_true(n > 30);
}

/* A sector that can't be read, wherever it lies, is zeros; all around it arrives. */
static int bad_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	struct toy_storage *s = toy_storage_of(n);

	co_yield(co);
	if (ranges_overlap(off, to.len, 70 * 512, 512) || ranges_overlap(off, to.len, 1001 * 512, 1024))
		return -EIO;
	iov_copy_in(to, s->data + off, to.len);
	return 0;
}

static void what_cannot_be_read_becomes_zeros(void **state)
{
	struct node_ops ops;
	struct bench b;

	(void)state;
	bench_init(&b, 1, false);
	ops = *b.from->node.ops;
	ops.read = bad_read;
	b.from->node.ops = &ops;
	b.from->holes = false;
	memset(b.from->data, 1, BYTES);
	b.how.salvage = true;
	bench_run(&b);
	assert_int_equal(b.ret, 0);
	assert_int_equal(b.counts.salvage_bytes, 1536);
	assert_int_equal(b.unreadables, 3);
	memset(b.from->data + 70 * 512, 0, 512);
	memset(b.from->data + 1001 * 512, 0, 1024);
	check_same(&b);
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(content_arrives),
		cmocka_unit_test(what_was_there_is_replaced),
		cmocka_unit_test(zeros_in_data_become_holes_where_they_are_enough),
		cmocka_unit_test(a_longer_target_ends_in_zeros),
		cmocka_unit_test(requests_are_bounded),
		cmocka_unit_test(a_stream_gets_every_byte_in_order),
		cmocka_unit_test(the_rate_is_kept),
		cmocka_unit_test(cancelling_ends_it),
		cmocka_unit_test(every_error_is_told),
		cmocka_unit_test(what_cannot_be_read_becomes_zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
