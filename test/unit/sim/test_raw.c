/* SPDX-License-Identifier: MIT */
/*
 * The checker of raw bytes: clean on what qemu-img and our own maker write, and not on planted errors. Where qemu-img is
 * missing its part is skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "make.h"

#define FILE_BYTES (UINT64_C(16) << 20)
#define GUEST_BYTES (UINT64_C(1) << 20)

static struct sim_disk disk;
static struct sim_raw raw;
static struct sim_made made;
static struct sim_rng rng;

/* Two snapshots, data everywhere, clusters of 1024 bytes: header, refcount table, L1 table, then L2 tables and data. */
static int set_up(void **state)
{
	const struct sim_geometry g = {.version = 3,
		.cluster_bits = 10,
		.refcount_order = 4,
		.guest_bytes = 200 * 512,
		.fill = SIM_FILL_FULL,
		.snapshots = 2,
		.id = SIM_ID_IMAGE};

	(void)state;
	sim_rng_init(&rng, 3, 0);
	sim_make(&made, &g, &rng);
	sim_disk_init(&disk, FILE_BYTES, 512, false);
	sim_disk_load(&disk, 0, made.bytes, made.len);
	sim_raw_init(&raw, FILE_BYTES, GUEST_BYTES);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sim_raw_fini(&raw);
	sim_disk_fini(&disk);
	sim_made_free(&made);
	return 0;
}

static bool check(void) { return sim_raw_check(&raw, &disk.found); }

static uint64_t get(uint64_t off)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v = v << 8 | made.bytes[off + i];
	return v;
}

static void plant(uint64_t off, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		made.bytes[off + i] = (uint8_t)(v >> (56 - 8 * i));
	sim_disk_load(&disk, 0, made.bytes, made.len);
}

/* The check fails, and names the rule. */
static void caught(const char *rule)
{
	assert_false(check());
	if (strncmp(raw.problem, rule, strlen(rule)) != 0)
		fail_msg("expected %s, found: %s", rule, raw.problem);
}

#define HOST(entry) ((entry)&UINT64_C(0x00fffffffffffe00))
static uint64_t l1(void) { return get(40); }
static uint64_t l2(void) { return HOST(get(l1())); }

static void what_we_make_is_clean(void **state)
{
	(void)state;
	raw.exact = true;
	if (!check())
		fail_msg("%s", raw.problem);
	assert_int_equal(raw.leaks, 0);
	for (uint32_t s = 0; s < 200; s++) {
		assert_int_equal(raw.active.tags[s], made.tags[s]);
		assert_int_equal(raw.snapshot[0].tags[s], made.snapshot_tags[0][s]);
		assert_int_equal(raw.snapshot[1].tags[s], made.snapshot_tags[1][s]);
	}
}

static void every_geometry_is_clean(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		struct sim_geometry g = {.version = i % 7 ? 3 : 2,
			.cluster_bits = 9 + i % 4,
			.refcount_order = i % 7 ? i % 7 : 4,
			.guest_bytes = (1 + sim_below(&rng, 900)) * UINT64_C(512),
			.fill = (enum sim_fill)(i % 4),
			.gaps_in = i % 5,
			.id = SIM_ID_IMAGE};

		g.snapshots = g.refcount_order >= 2 ? i % 3 : 0;
		tear_down(NULL);
		sim_make(&made, &g, &rng);
		sim_disk_init(&disk, FILE_BYTES, 512, false);
		sim_disk_load(&disk, 0, made.bytes, made.len);
		sim_raw_init(&raw, FILE_BYTES, GUEST_BYTES);
		raw.exact = true;
		if (!check() || raw.leaks)
			fail_msg("image %u: %s, %u leaks", i, raw.problem, raw.leaks);
	}
}

static void planted_errors_are_caught(void **state)
{
	uint64_t entry = get(l2()), last_l2 = get(l1());

	(void)state;
	plant(l2(), entry + 512);
	caught("M3");
	plant(l2(), (entry & ~HOST(entry)) | UINT64_C(1) << 30);
	caught("M3");
	plant(l2(), entry | 2);
	caught("M3");
	plant(l2(), (entry & ~HOST(entry)) | l1());
	caught("M2");
	plant(l2(), get(l2() + 8));
	caught("M2");
	plant(l2(), entry ^ UINT64_C(1) << 63);
	caught("M4");
	plant(l2(), entry);
	assert_true(check());
	plant(l1(), last_l2 | 1);
	caught("M3");
	plant(l1(), l1());
	caught("M2");
	plant(l1(), last_l2);
	assert_true(check());
}

static void a_missing_reference_is_a_leak_and_a_missing_refcount_is_not(void **state)
{
	uint64_t block = get(get(48)), entry = get(l2());

	(void)state;
	plant(l2(), 0);
	assert_true(check());
	assert_int_equal(raw.leaks, 1);
	plant(l2(), entry);
	made.bytes[block + HOST(entry) / 1024 * 2 + 1]--;
	plant(l2(), entry);
	assert_false(check());
}

static void the_refcount_table_must_describe_its_blocks(void **state)
{
	(void)state;
	plant(get(48), 0);
	assert_false(check());
}

static void a_file_that_ends_too_early_is_caught(void **state)
{
	(void)state;
	disk.found.size = made.len - 4096;
	assert_false(check());
	disk.found.size = made.len;
	assert_true(check());
}

static void a_lost_header_is_caught(void **state)
{
	(void)state;
	plant(0, 0);
	assert_false(check());
}

/* ---- an external data file ---- */

static struct sim_disk data_disk;

/* The same guest, its data in a data file that must be right by itself. */
static void data_file_set_up(const struct sim_geometry *g)
{
	tear_down(NULL);
	sim_make(&made, g, &rng);
	sim_make_data(&made, g, GUEST_BYTES, &rng);
	sim_disk_init(&disk, FILE_BYTES, 512, false);
	sim_disk_load(&disk, 0, made.bytes, made.len);
	sim_disk_init(&data_disk, GUEST_BYTES, 512, false);
	sim_disk_load(&data_disk, 0, made.data, made.data_len);
	sim_raw_init(&raw, FILE_BYTES, GUEST_BYTES);
	raw.exact = true;
	raw.data = &data_disk.found;
	raw.data_alone = g->data == SIM_DATA_RAW;
}

static void data_file_is_clean(const struct sim_geometry *g)
{
	data_file_set_up(g);
	if (!check() || raw.leaks)
		fail_msg("%s, %u leaks", raw.problem, raw.leaks);
	for (uint32_t s = 0; s < g->guest_bytes / 512; s++)
		assert_int_equal(raw.active.tags[s], made.tags[s]);
}

static void data_files_are_clean(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		struct sim_geometry g = {.version = 3,
			.cluster_bits = 9 + i % 4,
			.refcount_order = i % 7,
			.guest_bytes = (1 + sim_below(&rng, 900)) * UINT64_C(512),
			.data = i % 2 ? SIM_DATA_RAW : SIM_DATA_FILE,
			.fill = (enum sim_fill)(i % 2 ? 2 + i / 2 % 2 : i / 2 % 4),
			.id = SIM_ID_IMAGE};

		data_file_is_clean(&g);
		sim_disk_fini(&data_disk);
	}
}

static void planted_errors_with_a_data_file_are_caught(void **state)
{
	const struct sim_geometry g = {.version = 3,
		.cluster_bits = 10,
		.refcount_order = 4,
		.guest_bytes = 200 * 512,
		.data = SIM_DATA_RAW,
		.fill = SIM_FILL_FULL,
		.id = SIM_ID_IMAGE};
	const uint8_t zeros[512] = {0};
	uint64_t entry;

	(void)state;
	data_file_is_clean(&g);
	entry = get(l2());
	assert_int_equal(entry, UINT64_C(1) << 63);
	plant(l2(), 0);
	caught("sector 0 of the raw data file");
	plant(l2(), entry | 1);
	caught("sector 0 of the raw data file");
	plant(l2(), entry | 1024);
	caught("M3");
	plant(l2() + 8, get(l2() + 8) & ~(UINT64_C(1) << 63));
	caught("M3");
	plant(l2(), entry);
	plant(l2() + 8, entry | 1024);
	assert_true(check());
	plant(88, 0);
	caught("header: data file");
	plant(88, 2);
	sim_disk_load(&data_disk, 512, zeros, sizeof(zeros));
	assert_true(check()); /* a value like another; the model says which */
	data_disk.found.size = 100 * 512;
	caught("the raw data file has");
	sim_disk_fini(&data_disk);
}

/* ---- qemu-img ---- */

static void load_file(const char *path)
{
	static uint8_t bytes[FILE_BYTES];
	FILE *f = fopen(path, "rb");
	size_t n;

	assert_non_null(f);
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	sim_disk_fini(&disk);
	sim_disk_init(&disk, FILE_BYTES, 512, false);
	sim_disk_load(&disk, 0, bytes, n);
}

static void qemu_image(const char *options, const char *commands)
{
	char dir[] = "/tmp/corral-raw-XXXXXX", command[1024], path[64];

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/image", dir);
	snprintf(command, sizeof(command), "cd %s && qemu-img create -q -f qcow2 -o %s image 1M && %s; r=$?; exit $r",
		dir, options, commands);
	assert_int_equal(system(command), 0);
	load_file(path);
	unlink(path);
	rmdir(dir);
	if (!check())
		fail_msg("%s: %s", options, raw.problem);
	assert_int_equal(raw.leaks, 0);
}

static void qemu_images_are_clean(void **state)
{
	const char *write =
		"qemu-io -f qcow2 -c 'write 0 64k' -c 'write 600k 100k' -c 'write -z 300k 64k' -c 'discard 8k 8k' image"
		" >/dev/null";

	(void)state;
	if (system("qemu-img --version >/dev/null 2>&1 && qemu-io --version >/dev/null 2>&1") != 0)
		skip();
	qemu_image("cluster_size=512", write);
	qemu_image("cluster_size=4096,refcount_bits=1", write);
	qemu_image("cluster_size=2048,refcount_bits=64", write);
	qemu_image("cluster_size=65536,compat=0.10", write);
	qemu_image("cluster_size=4096,preallocation=metadata", write);
	qemu_image("cluster_size=1024",
		"qemu-io -f qcow2 -c 'write 0 64k' image >/dev/null && qemu-img snapshot -c a image && "
		"qemu-io -f qcow2 -c 'write 16k 64k' image >/dev/null && qemu-img snapshot -c b image && "
		"qemu-io -f qcow2 -c 'write 0 4k' image >/dev/null");
	assert_int_equal(raw.header.snapshots, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_we_make_is_clean),
		TEST(every_geometry_is_clean),
		TEST(planted_errors_are_caught),
		TEST(a_missing_reference_is_a_leak_and_a_missing_refcount_is_not),
		TEST(the_refcount_table_must_describe_its_blocks),
		TEST(a_file_that_ends_too_early_is_caught),
		TEST(a_lost_header_is_caught),
		TEST(data_files_are_clean),
		TEST(planted_errors_with_a_data_file_are_caught),
		TEST(qemu_images_are_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
