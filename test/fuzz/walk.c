/* SPDX-License-Identifier: MIT */
/* An image is opened for reading, or one of its snapshots; what lies where is asked, and some of it is read. */
#include "engine.h"
#include "fuzz.h"
#include "base/math.h"

static void entry(struct co *co, void *arg)
{
	struct script *script = arg;
	static const char *const snapshots[] = {NULL, NULL, NULL, "1"};
	uint8_t kind = script_byte(script);
	struct node *n = engine_open(co, (struct qcow2_options){.snapshot = snapshots[kind & 3], .keep_leaks = true});

	if (!n)
		return;
	engine_read(co, n, script, 16);
	(void)!node_close(co, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuzz_limits limits = {.memory = 64 * MiB, .requests = 20000, .bytes = 64 * MiB};
	struct script script;

	image_lay_out(data, size, &script);
	fuzz_run(&limits, entry, &script);
	return 0;
}
