/* SPDX-License-Identifier: MIT */
/*
 * The N-th operation below a request fails, for N = 1, 2, ... until the request gets by without it. Each time: the request
 * says so, nothing stays locked, entered or reserved, every byte has its old value or the new one, and the same request
 * succeeds when it is made again.
 */
#include "toy.h"

#define CLUSTER 4096u
#define CLUSTERS 16u
#define OFF (3 * CLUSTER + 700)
#define LEN (10 * CLUSTER)

enum what { READ, WRITE, WRITE_FUA, ZERO, ZERO_UNMAP, ZERO_AS_DATA, DISCARD, FLUSH, RESIZE, STATUS, DRAIN, WHATS };

struct bench {
	struct rig rig; /* first */
	struct toy_format *f;
	enum what what;
	unsigned n;
	unsigned runs;
	bool got_by;
	uint8_t before[CLUSTERS * CLUSTER], data[LEN];
};

static int request(struct co *co, struct bench *b)
{
	struct node *n = &b->f->node;
	struct node_status st;
	int err;

	switch (b->what) {
	case READ: return node_read(co, n, OFF, IOV_BUF(b->data, LEN));
	case WRITE: return node_write(co, n, OFF, IOV_BUF(b->data, LEN), 0);
	case WRITE_FUA: return node_write(co, n, OFF, IOV_BUF(b->data, LEN), NODE_FUA);
	case ZERO: return node_zero(co, n, OFF, LEN, 0);
	case ZERO_UNMAP: return node_zero(co, n, OFF, LEN, NODE_MAY_UNMAP);
	case ZERO_AS_DATA: b->f->no_unmap = true; return node_zero(co, n, OFF, LEN, 0);
	case DISCARD: return node_discard(co, n, OFF, LEN);
	case FLUSH: return node_flush(co, n);
	case RESIZE: return node_resize(co, n, CLUSTERS * CLUSTER - 5);
	case STATUS: return node_status(co, n, 9 * CLUSTER, CLUSTER, true, &st);
	case DRAIN:
		err = node_drain_begin(co, n);
		node_drain_end(n);
		return err;
	case WHATS: break;
	}
	abort();
}

static uint8_t new_byte(const struct bench *b, uint64_t i)
{
	bool inside = i >= OFF && i < OFF + LEN;

	if (!inside || b->what == READ || b->what >= FLUSH)
		return b->before[i];
	return b->what == WRITE || b->what == WRITE_FUA ? 0x99 : 0;
}

static void check_content(struct bench *b, bool done)
{
	for (uint64_t i = 0; i < b->f->node.size; i++) {
		uint8_t now = toy_peek(&b->f->node, i);

		assert(now == new_byte(b, i) || (!done && now == b->before[i]));
	}
}

static void check_nothing_left(struct bench *b)
{
	for (struct node *n = &b->f->node; n != NULL; n = n->backing) {
		assert(list_empty(&n->ranges) && list_empty(&n->ops_running));
		if (n->file != NULL)
			assert(list_empty(&n->file->ranges) && toy_format_of(n)->reserved == 0);
	}
}

static void bench_main(struct co *co, void *arg)
{
	struct bench *b = arg;
	bool final;
	int err;

	for (uint64_t i = 0; i < CLUSTERS * CLUSTER; i++)
		b->before[i] = toy_peek(&b->f->node, i);
	b->rig.fail_at = b->n;
	err = request(co, b);
	b->rig.fail_at = 0;
	b->got_by = b->rig.failed == 0;
	assert(err == (b->got_by ? 0 : -EIO));
	check_nothing_left(b);
	check_content(b, err == 0);

	final = b->f->node.failed != 0 || b->f->node.file->failed != 0;
	assert(final == (!b->got_by && (b->what == FLUSH || b->what == DRAIN || b->f->flushes > 0)));
	if (!final) {
		must(request(co, b));
		check_content(b, true);
	}
	err = node_close(co, &b->f->node);
	assert(err == (final ? -EIO : 0));
}

static struct toy_format *layer(struct bench *b, struct node *backing, uint32_t align)
{
	struct toy_storage *s = toy_storage_new(&b->rig, 0, 3 * CLUSTERS * CLUSTER, align);
	struct toy_format *f = toy_format_new(&b->rig, &s->node, backing, CLUSTERS * CLUSTER, CLUSTER);

	for (unsigned i = 0; i < CLUSTERS; i++) {
		enum node_kind kind = i % 5 == 0 ? NODE_ZERO : i % 3 == 0 ? NODE_DATA : NODE_UNALLOCATED;

		toy_format_set(f, i, kind, i % 2 == 0, 1 + (int)i);
	}
	f->most_map = 2;
	return f;
}

static void fail_nth(struct bench *b, enum what what, uint32_t align)
{
	*b = (struct bench){.what = what, .n = b->n + 1, .runs = b->runs + 1};
	rig_init(&b->rig, b->n, NULL);
	b->rig.dawdle = 10;
	memset(b->data, 0x99, LEN);
	b->f = layer(b, &layer(b, NULL, 1)->node, align);
	rig_run(&b->rig, bench_main, b);
	rig_fini(&b->rig);
}

static void every_failure_is_told_and_leaves_nothing_behind(void **state)
{
	struct bench *b = malloc(sizeof(*b));
	uint32_t aligns[] = {1, 512, 4096};

	(void)state;
	for (unsigned a = 0; a < ARRAY_ENTRIES(aligns); a++) {
		for (enum what what = 0; what < WHATS; what++) {
			*b = (struct bench){0};
			while (!b->got_by)
				fail_nth(b, what, aligns[a]);
			print_message("request %d, blocks of %u: %u failures\n", (int)what, aligns[a], b->runs - 1);
			assert_true(b->runs > 1);
		}
	}
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_failure_is_told_and_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
