/* SPDX-License-Identifier: MIT */
/*
 * The node that encrypts: everything written comes back, and lies in the child encrypted by the number of its sector,
 * whatever its size and alignment, and whatever others write into the child beside it.
 */
#include "../node/toy.h"

#include "filter/crypt.h"

#define SIZE (256u << 10)
#define ROOM (2u << 20)
#define WRITES 30u

static const struct crypto_spec spec = {.alg = CRYPTO_AES_128, .mode = CRYPTO_XTS, .ivgen = CRYPTO_PLAIN64};
static const uint8_t key[32] = "two keys of sixteen bytes each.";

struct bench {
	struct rig rig; /* first */
	struct toy_storage *s;
	struct node *n;
	struct crypto_cipher *cipher; /* the test's own */
	co_entry *body;
	uint8_t *model; /* what the node reads as */
	uint8_t *data;
	unsigned running;
	bool locked;
};

/* What the child's sectors are, decrypted. */
static void model_load(struct bench *b)
{
	memcpy(b->model, b->s->data, ROOM);
	must(crypto_decrypt(b->cipher, 0, b->model, ROOM));
}

static void child_is(struct bench *b, uint64_t off, uint64_t len)
{
	uint64_t first = align_down(off, 512), end = align_up(off + len, 512);
	uint8_t *there = malloc(end - first);

	memcpy(there, b->s->data + first, end - first);
	must(crypto_decrypt(b->cipher, first / 512, there, end - first));
	assert(memcmp(there, b->model + first, end - first) == 0);
	free(there);
}

static void bench_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	must(crypt_open(co, &b->s->node, true, &spec, b->locked ? NULL : key, &b->n));
	must(crypto_cipher_new(&spec, key, &b->cipher));
	model_load(b);
	b->body(co, b);
	crypto_cipher_free(b->cipher);
	must(node_close(co, b->n));
}

static void bench_run(co_entry *body, uint64_t seed, uint32_t align, bool locked)
{
	struct bench b = {.body = body, .locked = locked};

	rig_init(&b.rig, seed, NULL);
	b.rig.dawdle = 100;
	b.s = toy_storage_new(&b.rig, SIZE, ROOM, align);
	b.model = calloc(1, ROOM);
	b.data = malloc(ROOM);
	rig_run(&b.rig, bench_main, &b);
	rig_fini(&b.rig);
	free(b.model);
	free(b.data);
}

static void with_every_alignment(co_entry *body)
{
	bench_run(body, 1, 1, false);
	bench_run(body, 2, 512, false);
	bench_run(body, 3, 4096, false);
}

static uint64_t length(struct bench *b)
{
	switch (rig_random(&b->rig, 4)) {
	case 0: return 1 + rig_random(&b->rig, 2000);
	case 1: return 512 * (1 + rig_random(&b->rig, 20));
	case 2: return 1 + rig_random(&b->rig, 200000);
	default: return 4096 * (1 + rig_random(&b->rig, 30));
	}
}

static void random_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	for (unsigned i = 0; i < 400; i++) {
		uint64_t len = MIN(length(b), (uint64_t)SIZE), off = rig_random(&b->rig, SIZE - len + 1);

		if (rig_random(&b->rig, 3) == 0)
			off = align_down(off, 4096);
		if (rig_random(&b->rig, 2) == 0) {
			struct iovec v[] = {{b->data, len / 3}, {b->data + len / 3, len - len / 3}};

			for (uint64_t j = 0; j < len; j++)
				b->data[j] = (uint8_t)rig_random(&b->rig, 256);
			must(node_write(co, b->n, off, iov_of(v, 2), i % 7 == 0 ? NODE_FUA : 0));
			memcpy(b->model + off, b->data, len);
			child_is(b, off, len);
		} else {
			must(node_read(co, b->n, off, IOV_BUF(b->data, len)));
			assert(memcmp(b->data, b->model + off, len) == 0);
		}
	}
	must(node_flush(co, b->n));
	assert(b->s->flushes > 0 && b->s->fua > 0);
}

static void test_what_is_written_comes_back(void **state)
{
	(void)state;
	with_every_alignment(random_body);
}

/* ---- beside each other ---- */

struct writer {
	struct bench *b;
	uint64_t off, len;
	bool direct; /* to the child */
};

static void writer_entry(struct co *co, void *arg)
{
	struct writer *w = arg;
	uint8_t *data = malloc(w->len);

	for (unsigned i = 0; i < WRITES; i++) {
		memset(data, (int)(w->off / 512 + i), w->len);
		must(node_write(co, w->direct ? &w->b->s->node : w->b->n, w->off, IOV_BUF(data, w->len), 0));
		if (w->direct)
			assert(memcmp(w->b->s->data + w->off, data, w->len) == 0);
		else
			memcpy(w->b->model + w->off, data, w->len);
		if (!w->direct)
			child_is(w->b, w->off, w->len);
	}
	free(data);
	w->b->running--;
}

/* Metadata lies in the same blocks of the child, and goes there past the node that encrypts. */
static void neighbours_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct writer w[8];

	for (unsigned i = 0; i < 8; i++) {
		w[i] = (struct writer){b, i * 512, 512, i % 2 == 1};
		b->running++;
		must(co_spawn(co_sched_of(co), "writer", writer_entry, &w[i]));
	}
	while (b->running > 0)
		co_sleep(co, 100);
	for (unsigned i = 0; i < 8; i += 2) {
		child_is(b, i * 512, 512);
		for (unsigned j = 0; j < 512; j++)
			assert(b->s->data[(i + 1) * 512 + j] == i + 1 + WRITES - 1);
	}
}

static void test_others_write_beside_it(void **state)
{
	(void)state;
	with_every_alignment(neighbours_body);
}

static void large_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct writer w[12];

	for (unsigned i = 0; i < 12; i++) {
		w[i] = (struct writer){b, i * 131072, i % 3 ? 131072 : 100000, false};
		b->running++;
		must(co_spawn(co_sched_of(co), "writer", writer_entry, &w[i]));
	}
	while (b->running > 0)
		co_sleep(co, 100);
	memset(b->data, 0x3c, ROOM / 2);
	memset(b->model, 0x3c, ROOM / 2 - 100);
	must(node_write(co, b->n, 0, IOV_BUF(b->data, ROOM / 2 - 100), 0));
	child_is(b, 0, ROOM / 2 - 100);
}

static void test_large_and_many(void **state)
{
	(void)state;
	with_every_alignment(large_body);
}

/* ---- the caller's memory ---- */

static void scribble(struct co *co, void *arg)
{
	struct bench *b = arg;

	for (unsigned i = 0; i < 50; i++) {
		memset(b->data, (int)i, 8192);
		co_sleep(co, 5);
	}
	b->running--;
}

/* What is encrypted was copied at once: half-changed, it would be neither the old nor the new. */
static void changing_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	memset(b->data, 0x77, 8192);
	b->running = 1;
	must(co_spawn(co_sched_of(co), "scribble", scribble, b));
	must(node_write(co, b->n, 4096, IOV_BUF(b->data, 8192), 0));
	memset(b->model + 4096, 0x77, 8192);
	child_is(b, 4096, 8192);
	while (b->running > 0)
		co_sleep(co, 100);
}

static void test_memory_that_changes(void **state)
{
	(void)state;
	with_every_alignment(changing_body);
}

/* ---- the end, errors, no key ---- */

static void end_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	must(node_read(co, b->n, SIZE - 1024, IOV_BUF(b->data, 4096)));
	assert(memcmp(b->data, b->model + SIZE - 1024, 4096) == 0);
	must(node_read(co, b->n, SIZE + 65536, IOV_BUF(b->data, 512)));
	assert(memcmp(b->data, b->model + SIZE + 65536, 512) == 0);
	memset(b->data, 9, 4096);
	must(node_write(co, b->n, SIZE + 8192, IOV_BUF(b->data, 4096), 0));
	assert(b->s->node.size == SIZE + 8192 + 4096);
	memset(b->model + SIZE + 8192, 9, 4096);
	child_is(b, SIZE, 8192 + 4096);
	assert(!b->n->grows_zeroed && b->n->opaque);
}

static void test_beyond_the_end(void **state)
{
	(void)state;
	with_every_alignment(end_body);
}

static void errors_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	b->rig.fail_at = 1;
	assert(node_read(co, b->n, 0, IOV_BUF(b->data, 512)) == -EIO);
	b->rig.fail_at = 1;
	assert(node_write(co, b->n, 0, IOV_BUF(b->data, 100000), 0) == -EIO);
	must(node_read(co, b->n, 0, IOV_BUF(b->data, 512)));
	assert(node_zero(co, b->n, 0, 4096, NODE_NO_FALLBACK) == -ENOTSUP);
	must(node_zero(co, b->n, 512, 8192, 0));
	memset(b->model + 512, 0, 8192);
	child_is(b, 512, 8192);
}

static void test_errors(void **state)
{
	(void)state;
	with_every_alignment(errors_body);
}

static void locked_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	assert(node_read(co, b->n, 0, IOV_BUF(b->data, 512)) == -ENOKEY);
	assert(node_write(co, b->n, 0, IOV_BUF(b->data, 512), 0) == -ENOKEY);
	assert(b->s->writes == 0);
	must(node_flush(co, b->n));
}

static void test_without_a_key(void **state)
{
	(void)state;
	bench_run(locked_body, 1, 512, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_comes_back),
		cmocka_unit_test(test_others_write_beside_it),
		cmocka_unit_test(test_large_and_many),
		cmocka_unit_test(test_memory_that_changes),
		cmocka_unit_test(test_beyond_the_end),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_without_a_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
