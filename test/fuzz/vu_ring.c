/* SPDX-License-Identifier: MIT */
/*
 * A ring in memory that holds any bytes and changes between any two steps: chains are taken, mapped, read as requests,
 * noted, and given back. With FUZZ_SCRIBBLE another thread changes it in the midst of steps, too.
 */
#include <assert.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "export/vhost_user/chain.h"
#include "export/vhost_user/inflight.h"
#include "fuzz.h"

#ifdef FUZZ_SCRIBBLE
#include <pthread.h>
#endif

#define MEMORY 65536u
#define GUEST UINT64_C(0x10000)
#define TAKEN 64u

struct world {
	_Alignas(4096) uint8_t memory[MEMORY];
	_Alignas(64) uint8_t record[64 * 1024];
	struct vu_memory *table;
	struct vu_scratch scratch;
	struct vu_buffers buffers;
	struct vu_ring ring;
	struct vu_inflight inflight;
	struct vu_terms terms;
	struct vu_chain taken[TAKEN];
	uint16_t entry[TAKEN];
	unsigned n;
};

static uint8_t byte(const uint8_t **data, size_t *size)
{
	if (*size == 0)
		return 0;
	(*size)--;
	return *(*data)++;
}

/* Two regions beside each other, so that there is a border to cross. */
static void world_begin(struct world *w, const uint8_t **data, size_t *size)
{
	uint8_t kind = byte(data, size), log2 = byte(data, size) % 9;

	w->ring = (struct vu_ring){
		.packed = kind & 1,
		.event_index = kind & 2,
		.size = (uint16_t)(1u << log2),
		.desc = w->memory,
		.driver = w->memory + 8192,
		.device = w->memory + 16384,
		.avail_wrap = true,
		.used_wrap = true,
	};
	w->terms = (struct vu_terms){.packed = w->ring.packed, .indirect = kind & 4};
	w->inflight = (struct vu_inflight){
		.area = kind & 8 ? w->record : NULL, .packed = w->ring.packed, .size = w->ring.size};
	w->table->n = 2;
	w->table->region[0] = (struct vu_region){.guest = GUEST, .user = 0, .size = 40000, .bytes = w->memory};
	w->table->region[1] = (struct vu_region){
		.guest = GUEST + 40000, .user = 1 << 20, .size = MEMORY - 40000, .bytes = w->memory + 40000};
	w->n = 0;
	memset(w->record, 0, sizeof(w->record));
}

/* Addresses in the input are offsets, most of the time: else hardly any descriptor would lie in memory. */
static void world_fill(struct world *w, const uint8_t *data, size_t size)
{
	memset(w->memory, 0, MEMORY);
	for (size_t i = 0; i + 16 <= MIN(size, (size_t)8192); i += 16) {
		uint64_t addr;

		memcpy(w->memory + i, data + i, 16);
		memcpy(&addr, data + i, 8);
		addr = data[i + 7] & 1 ? addr : GUEST + addr % MEMORY;
		memcpy(w->memory + i, &addr, 8);
	}
	if (size > 8192)
		memcpy(w->memory + 8192, data + 8192, MIN(size - 8192, (size_t)MEMORY - 8192));
}

static bool is_inside(const struct world *w, const void *p, size_t len)
{
	const uint8_t *at = p;

	return at >= w->memory && at + len <= w->memory + MEMORY;
}

static void check(const struct world *w)
{
	const struct vu_buffers *b = &w->buffers;

	assert(b->out.len + b->in.len <= VU_CHAIN_BYTES && b->out.n + b->in.n <= VU_PIECES);
	for (unsigned i = 0; i < b->out.n; i++)
		assert(is_inside(w, b->out.v[i].iov_base, b->out.v[i].iov_len));
	for (unsigned i = 0; i < b->in.n; i++)
		assert(is_inside(w, b->in.v[i].iov_base, b->in.v[i].iov_len));
}

static bool take_one(struct world *w)
{
	struct vu_chain *chain = &w->taken[w->n];
	struct err err;
	struct vu_blk blk;

	if (w->n == TAKEN || vu_ring_take(&w->ring, w->scratch.desc, chain, &err) <= 0)
		return false;
	assert(chain->n >= 1 && chain->n <= VU_CHAIN_MAX && chain->n <= w->ring.size);
	if (vu_chain_map(w->table, &w->terms, &w->scratch, chain->n, &w->buffers, &err) < 0)
		return false;
	check(w);
	if (vu_blk_parse(&w->buffers, &blk, &err) < 0)
		return false;
	assert(is_inside(w, blk.status, 1));
	if (vu_inflight_take(&w->inflight, chain, w->scratch.desc, &w->entry[w->n], &err) < 0)
		return false;
	w->n++;
	return true;
}

static void give_one(struct world *w, unsigned which)
{
	unsigned i = which % w->n;

	vu_inflight_giving(&w->inflight, &w->ring, &w->taken[i], w->entry[i]);
	vu_ring_give(&w->ring, &w->taken[i], which);
	vu_inflight_given(&w->inflight, &w->ring, w->entry[i]);
	w->taken[i] = w->taken[--w->n];
	w->entry[i] = w->entry[w->n];
}

static void recover(struct world *w)
{
	struct vu_inflight f = w->inflight;
	struct vu_ring r = w->ring;
	static uint16_t entry[VU_RING_MAX];
	struct vu_chain chain;
	struct err err;
	int n = f.area && vu_inflight_begin(&f, &r, &err) > 0 ? vu_inflight_recover(&f, &r, entry, &err) : 0;

	assert(n <= (int)f.size);
	for (int i = 0; i < n; i++)
		if (vu_inflight_again(&f, &r, entry[i], w->scratch.desc, &chain, &err) > 0)
			assert(chain.n >= 1 && chain.n <= VU_CHAIN_MAX);
}

static void step(struct world *w, uint8_t what, const uint8_t **data, size_t *size)
{
	unsigned at = byte(data, size) | byte(data, size) << 8;

	switch (what % 8) {
	case 0:
	case 1: w->memory[at % 24576] = byte(data, size); break;
	case 2: w->record[at % 2048] = byte(data, size); break;
	case 3: vu_ring_want_kicks(&w->ring, at & 1); break;
	case 4: (void)vu_ring_should_signal(&w->ring); break;
	case 5:
		if (w->n > 0)
			give_one(w, at);
		break;
	case 6: recover(w); break;
	default: (void)take_one(w);
	}
}

#ifdef FUZZ_SCRIBBLE
static void *scribble(void *arg)
{
	struct world *w = arg;
	volatile uint8_t *memory = w->memory;

	for (uint32_t x = 1;; x = x * 1664525 + 1013904223)
		memory[(x >> 8) % 24576] = (uint8_t)(x >> 24);
	return NULL;
}
#endif

static struct world *world_get(void)
{
	static struct world *w;

	if (!w) {
		w = aligned_alloc(4096, align_up(sizeof(*w), 4096));
		w->table = vu_memory_new(false);
#ifdef FUZZ_SCRIBBLE
		pthread_t thread;

		pthread_create(&thread, NULL, scribble, w);
#endif
	}
	return w;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world *w = world_get();
	struct err err;

	world_begin(w, &data, &size);
	size_t steps = MIN(size, (size_t)256);
	const uint8_t *script = data;
	size_t left = steps;

	world_fill(w, data + steps, size - steps);
	if (w->inflight.area && vu_inflight_begin(&w->inflight, &w->ring, &err) < 0)
		return 0;
	while (left > 0)
		step(w, byte(&script, &left), &script, &left);
	return 0;
}
