/* SPDX-License-Identifier: MIT */
/*
 * The repair: qcow2/repair*.c, on images in memory. What becomes of QEMU's images an interop test shows, and what power cuts
 * make of it the simulator; this one shows that it can fail at any request, be given up at any time, and go on later.
 */
#include "ram.h"

#include "qcow2/qcow2.h"

#define BITS 12
#define CLUSTER ((uint64_t)1 << BITS)
#define COPIED (UINT64_C(1) << 63)
#define OFFSET UINT64_C(0x00fffffffffffe00)
#define DATA_CLUSTERS 100
#define ALL (QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS)

static struct ram *image_new(struct co *co)
{
	struct qcow2_create how = {
		.size = DATA_CLUSTERS * CLUSTER,
		.version = 3,
		.cluster_bits = BITS,
		.refcount_order = 4,
		.preallocation = QCOW2_PREALLOCATE_METADATA,
	};
	struct ram *r = ram_new(co);
	struct err err = {0};

	CHECK_INT(qcow2_create(co, &r->node, &how, &err), 0);
	return r;
}

static uint64_t l1_at(const struct ram *r) { return ram_u64(r, 40); }
static uint64_t l2_at(const struct ram *r) { return ram_u64(r, l1_at(r)) & OFFSET; }
static uint64_t block_at(const struct ram *r) { return ram_u64(r, ram_u64(r, 48)); }

static void refcount_put(struct ram *r, uint64_t cluster, unsigned value)
{
	r->data[block_at(r) + 2 * cluster] = (uint8_t)(value >> 8);
	r->data[block_at(r) + 2 * cluster + 1] = (uint8_t)value;
}

/* ---- one damage each ---- */

static void refcounts_low(struct ram *r)
{
	for (uint64_t i = 0; i < DATA_CLUSTERS; i += 7)
		refcount_put(r, (ram_u64(r, l2_at(r) + 8 * i) & OFFSET) / CLUSTER, 0);
}
static void refcounts_high(struct ram *r)
{
	for (uint64_t i = 0; i < 90; i += 7)
		refcount_put(r, i, 3);
}
static void block_gone(struct ram *r) { ram_put_u64(r, ram_u64(r, 48), 0); }
static void block_far_away(struct ram *r) { ram_put_u64(r, ram_u64(r, 48), UINT64_C(1) << 40); }
static void block_on_l2(struct ram *r) { ram_put_u64(r, ram_u64(r, 48), l2_at(r)); }
static void table_far_away(struct ram *r) { ram_put_u64(r, 48, UINT64_C(1) << 40); }
static void flags_gone(struct ram *r)
{
	ram_put_u64(r, l1_at(r), ram_u64(r, l1_at(r)) & OFFSET);
	ram_put_u64(r, l2_at(r) + 64, ram_u64(r, l2_at(r) + 64) & OFFSET);
}
static void data_on_l1(struct ram *r) { ram_put_u64(r, l2_at(r), l1_at(r) | COPIED); }
static void bits(struct ram *r)
{
	ram_put_u64(r, 72, QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
	refcounts_low(r);
}
static void everything(struct ram *r)
{
	data_on_l1(r);
	flags_gone(r);
	refcounts_low(r);
	refcounts_high(r);
	block_on_l2(r);
}

static void (*const damages[])(struct ram *r) = {refcounts_low, refcounts_high, block_gone, block_far_away, block_on_l2,
	table_far_away, flags_gone, data_on_l1, bits, everything};

/* ---- repairing ---- */

static bool patient(void *arg, uint64_t done, uint64_t all)
{
	unsigned *left = arg;

	CHECK(done <= all);
	return *left == 0 || --*left > 0;
}

/* patience: progress is told so often before the user has enough; 0: for ever */
static int repair(struct co *co, struct ram *r, unsigned patience, struct qcow2_check *found)
{
	struct qcow2_check_how how = {.fix = ALL, .progress = patient, .arg = &patience};
	struct err err = {0};

	return qcow2_check_image(co, &r->node, &how, found, &err);
}

static void check_sound(struct co *co, struct ram *r)
{
	struct qcow2_check found;
	struct err err = {0};

	CHECK_INT(qcow2_check_run(co, &r->node, NULL, NULL, &found, &err), 0);
	CHECK_INT(found.corruptions, 0);
	CHECK_INT(found.leaks, 0);
	CHECK_INT(found.check_errors, 0);
}

static void check_nothing_left(struct co *co, struct ram *r)
{
	uint8_t *before = malloc(r->node.size);
	uint64_t size = r->node.size;
	struct qcow2_check found;

	CHECK(before != NULL);
	memcpy(before, r->data, size);
	CHECK_INT(repair(co, r, 0, &found), 0);
	CHECK_INT(found.corruptions_fixed + found.leaks_fixed, 0);
	CHECK_INT(r->node.size, size);
	CHECK(memcmp(before, r->data, size) == 0);
	CHECK_INT(ram_u64(r, 72), 0);
	free(before);
	check_sound(co, r);
}

static void every_damage(struct co *co, void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < ARRAY_ENTRIES(damages); i++) {
		struct ram *r = image_new(co);
		struct qcow2_check found;

		damages[i](r);
		CHECK_INT(repair(co, r, 0, &found), 0);
		CHECK_INT(found.corruptions + found.leaks + found.check_errors, 0);
		CHECK(found.corruptions_fixed + found.leaks_fixed > 0);
		check_nothing_left(co, r);
		CHECK_INT(node_close(co, &r->node), 0);
	}
}

/* ---- it is cut off ---- */

/* With the n-th request failing, then once more without. False: there were fewer. */
static bool failing_run(struct co *co, void (*damage)(struct ram *r), unsigned n)
{
	struct ram *r = image_new(co);
	struct qcow2_check found;
	bool reached;
	int ret;

	damage(r);
	r->requests = 0;
	r->fail_at = n;
	ret = repair(co, r, 0, &found);
	reached = r->requests >= n;
	r->fail_at = 0;
	r->node.failed = 0;
	/* Only where the file can't grow there is another way. */
	if (ret == 0 && found.check_errors == 0)
		check_sound(co, r);
	CHECK_INT(repair(co, r, 0, &found), 0);
	CHECK_INT(found.corruptions + found.leaks + found.check_errors, 0);
	check_nothing_left(co, r);
	CHECK_INT(node_close(co, &r->node), 0);
	return reached;
}

static void every_failure(struct co *co, void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < ARRAY_ENTRIES(damages); i++) {
		unsigned n = 1;

		while (failing_run(co, damages[i], n))
			n++;
		CHECK(n > 8);
	}
}

static void every_impatience(struct co *co, void *arg)
{
	bool finished = false;

	(void)arg;
	for (unsigned patience = 1; !finished; patience++) {
		struct ram *r = image_new(co);
		struct qcow2_check found;
		int ret;

		everything(r);
		ret = repair(co, r, patience, &found);
		CHECK(ret == 0 || ret == -ECANCELED);
		finished = ret == 0;
		CHECK(!finished || patience > 1);
		CHECK_INT(repair(co, r, 0, &found), 0);
		check_nothing_left(co, r);
		CHECK_INT(node_close(co, &r->node), 0);
	}
}

/* ---- what must be left alone ---- */

static void l1_damaged(struct co *co, void *arg)
{
	struct ram *r = image_new(co);
	uint64_t entry = ram_u64(r, l1_at(r));
	struct qcow2_check found;

	(void)arg;
	/* What the entry referred to looks leaked. It must still be there when the entry is found again. */
	ram_put_u64(r, l1_at(r), COPIED | UINT64_C(1) << 40);
	CHECK_INT(repair(co, r, 0, &found), 0);
	CHECK(found.corruptions > 0);
	CHECK_INT(found.leaks, DATA_CLUSTERS + 1);
	CHECK_INT(found.leaks_fixed, 0);
	ram_put_u64(r, l1_at(r), entry);
	check_nothing_left(co, r);
	CHECK_INT(node_close(co, &r->node), 0);
}

/* A reference from an extension that nobody here knows: the refcount that it raised stays, and nobody may write in place. */
static void unknown_references(struct co *co, void *arg)
{
	struct ram *r = image_new(co);
	uint64_t entry = ram_u64(r, l2_at(r)), cluster = (entry & OFFSET) / CLUSTER;
	struct qcow2_header h;
	struct qcow2_check found;
	struct err err = {0};

	(void)arg;
	ram_put_u64(r, 72, QCOW2_INCOMPAT_DIRTY);
	ram_put_u64(r, l2_at(r), entry & ~COPIED);
	refcount_put(r, cluster, 2);
	refcount_put(r, cluster + 1, 0);
	CHECK_INT(qcow2_header_load(co, &r->node, QCOW2_INCOMPAT_DIRTY, &h, &err), 0);
	h.unknown_extensions = true;
	CHECK_INT(qcow2_recover(co, &r->node, &h, &err), 0);
	CHECK(ram_u64(r, l2_at(r)) == (entry & ~COPIED));
	CHECK_INT(qcow2_check_run(co, &r->node, NULL, NULL, &found, &err), 0);
	CHECK_INT(found.corruptions, 0);
	CHECK_INT(found.leaks, 1);
	CHECK_INT(node_close(co, &r->node), 0);
}

/* Something refers to where the file could grow: new structures mustn't be put there, but in a gap, if there is one. */
static void dangling(struct co *co, void *arg)
{
	struct ram *r = image_new(co);
	uint64_t size = r->node.size, behind = align_up(size, CLUSTER) + CLUSTER;
	struct qcow2_check found;
	struct err err = {0};

	(void)arg;
	ram_put_u64(r, l2_at(r) + 8, COPIED | behind);
	block_gone(r);
	CHECK_INT(repair(co, r, 0, &found), -ENOSPC);
	CHECK_INT(r->node.size, size);
	for (unsigned i = 50; i < 55; i++)
		ram_put_u64(r, l2_at(r) + 8 * i, 0);
	CHECK_INT(repair(co, r, 0, &found), 0);
	CHECK_INT(r->node.size, size);
	CHECK_INT(qcow2_check_run(co, &r->node, NULL, NULL, &found, &err), 0);
	CHECK_INT(found.corruptions, 1);
	CHECK_INT(found.leaks, 0);
	CHECK_INT(node_close(co, &r->node), 0);
}

static void test_each_damage_is_repaired(void **state) { (void)state, engine_run(every_damage, NULL); }
static void test_it_goes_on_after_any_failure(void **state) { (void)state, engine_run(every_failure, NULL); }
static void test_it_can_be_given_up(void **state) { (void)state, engine_run(every_impatience, NULL); }
static void test_what_a_damaged_table_meant_is_kept(void **state) { (void)state, engine_run(l1_damaged, NULL); }
static void test_references_of_unknown_extensions_are_kept(void **state)
{
	(void)state, engine_run(unknown_references, NULL);
}
static void test_dangling_pointers_hit_nothing(void **state) { (void)state, engine_run(dangling, NULL); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_damage_is_repaired),
		cmocka_unit_test(test_it_goes_on_after_any_failure),
		cmocka_unit_test(test_it_can_be_given_up),
		cmocka_unit_test(test_what_a_damaged_table_meant_is_kept),
		cmocka_unit_test(test_references_of_unknown_extensions_are_kept),
		cmocka_unit_test(test_dangling_pointers_hit_nothing),
	};

	return cmocka_run_group_tests_name("qcow2 repair", tests, NULL, NULL);
}
