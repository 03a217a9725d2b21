/* SPDX-License-Identifier: MIT */
/*
 * The check: qcow2/check*.c, on images in memory that are made and then damaged. What it finds in QEMU's images is compared
 * with qemu-img's findings by an interop test; this one shows what that can't: that each failure of the file is told, and
 * findings that QEMU doesn't have.
 */
#include "ram.h"

#include "qcow2/qcow2.h"

#define BITS 12
#define CLUSTER ((uint64_t)1 << BITS)
#define COPIED (UINT64_C(1) << 63)
#define OFFSET UINT64_C(0x00fffffffffffe00)
#define DATA_CLUSTERS 100

struct report {
	struct qcow2_check found;
	unsigned lines;
	char text[4096];
};

static void collect(void *arg, const char *text)
{
	struct report *report = arg;
	size_t used = strlen(report->text);

	report->lines++;
	snprintf(report->text + used, sizeof(report->text) - used, "%s\n", text);
}

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

static int check(struct co *co, struct ram *r, struct report *report)
{
	struct err err = {0};

	memset(report, 0, sizeof(*report));
	return qcow2_check_run(co, &r->node, collect, report, &report->found, &err);
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

struct damage {
	const char *name;
	void (*inflict)(struct ram *r);
	uint64_t corruptions, leaks, check_errors;
	const char *says;
};

static void nothing(struct ram *r) { (void)r; }
static void refcount_zero(struct ram *r) { refcount_put(r, (ram_u64(r, l2_at(r)) & OFFSET) / CLUSTER, 0); }
static void refcount_high(struct ram *r) { refcount_put(r, 0, 7); }
static void unmapped(struct ram *r) { ram_put_u64(r, l2_at(r) + 8 * 5, 0); }
static void reserved_bit(struct ram *r) { ram_put_u64(r, l2_at(r), ram_u64(r, l2_at(r)) | 2); }
static void beyond_the_end(struct ram *r) { ram_put_u64(r, l2_at(r), COPIED | r->node.size * 16); }
static void at_the_top(struct ram *r) { ram_put_u64(r, l2_at(r), COPIED | (OFFSET & -CLUSTER)); }
static void not_copied(struct ram *r) { ram_put_u64(r, l2_at(r), ram_u64(r, l2_at(r)) & OFFSET); }
static void l1_not_copied(struct ram *r) { ram_put_u64(r, l1_at(r), ram_u64(r, l1_at(r)) & OFFSET); }
static void block_gone(struct ram *r) { ram_put_u64(r, ram_u64(r, 48), 0); }
static void block_unaligned(struct ram *r) { ram_put_u64(r, ram_u64(r, 48), block_at(r) + 512); }
static void zero_mark(struct ram *r) { ram_put_u64(r, l2_at(r), ram_u64(r, l2_at(r)) | 1); }

/* Guest data where the L1 table lies, with a refcount of two, as it would be. QEMU finds only the flag wrong. */
static void data_on_l1(struct ram *r)
{
	refcount_put(r, (ram_u64(r, l2_at(r)) & OFFSET) / CLUSTER, 0);
	refcount_put(r, l1_at(r) / CLUSTER, 2);
	ram_put_u64(r, l2_at(r), l1_at(r));
}

/* Two guest clusters in one host cluster, honestly counted, are no damage. */
static void honestly_shared(struct ram *r)
{
	uint64_t second = ram_u64(r, l2_at(r) + 8) & OFFSET;

	refcount_put(r, second / CLUSTER, 2);
	refcount_put(r, (ram_u64(r, l2_at(r)) & OFFSET) / CLUSTER, 0);
	ram_put_u64(r, l2_at(r), second);
	ram_put_u64(r, l2_at(r) + 8, second);
}

static void compressed_beyond(struct ram *r)
{
	ram_put_u64(r, l2_at(r), UINT64_C(1) << 62 | ((UINT64_C(1) << 56) - 512));
}

static void snapshots_of_zeros(struct ram *r)
{
	uint64_t end = align_up(r->node.size, CLUSTER);

	r->data[63] = 1;
	ram_put_u64(r, 64, end - CLUSTER); /* the last data cluster, which holds zeros */
}

static const struct damage damages[] = {
	{"nothing", nothing, 0, 0, 0, ""},
	{"refcount 0", refcount_zero, 2, 0, 0, "refcount=0 reference=1"},
	{"refcount 7", refcount_high, 0, 1, 0, "Leaked cluster 0 refcount=7 reference=1"},
	{"unmapped", unmapped, 0, 1, 0, "Leaked cluster"},
	{"reserved bit", reserved_bit, 1, 0, 0, "reserved bits set"},
	{"beyond the end", beyond_the_end, 2, 1, 0, "exceeding the end of the file"},
	{"at the top", at_the_top, 2, 1, 0, "exceeding the end of the file"},
	{"not copied", not_copied, 1, 0, 0, "OFLAG_COPIED data cluster"},
	{"L1 not copied", l1_not_copied, 1, 0, 0, "OFLAG_COPIED L2 cluster: l1_index=0"},
	{"zero mark", zero_mark, 0, 0, 0, ""},
	{"data on L1", data_on_l1, 1, 0, 0, "used both as L1 table and as guest data"},
	{"honestly shared", honestly_shared, 0, 0, 0, ""},
	{"compressed beyond", compressed_beyond, 1, 1, 0, "exceeding the end of the file"},
	{"a snapshot in guest data", snapshots_of_zeros, 2, 0, 0, "snapshot table entry 0 is incomplete"},
};

static void every_damage(struct co *co, void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < ARRAY_ENTRIES(damages); i++) {
		const struct damage *d = &damages[i];
		struct ram *r = image_new(co);
		struct report report;

		d->inflict(r);
		CHECK_INT(check(co, r, &report), 0);
		if (report.found.corruptions != d->corruptions || report.found.leaks != d->leaks ||
			report.found.check_errors != d->check_errors || !strstr(report.text, d->says)) {
			fprintf(stderr, "%s: %u corruptions, %u leaks, %u errors\n%s", d->name,
				(unsigned)report.found.corruptions, (unsigned)report.found.leaks,
				(unsigned)report.found.check_errors, report.text);
			abort();
		}
		CHECK_INT(report.lines, d->corruptions + d->leaks + d->check_errors);
		CHECK_INT(node_close(co, &r->node), 0);
	}
}

/* Every cluster that such a block counts is one that can't be checked. */
static void refcount_blocks(struct co *co, void *arg)
{
	struct ram *r = image_new(co);
	uint64_t clusters = r->node.size / CLUSTER;
	struct report report;

	(void)arg;
	block_unaligned(r);
	CHECK_INT(check(co, r, &report), 0);
	CHECK_INT(report.found.check_errors, clusters);
	CHECK_INT(report.found.corruptions, 1);
	CHECK_INT(node_close(co, &r->node), 0);

	r = image_new(co);
	block_gone(r);
	CHECK_INT(check(co, r, &report), 0);
	/* Every cluster but the block itself is short of a reference; the flags of what is mapped are all wrong. */
	CHECK_INT(report.found.corruptions, clusters - 1 + DATA_CLUSTERS + 1);
	CHECK_INT(node_close(co, &r->node), 0);
}

/* ---- the file fails ---- */

static void every_failure(struct co *co, void *arg)
{
	struct ram *r = image_new(co);
	struct report report;
	unsigned total;

	(void)arg;
	r->requests = 0;
	CHECK_INT(check(co, r, &report), 0);
	total = r->requests;
	CHECK(total > 4);
	for (unsigned n = 1; n <= total; n++) {
		r->requests = 0;
		r->fail_at = n;
		CHECK(check(co, r, &report) == -EIO || report.found.check_errors > 0);
	}
	CHECK_INT(node_close(co, &r->node), 0);
}

/* ---- what isn't believed ---- */

static void not_an_image(struct co *co, void *arg)
{
	struct ram *r = ram_new(co);
	struct report report;

	(void)arg;
	CHECK_INT(check(co, r, &report), -EINVAL);
	CHECK_INT(node_resize(co, &r->node, 70), 0);
	CHECK_INT(check(co, r, &report), -EINVAL);
	CHECK_INT(node_close(co, &r->node), 0);
	r = image_new(co);
	r->data[72] = 0x80; /* an incompatible feature that nobody knows */
	CHECK_INT(check(co, r, &report), -ENOTSUP);
	CHECK_INT(node_close(co, &r->node), 0);
}

static void test_each_damage_is_found(void **state) { (void)state, engine_run(every_damage, NULL); }
static void test_refcount_blocks(void **state) { (void)state, engine_run(refcount_blocks, NULL); }
static void test_failures_are_told(void **state) { (void)state, engine_run(every_failure, NULL); }
static void test_what_is_no_image(void **state) { (void)state, engine_run(not_an_image, NULL); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_damage_is_found),
		cmocka_unit_test(test_refcount_blocks),
		cmocka_unit_test(test_failures_are_told),
		cmocka_unit_test(test_what_is_no_image),
	};

	return cmocka_run_group_tests_name("qcow2 check", tests, NULL, NULL);
}
