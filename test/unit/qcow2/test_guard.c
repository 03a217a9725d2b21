/* SPDX-License-Identifier: MIT */
/*
 * Images that were bent so that a write would hit metadata: an L2 entry, an L1 entry, a refcount. Nothing is written, the
 * image is marked corrupt at once, its writes and flushes fail from then on, and what can be read is read.
 */
#include <errno.h>

#include "base/log.h"
#include "base/mutant.h"
#include "image.h"

#define CLUSTER 4096u
#define DISK (8 * MiB) /* four L2 tables of 2 MiB */
#define TABLE_COVERS (2 * MiB)
#define COPIED (UINT64_C(1) << 63)

enum place { HEADER, L1, L2, OTHER_L2, REFTABLE, REFBLOCK, SNAPSHOTS, INACTIVE_L1, PLACES };

static const char *const names[PLACES] = {"qcow2_header", "active L1 table", "active L2 table", "active L2 table",
	"refcount table", "refcount block", "snapshot table", "inactive L1 table"};

struct run {
	struct image im;
	struct log log;
	char said[LOG_LINE_BYTES];
	uint64_t at[PLACES]; /* where each lies */
};

static void note(struct log *log, enum log_level level, const char *line)
{
	struct run *r = container_of(log, struct run, log);

	(void)level;
	snprintf(r->said, sizeof(r->said), "%s", line);
}

static char data[CLUSTER], before[CLUSTER], after[CLUSTER];

static uint64_t be64_from(struct co *co, struct node *file, uint64_t off)
{
	be64 v;

	CHECK_INT(node_read(co, file, off, IOV_BUF(&v, sizeof(v))), 0);
	return be64_get(v);
}

static void be64_to(struct co *co, struct node *file, uint64_t off, uint64_t value)
{
	be64 v = be64_of(value);

	CHECK_INT(node_write(co, file, off, IOV_BUF(&v, sizeof(v)), 0), 0);
}

/* Its third L2 table isn't there yet. */
static void make(struct co *co, struct run *r)
{
	struct qcow2_snapshot_new snapshot = {.name = "s"};
	struct err err = {0};
	struct node *file;

	image_create(co, r->im.path,
		&(struct qcow2_create){.size = DISK, .version = 3, .cluster_bits = 12, .refcount_order = 4});
	image_open(co, &r->im, &(struct qcow2_options){.write = true});
	CHECK_INT(node_write(co, r->im.node, 0, IOV_BUF(data, CLUSTER), 0), 0);
	CHECK_INT(qcow2_snapshot_create(co, r->im.node, &snapshot, &err), 0);
	CHECK_INT(node_write(co, r->im.node, 0, IOV_BUF(data, CLUSTER), 0), 0);
	CHECK_INT(node_write(co, r->im.node, TABLE_COVERS, IOV_BUF(data, CLUSTER), 0), 0);
	CHECK_INT(node_close(co, r->im.node), 0);
	file = image_file(co, r->im.path, false);
	r->at[L1] = be64_from(co, file, 40);
	r->at[REFTABLE] = be64_from(co, file, 48);
	r->at[SNAPSHOTS] = be64_from(co, file, 64);
	r->at[L2] = be64_from(co, file, r->at[L1]) & ~COPIED;
	r->at[OTHER_L2] = be64_from(co, file, r->at[L1] + 8) & ~COPIED;
	r->at[REFBLOCK] = be64_from(co, file, r->at[REFTABLE]);
	r->at[INACTIVE_L1] = be64_from(co, file, r->at[SNAPSHOTS]);
	CHECK_INT(node_close(co, file), 0);
}

static void bend(struct co *co, struct run *r, uint64_t off, uint64_t value)
{
	struct node *file = image_file(co, r->im.path, true);

	be64_to(co, file, off, value);
	CHECK_INT(node_close(co, file), 0);
}

static void table_read(struct co *co, struct run *r, struct node *file, enum place where, char *to)
{
	CHECK_INT(node_read(co, file, r->at[where], IOV_BUF(to, CLUSTER)), 0);
	if (where == HEADER)
		to[79] = 0; /* the byte with the corrupt bit */
}

static void open_bent(struct co *co, struct run *r, enum place where)
{
	r->log.write = note;
	r->log.level = LOG_LEVEL_DEBUG;
	r->said[0] = '\0';
	image_open(co, &r->im, &(struct qcow2_options){.write = true, .keep_leaks = true, .log = &r->log});
	table_read(co, r, r->im.delay, where, before);
}

/* Nothing has happened to what was in danger, and nothing more can. */
static void nothing_happened(struct co *co, struct run *r, enum place where, const char *said)
{
	struct err err = {0};
	struct node *file, *n;

	CHECK(strstr(r->said, said) != NULL);
	CHECK(strstr(qcow2_node_stats(r->im.node)->corruption, said) != NULL);
	CHECK((be64_from(co, r->im.delay, 72) & 2) != 0);
	CHECK_INT(node_write(co, r->im.node, DISK - CLUSTER, IOV_BUF(data, CLUSTER), 0), -EIO);
	CHECK_INT(node_write(co, r->im.node, TABLE_COVERS, IOV_BUF(data, CLUSTER), 0), -EIO);
	CHECK_INT(node_discard(co, r->im.node, TABLE_COVERS, CLUSTER), -EIO);
	CHECK_INT(node_flush(co, r->im.node), -EIO);
	table_read(co, r, r->im.delay, where, after);
	CHECK(memcmp(before, after, CLUSTER) == 0);
	CHECK_INT(node_close(co, r->im.node), -EIO);
	file = image_file(co, r->im.path, true);
	table_read(co, r, file, where, after);
	CHECK(memcmp(before, after, CLUSTER) == 0);
	CHECK_INT(qcow2_open(co, file, &(struct qcow2_options){.write = true}, &n, &err), -EROFS);
	CHECK_INT(node_close(co, file), 0);
}

/* The entry of guest cluster 0 names a table. */
static void entry_on_table(struct co *co, void *arg)
{
	struct run *r = arg;

	for (enum place where = L1; where < PLACES; where++) {
		make(co, r);
		bend(co, r, r->at[L2], r->at[where] | COPIED);
		open_bent(co, r, where);
		CHECK_INT(node_write(co, r->im.node, 0, IOV_BUF(data, 512), 0), -EIO);
		CHECK_INT(node_read(co, r->im.node, TABLE_COVERS, IOV_BUF(after, CLUSTER)), 0);
		CHECK(memcmp(after, data, CLUSTER) == 0);
		nothing_happened(co, r, where, names[where]);
	}
}

/* So does an L1 entry, of which a part is to be mapped. */
static void table_on_table(struct co *co, void *arg)
{
	static const enum place on[] = {L1, OTHER_L2, REFTABLE, REFBLOCK, SNAPSHOTS, INACTIVE_L1};
	struct run *r = arg;

	for (unsigned i = 0; i < ARRAY_ENTRIES(on); i++) {
		make(co, r);
		bend(co, r, r->at[L1] + 16, r->at[on[i]] | COPIED);
		open_bent(co, r, on[i]);
		CHECK_INT(node_zero(co, r->im.node, 2 * TABLE_COVERS, 16 * CLUSTER, 0), -EIO);
		nothing_happened(co, r, on[i], "");
	}
}

static void blocks_on_table(struct co *co, void *arg)
{
	static const enum place on[] = {L1, L2, REFTABLE};
	struct run *r = arg;

	for (unsigned i = 0; i < ARRAY_ENTRIES(on); i++) {
		make(co, r);
		bend(co, r, r->at[REFTABLE], r->at[on[i]]);
		open_bent(co, r, on[i]);
		CHECK_INT(node_write(co, r->im.node, 2 * TABLE_COVERS, IOV_BUF(data, CLUSTER), 0), -EIO);
		nothing_happened(co, r, on[i], "");
	}
}

/* Refcounts of 0: what is in use looks free. */
static void used_looks_free(struct co *co, void *arg)
{
	struct run *r = arg;

	for (enum place where = HEADER; where < PLACES; where++) {
		struct node *file;
		uint16_t zero = 0;

		make(co, r);
		file = image_file(co, r->im.path, true);
		CHECK_INT(node_write(co, file, r->at[REFBLOCK] + r->at[where] / CLUSTER * 2, IOV_BUF(&zero, 2), 0), 0);
		CHECK_INT(node_close(co, file), 0);
		if (where == REFBLOCK)
			continue; /* this one is in danger, and also what changes */
		open_bent(co, r, where);
		if (where == HEADER) { /* the allocator never looks there */
			CHECK_INT(node_close(co, r->im.node), 0);
			continue;
		}
		CHECK_INT(node_write(co, r->im.node, 2 * TABLE_COVERS, IOV_BUF(data, CLUSTER), 0), -EIO);
		nothing_happened(co, r, where, names[where]);
	}
}

static void slow_read(struct co *co, void *arg)
{
	static char data_there[CLUSTER];
	struct run *r = arg;

	CHECK_INT(node_read(co, r->im.node, TABLE_COVERS, IOV_BUF(data_there, CLUSTER)), 0);
}

/* Guest data and a table share a cluster whose refcount is 1: giving the data back would give the table away, while a
 * change of it is in memory alone. A read that lasts keeps what is freed from being given back at once. */
static void table_given_back(struct co *co, void *arg)
{
	struct run *r = arg;

	make(co, r);
	bend(co, r, r->at[L2], r->at[OTHER_L2] | COPIED);
	open_bent(co, r, OTHER_L2);
	*delay_rules(r->im.delay) = (struct delay_rules){
		.park_reads = true,
		.park_once = true,
		.park_off = be64_from(co, r->im.delay, r->at[OTHER_L2]) & ~COPIED,
		.park_len = CLUSTER,
		.park_ns = 100000000,
	};
	CHECK_INT(co_spawn(co_sched_of(co), "slow-read", slow_read, r), 0);
	while (delay_counts(r->im.delay)->parked == 0)
		co_yield(co);
	CHECK_INT(node_discard(co, r->im.node, 0, CLUSTER), 0);
	CHECK_INT(node_flush(co, r->im.node), 0);
	CHECK_INT(node_write(co, r->im.node, TABLE_COVERS + CLUSTER, IOV_BUF(data, CLUSTER), 0), 0);
	while (!(be64_from(co, r->im.delay, 72) & 2))
		co_sleep(co, 1000000);
	CHECK(strstr(r->said, "more references than its refcount says") != NULL);
	CHECK_INT(node_read(co, r->im.node, TABLE_COVERS, IOV_BUF(after, CLUSTER)), 0);
	CHECK(memcmp(after, data, CLUSTER) == 0);
	CHECK((be64_from(co, r->im.delay, r->at[OTHER_L2]) & COPIED) != 0);
	CHECK_INT(node_close(co, r->im.node), -EIO);
}

static void run_case(co_entry *entry)
{
	static struct run r = {.im.path = "test-guard.qcow2"};

	memset(data, 0x5a, sizeof(data));
	engine_run(entry, &r);
	unlink(r.im.path);
}

#define CASE(name)                                                                                                     \
	static void test_##name(void **state)                                                                          \
	{                                                                                                              \
		(void)state;                                                                                           \
		run_case(name);                                                                                        \
	}

CASE(entry_on_table)
CASE(table_on_table)
CASE(blocks_on_table)
CASE(used_looks_free)
CASE(table_given_back)

/* In the simulator's build it takes the number of a mutant, which must make it fail. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entry_on_table),
		cmocka_unit_test(test_table_on_table),
		cmocka_unit_test(test_blocks_on_table),
		cmocka_unit_test(test_used_looks_free),
		cmocka_unit_test(test_table_given_back),
	};

#ifdef CORRAL_SIM
	mutant_selected = argc > 1 ? atoi(argv[1]) : 0;
#endif
	(void)argc;
	(void)argv;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
