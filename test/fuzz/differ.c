/* SPDX-License-Identifier: MIT */
/* The engine and another reader (reader.h) of one image: where both know what is there, it is the same. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/math.h"
#include "engine.h"
#include "fuzz.h"
#include "reader.h"

#define LOOKS 32u

static void look(struct co *co, const struct reader *r, struct node *n, uint64_t off)
{
	uint8_t ours[FUZZ_SECTOR], theirs[FUZZ_SECTOR];
	size_t len = (size_t)MIN(n->size - off, (uint64_t)FUZZ_SECTOR);
	int rc = node_read(co, n, off, IOV_BUF(ours, len));
	enum reader_result result = reader_read(r, off, theirs, len);

	if (result == READER_GOOD && rc == 0)
		assert(memcmp(ours, theirs, len) == 0);
	if (result == READER_BAD)
		assert(rc < 0);
}

static void entry(struct co *co, void *arg)
{
	struct script *script = arg;
	struct node *n = engine_open(co, (struct qcow2_options){.keep_leaks = true});
	struct reader r;

	if (!n)
		return;
	assert(reader_open(&r, fuzz_disk_bytes(), fuzz_disk_size()));
	assert(r.size == n->size);
	for (unsigned i = 0; i < LOOKS && n->size > 0; i++) {
		uint64_t off = i % 2 ? (uint64_t)script_u24(script) * FUZZ_SECTOR : (uint64_t)i / 2 * n->cluster;

		look(co, &r, n, align_down(off % n->size, FUZZ_SECTOR));
	}
	(void)!node_close(co, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuzz_limits limits = {.memory = 64 * MiB, .requests = 20000, .bytes = 128 * MiB};
	struct script script;

	image_lay_out(data, size, &script);
	fuzz_run(&limits, entry, &script);
	return 0;
}
