/* SPDX-License-Identifier: MIT */
/* What info and inspect look at: snapshot table, bitmap directory, encryption header, and the tables of the header. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "engine.h"
#include "fuzz.h"
#include "qcow2/inspect.h"
#include "qcow2/snapshot.h"

static void say(void *arg, const char *text)
{
	(void)arg;
	(void)text;
}

static void lists_read(struct co *co, struct node *file)
{
	AUTO_FREE struct qcow2_snapshot_info *snapshots = NULL;
	AUTO_FREE struct qcow2_bitmap_info *bitmaps = NULL;
	struct qcow2_header h;
	struct luks luks;
	struct err err;
	unsigned n;

	if (qcow2_header_load(co, file, UINT64_MAX, &h, &err) < 0)
		return;
	(void)!qcow2_snapshots_read(co, file, &h, &snapshots, &n, &err);
	(void)!qcow2_bitmaps_read(co, file, &h, &bitmaps, &n, &err);
	if (h.crypt_method == QCOW2_CRYPT_LUKS)
		(void)!qcow2_luks_load(co, file, &h, &luks, &err);
}

static void bitmaps_use(struct co *co, struct node *n)
{
	AUTO_FREE struct qcow2_bitmap_status *list = NULL;
	struct qcow2_bitmap_extent extent;
	struct err err;
	unsigned count;

	if (qcow2_bitmap_list(co, n, &list, &count, &err) < 0)
		return;
	for (unsigned i = 0; i < MIN(count, 4u); i++)
		(void)!qcow2_bitmap_run(co, n, list[i].name, 0, n->size, &extent);
}

static void records_use(struct co *co, struct node *file)
{
	struct qcow2_records records = {0};
	struct qcow2_header h;
	struct err err;
	bool changed;

	if (qcow2_header_load(co, file, UINT64_MAX, &h, &err) < 0)
		return;
	if (qcow2_records_load(co, file, &h, &records, &err) == 0)
		(void)!qcow2_records_complete(&records, h.size, &changed);
	free(records.bytes);
}

static void entry(struct co *co, void *arg)
{
	AUTO_FREE struct qcow2_inspection *found = malloc(sizeof(*found));
	struct node *file = fuzz_disk_open(co, false), *n;
	struct err err;

	(void)arg;
	if (found)
		(void)!qcow2_inspect(co, file, say, NULL, found, &err);
	lists_read(co, file);
	records_use(co, file);
	(void)!node_close(co, file);
	n = engine_open(co, (struct qcow2_options){.keep_leaks = true});
	if (!n)
		return;
	bitmaps_use(co, n);
	(void)!node_close(co, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuzz_limits limits = {.memory = 64 * MiB, .requests = 40000, .bytes = 256 * MiB};
	struct script script;

	image_lay_out(data, size, &script);
	fuzz_run(&limits, entry, &script);
	return 0;
}
