/* SPDX-License-Identifier: MIT */
/*
 * An image is opened for writing, used as the script says, and closed. What was written and read back is the same unless
 * something failed. An image that was free of errors before is so afterwards.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine.h"
#include "fuzz.h"

#define PIECE 16384u
#define STEPS 48u

struct life {
	struct script *script;
	struct node *n;
	uint8_t *buf, *back;
};

static void write_and_read(struct co *co, struct life *l, uint64_t off, uint64_t len)
{
	memset(l->buf, script_byte(l->script) | 1, len);
	if (node_write(co, l->n, off, IOV_BUF(l->buf, len), 0) < 0)
		return;
	if (node_read(co, l->n, off, IOV_BUF(l->back, len)) == 0)
		assert(memcmp(l->buf, l->back, len) == 0);
}

static void zero_and_read(struct co *co, struct life *l, uint64_t off, uint64_t len, unsigned flags)
{
	if (node_zero(co, l->n, off, len, flags) < 0)
		return;
	if (node_read(co, l->n, off, IOV_BUF(l->back, len)) == 0)
		assert(mem_is_zero(l->back, len));
}

static void compress(struct co *co, struct life *l, uint64_t off)
{
	uint64_t at = align_down(off, l->n->cluster), len = MIN((uint64_t)l->n->cluster, l->n->size - at);

	if (len > PIECE)
		return;
	memset(l->buf, script_byte(l->script), len);
	(void)!node_write_compressed(co, l->n, at, IOV_BUF(l->buf, len), 0);
}

static void snapshot(struct co *co, struct life *l, uint8_t what)
{
	struct qcow2_snapshot_new how = {.name = "s"};
	struct err err;

	switch (what % 3) {
	case 0: (void)!qcow2_snapshot_create(co, l->n, &how, &err); break;
	case 1: (void)!qcow2_snapshot_delete(co, l->n, "1", &err); break;
	default: (void)!qcow2_snapshot_apply(co, l->n, "1", &err);
	}
}

static void bitmap(struct co *co, struct life *l, uint8_t what)
{
	struct err err;

	switch (what % 4) {
	case 0: (void)!qcow2_bitmap_add(co, l->n, "b", 0, what & 4, &err); break;
	case 1: (void)!qcow2_bitmap_remove(co, l->n, "a", &err); break;
	case 2: (void)!qcow2_bitmap_clear(co, l->n, "a", &err); break;
	default: (void)!qcow2_bitmap_merge(co, l->n, "b", l->n, "a", &err);
	}
}

static void step(struct co *co, struct life *l)
{
	uint8_t what = script_byte(l->script);
	uint64_t off = l->n->size ? (uint64_t)script_u24(l->script) * 64 % l->n->size : 0;
	uint64_t len = MIN((uint64_t)script_byte(l->script) * 64 + 1, l->n->size - off);

	if (len == 0)
		return;
	switch (what % 12) {
	case 0:
	case 1:
	case 2: write_and_read(co, l, off, len); break;
	case 3: zero_and_read(co, l, off, len, what & 128 ? NODE_MAY_UNMAP : 0); break;
	case 4: (void)!node_discard(co, l->n, off, len); break;
	case 5: (void)!node_flush(co, l->n); break;
	case 6: compress(co, l, off); break;
	case 7: snapshot(co, l, script_byte(l->script)); break;
	case 8: bitmap(co, l, script_byte(l->script)); break;
	case 9: (void)!node_resize(co, l->n, MIN(off & ~UINT64_C(511), MiB)); break;
	case 10: co_sleep(co, UINT64_C(6000000000)); break;
	default: (void)!node_read(co, l->n, off, IOV_BUF(l->back, len));
	}
}

static void entry(struct co *co, void *arg)
{
	struct life l = {.script = arg, .buf = malloc(PIECE + 1), .back = malloc(PIECE + 1)};
	struct qcow2_check before, after;
	bool sound = engine_check(co, 0, &before) == 0 && before.corruptions == 0 && before.check_errors == 0;

	assert(l.buf && l.back);
	l.n = engine_open(co, (struct qcow2_options){.write = true, .l2_cache_bytes = 65536});
	for (unsigned i = 0; l.n && i < STEPS && l.script->left > 0; i++)
		step(co, &l);
	(void)!node_close(co, l.n);
	free(l.buf);
	free(l.back);
	if (!sound)
		return;
	assert(engine_check(co, 0, &after) == 0);
	assert(after.corruptions == 0 && after.check_errors == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuzz_limits limits = {.memory = 96 * MiB, .requests = 400000, .bytes = 1024 * MiB};
	struct script script;

	image_lay_out(data, size, &script);
	fuzz_run(&limits, entry, &script);
	return 0;
}
