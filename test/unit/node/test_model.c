/* SPDX-License-Identifier: MIT */
/*
 * Random overlapping requests against a model that knows, for every unit of the disk, what it may read as. The disk is a
 * chain of three formats, or storage that must be accessed in blocks; some runs have errors in them. Meanwhile data moves
 * about in the backing layer and the disk is drained, both of which nobody may notice.
 */
#include "toy.h"

#include "model.h"

#define WORKERS 6
#define OPS 40

struct run {
	struct rig rig; /* first */
	struct node *top;
	struct toy_format *middle; /* NULL: storage */
	struct model model;
	uint64_t size;
	unsigned working, ops;
	bool faults;
	bool no_discard; /* the format can't: nothing may change then */
	unsigned done, refused;
};

/* ---- requests ---- */

struct request {
	uint64_t off, len;
	uint8_t *data;
	struct iovec v[24];
	struct iov it;
};

/* A range of units, and memory for it in a random number of pieces of any length. */
static void request_make(struct run *run, struct request *q)
{
	uint64_t unit = run->model.unit_bytes, units = run->model.units;
	uint64_t first = rig_random(&run->rig, units), n = 1 + rig_random(&run->rig, units - first);
	unsigned parts = 1 + (unsigned)rig_random(&run->rig, rig_random(&run->rig, 4) == 0 ? ARRAY_ENTRIES(q->v) : 3);
	uint64_t at = 0;

	if (rig_random(&run->rig, 4) != 0)
		n = MIN(n, 1 + rig_random(&run->rig, 20));
	q->off = first * unit;
	q->len = n * unit;
	q->data = malloc(q->len);
	assert(q->data != NULL);
	for (unsigned i = 0; i < parts; i++) {
		uint64_t len = i + 1 == parts ? q->len - at : rig_random(&run->rig, q->len - at + 1);

		q->v[i] = (struct iovec){q->data + at, len};
		at += len;
	}
	q->it = iov_of(q->v, parts);
}

/* With faults about, a request may fail; never otherwise. */
static void check_result(struct run *run, int err)
{
	run->done++;
	run->refused += err != 0;
	assert(err == 0 || (run->faults && err == -EIO));
}

static void do_read(struct co *co, struct run *run)
{
	struct request q;
	uint64_t begun;
	int err;

	request_make(run, &q);
	memset(q.data, 0xdd, q.len);
	begun = model_now(&run->model);
	err = node_read(co, run->top, q.off, q.it);
	check_result(run, err);
	assert(err != 0 || model_allows(&run->model, q.off, q.len, begun, q.data));
	free(q.data);
}

static void do_write(struct co *co, struct run *run)
{
	uint64_t value = model_value(&run->model), begun;
	struct request q;
	int err;

	request_make(run, &q);
	model_fill(&run->model, q.off, q.len, value, q.data);
	begun = model_begin(&run->model, q.off, q.len, value);
	err = node_write(co, run->top, q.off, q.it, rig_random(&run->rig, 8) == 0 ? NODE_FUA : 0);
	check_result(run, err);
	model_end(&run->model, q.off, q.len, begun, err != 0);
	free(q.data);
}

static void do_zero(struct co *co, struct run *run)
{
	struct request q;
	uint64_t begun;
	int err;

	request_make(run, &q);
	begun = model_begin(&run->model, q.off, q.len, 0);
	err = node_zero(co, run->top, q.off, q.len, rig_random(&run->rig, 2) == 0 ? NODE_MAY_UNMAP : 0);
	check_result(run, err);
	model_end(&run->model, q.off, q.len, begun, err != 0);
	free(q.data);
}

static void do_discard(struct co *co, struct run *run)
{
	struct request q;
	uint64_t begun = 0;
	int err;

	request_make(run, &q);
	if (!run->no_discard)
		begun = model_begin(&run->model, q.off, q.len, 0);
	err = node_discard(co, run->top, q.off, q.len);
	check_result(run, err);
	if (!run->no_discard)
		model_end(&run->model, q.off, q.len, begun, err != 0);
	free(q.data);
}

/* Writes a cluster of the backing layer anew with what it has: the space moves, the content doesn't change. */
static void do_move(struct co *co, struct run *run)
{
	struct toy_format *f = run->middle;
	uint64_t i = rig_random(&run->rig, f->node.size / f->node.cluster);
	uint8_t *data;

	if (f->map[i].kind != NODE_DATA)
		return;
	data = malloc(f->node.cluster);
	assert(data != NULL);
	memset(data, toy_peek(&f->node, i * f->node.cluster), f->node.cluster);
	f->map[i].moving = true;
	check_result(run, node_write(co, &f->node, i * f->node.cluster, IOV_BUF(data, f->node.cluster), 0));
	free(data);
}

static void worker(struct co *co, void *arg)
{
	struct run *run = arg;

	for (unsigned i = 0; i < run->ops; i++) {
		unsigned what = (unsigned)rig_random(&run->rig, 16);

		if (what < 6)
			do_read(co, run);
		else if (what < 12)
			do_write(co, run);
		else if (what < 13)
			do_zero(co, run);
		else if (what < 14)
			do_discard(co, run);
		else
			check_result(run, node_flush(co, run->top));
	}
	run->working--;
}

static void mover(struct co *co, void *arg)
{
	struct run *run = arg;

	while (run->working > 0) {
		do_move(co, run);
		co_sleep(co, 1);
	}
}

static void drainer(struct co *co, void *arg)
{
	struct run *run = arg;
	struct node *file = run->top->file != NULL ? run->top->file : run->top;

	while (run->working > 0) {
		int err;

		co_sleep(co, 300);
		err = node_drain_begin(co, run->top);
		assert(err == 0 || run->faults);
		co_sleep(co, 50);
		assert(toy_storage_of(file)->in_flight == 0 && list_empty(&run->top->ranges));
		node_drain_end(run->top);
	}
}

/* ---- a run ---- */

static bool is_lost(const struct node *n) { return n->file != NULL ? n->file->failed != 0 : n->failed != 0; }

/* Somewhere down the chain a flush has failed. */
static bool may_not_read(const struct run *run)
{
	bool lost = false;

	for (const struct node *n = run->top; n != NULL; n = n->backing)
		lost |= is_lost(n);
	return lost;
}

static void check_quiet(struct co *co, struct run *run)
{
	uint8_t *data = malloc(run->size);
	int err;

	assert(data != NULL && list_empty(&run->top->ranges) && list_empty(&run->top->ops_running));
	run->rig.fail_at = 0;
	err = node_read(co, run->top, 0, IOV_BUF(data, run->size));
	assert(err == 0 || (err == -EIO && may_not_read(run)));
	for (uint64_t i = 0; err == 0 && i < run->size; i++)
		assert(data[i] == toy_peek(run->top, i));
	assert(err != 0 || model_allows(&run->model, 0, run->size, model_now(&run->model), data));
	free(data);
}

static void run_main(struct co *co, void *arg)
{
	struct run *run = arg;
	struct co_group group;
	int err;

	co_group_init(&group, co_sched_of(co));
	for (uint64_t i = 0; i < run->model.units; i++)
		model_set(&run->model, i, MODEL_RAW + toy_peek(run->top, i * run->model.unit_bytes));
	run->working = WORKERS;
	run->ops = OPS;
	for (unsigned i = 0; i < WORKERS; i++)
		must(co_group_spawn(&group, "worker", worker, run));
	must(co_group_spawn(&group, "drainer", drainer, run));
	if (run->middle != NULL)
		must(co_group_spawn(&group, "mover", mover, run));
	co_group_wait(co, &group);
	check_quiet(co, run);
	err = node_close(co, run->top);
	assert(err == 0 || run->faults);
	if (run->rig.failed > 0)
		assert(run->refused > 0 || err != 0);
}

static void run_begin(struct run *run, uint64_t seed, uint64_t size, uint64_t unit)
{
	*run = (struct run){.size = size};
	rig_init(&run->rig, seed, NULL);
	model_init(&run->model, size, unit);
	run->rig.dawdle = 1 + (unsigned)rig_random(&run->rig, 40);
	run->faults = seed % 4 == 0;
	if (run->faults)
		run->rig.fail_at = 1 + (unsigned)rig_random(&run->rig, 800);
}

static void run_end(struct run *run)
{
	rig_run(&run->rig, run_main, run);
	rig_fini(&run->rig);
	model_fini(&run->model);
}

/* A layer of random clusters. */
static struct toy_format *make_layer(
	struct run *run, struct node *backing, uint64_t size, uint32_t cluster, uint32_t align)
{
	struct toy_storage *s = toy_storage_new(&run->rig, 0, 4 * (size + WORKERS * cluster), align);
	struct toy_format *f = toy_format_new(&run->rig, &s->node, backing, size, cluster);

	for (uint64_t i = 0; i < div_round_up(size, cluster); i++) {
		uint64_t dice = rig_random(&run->rig, 8);
		enum node_kind kind = dice < 3 ? NODE_DATA : dice < 4 ? NODE_ZERO : NODE_UNALLOCATED;

		toy_format_set(f, i, kind, dice == 0, 1 + (int)rig_random(&run->rig, 200));
	}
	s->alone = align <= TOY_SECTOR;
	f->most_reserve = (unsigned)rig_random(&run->rig, 4);
	f->most_map = (unsigned)rig_random(&run->rig, 4);
	f->never_zeroed = rig_random(&run->rig, 4) == 0;
	return f;
}

static void run_chain(uint64_t seed, uint32_t cluster, uint32_t align, uint64_t unit)
{
	uint64_t size = 37 * (uint64_t)cluster - 3 * unit;
	struct toy_format *f;
	struct run run;

	run_begin(&run, seed, size, unit);
	f = make_layer(&run, NULL, size - 5 * cluster, cluster * 2, align);
	f = make_layer(&run, &f->node, 29 * (uint64_t)cluster + unit, cluster, 1);
	run.middle = f;
	f = make_layer(&run, &f->node, size, cluster, align);
	f->no_unmap = run.no_discard = seed % 8 == 5;
	run.top = &f->node;
	run_end(&run);
}

static void run_storage(uint64_t seed, uint32_t align, uint64_t unit)
{
	struct toy_storage *s;
	struct run run;

	run_begin(&run, seed, 40 * 4096 - 3 * unit, unit);
	s = toy_storage_new(&run.rig, run.size, run.size, align);
	s->no_zero = run.no_discard = seed % 3 == 0;
	run.top = &s->node;
	run_end(&run);
}

static unsigned seeds(void)
{
	const char *n = getenv("SEEDS");

	return n != NULL ? (unsigned)atoi(n) : 40;
}

static void chain_of_three(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= seeds(); seed++)
		run_chain(seed, 4096, 1, 512);
}

static void chain_with_unaligned_requests(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= seeds(); seed++)
		run_chain(seed, 1024, 1, 16);
}

static void chain_over_blocks_of_512(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= seeds(); seed++)
		run_chain(seed, 2048, 512, 16);
}

/* Blocks larger than clusters: neighbours share a block. */
static void chain_over_blocks_of_4096(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= seeds(); seed++)
		run_chain(seed, seed % 2 == 0 ? 512 : 8192, 4096, 128);
}

static void storage_of_any_alignment(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= seeds(); seed++) {
		run_storage(seed, 1, 16);
		run_storage(seed, 512, 16);
		run_storage(seed, 4096, 512);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chain_of_three),
		cmocka_unit_test(chain_with_unaligned_requests),
		cmocka_unit_test(chain_over_blocks_of_512),
		cmocka_unit_test(chain_over_blocks_of_4096),
		cmocka_unit_test(storage_of_any_alignment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
