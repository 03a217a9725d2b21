/* SPDX-License-Identifier: MIT */
/*
 * Addresses and sizes at the limits of what 64 bits hold, and images whose refcounts offer the header's own cluster: nothing
 * wraps around, and nothing is ever put at offset 0.
 */
#include "ram.h"

#include "qcow2/qcow2.h"

#define CLUSTERS 40

static struct node *image_new(struct co *co, unsigned cluster_bits, struct ram **file)
{
	struct qcow2_create how = {.size = (uint64_t)CLUSTERS << cluster_bits,
		.version = 3,
		.cluster_bits = cluster_bits,
		.refcount_order = 4};
	struct err err = {0};

	*file = ram_new(co);
	CHECK_INT(qcow2_create(co, &(*file)->node, &how, &err), 0);
	return &(*file)->node;
}

static struct node *image_open(struct co *co, struct node *file)
{
	struct err err = {0};
	struct node *n;

	CHECK_INT(qcow2_open(co, file, &(struct qcow2_options){.write = true}, &n, &err), 0);
	return n;
}

static bool is_refused(int rc) { return rc == -ENOSPC || rc == -EINVAL || rc == -EFBIG || rc == -ENOTSUP; }

static void refused_everywhere(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	char data[512] = {0};
	struct iov claimed = IOV_BUF(data, len); /* longer than the memory: it must be refused before that is touched */

	CHECK(is_refused(node_read(co, n, off, claimed)));
	CHECK(is_refused(node_write(co, n, off, claimed, 0)));
	CHECK(is_refused(node_zero(co, n, off, len, 0)));
	CHECK(is_refused(node_zero(co, n, off, len, NODE_MAY_UNMAP)));
	CHECK(is_refused(node_discard(co, n, off, len)));
}

static void body_wrapping(struct co *co, void *arg)
{
	static const uint64_t sizes[] = {
		UINT64_MAX, UINT64_MAX - 511, (uint64_t)INT64_MAX + 1, INT64_MAX, UINT64_C(1) << 62};
	unsigned bits = *(unsigned *)arg;
	struct ram *file;
	struct node *n = image_open(co, image_new(co, bits, &file));
	uint64_t size = n->size;

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		CHECK(is_refused(node_resize(co, n, sizes[i])));
		CHECK_INT(n->size, size);
		refused_everywhere(co, n, sizes[i], 512);
		refused_everywhere(co, n, 512, sizes[i] - 1);
	}
	refused_everywhere(co, n, UINT64_MAX - 511, 512); /* the sum is 0 */
	refused_everywhere(co, n, size - 512, UINT64_MAX - size + 1024);
	refused_everywhere(co, n, size, 1);
	CHECK_INT(node_close(co, n), 0);
}

static void test_nothing_wraps(void **state)
{
	(void)state;
	for (unsigned bits = 9; bits <= 21; bits += 4)
		engine_run(body_wrapping, &bits);
}

/* Refcount 0 for the header's cluster, or no refcount block for it at all. */
static void header_uncounted(struct ram *file, bool whole_block)
{
	uint64_t table = ram_u64(file, 48), block = ram_u64(file, table);

	if (whole_block)
		ram_put_u64(file, table, 0);
	else
		file->data[block] = file->data[block + 1] = 0;
}

static void body_offset_0(struct co *co, void *arg)
{
	const bool *whole_block = arg;
	char data[4096], magic[8];
	struct node *n, *image;
	struct ram *file;

	memset(data, 0xdd, sizeof(data));
	image = image_new(co, 12, &file);
	header_uncounted(file, *whole_block);
	memcpy(magic, file->data, sizeof(magic));
	n = image_open(co, image);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < CLUSTERS; i++) {
			int rc = node_write(co, n, i * sizeof(data), IOV_BUF(data, sizeof(data)), 0);

			CHECK(*whole_block ? rc != 0 : rc == 0);
		}
		CHECK(*whole_block || node_discard(co, n, 0, n->size) == 0);
		CHECK(*whole_block || node_flush(co, n) == 0);
		CHECK(memcmp(file->data, magic, sizeof(magic)) == 0);
	}
	(void)node_close(co, n);
}

static void test_nothing_lies_at_offset_0(void **state)
{
	(void)state;
	engine_run(body_offset_0, &(bool){false});
	engine_run(body_offset_0, &(bool){true});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_wraps),
		cmocka_unit_test(test_nothing_lies_at_offset_0),
	};

	return cmocka_run_group_tests_name("qcow2 limits", tests, NULL, NULL);
}
