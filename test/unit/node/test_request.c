/* SPDX-License-Identifier: MIT */
/* What is asked of every request: bounds, permission, durability, failures that stay; closing, resizing, bounce memory. */
#include "toy.h"

#define CLUSTER 4096u
#define SIZE (10 * CLUSTER - 512)

struct bench {
	struct rig rig; /* first */
	struct toy_storage *s, *base;
	struct toy_format *f;
	struct node *n; /* f's */
	co_entry *body;
	uint8_t data[2 * CLUSTER];
};

static void bench_run(co_entry *body, uint32_t align)
{
	struct bench b = {.body = body};

	rig_init(&b.rig, 1, NULL);
	b.base = toy_storage_new(&b.rig, 6 * CLUSTER, 6 * CLUSTER, 1);
	memset(b.base->data, 0x11, b.base->room);
	b.s = toy_storage_new(&b.rig, 0, 40 * CLUSTER, align);
	b.f = toy_format_new(&b.rig, &b.s->node, &b.base->node, SIZE, CLUSTER);
	b.n = &b.f->node;
	rig_run(&b.rig, body, &b);
	rig_fini(&b.rig);
}

static void bounds_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct iov all = IOV_BUF(b->data, sizeof(b->data)), byte = IOV_BUF(b->data, 1), none = IOV_BUF(b->data, 0);
	struct node *both[] = {b->n, &b->base->node};

	for (unsigned i = 0; i < ARRAY_ENTRIES(both); i++) {
		struct node *n = both[i];

		must(node_read(co, n, n->size - 1, byte));
		must(node_write(co, n, n->size - 1, byte, 0));
		assert(node_read(co, n, n->size, byte) == -EINVAL);
		assert(node_read(co, n, n->size - CLUSTER, all) == -EINVAL);
		assert(node_read(co, n, UINT64_MAX, all) == -EINVAL);
		assert(node_write(co, n, n->size, byte, 0) == -ENOSPC);
		assert(node_write(co, n, UINT64_MAX, all, 0) == -ENOSPC);
		assert(node_zero(co, n, n->size - 1, 2, 0) == -ENOSPC);
		assert(node_zero(co, n, UINT64_MAX, 2, 0) == -ENOSPC);
		assert(node_discard(co, n, n->size, 1) == -ENOSPC);
		must(node_read(co, n, n->size, none));
		must(node_write(co, n, n->size, none, 0));
		must(node_zero(co, n, n->size, 0, 0));
		must(node_discard(co, n, n->size, 0));
		must(node_discard(co, n, 0, 0));
	}
	must(node_close(co, b->n));
}

static void requests_outside_are_refused(void **state)
{
	(void)state;
	bench_run(bounds_body, 1);
}

static void read_only_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct node *both[] = {b->n, &b->base->node};

	for (unsigned i = 0; i < ARRAY_ENTRIES(both); i++) {
		struct node *n = both[i];

		n->read_only = true;
		must(node_read(co, n, 0, IOV_BUF(b->data, 10)));
		assert(node_write(co, n, 0, IOV_BUF(b->data, 10), 0) == -EROFS);
		assert(node_zero(co, n, 0, 10, 0) == -EROFS);
		assert(node_discard(co, n, 0, 10) == -EROFS);
		assert(node_resize(co, n, 0) == -EROFS);
		must(node_flush(co, n));
	}
	assert(b->base->flushes == 0 && b->f->flushes == 0);
	must(node_close(co, b->n));
}

static void read_only_nodes_refuse_changes(void **state)
{
	(void)state;
	bench_run(read_only_body, 1);
}

static void fua_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	must(node_write(co, b->n, 0, IOV_BUF(b->data, 100), 0));
	assert(b->f->flushes == 0 && b->s->fua == 0);
	must(node_write(co, b->n, 0, IOV_BUF(b->data, sizeof(b->data)), NODE_FUA));
	assert(b->f->flushes == 1 && b->s->flushes == 1 && b->s->fua == 0);
	must(node_zero(co, b->n, 0, CLUSTER, NODE_FUA));
	assert(b->f->flushes == 2);
	must(node_write(co, &b->base->node, 0, IOV_BUF(b->data, 100), NODE_FUA));
	assert(b->base->fua == 1 && b->base->flushes == 0);
	must(node_zero(co, &b->base->node, 0, 100, NODE_FUA));
	assert(b->base->flushes == 1);
	must(node_close(co, b->n));
}

static void fua_flushes_formats_and_is_passed_on_to_storage(void **state)
{
	(void)state;
	bench_run(fua_body, 1);
}

static void sticky_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct node_status status;

	b->rig.fail_at = 2; /* the storage's flush, below the format's */
	assert(node_flush(co, b->n) == -EIO);
	assert(b->s->node.failed == -EIO && b->n->failed == -EIO);
	assert(node_flush(co, b->n) == -EIO);
	assert(node_write(co, b->n, 0, IOV_BUF(b->data, 1), 0) == -EIO);
	assert(node_zero(co, b->n, 0, 1, 0) == -EIO);
	assert(node_discard(co, b->n, 0, 1) == -EIO);
	assert(node_resize(co, b->n, 100) == -EIO);
	assert(b->f->flushes == 1);
	assert(node_read(co, b->n, 0, IOV_BUF(b->data, 1)) == -EIO);
	assert(node_read(co, &b->s->node, 0, IOV_BUF(b->data, 1)) == -EIO);
	assert(node_status(co, b->n, 0, CLUSTER, true, &status) == -EIO);
	assert(node_close(co, b->n) == -EIO);
}

/* Of the format alone, in which nothing is known to be lost. */
static void sticky_above_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	b->rig.fail_at = 1;
	assert(node_flush(co, b->n) == -EIO);
	assert(b->s->node.failed == 0 && b->n->failed == -EIO);
	assert(node_write(co, b->n, 0, IOV_BUF(b->data, 1), 0) == -EIO);
	must(node_read(co, b->n, 0, IOV_BUF(b->data, 1)));
	assert(node_close(co, b->n) == -EIO);
}

static void what_is_in_order_is_read_after_a_failure_above_it(void **state)
{
	(void)state;
	bench_run(sticky_above_body, 1);
}

static void failed_flush_is_final(void **state)
{
	(void)state;
	bench_run(sticky_body, 1);
}

static void fua_sticky_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct node *n = &b->base->node;

	b->rig.fail_at = 1;
	assert(node_write(co, n, 0, IOV_BUF(b->data, 1), 0) == -EIO);
	must(node_flush(co, n));
	b->rig.fail_at = 1;
	assert(node_write(co, n, 0, IOV_BUF(b->data, 1), NODE_FUA) == -EIO);
	assert(node_flush(co, n) == -EIO && node_write(co, n, 0, IOV_BUF(b->data, 1), 0) == -EIO);
	assert(node_close(co, b->n) == -EIO);
}

static void failed_durable_write_is_final_a_plain_one_not(void **state)
{
	(void)state;
	bench_run(fua_sticky_body, 1);
}

/* ---- zero and discard ---- */

static void zero_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	must(node_zero(co, b->n, 100, 3 * CLUSTER, 0));
	assert(b->f->unmaps == 1 && b->f->publishes == 2);
	for (uint64_t i = 0; i < SIZE; i++)
		assert(toy_peek(b->n, i) == (i < 6 * CLUSTER && !(i >= 100 && i < 100 + 3 * CLUSTER) ? 0x11 : 0));
	must(node_zero(co, b->n, 6 * CLUSTER + 10, CLUSTER, 0)); /* beyond the backing file: it is zero */
	assert(b->f->publishes == 2 && b->f->unmaps == 1);
	must(node_zero(co, b->n, 9 * CLUSTER, SIZE - 9 * CLUSTER, 0)); /* the disk ends inside this cluster */
	assert(b->f->unmaps == 2 && b->f->map[9].kind == NODE_ZERO);
	must(node_close(co, b->n));
}

static void zeroing_unmaps_clusters_and_writes_what_is_needed_of_edges(void **state)
{
	(void)state;
	bench_run(zero_body, 1);
}

static void no_unmap_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	b->f->no_unmap = true;
	assert(node_zero(co, b->n, 100, 3 * CLUSTER, NODE_NO_FALLBACK) == -ENOTSUP);
	must(node_discard(co, b->n, 100, 3 * CLUSTER));
	must(node_discard(co, b->n, 100, 100));
	assert(b->s->writes == 0 && toy_peek(b->n, 100) == 0x11);
	must(node_zero(co, b->n, 100, 3 * CLUSTER, 0));
	for (uint64_t i = 0; i < 6 * CLUSTER; i++)
		assert(toy_peek(b->n, i) == (i >= 100 && i < 100 + 3 * CLUSTER ? 0 : 0x11));
	b->base->no_zero = true;
	assert(node_zero(co, &b->base->node, 100, 3 * CLUSTER, NODE_NO_FALLBACK) == -ENOTSUP);
	must(node_discard(co, &b->base->node, 100, 3 * CLUSTER));
	assert(b->base->data[100] == 0x11);
	must(node_zero(co, &b->base->node, 100, 3 * CLUSTER, 0));
	assert(b->base->data[99] == 0x11 && mem_is_zero(b->base->data + 100, 3 * CLUSTER));
	must(node_close(co, b->n));
}

static void what_cant_be_unmapped_is_written_as_zeros_or_left_by_discard(void **state)
{
	(void)state;
	bench_run(no_unmap_body, 1);
}

/* ---- size ---- */

struct late {
	struct bench *b;
	int err;
};

static void late_write(struct co *co, void *arg)
{
	struct late *l = arg;

	l->err = node_write(co, l->b->n, 8 * CLUSTER, IOV_BUF(l->b->data, 100), 0);
}

static void resize_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct late l = {b, 0};
	struct node_range lock;

	/* The writer passes the check of the bounds, then waits; the disk shrinks before it gets in. */
	node_range_lock(co, b->n, &lock, 0, 1);
	b->rig.dawdle = 1000;
	go(&b->rig.world, "write", late_write, &l);
	node_range_unlock(b->n, &lock);
	must(node_resize(co, b->n, 5 * CLUSTER));
	co_sleep(co, 100000);
	assert(l.err == 0 || l.err == -ENOSPC);
	assert(node_read(co, b->n, 5 * CLUSTER, IOV_BUF(b->data, 1)) == -EINVAL);
	must(node_resize(co, b->n, SIZE));
	must(node_read(co, b->n, SIZE - 1, IOV_BUF(b->data, 1)));

	must(node_resize(co, &b->base->node, 3 * CLUSTER));
	must(node_read(co, b->n, 2 * CLUSTER, IOV_BUF(b->data, 2 * CLUSTER)));
	assert(b->data[CLUSTER - 1] == 0x11 && b->data[CLUSTER] == 0);
	must(node_close(co, b->n));
}

static void resize_keeps_writers_out(void **state)
{
	(void)state;
	bench_run(resize_body, 1);
}

static void shrink_writer(struct co *co, void *arg)
{
	struct late *l = arg;

	l->err = node_write(co, &l->b->base->node, 4 * CLUSTER, IOV_BUF(l->b->data, 100), 0);
}

/* A write that waits for a block while the storage shrinks must not make it longer again. */
static void shrink_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct node *n = &b->base->node;
	struct late l = {b, 0};
	struct node_range lock;

	node_range_lock(co, n, &lock, 4 * CLUSTER, 1);
	go(&b->rig.world, "write", shrink_writer, &l);
	co_sleep(co, 10);
	n->size = 3 * CLUSTER; /* as a resize that came first would leave it */
	node_range_unlock(n, &lock);
	co_sleep(co, 10);
	assert(l.err == -ENOSPC && b->base->writes == 0);
	must(node_close(co, b->n));
}

static void write_that_waited_looks_at_the_size_again(void **state)
{
	(void)state;
	bench_run(shrink_body, 1);
}

/* ---- closing ---- */

static void close_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	unsigned closed = 0, depth = 200;
	struct node *n = b->n;

	for (unsigned i = 0; i < depth; i++) {
		struct toy_storage *s = toy_storage_new(&b->rig, 0, CLUSTER, 1);
		struct toy_format *f = toy_format_new(&b->rig, &s->node, n, SIZE, CLUSTER);

		s->closed = f->closed = &closed;
		n = &f->node;
	}
	b->f->closed = b->s->closed = b->base->closed = &closed;
	must(node_read(co, n, 0, IOV_BUF(b->data, 1)));
	assert(b->data[0] == 0x11);
	must(node_close(co, n));
	assert(closed == 2 * depth + 3);
	must(node_close(co, NULL));
}

static void deep_chain_is_read_and_closed(void **state)
{
	(void)state;
	bench_run(close_body, 1);
}

/* ---- bounce memory ---- */

struct taker {
	struct bench *b;
	unsigned holding, most, done;
};

static void taker_main(struct co *co, void *arg)
{
	struct taker *t = arg;
	void *p;

	must(node_buffer_get(co, t->b->n, 4 << 20, &p));
	t->holding++;
	t->most = MAX(t->most, t->holding);
	memset(p, 1, 4 << 20);
	co_sleep(co, 10);
	t->holding--;
	t->done++;
	node_buffer_put(t->b->n, p, 4 << 20);
}

static void buffers_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct taker t = {.b = b};
	void *p;

	for (unsigned i = 0; i < 100; i++)
		go(&b->rig.world, "taker", taker_main, &t);
	co_sleep(co, 1000);
	assert(t.done == 100 && t.most == NODE_BUFFER_BYTES / (4 << 20));
	must(node_buffer_get(co, b->n, NODE_BUFFER_BYTES * 2, &p)); /* more than there is: alone */
	node_buffer_put(b->n, p, NODE_BUFFER_BYTES * 2);
	for (size_t bytes = 1; bytes < 100000; bytes = bytes * 3 / 2 + 1) {
		must(node_buffer_get(co, b->n, bytes, &p));
		assert(is_aligned((uintptr_t)p, 4096));
		memset(p, 1, bytes);
		node_buffer_put(b->n, p, bytes);
	}
	must(node_close(co, b->n));
}

static void bounce_memory_has_a_budget(void **state)
{
	(void)state;
	bench_run(buffers_body, 1);
}

/* ---- alignment ---- */

static void pad_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct toy_storage *s = b->s;
	struct node *n = &s->node;
	uint8_t *big = malloc(3 << 20);

	assert(big != NULL);
	must(node_resize(co, n, 20 * 4096 + 100));
	memset(b->data, 0x22, sizeof(b->data));
	must(node_write(co, n, 4090, IOV_BUF(b->data, 12), 0)); /* over the edge of two blocks */
	assert(s->reads == 2 && s->writes == 1 && s->bytes_written == 8192);
	assert(s->data[4089] == 0 && s->data[4090] == 0x22 && s->data[4101] == 0x22 && s->data[4102] == 0);
	must(node_write(co, n, 10, IOV_BUF(b->data, 10), 0)); /* inside of one */
	assert(s->reads == 3 && s->writes == 2);
	must(node_write(co, n, 20 * 4096 + 90, IOV_BUF(b->data, 10), 0)); /* the node ends inside of this one */
	must(node_read(co, n, 20 * 4096 + 89, IOV_BUF(b->data, 11)));
	assert(b->data[0] == 0 && b->data[1] == 0x22 && b->data[10] == 0x22);
	assert(node_write(co, n, 21 * 4096, IOV_BUF(b->data, 1), 0) == -ENOSPC);
	free(big);
	must(node_close(co, b->n));
}

static void blocks_are_read_modified_and_written(void **state)
{
	(void)state;
	bench_run(pad_body, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_outside_are_refused),
		cmocka_unit_test(read_only_nodes_refuse_changes),
		cmocka_unit_test(fua_flushes_formats_and_is_passed_on_to_storage),
		cmocka_unit_test(failed_flush_is_final),
		cmocka_unit_test(what_is_in_order_is_read_after_a_failure_above_it),
		cmocka_unit_test(failed_durable_write_is_final_a_plain_one_not),
		cmocka_unit_test(zeroing_unmaps_clusters_and_writes_what_is_needed_of_edges),
		cmocka_unit_test(what_cant_be_unmapped_is_written_as_zeros_or_left_by_discard),
		cmocka_unit_test(resize_keeps_writers_out),
		cmocka_unit_test(write_that_waited_looks_at_the_size_again),
		cmocka_unit_test(deep_chain_is_read_and_closed),
		cmocka_unit_test(bounce_memory_has_a_budget),
		cmocka_unit_test(blocks_are_read_modified_and_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
