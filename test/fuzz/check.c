/* SPDX-License-Identifier: MIT */
/*
 * A check changes nothing. After a repair that left nothing behind the image is clean, and a second repair finds nothing to
 * do and writes nothing.
 */
#include <assert.h>

#include "base/math.h"
#include "engine.h"
#include "fuzz.h"

static bool is_clean(const struct qcow2_check *c)
{
	return c->corruptions == 0 && c->leaks == 0 && c->check_errors == 0;
}

static void entry(struct co *co, void *arg)
{
	struct script *script = arg;
	unsigned fix = script_byte(script) & 1 ? QCOW2_FIX_LEAKS : QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS;
	struct qcow2_check first, repaired, again;
	uint64_t writes;

	if (engine_check(co, 0, &first) < 0)
		return;
	assert(fuzz_disk_writes() == 0);
	if (engine_check(co, fix, &repaired) < 0)
		return;
	assert(!is_clean(&first) || (repaired.corruptions_fixed == 0 && repaired.leaks_fixed == 0));
	writes = fuzz_disk_writes();
	/* Where something was left over, a repair may have changed more after its last count. */
	if (!is_clean(&repaired))
		return;
	assert(engine_check(co, 0, &again) == 0 && is_clean(&again));
	assert(engine_check(co, fix, &again) == 0 && is_clean(&again));
	assert(again.corruptions_fixed == 0 && again.leaks_fixed == 0 && fuzz_disk_writes() == writes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuzz_limits limits = {.memory = 64 * MiB, .requests = 400000, .bytes = 1024 * MiB};
	struct script script;

	image_lay_out(data, size, &script);
	fuzz_run(&limits, entry, &script);
	return 0;
}
