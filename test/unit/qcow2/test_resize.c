/* SPDX-License-Identifier: MIT */
/*
 * Disks that become smaller and larger again, for the geometries that make a difference: what is left is what it was, what
 * is new reads zeros, and the file is cut back. What a power cut may leave in between: test/crash/h_resize.c.
 */
#include <errno.h>
#include <sys/stat.h>

#include "image.h"

#define DISK (2 * MiB)
#define SMALL (300 * 512u)

struct geometry {
	unsigned version, cluster_bits, refcount_order;
	bool preallocated, extended;
};

static const struct geometry geometries[] = {
	{3, 9, 4, false, false},
	{2, 9, 4, false, false},
	{3, 9, 6, true, false},
	{3, 12, 0, false, false},
	{3, 16, 4, false, false},
	{3, 14, 4, false, true},
	{3, 21, 4, false, false},
};

struct run {
	struct image im;
	const struct geometry *g;
};

static char shown[DISK], zeros[DISK], got[DISK];

static uint64_t file_bytes(const char *path)
{
	struct stat st;

	CHECK_INT(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static void make(struct co *co, struct run *r)
{
	const struct geometry *g = r->g;
	struct qcow2_create how = {
		.size = DISK,
		.version = g->version,
		.cluster_bits = g->cluster_bits,
		.refcount_order = g->refcount_order,
		.extended_l2 = g->extended,
		.preallocation = g->preallocated ? QCOW2_PREALLOCATE_METADATA : QCOW2_PREALLOCATE_OFF,
	};

	image_create(co, r->im.path, &how);
	image_open(co, &r->im, &(struct qcow2_options){.write = true});
	CHECK_INT(node_write(co, r->im.node, 0, IOV_BUF(shown, DISK), 0), 0);
}

static void expect(struct co *co, struct node *n, const char *what, uint64_t off, uint64_t len)
{
	CHECK_INT(node_read(co, n, off, IOV_BUF(got, len)), 0);
	CHECK(memcmp(got, what, len) == 0);
}

static void close_and_check(struct co *co, struct run *r)
{
	CHECK_INT(node_close(co, r->im.node), 0);
	image_check(co, r->im.path);
}

/* The refcount blocks that counted what is gone are gone, too. */
static void file_is_cut(struct co *co, void *arg)
{
	struct run *r = arg;

	make(co, r);
	CHECK_INT(node_resize(co, r->im.node, SMALL), 0);
	CHECK_INT(r->im.node->size, SMALL);
	CHECK_INT(node_read(co, r->im.node, SMALL - 1, IOV_BUF(got, 2)), -EINVAL);
	close_and_check(co, r);
	CHECK(file_bytes(r->im.path) <=
		align_up(SMALL + DISK / 32, 1u << r->g->cluster_bits) + (8u << r->g->cluster_bits));
}

static void grown_space_reads_zeros(struct co *co, void *arg)
{
	struct run *r = arg;

	make(co, r);
	for (unsigned reopen = 0; reopen < 2; reopen++) {
		CHECK_INT(node_resize(co, r->im.node, SMALL - 100 * reopen), 0);
		if (reopen) {
			close_and_check(co, r);
			image_open(co, &r->im, &(struct qcow2_options){.write = true});
		}
		CHECK_INT(node_resize(co, r->im.node, DISK), 0);
		expect(co, r->im.node, shown, 0, SMALL - 100 * reopen);
		expect(co, r->im.node, zeros, SMALL - 100 * reopen, DISK - SMALL + 100 * reopen);
		CHECK_INT(node_write(co, r->im.node, SMALL, IOV_BUF(shown + SMALL, DISK - SMALL), 0), 0);
	}
	close_and_check(co, r);
}

static void to_nothing(struct co *co, void *arg)
{
	struct run *r = arg;

	make(co, r);
	CHECK_INT(node_resize(co, r->im.node, 0), 0);
	close_and_check(co, r);
	image_open(co, &r->im, &(struct qcow2_options){.write = true});
	CHECK_INT(node_resize(co, r->im.node, SMALL), 0);
	expect(co, r->im.node, zeros, 0, SMALL);
	close_and_check(co, r);
}

/* A snapshot has its own size, and keeps what the disk loses. */
static void snapshots_keep_theirs(struct co *co, void *arg)
{
	struct run *r = arg;
	struct qcow2_snapshot_new how = {.name = "s"};
	struct err err = {0};

	if (r->g->refcount_order == 0)
		return;
	make(co, r);
	CHECK_INT(qcow2_snapshot_create(co, r->im.node, &how, &err), 0);
	CHECK_INT(node_resize(co, r->im.node, SMALL), 0);
	CHECK_INT(node_write(co, r->im.node, 0, IOV_BUF(zeros, SMALL), 0), 0);
	close_and_check(co, r);
	image_open(co, &r->im, &(struct qcow2_options){.write = true});
	CHECK_INT(qcow2_snapshot_apply(co, r->im.node, "s", &err), 0);
	CHECK_INT(r->im.node->size, DISK);
	expect(co, r->im.node, shown, 0, DISK);
	close_and_check(co, r);
}

static void each_geometry(co_entry *entry)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(geometries); i++) {
		struct run r = {.im.path = "test-resize.qcow2", .g = &geometries[i]};

		engine_run(entry, &r);
	}
	unlink("test-resize.qcow2");
}

static int fill(void **state)
{
	(void)state;
	for (unsigned i = 0; i < DISK; i++)
		shown[i] = (char)(1 + i % 251);
	return 0;
}

/* ---- what an interruption has left behind the end ---- */

static void patch(struct co *co, struct run *r, uint64_t off, uint64_t value)
{
	struct node *file = image_file(co, r->im.path, true);
	be64 v = be64_of(value);

	CHECK_INT(node_write(co, file, off, IOV_BUF(&v, sizeof(v)), 0), 0);
	CHECK_INT(node_close(co, file), 0);
}

static uint64_t peek(struct co *co, struct run *r, uint64_t off)
{
	struct node *file = image_file(co, r->im.path, false);
	be64 v;

	CHECK_INT(node_read(co, file, off, IOV_BUF(&v, sizeof(v))), 0);
	CHECK_INT(node_close(co, file), 0);
	return be64_get(v);
}

#define SIZE_AT 24
#define SNAPSHOTS_AT 64

/* The disk has its new size already, and nothing else has happened; the image is opened, and has its old size again. */
static void reopened_small(struct co *co, struct run *r, bool write)
{
	patch(co, r, SIZE_AT, SMALL);
	image_open(co, &r->im, &(struct qcow2_options){.write = write});
	CHECK_INT(r->im.node->size, SMALL);
	expect(co, r->im.node, shown, 0, SMALL);
	close_and_check(co, r);
	patch(co, r, SIZE_AT, DISK);
	image_open(co, &r->im, &(struct qcow2_options){0});
}

static void leftovers_go(struct co *co, void *arg)
{
	struct run *r = arg;
	uint64_t end = align_up(SMALL, UINT64_C(1) << r->g->cluster_bits);

	make(co, r);
	CHECK_INT(node_close(co, r->im.node), 0);
	reopened_small(co, r, false);
	expect(co, r->im.node, shown, 0, DISK);
	CHECK_INT(node_close(co, r->im.node), 0);
	reopened_small(co, r, true);
	expect(co, r->im.node, shown, 0, MIN(end, DISK));
	expect(co, r->im.node, zeros, MIN(end, DISK), DISK - MIN(end, DISK));
	close_and_check(co, r);
}

/* QEMU puts it into tables behind the one that the disk ends in. */
static void machine_states_stay(struct co *co, void *arg)
{
	struct qcow2_snapshot_new snapshot = {.name = "machine"};
	struct run *r = arg;
	uint64_t cluster = UINT64_C(1) << r->g->cluster_bits, covers = cluster * cluster / (r->g->extended ? 16 : 8);
	uint64_t end = align_up(SMALL, cluster), table = align_up(SMALL, covers), record;
	struct err err = {0};

	if (r->g->refcount_order == 0)
		return;
	make(co, r);
	CHECK_INT(qcow2_snapshot_create(co, r->im.node, &snapshot, &err), 0);
	CHECK_INT(node_close(co, r->im.node), 0);
	record = peek(co, r, SNAPSHOTS_AT);
	patch(co, r, record + 40, 4096);
	reopened_small(co, r, true);
	expect(co, r->im.node, shown, 0, MIN(end, DISK));
	if (end < DISK)
		expect(co, r->im.node, zeros, end, MIN(table, DISK) - end);
	if (table < DISK)
		expect(co, r->im.node, shown + table, table, DISK - table);
	close_and_check(co, r);
}

#define CASE(name)                                                                                                     \
	static void test_##name(void **state)                                                                          \
	{                                                                                                              \
		(void)state;                                                                                           \
		each_geometry(name);                                                                                   \
	}

CASE(file_is_cut)
CASE(grown_space_reads_zeros)
CASE(to_nothing)
CASE(snapshots_keep_theirs)
CASE(leftovers_go)
CASE(machine_states_stay)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file_is_cut),
		cmocka_unit_test(test_grown_space_reads_zeros),
		cmocka_unit_test(test_to_nothing),
		cmocka_unit_test(test_snapshots_keep_theirs),
		cmocka_unit_test(test_leftovers_go),
		cmocka_unit_test(test_machine_states_stay),
	};

	return cmocka_run_group_tests(tests, fill, NULL);
}
