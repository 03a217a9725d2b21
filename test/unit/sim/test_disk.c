/* SPDX-License-Identifier: MIT */
/* The simulated disk keeps to the rules A1 to A7: what a power cut may leave, and what it may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/uio.h>

#include "disk.h"

static struct sim_disk disk;
static struct sim_rng rng;

static int set_up(void **state)
{
	(void)state;
	sim_disk_init(&disk, 64 * 512, 512, false);
	sim_rng_init(&rng, 1, 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sim_disk_fini(&disk);
	return 0;
}

/* Submits a write of n stamped sectors. */
static uint32_t put(uint32_t sector, uint32_t n, uint32_t id)
{
	uint8_t bytes[16 * 512];

	for (uint32_t i = 0; i < n; i++)
		sim_stamp_put(bytes + i * 512, sim_tag(sector + i, id));
	return sim_disk_write(&disk, sector * 512, &(struct iovec){bytes, n * 512}, n * 512);
}

static void put_done(uint32_t sector, uint32_t n, uint32_t id) { sim_disk_end(&disk, put(sector, n, id), UINT32_MAX); }

static void flush(void) { sim_disk_flush_end(&disk, sim_disk_flush_begin(&disk)); }

static uint64_t found(uint32_t sector)
{
	return sector * UINT64_C(512) < disk.found.size ? disk.versions[disk.found.version[sector]].tag : 0;
}

static uint64_t now_reads(uint32_t sector)
{
	uint8_t bytes[512] = {0};

	sim_disk_read(&disk, sector * 512, &(struct iovec){bytes, 512}, 512, &rng);
	return sim_stamp_get(bytes);
}

/* A set of bits: which of ids 0 to 62 a power cut may leave in the sector; bit 63 is zeros. */
static uint64_t possible(uint32_t sector)
{
	uint64_t n = sim_disk_cuts(&disk, 100000), set = 0;

	assert_true(n <= 100000);
	for (uint64_t i = 0; i < n; i++) {
		sim_disk_cut_nth(&disk, i);
		set |= UINT64_C(1) << (found(sector) ? sim_tag_id(found(sector)) : 63);
		sim_disk_cut_undo(&disk);
	}
	return set;
}

#define ZEROS (UINT64_C(1) << 63)

static void sectors_are_lost_independently(void **state)
{
	unsigned seen = 0;

	(void)state;
	put_done(0, 2, 1);
	flush();
	put_done(0, 2, 2);
	assert_int_equal(sim_disk_cuts(&disk, 100), 4);
	for (uint64_t i = 0; i < 4; i++) {
		sim_disk_cut_nth(&disk, i);
		seen |= 1u << ((sim_tag_id(found(0)) - 1) * 2 + sim_tag_id(found(1)) - 1);
		sim_disk_cut_undo(&disk);
	}
	assert_int_equal(seen, 15);
}

static void any_version_since_the_flush_may_come_back(void **state)
{
	(void)state;
	put_done(3, 1, 1);
	put_done(3, 1, 2);
	put_done(3, 1, 3);
	assert_int_equal(possible(3), ZEROS | 2 | 4 | 8);
	assert_int_equal(sim_tag_id(now_reads(3)), 3);
	flush();
	assert_int_equal(possible(3), 8);
}

static void a_flush_covers_what_ended_before_it_began(void **state)
{
	uint32_t late;
	uint64_t covers;

	(void)state;
	put_done(0, 1, 1);
	late = put(1, 1, 2);
	covers = sim_disk_flush_begin(&disk);
	sim_disk_end(&disk, late, UINT32_MAX);
	sim_disk_flush_end(&disk, covers);
	assert_int_equal(possible(0), 2);
	assert_int_equal(possible(1), ZEROS | 4);
}

static void what_a_failed_flush_lost_may_turn_out_to_be_anything(void **state)
{
	uint64_t seen = 0;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		put_done(0, 1, 1);
		flush();
		put_done(0, 1, 2);
		sim_disk_flush_failed(&disk, sim_disk_flush_begin(&disk));
		assert_int_equal(sim_tag_id(now_reads(0)), 2);
		put_done(1, 1, 3); /* too late to be lost */
		sim_disk_drop(&disk, &rng);
		assert_int_equal(possible(0), 2 | 4);
		assert_int_equal(sim_tag_id(now_reads(1)), 3);
		seen |= UINT64_C(1) << sim_tag_id(now_reads(0));
		flush();
		assert_int_equal(possible(0), UINT64_C(1) << sim_tag_id(now_reads(0)));
	}
	assert_int_equal(seen, 2 | 4);
}

static void a_failed_flush_is_final(void **state)
{
	(void)state;
	put_done(0, 1, 1);
	flush();
	put_done(0, 1, 2);
	sim_disk_flush_failed(&disk, sim_disk_flush_begin(&disk));
	flush();
	assert_int_equal(possible(0), 2 | 4);
	put_done(0, 1, 3);
	flush();
	assert_int_equal(possible(0), 8);
}

static void a_forced_write_makes_only_itself_durable(void **state)
{
	uint32_t w;

	(void)state;
	put_done(0, 1, 1);
	w = put(2, 1, 2);
	sim_disk_end(&disk, w, UINT32_MAX);
	sim_disk_force(&disk, w);
	assert_int_equal(possible(2), 4);
	assert_int_equal(possible(0), ZEROS | 2);
}

static void a_punch_may_be_lost_in_part(void **state)
{
	(void)state;
	put_done(0, 4, 1);
	flush();
	sim_disk_end(&disk, sim_disk_zero(&disk, 0, 4 * 512, false), UINT32_MAX);
	assert_int_equal(sim_disk_cuts(&disk, 1000), 16);
	assert_int_equal(possible(2), ZEROS | 2);
	assert_int_equal(now_reads(2), 0);
}

static void the_size_is_volatile(void **state)
{
	(void)state;
	put_done(0, 1, 1);
	flush();
	put_done(10, 1, 2);
	assert_int_equal(disk.size, 11 * 512);
	sim_disk_cut(&disk, SIM_CUT_OLD, &rng);
	assert_int_equal(disk.found.size, 512);
	sim_disk_cut_undo(&disk);
	sim_disk_end(&disk, sim_disk_truncate(&disk, 2 * 512), UINT32_MAX);
	flush();
	assert_int_equal(disk.durable_size, 2 * 512);
	assert_int_equal(possible(10), ZEROS);
}

static void extending_writes_may_end_in_any_order(void **state)
{
	uint32_t far, near;

	(void)state;
	far = put(20, 1, 1);
	near = put(5, 1, 2);
	sim_disk_end(&disk, near, UINT32_MAX);
	flush();
	assert_int_equal(disk.durable_size, 6 * 512);
	assert_int_equal(possible(5), 4);
	sim_disk_end(&disk, far, UINT32_MAX);
	assert_int_equal(disk.size, 21 * 512);
}

static void a_short_write_leaves_the_rest(void **state)
{
	(void)state;
	put_done(0, 4, 1);
	flush();
	sim_disk_end(&disk, put(0, 4, 2), 1);
	assert_int_equal(possible(0), 2 | 4);
	assert_int_equal(possible(1), 2);
}

static void two_writes_in_flight_in_one_sector_are_refused(void **state)
{
	uint32_t first;

	(void)state;
	first = put(4, 4, 1);
	assert_int_equal(put(7, 1, 2), 0);
	assert_int_not_equal(put(8, 1, 3), 0);
	sim_disk_end(&disk, first, UINT32_MAX);
	assert_int_not_equal(put(7, 1, 2), 0);
}

static void a_read_beside_a_write_sees_either(void **state)
{
	bool old = false, new = false;

	(void)state;
	put_done(0, 1, 1);
	put(0, 1, 2);
	for (unsigned i = 0; i < 100; i++) {
		uint32_t id = sim_tag_id(now_reads(0));

		old |= id == 1;
		new |= id == 2;
	}
	assert_true(old && new);
}

static void changed_memory_is_noticed(void **state)
{
	uint8_t bytes[1024];
	struct iovec v = {bytes, sizeof(bytes)};
	uint32_t w;

	(void)state;
	sim_stamp_put(bytes, 7);
	sim_stamp_put(bytes + 512, 8);
	w = sim_disk_write(&disk, 0, &v, sizeof(bytes));
	assert_true(sim_disk_same(&disk, w, 0, &v, sizeof(bytes)));
	bytes[700]++;
	assert_false(sim_disk_same(&disk, w, 0, &v, sizeof(bytes)));
}

static void small_writes_keep_the_rest_of_a_sector(void **state)
{
	uint8_t bytes[512], back[512];
	char two[] = {'b', 'b'};

	(void)state;
	memset(bytes, 'a', sizeof(bytes));
	sim_disk_end(&disk, sim_disk_write(&disk, 0, &(struct iovec){bytes, 512}, 512), UINT32_MAX);
	sim_disk_end(&disk, sim_disk_write(&disk, 8, &(struct iovec){two, 2}, 2), UINT32_MAX);
	sim_disk_read(&disk, 0, &(struct iovec){back, 512}, 512, &rng);
	memcpy(bytes + 8, "bb", 2);
	assert_memory_equal(back, bytes, 512);
}

static void a_cut_becomes_the_disk(void **state)
{
	(void)state;
	put_done(0, 2, 1);
	flush();
	put_done(0, 2, 2);
	put(5, 1, 3);
	sim_disk_cut(&disk, SIM_CUT_OLD, &rng);
	sim_disk_become(&disk);
	assert_int_equal(sim_tag_id(now_reads(0)), 1);
	assert_int_equal(disk.size, 2 * 512);
	assert_int_equal(sim_disk_cuts(&disk, 10), 1);
	put_done(5, 1, 4);
	assert_int_equal(possible(5), ZEROS | 16);
}

static void large_sectors_are_not_torn(void **state)
{
	struct sim_disk big;
	uint8_t bytes[4096];

	(void)state;
	sim_disk_init(&big, 65536, 4096, true);
	for (unsigned i = 0; i < 8; i++)
		sim_stamp_put(bytes + i * 512, sim_tag(i, 1));
	sim_disk_end(&big, sim_disk_write(&big, 0, &(struct iovec){bytes, 4096}, 4096), UINT32_MAX);
	assert_int_equal(sim_disk_cuts(&big, 100), 2);
	for (unsigned k = 0; k < 200; k++) {
		sim_disk_cut(&big, (enum sim_cut)(k % SIM_CUT_KINDS), &rng);
		for (unsigned i = 1; i < 8; i++)
			assert_int_equal(
				big.versions[big.found.version[i]].write, big.versions[big.found.version[0]].write);
		sim_disk_cut_undo(&big);
	}
	sim_disk_fini(&big);
}

static void a_device_has_garbage_where_it_was_never_written(void **state)
{
	struct sim_disk dev;
	uint8_t back[512];

	(void)state;
	sim_disk_init(&dev, 65536, 512, true);
	assert_int_equal(sim_disk_read(&dev, 512, &(struct iovec){back, 512}, 512, &rng), 512);
	assert_int_equal(sim_stamp_get(back), sim_tag_garbage(1));
	sim_disk_fini(&dev);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sectors_are_lost_independently),
		TEST(any_version_since_the_flush_may_come_back),
		TEST(a_flush_covers_what_ended_before_it_began),
		TEST(a_failed_flush_is_final),
		TEST(what_a_failed_flush_lost_may_turn_out_to_be_anything),
		TEST(a_forced_write_makes_only_itself_durable),
		TEST(a_punch_may_be_lost_in_part),
		TEST(the_size_is_volatile),
		TEST(extending_writes_may_end_in_any_order),
		TEST(a_short_write_leaves_the_rest),
		TEST(two_writes_in_flight_in_one_sector_are_refused),
		TEST(a_read_beside_a_write_sees_either),
		TEST(changed_memory_is_noticed),
		TEST(small_writes_keep_the_rest_of_a_sector),
		TEST(a_cut_becomes_the_disk),
		TEST(large_sectors_are_not_torn),
		TEST(a_device_has_garbage_where_it_was_never_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
