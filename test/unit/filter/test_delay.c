/* SPDX-License-Identifier: MIT */
/* The delay filter takes as long as it is told, counts, and changes nothing else. */
#include "../node/toy.h"

#include "filter/filter.h"

struct bench {
	struct rig rig; /* first */
	struct toy_storage *s;
	struct node *n;
	co_entry *body;
	uint8_t data[4096];
	unsigned done;
};

static void bench_main(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct delay_rules rules = {.read_ns = 100, .write_ns = 1000, .flush_ns = 10000};

	must(delay_open(co, &b->s->node, &rules, &b->n));
	b->body(co, b);
	must(node_close(co, b->n));
}

static void bench_run(co_entry *body, uint32_t align)
{
	struct bench b = {.body = body};

	rig_init(&b.rig, 1, NULL);
	b.s = toy_storage_new(&b.rig, 16 * 4096, 32 * 4096, align);
	rig_run(&b.rig, bench_main, &b);
	rig_fini(&b.rig);
}

static void took(struct co *co, uint64_t *since, uint64_t ns)
{
	assert(co_now(co) - *since == ns);
	*since = co_now(co);
}

static void pass_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	const struct delay_counts *c = delay_counts(b->n);
	uint64_t t = co_now(co);

	assert(b->n->size == b->s->node.size && b->n->align == 1 && b->n->grows_zeroed);
	memset(b->data, 7, sizeof(b->data));
	must(node_write(co, b->n, 5, IOV_BUF(b->data, 100), NODE_FUA));
	took(co, &t, 1000);
	must(node_read(co, b->n, 4, IOV_BUF(b->data, 102)));
	took(co, &t, 100);
	assert(b->data[0] == 0 && b->data[1] == 7 && b->data[100] == 7 && b->data[101] == 0);
	must(node_zero(co, b->n, 5, 50, 0));
	took(co, &t, 1000);
	must(node_discard(co, b->n, 55, 50));
	took(co, &t, 1000);
	must(node_flush(co, b->n));
	took(co, &t, 10000);
	must(node_resize(co, b->n, 20 * 4096));
	assert(b->n->size == 20 * 4096 && b->s->node.size == 20 * 4096 && mem_is_zero(b->s->data, 4096));
	assert(c->reads == 1 && c->writes == 1 && c->zeroes == 1 && c->discards == 1 && c->flushes == 1 &&
		c->parked == 0);
	assert(b->s->reads == 1 && b->s->writes == 1 && b->s->zeroes == 1 && b->s->discards == 1 && b->s->flushes == 1);
	assert(b->s->fua == 1 && c->in_flight == 0 && c->most_in_flight == 1);
}

static void requests_pass_through_late(void **state)
{
	(void)state;
	bench_run(pass_body, 1);
}

static void reader(struct co *co, void *arg)
{
	struct bench *b = arg;
	uint8_t data[10];

	must(node_read(co, b->n, 1000, IOV_BUF(data, sizeof(data))));
	b->done++;
}

static void park_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct delay_rules *r = delay_rules(b->n);
	uint64_t t;

	*r = (struct delay_rules){
		.park_reads = true, .park_once = true, .park_off = 1009, .park_len = 1, .park_ns = 500};
	go(&b->rig.world, "first", reader, b);
	co_yield(co);
	go(&b->rig.world, "second", reader, b);
	co_sleep(co, 100);
	assert(b->done == 1 && delay_counts(b->n)->parked == 1 && delay_counts(b->n)->in_flight == 1);
	assert(delay_counts(b->n)->most_in_flight == 2);
	co_sleep(co, 500);
	assert(b->done == 2);

	r->park_once = false;
	t = co_now(co);
	must(node_read(co, b->n, 1000, IOV_BUF(b->data, 9)));
	took(co, &t, 0);
	must(node_read(co, b->n, 1000, IOV_BUF(b->data, 10)));
	took(co, &t, 500);
	must(node_write(co, b->n, 1000, IOV_BUF(b->data, 10), 0));
	took(co, &t, 0);
	r->park_writes = true;
	must(node_write(co, b->n, 1000, IOV_BUF(b->data, 10), 0));
	took(co, &t, 500);
	must(node_zero(co, b->n, 1000, 10, 0));
	took(co, &t, 500);
	assert(delay_counts(b->n)->parked == 4);
}

static void park_rule_holds_what_touches_its_range(void **state)
{
	(void)state;
	bench_run(park_body, 1);
}

static void align_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	assert(b->n->align == 4096);
	memset(b->data, 9, sizeof(b->data));
	must(node_write(co, b->n, 4000, IOV_BUF(b->data, 200), 0));
	assert(b->s->data[3999] == 0 && b->s->data[4000] == 9 && b->s->data[4199] == 9 && b->s->data[4200] == 0);
	b->s->no_zero = true;
	assert(node_zero(co, b->n, 0, 4096, NODE_NO_FALLBACK) == -ENOTSUP);
	must(node_zero(co, b->n, 0, 8192, 0));
	assert(mem_is_zero(b->s->data, 8192));
	b->rig.fail_at = 1;
	assert(node_flush(co, b->n) == -EIO && b->s->node.failed == -EIO);
	b->n->failed = b->s->node.failed = 0; /* for the close */
}

static void alignment_and_errors_are_the_childs(void **state)
{
	(void)state;
	bench_run(align_body, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_pass_through_late),
		cmocka_unit_test(park_rule_holds_what_touches_its_range),
		cmocka_unit_test(alignment_and_errors_are_the_childs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
