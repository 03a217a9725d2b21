/* SPDX-License-Identifier: MIT */
/* Layers that are known to have nothing aren't asked again, and what is found is the same. */
#include "toy.h"

#define CLUSTER 4096u
#define CLUSTERS 24u
#define LAYERS 6u /* the last one is the top; below the first lies a file */
#define FILE_CLUSTERS 10u

struct bench {
	struct rig rig; /* first */
	struct toy_storage *file;
	struct toy_format *layer[LAYERS];
	co_entry *body;
};

static struct toy_storage *storage(struct rig *r) { return toy_storage_new(r, 0, 2 * CLUSTERS * CLUSTER, 1); }

/* Every cluster is in one layer or none; some layers are shorter than others, one ends within a cluster. */
static void chain_new(struct bench *b)
{
	static const uint64_t size[LAYERS] = {16 * CLUSTER, 20 * CLUSTER, 17 * CLUSTER + 512, CLUSTERS * CLUSTER,
		CLUSTERS * CLUSTER, CLUSTERS * CLUSTER};
	struct node *below;

	b->file = toy_storage_new(&b->rig, FILE_CLUSTERS * CLUSTER, FILE_CLUSTERS * CLUSTER, 1);
	below = &b->file->node;
	memset(b->file->data, 0x77, FILE_CLUSTERS * CLUSTER);
	for (unsigned i = 0; i < LAYERS; i++) {
		b->layer[i] = toy_format_new(&b->rig, &storage(&b->rig)->node, below, size[i], CLUSTER);
		below = &b->layer[i]->node;
		below->read_only = i + 1 < LAYERS;
		for (unsigned c = 0; c < size[i] / CLUSTER; c++) {
			if (c % (LAYERS + 2) == i)
				toy_format_set(b->layer[i], c, c % 5 ? NODE_DATA : NODE_ZERO, false, (int)(10 * i + c));
		}
	}
}

static void bench_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	b->body(co, b);
	must(node_close(co, &b->layer[LAYERS - 1]->node));
}

static void bench_run(co_entry *body)
{
	struct bench b = {.body = body};

	rig_init(&b.rig, 1, NULL);
	chain_new(&b);
	rig_run(&b.rig, bench_main, &b);
	rig_fini(&b.rig);
}

static unsigned asked(const struct bench *b)
{
	unsigned n = 0;

	for (unsigned i = 0; i + 1 < LAYERS; i++)
		n += b->layer[i]->maps;
	return n;
}

/* Reads pieces of every cluster and holds them against what is there; untouched: and who is said to have them. */
static void look(struct co *co, struct bench *b, bool untouched)
{
	struct node *top = &b->layer[LAYERS - 1]->node;

	for (uint64_t at = 0; at < top->size; at += 512) {
		struct node_status st;
		uint8_t got[512];

		must(node_read(co, top, at, IOV_BUF(got, sizeof(got))));
		for (unsigned i = 0; i < sizeof(got); i++)
			assert(got[i] == toy_peek(top, at + i));
		must(node_status(co, top, at, 512, true, &st));
		if (untouched && st.holder != &b->file->node && st.allocated)
			assert(st.depth == LAYERS - 1 - at / CLUSTER % (LAYERS + 2));
	}
}

static void remembered_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	unsigned first, second;

	look(co, b, true);
	first = asked(b);
	look(co, b, true);
	second = asked(b) - first;
	assert(second < first); /* the first time has profited, too */
	must(node_read(co, &b->layer[LAYERS - 1]->node, 0, IOV_BUF((uint8_t[CLUSTER]){0}, CLUSTER)));
	first = asked(b);
	must(node_read(co, &b->layer[LAYERS - 1]->node, 0, IOV_BUF((uint8_t[CLUSTER]){0}, CLUSTER)));
	assert(asked(b) - first == 1); /* the one that has it */
}

static void what_has_nothing_is_asked_once(void **state)
{
	(void)state;
	bench_run(remembered_body);
}

/* The middle may be written to: what lies below may be remembered, what it has not. */
static void writable_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct node *top = &b->layer[LAYERS - 1]->node, *middle = &b->layer[2]->node;
	uint8_t data[CLUSTER];

	middle->read_only = false;
	look(co, b, false);
	memset(data, 0x42, sizeof(data));
	for (unsigned c = 0; c < 16; c++)
		must(node_write(co, middle, c * CLUSTER, IOV_BUF(data, sizeof(data)), 0));
	look(co, b, false);
	must(node_discard(co, middle, 0, 4 * CLUSTER));
	for (uint64_t at = 0; at < 16 * CLUSTER; at += CLUSTER) {
		must(node_read(co, top, at, IOV_BUF(data, sizeof(data))));
		for (unsigned i = 0; i < sizeof(data); i++)
			assert(data[i] == toy_peek(top, at + i));
	}
}

static void a_layer_that_is_written_to_is_asked(void **state)
{
	(void)state;
	bench_run(writable_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_has_nothing_is_asked_once),
		cmocka_unit_test(a_layer_that_is_written_to_is_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
