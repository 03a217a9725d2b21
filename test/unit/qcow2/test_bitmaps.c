/* SPDX-License-Identifier: MIT */
/*
 * Bitmaps of an open image: what they say, edits beside requests, bytes that others understand, directories and tables that
 * nobody should have written. What a power cut leaves of them is the simulator's.
 */
#include <errno.h>

#include "image.h"

#define PATH "test-bitmaps.qcow2"
#define CLUSTER 4096u
#define DISK (1 * MiB)

/* The bitmaps extension of an image with clusters that are too small for feature names lies behind the header. */
enum { AT_AUTOCLEAR = 95, AT_COUNT = 120, AT_BYTES = 128, AT_DIRECTORY = 136 };
/* In the directory's entry. */
enum {
	IN_TABLE = 0,
	IN_ENTRIES = 8,
	IN_FLAGS = 15,
	IN_TYPE = 16,
	IN_GRANULARITY = 17,
	IN_NAME_BYTES = 19,
	IN_EXTRA = 23
};

static void make(struct co *co, struct image *im)
{
	im->path = PATH;
	image_create(co, im->path,
		&(struct qcow2_create){.size = DISK, .version = 3, .cluster_bits = 12, .refcount_order = 4});
}

static void open_for(struct co *co, struct image *im, bool write)
{
	image_open(co, im, &(struct qcow2_options){.write = write});
}

static void close_clean(struct co *co, struct image *im)
{
	CHECK_INT(node_close(co, im->node), 0);
	image_check(co, im->path);
}

static void put(struct co *co, struct image *im, uint64_t off, size_t len)
{
	static char data[65536] = "datum";

	CHECK_INT(node_write(co, im->node, off, IOV_BUF(data, len), 0), 0);
}

static void add(struct co *co, struct image *im, const char *name, uint64_t granularity, bool enabled)
{
	struct err err = {0};

	CHECK_INT(qcow2_bitmap_add(co, im->node, name, granularity, enabled, &err), 0);
}

static void expect_run(struct co *co, struct image *im, const char *name, uint64_t off, bool dirty, uint64_t len)
{
	struct qcow2_bitmap_extent e;

	CHECK_INT(qcow2_bitmap_run(co, im->node, name, off, DISK - off, &e), 0);
	CHECK_INT(e.dirty, dirty);
	CHECK_INT(e.len, len);
}

static struct qcow2_bitmap_status status_of(struct co *co, struct image *im, const char *name)
{
	struct qcow2_bitmap_status *list, found = {.granularity = 0};
	unsigned n;
	struct err err = {0};

	CHECK_INT(qcow2_bitmap_list(co, im->node, &list, &n, &err), 0);
	for (unsigned i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			found = list[i];
	free(list);
	return found;
}

/* ---- what they say ---- */

static void expect_content(struct co *co, struct image *im)
{
	expect_run(co, im, "fine", 0, false, 5120);
	expect_run(co, im, "fine", 5120, true, 1024);
	expect_run(co, im, "fine", 6144, false, 10240);
	expect_run(co, im, "fine", 16384, true, 12288);
	expect_run(co, im, "fine", 20000, true, 28672 - 20000);
	expect_run(co, im, "fine", DISK - 1, true, 1);
	expect_run(co, im, "coarse", 0, true, 65536);
	expect_run(co, im, "coarse", 65536, false, DISK - 2 * 65536);
	CHECK_INT(status_of(co, im, "fine").dirty_bytes, 1024 + 12288 + 512);
	CHECK_INT(status_of(co, im, "coarse").dirty_bytes, 2 * 65536);
	CHECK_INT(status_of(co, im, "still").dirty_bytes, 0);
	CHECK_INT(status_of(co, im, "still").granularity, CLUSTER);
}

static void body_changes_are_followed(struct co *co, void *arg)
{
	struct qcow2_bitmap_extent e;
	struct image im;

	(void)arg;
	make(co, &im);
	open_for(co, &im, true);
	add(co, &im, "fine", 512, true);
	add(co, &im, "coarse", 65536, true);
	add(co, &im, "still", 0, false);
	put(co, &im, 5500, 300);
	CHECK_INT(node_zero(co, im.node, 16384, 4096, NODE_MAY_UNMAP), 0);
	CHECK_INT(node_discard(co, im.node, 20480, 8192), 0);
	put(co, &im, DISK - 1, 1);
	expect_content(co, &im);
	close_clean(co, &im);
	open_for(co, &im, false);
	expect_content(co, &im);
	CHECK_INT(qcow2_bitmap_run(co, im.node, "none", 0, 1, &e), -ENOENT);
	CHECK_INT(qcow2_bitmap_run(co, im.node, "fine", DISK, 1, &e), -EINVAL);
	CHECK_INT(qcow2_bitmap_run(co, im.node, "fine", 1, DISK, &e), -EINVAL);
	CHECK_INT(qcow2_bitmap_clear(co, im.node, "fine", NULL), -EROFS);
	CHECK_INT(node_close(co, im.node), 0);
}
TEST(changes_are_followed)

/* New space is clean, also where the last granule was a part of one. */
static void body_sizes(struct co *co, void *arg)
{
	struct qcow2_bitmap_extent e;
	struct image im;

	(void)arg;
	make(co, &im);
	open_for(co, &im, true);
	add(co, &im, "fine", 512, true);
	add(co, &im, "still", 512, false);
	put(co, &im, DISK - 512, 512);
	CHECK_INT(node_resize(co, im.node, 40 * DISK + 512), 0);
	put(co, &im, 40 * DISK, 1);
	for (unsigned round = 0; round < 2; round++) {
		CHECK_INT(qcow2_bitmap_run(co, im.node, "fine", DISK, 39 * DISK + 1, &e), 0);
		CHECK(!e.dirty && e.len == 39 * DISK);
		CHECK_INT(status_of(co, &im, "fine").dirty_bytes, 1024);
		CHECK_INT(status_of(co, &im, "still").dirty_bytes, 0);
		close_clean(co, &im);
		open_for(co, &im, false);
	}
	CHECK_INT(node_close(co, im.node), 0);
}
TEST(sizes)

/* ---- edits beside requests ---- */

struct write {
	struct image *im;
	bool begun, done;
};

static void write_main(struct co *co, void *arg)
{
	struct write *w = arg;

	w->begun = true;
	put(co, w->im, 0, 512);
	w->done = true;
}

/* Else it would be noted, forgotten, and then change the disk. */
static void body_clear_waits_for_a_write(struct co *co, void *arg)
{
	struct image im;
	struct write w = {.im = &im};

	(void)arg;
	make(co, &im);
	open_for(co, &im, true);
	add(co, &im, "b", 512, true);
	put(co, &im, 0, 4096);
	delay_rules(im.delay)->write_ns = 50000000;
	CHECK_INT(co_spawn(co_sched_of(co), "write", write_main, &w), 0);
	while (!w.begun)
		co_yield(co);
	CHECK(!w.done);
	CHECK_INT(qcow2_bitmap_clear(co, im.node, "b", NULL), 0);
	CHECK(w.done);
	CHECK_INT(status_of(co, &im, "b").dirty_bytes, 0);
	put(co, &im, 512, 512);
	CHECK_INT(status_of(co, &im, "b").dirty_bytes, 512);
	close_clean(co, &im);
}
TEST(clear_waits_for_a_write)

/* ---- bytes by others ---- */

static uint64_t number(struct node *file, struct co *co, uint64_t at)
{
	be64 v;

	CHECK_INT(node_read(co, file, at, IOV_BUF(&v, sizeof(v))), 0);
	return be64_get(v);
}

/* Overwrites bytes of the file; at: in the directory if `inside`. */
static void patch(struct co *co, bool inside, uint64_t at, const void *bytes, size_t len)
{
	struct node *file = image_file(co, PATH, true);

	if (inside)
		at += number(file, co, AT_DIRECTORY);
	CHECK_INT(node_write(co, file, at, IOV_BUF((void *)bytes, len), 0), 0);
	CHECK_INT(node_close(co, file), 0);
}

static void patch_byte(struct co *co, bool inside, uint64_t at, uint8_t byte) { patch(co, inside, at, &byte, 1); }

static void one_bitmap(struct co *co, struct image *im, bool enabled)
{
	make(co, im);
	open_for(co, im, true);
	add(co, im, "b", CLUSTER, enabled);
	put(co, im, 0, 65536);
	CHECK_INT(qcow2_bitmap_enable(co, im->node, "b", enabled, NULL), 0);
	CHECK_INT(node_close(co, im->node), 0);
}

/* Eight bytes of extra data, and the name behind them. */
static void extra_put(struct co *co, uint8_t flags)
{
	const char tail[16] = "EXTRA!!!b";

	patch(co, true, 24, tail, sizeof(tail));
	patch_byte(co, true, IN_EXTRA, 8);
	patch_byte(co, true, IN_FLAGS, flags);
	patch_byte(co, false, AT_BYTES + 7, 40);
}

static void extra_expect(struct co *co)
{
	struct node *file = image_file(co, PATH, false);
	char tail[9];

	CHECK_INT(node_read(co, file, number(file, co, AT_DIRECTORY) + 24, IOV_BUF(tail, sizeof(tail))), 0);
	CHECK(memcmp(tail, "EXTRA!!!b", sizeof(tail)) == 0);
	CHECK_INT(node_close(co, file), 0);
}

static void body_extra_data_is_kept(struct co *co, void *arg)
{
	struct image im;

	(void)arg;
	for (unsigned compatible = 0; compatible < 2; compatible++) {
		one_bitmap(co, &im, true);
		extra_put(co, QCOW2_BITMAP_AUTO | (compatible ? QCOW2_BITMAP_EXTRA_COMPATIBLE : 0));
		open_for(co, &im, true);
		CHECK_INT(status_of(co, &im, "b").usable, compatible);
		CHECK_INT(status_of(co, &im, "b").dirty_bytes, compatible ? 65536 : 0);
		CHECK(status_of(co, &im, "b").in_use);
		put(co, &im, 65536, 512);
		close_clean(co, &im);
		extra_expect(co);
		open_for(co, &im, false);
		CHECK_INT(status_of(co, &im, "b").in_use, !compatible);
		CHECK_INT(status_of(co, &im, "b").dirty_bytes, compatible ? 65536 + CLUSTER : 0);
		CHECK_INT(node_close(co, im.node), 0);
	}
}
TEST(extra_data_is_kept)

/* A program that doesn't know of bitmaps has written: they are gone, and so is what they took. */
static void body_a_cleared_autoclear_bit(struct co *co, void *arg)
{
	struct image im;

	(void)arg;
	one_bitmap(co, &im, true);
	patch_byte(co, false, AT_AUTOCLEAR, 0);
	open_for(co, &im, true);
	CHECK_INT(status_of(co, &im, "b").granularity, 0);
	while (qcow2_node_stats(im.node)->leaks_reclaimed < 2)
		co_sleep(co, 1000000);
	add(co, &im, "b", CLUSTER, true);
	put(co, &im, 0, 512);
	close_clean(co, &im);
	open_for(co, &im, false);
	CHECK_INT(status_of(co, &im, "b").dirty_bytes, CLUSTER);
	CHECK_INT(node_close(co, im.node), 0);
}
TEST(a_cleared_autoclear_bit)

/* ---- what nobody should have written ---- */

struct damage {
	bool inside; /* the directory; else the file, at that place */
	uint64_t at;
	uint8_t bytes[8];
	size_t len;
	bool refused; /* opening for writing fails; else the bitmap isn't used */
};

static const struct damage damages[] = {
	{true, IN_TABLE + 5, {0xff}, 1, false},                  /* beyond the end of the file */
	{true, IN_TABLE + 7, {1}, 1, true},                      /* not at a cluster */
	{true, IN_ENTRIES, {0, 0, 0, 2}, 4, false},              /* for another size */
	{true, IN_ENTRIES, {0, 0xff, 0xff, 0xff}, 4, true},      /* larger than the file */
	{true, IN_FLAGS, {0x80}, 1, true},                       /* reserved */
	{true, IN_TYPE, {2}, 1, true},                           /* of an unknown type */
	{true, IN_GRANULARITY, {8}, 1, false},                   /* too fine */
	{true, IN_GRANULARITY, {63}, 1, false},                  /* too coarse */
	{true, IN_NAME_BYTES, {0}, 1, true},                     /* without a name */
	{true, IN_NAME_BYTES, {2}, 1, true},                     /* with a NUL in it */
	{true, IN_NAME_BYTES, {200}, 1, true},                   /* that leads out of the directory */
	{true, IN_EXTRA - 3, {0xff, 0xff, 0xff, 0xff}, 4, true}, /* so does its extra data */
	{false, AT_COUNT + 3, {9}, 1, true},                     /* more than there are */
	{false, AT_BYTES + 6, {0xff}, 1, true},                  /* over other tables */
};

static void expect_refused(struct co *co)
{
	struct node *file = image_file(co, PATH, true), *n;
	struct err err = {0};
	int rc = qcow2_open(co, file, &(struct qcow2_options){.write = true}, &n, &err);

	CHECK_INT(rc, -EINVAL);
	CHECK(err.text[0] != '\0');
	CHECK_INT(node_close(co, file), 0);
}

/* It may still be removed. */
static void expect_unused(struct co *co, struct image *im)
{
	open_for(co, im, true);
	CHECK(!status_of(co, im, "b").usable);
	CHECK(status_of(co, im, "b").in_use);
	CHECK_INT(qcow2_bitmap_clear(co, im->node, "b", NULL), -EUCLEAN);
	put(co, im, 0, 512);
	CHECK_INT(qcow2_bitmap_remove(co, im->node, "b", NULL), 0);
	CHECK_INT(node_close(co, im->node), 0);
	open_for(co, im, false);
	CHECK_INT(status_of(co, im, "b").granularity, 0);
	CHECK_INT(node_close(co, im->node), 0);
}

static void body_damage(struct co *co, void *arg)
{
	struct image im;

	(void)arg;
	for (unsigned i = 0; i < ARRAY_ENTRIES(damages); i++) {
		const struct damage *d = &damages[i];

		one_bitmap(co, &im, true);
		patch(co, d->inside, d->at, d->bytes, d->len);
		if (d->refused)
			expect_refused(co);
		else
			expect_unused(co, &im);
	}
}
TEST(damage)

/* A table entry that leads nowhere, or has reserved bits, or both a place and ones. */
static void body_damaged_tables(struct co *co, void *arg)
{
	static const uint64_t entries[] = {UINT64_C(1) << 40, 512, 4096 | 1, UINT64_C(1) << 60, 4096 | 4};
	struct image im;

	(void)arg;
	for (unsigned i = 0; i < ARRAY_ENTRIES(entries); i++) {
		struct node *file;
		uint64_t table;
		be64 entry = be64_of(entries[i]);

		one_bitmap(co, &im, true);
		file = image_file(co, PATH, false);
		table = number(file, co, number(file, co, AT_DIRECTORY));
		CHECK_INT(node_close(co, file), 0);
		patch(co, false, table, &entry, sizeof(entry));
		expect_unused(co, &im);
	}
}
TEST(damaged_tables)

static void expect_unused_names(struct co *co, struct image *im)
{
	open_for(co, im, true);
	for (unsigned i = 0; i < 2; i++) {
		CHECK(!status_of(co, im, "b").usable);
		CHECK_INT(qcow2_bitmap_remove(co, im->node, "b", NULL), 0);
	}
	CHECK_INT(status_of(co, im, "b").granularity, 0);
	close_clean(co, im);
}

/* Two of the same name. */
static void body_same_names(struct co *co, void *arg)
{
	struct image im;

	(void)arg;
	make(co, &im);
	open_for(co, &im, true);
	add(co, &im, "b", 512, true);
	add(co, &im, "c", 512, false);
	close_clean(co, &im);
	patch_byte(co, true, 32 + 24, 'b');
	expect_unused_names(co, &im);
}
TEST(same_names)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(changes_are_followed),
		RUN(sizes),
		RUN(clear_waits_for_a_write),
		RUN(extra_data_is_kept),
		RUN(a_cleared_autoclear_bit),
		RUN(damage),
		RUN(damaged_tables),
		RUN(same_names),
	};

	return cmocka_run_group_tests_name("qcow2 bitmaps", tests, NULL, NULL);
}
