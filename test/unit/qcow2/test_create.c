/* SPDX-License-Identifier: MIT */
/* New images: qcow2/create.c. The check, which shares no code with it but the header's, finds nothing wrong with them. */
#include "ram.h"

#include "qcow2/qcow2.h"

static void finding(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "%s\n", text);
}

static bool all_zero(const struct ram *r)
{
	for (uint64_t i = 0; i < r->node.size; i++) {
		if (r->data[i] != 0)
			return false;
	}
	return true;
}

static void created_is_sound(struct co *co, const struct qcow2_create *what)
{
	struct qcow2_create with_data = *what, *how = &with_data;
	struct ram *r = ram_new(co), *data = ram_new(co);
	struct qcow2_check found;
	struct qcow2_header h;
	struct err err = {0};

	with_data.data = &data->node;
	if (qcow2_create(co, &r->node, how, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	CHECK_INT(qcow2_header_load(co, &r->node, ~UINT64_C(0), &h, &err), 0);
	CHECK_INT(h.version, how->version);
	CHECK_INT(h.cluster_bits, how->cluster_bits);
	CHECK_INT(h.refcount_order, how->refcount_order);
	CHECK_INT(h.size, align_up(how->size, 512));
	CHECK_INT(h.compatible, how->lazy_refcounts);
	CHECK_INT(h.compression_type, how->compression_type);
	CHECK_INT((h.incompatible & QCOW2_INCOMPAT_EXTENDED_L2) != 0, how->extended_l2);
	CHECK_INT((h.incompatible & QCOW2_INCOMPAT_DATA_FILE) != 0, how->data_name != NULL);
	CHECK_INT((h.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) != 0, how->data_raw);
	CHECK(strcmp(h.data_file, how->data_name ? how->data_name : "") == 0);
	CHECK_INT(data->node.size, how->data_name ? h.size : 0);
	CHECK(all_zero(data));
	CHECK(strcmp(h.backing_name, how->backing_name ? how->backing_name : "") == 0);
	CHECK(strcmp(h.backing_format, how->backing_format ? how->backing_format : "") == 0);
	CHECK_INT(qcow2_check_run(co, &r->node, finding, NULL, &found, &err), 0);
	CHECK_INT(found.corruptions + found.leaks + found.check_errors, 0);
	CHECK_INT(found.allocated_clusters, how->preallocation || how->data_raw ? found.total_clusters : 0);
	CHECK_INT(found.fragmented_clusters, 0);
	CHECK_INT(found.image_end_offset, align_up(r->node.size, UINT64_C(1) << h.cluster_bits));
	CHECK_INT(node_close(co, &r->node), 0);
	CHECK_INT(node_close(co, &data->node), 0);
}

/* All orders of preallocation, with and without a data file and subclusters. */
static void every_preallocation(struct co *co, void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 4 * 2 * 2 * 2 * 2; i++) {
		struct qcow2_create how = {
			.size = (UINT64_C(1100) << 14) - 700 * (i / 16 % 2),
			.version = 3,
			.cluster_bits = 14,
			.refcount_order = i / 32 % 2 ? 6 : 4,
			.preallocation = i % 4,
			.extended_l2 = i / 4 % 2,
			.data_name = i / 8 % 2 ? "data" : NULL,
			.data_raw = i / 8 % 2 && i / 16 % 2,
			.compression_type = i / 4 % 2,
		};

		created_is_sound(co, &how);
		how.size = 0;
		created_is_sound(co, &how);
	}
}

static void every_shape(struct co *co, void *arg)
{
	(void)arg;
	for (unsigned bits = 9; bits <= 21; bits++) {
		for (unsigned order = 0; order <= 6; order++) {
			struct qcow2_create how = {
				.size = (UINT64_C(3000) << bits) + 1,
				.version = 3,
				.cluster_bits = bits,
				.refcount_order = order,
				.lazy_refcounts = order & 1,
			};

			created_is_sound(co, &how);
			how.preallocation = QCOW2_PREALLOCATE_METADATA;
			how.size = UINT64_C(1100) << bits;
			if (bits <= 14)
				created_is_sound(co, &how);
			how.version = 2;
			how.lazy_refcounts = false;
			if (bits <= 14 && order == 4)
				created_is_sound(co, &how);
		}
	}
}

/* Where refcount blocks and the refcount table have just enough room, and one cluster too little of it. */
static void every_size(struct co *co, void *arg)
{
	struct qcow2_create how = {
		.version = 3, .cluster_bits = 9, .refcount_order = 6, .preallocation = QCOW2_PREALLOCATE_METADATA};

	(void)arg;
	for (how.size = 0; how.size < 200 * 512; how.size += 512)
		created_is_sound(co, &how);
	for (how.size = 4000 * 512; how.size < 4400 * 512; how.size += 512)
		created_is_sound(co, &how);
	how.preallocation = QCOW2_PREALLOCATE_FALLOC;
	for (how.size = 0; how.size < 200 * 512; how.size += 512)
		created_is_sound(co, &how);
	for (how.size = 4000 * 512; how.size < 4400 * 512; how.size += 512)
		created_is_sound(co, &how);
	how.preallocation = QCOW2_PREALLOCATE_OFF;
	for (how.size = 0; how.size < 2 * GiB; how.size += 37 * MiB)
		created_is_sound(co, &how);
}

static void backing(struct co *co, void *arg)
{
	struct qcow2_create how = {
		.size = 5 * MiB,
		.version = 3,
		.cluster_bits = 16,
		.refcount_order = 4,
		.backing_name = "some, where/else",
		.backing_format = "qcow2",
	};
	char name[QCOW2_MAX_BACKING_NAME + 2];

	(void)arg;
	created_is_sound(co, &how);
	how.version = 2;
	created_is_sound(co, &how);
	memset(name, 'x', sizeof(name));
	name[QCOW2_MAX_BACKING_NAME] = '\0';
	how.backing_name = name;
	created_is_sound(co, &how);
}

static void header_is_last(struct co *co, void *arg)
{
	struct qcow2_create how = {.size = 5 * MiB,
		.version = 3,
		.cluster_bits = 12,
		.refcount_order = 4,
		.preallocation = QCOW2_PREALLOCATE_METADATA};
	struct ram *r = ram_new(co);
	struct err err = {0};

	(void)arg;
	CHECK_INT(qcow2_create(co, &r->node, &how, &err), 0);
	CHECK(r->header_written && r->header_durable);
	CHECK(r->flushes_before_header > 0);
	CHECK_INT(r->writes_after_header, 0);
	CHECK_INT(node_close(co, &r->node), 0);
}

/* Whichever request fails, the failure is told, and no half of an image is left that looks like one. */
static void every_failure(struct co *co, void *arg)
{
	struct qcow2_create how = {.size = 1 * MiB,
		.version = 3,
		.cluster_bits = 12,
		.refcount_order = 4,
		.preallocation = QCOW2_PREALLOCATE_METADATA};
	unsigned n = 0;
	int ret;

	(void)arg;
	do {
		struct ram *r = ram_new(co);
		struct err err = {0};

		r->fail_at = ++n;
		ret = qcow2_create(co, &r->node, &how, &err);
		CHECK(ret == 0 || (ret == -EIO && err.text[0] != '\0'));
		CHECK(ret == 0 || r->node.size < 4 || !qcow2_header_probe(r->data, 4));
		(void)!node_close(co, &r->node); /* a failed flush is told again */
	} while (ret != 0);
	CHECK(n > 5);
}

struct refusal {
	struct qcow2_create how;
	int code;
	const char *says;
};

static void test_what_is_refused(void **state)
{
	const struct refusal refusals[] = {
		{{.version = 1, .cluster_bits = 16, .refcount_order = 4}, -EINVAL, "not 1"},
		{{.version = 4, .cluster_bits = 16, .refcount_order = 4}, -EINVAL, "not 4"},
		{{.version = 3, .cluster_bits = 8, .refcount_order = 4}, -EINVAL, "Cluster size"},
		{{.version = 3, .cluster_bits = 22, .refcount_order = 4}, -EINVAL, "Cluster size"},
		{{.version = 3, .cluster_bits = 16, .refcount_order = 7}, -EINVAL, "Refcount width"},
		{{.version = 2, .cluster_bits = 16, .refcount_order = 3}, -EINVAL, "refcount widths"},
		{{.version = 2, .cluster_bits = 16, .refcount_order = 4, .lazy_refcounts = true}, -EINVAL, "Lazy"},
		{{.version = 3, .cluster_bits = 9, .refcount_order = 4, .size = 128 * GiB + 1}, -EFBIG, "too large"},
		{{.version = 3, .cluster_bits = 21, .refcount_order = 4, .size = UINT64_MAX}, -EFBIG, "2^63"},
		{{.version = 3,
			 .cluster_bits = 9,
			 .refcount_order = 6,
			 .size = 64 * GiB,
			 .preallocation = QCOW2_PREALLOCATE_METADATA},
			-EFBIG, "too large"},
		{{.version = 3,
			 .cluster_bits = 16,
			 .refcount_order = 4,
			 .backing_name = "x",
			 .preallocation = QCOW2_PREALLOCATE_METADATA},
			-EINVAL, "Backing"},
		{{.version = 2, .cluster_bits = 16, .refcount_order = 4, .extended_l2 = true}, -EINVAL, "Extended"},
		{{.version = 3, .cluster_bits = 13, .refcount_order = 4, .extended_l2 = true}, -EINVAL, "16384"},
		{{.version = 2, .cluster_bits = 16, .refcount_order = 4, .compression_type = 1}, -EINVAL, "zlib"},
		{{.version = 2, .cluster_bits = 16, .refcount_order = 4, .data_name = "x"}, -EINVAL, "data files"},
		{{.version = 3, .cluster_bits = 16, .refcount_order = 4, .data_raw = true}, -EINVAL, "requires"},
		{{.version = 3,
			 .cluster_bits = 16,
			 .refcount_order = 4,
			 .data_raw = true,
			 .data_name = "x",
			 .backing_name = "y"},
			-EINVAL, "same time"},
		{{.version = 3,
			 .cluster_bits = 9,
			 .refcount_order = 4,
			 .backing_name =
				 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
				 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
				 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
				 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
				 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},
			-ENAMETOOLONG, "fit"},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_ENTRIES(refusals); i++) {
		struct err err = {0};
		int ret = qcow2_create_check(&refusals[i].how, &err);

		if (ret != refusals[i].code || !strstr(err.text, refusals[i].says))
			fail_msg("refusal %u: %d, '%s'", i, ret, err.text);
	}
}

static void test_every_shape_is_sound(void **state) { (void)state, engine_run(every_shape, NULL); }
static void test_every_preallocation_is_sound(void **state) { (void)state, engine_run(every_preallocation, NULL); }
static void test_every_size_is_sound(void **state) { (void)state, engine_run(every_size, NULL); }
static void test_backing_names(void **state) { (void)state, engine_run(backing, NULL); }
static void test_the_header_is_last(void **state) { (void)state, engine_run(header_is_last, NULL); }
static void test_failures_are_told(void **state) { (void)state, engine_run(every_failure, NULL); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_every_shape_is_sound),
		cmocka_unit_test(test_every_preallocation_is_sound),
		cmocka_unit_test(test_every_size_is_sound),
		cmocka_unit_test(test_backing_names),
		cmocka_unit_test(test_the_header_is_last),
		cmocka_unit_test(test_failures_are_told),
	};

	return cmocka_run_group_tests_name("qcow2 create", tests, NULL, NULL);
}
