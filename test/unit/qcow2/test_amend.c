/* SPDX-License-Identifier: MIT */
/*
 * Amendments (qcow2/amend*.c) of images in memory: any request may fail, they may be given up, and what was half done is
 * done by the next one. What they come to an interop test holds against qemu-img, what power cuts make of them is the
 * simulator's business.
 */
#include "ram.h"

#include "qcow2/qcow2.h"

#define BITS 9
#define CLUSTER ((uint64_t)1 << BITS)
#define CLUSTERS 200
#define BACKED 120 /* clusters of the backing file */

struct bytes {
	uint8_t *data;
	uint64_t size;
};

struct fixture {
	struct bytes image, back;
	uint8_t content[CLUSTERS * CLUSTER], old[CLUSTERS * CLUSTER]; /* the disk, and its snapshot */
};

static struct ram *ram_of_bytes(struct co *co, const struct bytes *b)
{
	struct ram *r = ram_new(co);

	r->data = malloc(b->size);
	CHECK(r->data != NULL);
	memcpy(r->data, b->data, b->size);
	r->node.size = b->size;
	return r;
}

static int kept_close(struct co *co, struct node *n)
{
	(void)co;
	node_fini(n);
	return 0;
}

/* A file whose memory outlives its closing. */
static const struct node_ops kept_ops = {
	.name = "ram",
	.read = ram_read,
	.write = ram_write,
	.flush = ram_flush,
	.resize = ram_resize,
	.close = kept_close,
};

/* What such a file, which is closed, held. */
static struct bytes ram_end(struct ram *r)
{
	struct bytes b = {r->data, r->node.size};

	free(r);
	return b;
}

/* Opened over a backing file, if there is one. NULL: it can't be. */
static struct node *image_open(struct co *co, struct ram *r, const struct bytes *back, bool write)
{
	struct qcow2_options options = {.write = write};
	struct err err = {0};
	struct node *n;

	if (qcow2_open(co, &r->node, &options, &n, &err))
		return NULL;
	if (back->data)
		n->backing = &ram_of_bytes(co, back)->node;
	return n;
}

/* Closes an image; what its file holds then. */
static struct bytes image_close(struct co *co, struct node *n)
{
	struct ram *r = ram_of(n->file);

	r->node.ops = &kept_ops;
	CHECK_INT(node_close(co, n), 0);
	return ram_end(r);
}

static void put(struct co *co, struct node *n, uint64_t cluster, uint64_t count, char value)
{
	char data[CLUSTER];

	memset(data, value, sizeof(data));
	for (uint64_t i = 0; i < count; i++)
		CHECK_INT(node_write(co, n, (cluster + i) * CLUSTER, IOV_BUF(data, sizeof(data)), 0), 0);
}

static void zero(struct co *co, struct node *n, uint64_t cluster, uint64_t count, unsigned flags)
{
	CHECK_INT(node_zero(co, n, cluster * CLUSTER, count * CLUSTER, flags), 0);
}

static void disk_read(struct co *co, struct node *n, uint8_t *to)
{
	CHECK_INT(node_read(co, n, 0, IOV_BUF(to, CLUSTERS * CLUSTER)), 0);
}

/* Data, zeros with and without space, a snapshot of it, and changes since. */
static struct fixture *fixture_new(struct co *co, unsigned version, bool backed)
{
	const struct qcow2_create how = {
		.size = CLUSTERS * CLUSTER, .version = version, .cluster_bits = BITS, .refcount_order = 4};
	struct fixture *t = calloc(1, sizeof(*t));
	struct qcow2_snapshot_new snapshot = {.name = "one"};
	struct ram *r = ram_new(co);
	struct err err = {0};
	struct node *n;

	CHECK(t != NULL);
	if (backed) {
		t->back = (struct bytes){malloc(BACKED * CLUSTER), BACKED * CLUSTER};
		CHECK(t->back.data != NULL);
		memset(t->back.data, 'b', t->back.size);
	}
	CHECK_INT(qcow2_create(co, &r->node, &how, &err), 0);
	n = image_open(co, r, &t->back, true);
	CHECK(n != NULL);
	put(co, n, 3, 60, 'x');
	put(co, n, 100, 40, 'y');
	zero(co, n, 10, 20, 0);
	zero(co, n, 70, 5, NODE_MAY_UNMAP);
	zero(co, n, 130, 4, NODE_MAY_UNMAP);
	CHECK_INT(qcow2_snapshot_create(co, n, &snapshot, &err), 0);
	disk_read(co, n, t->old);
	put(co, n, 5, 7, 'z');
	zero(co, n, 40, 9, NODE_MAY_UNMAP);
	zero(co, n, 115, 9, 0);
	disk_read(co, n, t->content);
	t->image = image_close(co, n);
	return t;
}

static void fixture_free(struct fixture *t)
{
	free(t->image.data);
	free(t->back.data);
	free(t);
}

static void finding(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "%s\n", text);
}

/* The next opening for writing finds what an interruption has leaked, and COPIED flags that are missing. */
static struct ram *settled(struct co *co, struct fixture *t, struct ram *r)
{
	struct node *n = image_open(co, r, &t->back, true);
	struct bytes b;

	CHECK(n != NULL);
	while (!qcow2_node_stats(n)->leaks_searched)
		co_yield(co);
	b = image_close(co, n);
	r = ram_of_bytes(co, &b);
	free(b.data);
	return r;
}

/* Neither errors nor leaks; the disk and its snapshot are what they were. Closes r. */
static void judge(struct co *co, struct fixture *t, struct ram *r)
{
	uint8_t *now = malloc(sizeof(t->content));
	struct qcow2_check found;
	struct err err = {0};
	struct node *n;
	struct bytes b;

	CHECK(now != NULL);
	CHECK_INT(qcow2_check_run(co, &r->node, finding, NULL, &found, &err), 0);
	CHECK_INT(found.corruptions, 0);
	CHECK_INT(found.check_errors, 0);
	CHECK_INT(found.leaks, 0);
	n = image_open(co, r, &t->back, false);
	CHECK(n != NULL);
	disk_read(co, n, now);
	CHECK(memcmp(now, t->content, sizeof(t->content)) == 0);
	b = image_close(co, n);
	r = ram_of_bytes(co, &b);
	CHECK_INT(qcow2_open(co, &r->node, &(struct qcow2_options){.snapshot = "one"}, &n, &err), 0);
	if (t->back.data)
		n->backing = &ram_of_bytes(co, &t->back)->node;
	disk_read(co, n, now);
	CHECK(memcmp(now, t->old, sizeof(t->old)) == 0);
	CHECK_INT(node_close(co, n), 0);
	free(b.data);
	free(now);
}

/* Amends a copy of the image, of which request fail_at fails (0: none); *after is what it has become. */
static int amend(struct co *co, struct fixture *t, const struct bytes *from, const struct qcow2_amend *how,
	unsigned fail_at, struct bytes *after, unsigned *requests)
{
	struct ram *r = ram_of_bytes(co, from);
	struct node *n = image_open(co, r, &t->back, true);
	struct err err = {0};
	int rc;

	CHECK(n != NULL);
	r->node.ops = &kept_ops;
	r->requests = 0;
	r->fail_at = fail_at;
	rc = qcow2_amend(co, n, how, &err);
	CHECK((rc != 0) == (err.text[0] != 0));
	*requests = r->requests;
	*after = ram_end(r);
	return rc;
}

/* The N-th request fails, N = 1 ... all; what is left is sound and reads as before, and the next attempt succeeds. */
static void fail_everywhere(struct co *co, struct fixture *t, const struct qcow2_amend *how)
{
	unsigned requests, all;
	struct bytes after, done;

	CHECK_INT(amend(co, t, &t->image, how, 0, &done, &all), 0);
	CHECK(all > 10);
	judge(co, t, ram_of_bytes(co, &done));
	free(done.data);
	for (unsigned at = 1; at <= all; at++) {
		(void)!amend(co, t, &t->image, how, at, &after, &requests);
		judge(co, t, settled(co, t, ram_of_bytes(co, &after)));
		CHECK_INT(amend(co, t, &after, how, 0, &done, &requests), 0);
		judge(co, t, settled(co, t, ram_of_bytes(co, &done)));
		free(after.data);
		free(done.data);
	}
}

static void widths_fail_entry(struct co *co, void *arg)
{
	struct fixture *t = fixture_new(co, 3, false);

	(void)arg;
	fail_everywhere(co, t, &(struct qcow2_amend){.refcount_bits = 64});
	fail_everywhere(co, t, &(struct qcow2_amend){.refcount_bits = 2, .lazy_refcounts = QCOW2_ON});
	fixture_free(t);
}

static void versions_fail_entry(struct co *co, void *arg)
{
	struct fixture *t = fixture_new(co, 3, true);

	(void)arg;
	fail_everywhere(co, t, &(struct qcow2_amend){.version = 2});
	fixture_free(t);
	t = fixture_new(co, 2, true);
	fail_everywhere(co, t, &(struct qcow2_amend){.version = 3, .refcount_bits = 8});
	fixture_free(t);
}

static void any_request_may_fail(void **state)
{
	(void)state;
	engine_run(widths_fail_entry, NULL);
	engine_run(versions_fail_entry, NULL);
}

/* ---- given up ---- */

static bool give_up(void *arg, uint64_t done, uint64_t all)
{
	unsigned *left = arg;

	CHECK(done <= all);
	return *left == 0 || --*left > 0;
}

static void given_up_entry(struct co *co, void *arg)
{
	struct fixture *t = fixture_new(co, 3, true);
	unsigned requests, left;
	int rc;
	struct bytes after;

	(void)arg;
	for (unsigned times = 1; times < 3; times++) {
		struct qcow2_amend how = {.version = 2, .progress = give_up, .arg = &left};

		left = times;
		rc = amend(co, t, &t->image, &how, 0, &after, &requests);
		CHECK_INT(rc, -ECANCELED);
		judge(co, t, settled(co, t, ram_of_bytes(co, &after)));
		free(after.data);
		how = (struct qcow2_amend){.refcount_bits = 64, .progress = give_up, .arg = &left};
		left = times;
		rc = amend(co, t, &t->image, &how, 0, &after, &requests);
		CHECK_INT(rc, -ECANCELED);
		judge(co, t, settled(co, t, ram_of_bytes(co, &after)));
		free(after.data);
	}
	fixture_free(t);
}

static void it_can_be_given_up(void **state)
{
	(void)state;
	engine_run(given_up_entry, NULL);
}

/* ---- refused ---- */

static void refused_entry(struct co *co, void *arg)
{
	const struct {
		struct qcow2_amend how;
		int rc;
	} cases[] = {
		{.how = {.refcount_bits = 1, .lazy_refcounts = QCOW2_ON}, .rc = -ERANGE},
		{.how = {.refcount_bits = 12}, .rc = -EINVAL},
		{.how = {.version = 2, .refcount_bits = 8}, .rc = -EINVAL},
		{.how = {.version = 2, .lazy_refcounts = QCOW2_ON}, .rc = -EINVAL},
		{.how = {.version = 2, .size = 300 * CLUSTER}, .rc = -ENOTSUP},
		{.how = {.size = 1000, .refcount_bits = 64}, .rc = -EINVAL},
		{.how = {.data_name = "x"}, .rc = -EINVAL},
		{.how = {.data_raw = QCOW2_ON}, .rc = -EINVAL},
		{.how = {.luks_remove = &(struct qcow2_luks_change){.slot = -1}}, .rc = -EINVAL},
	};
	struct fixture *t = fixture_new(co, 3, false);

	(void)arg;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bytes after;
		unsigned requests;

		CHECK_INT(amend(co, t, &t->image, &cases[i].how, 0, &after, &requests), cases[i].rc);
		CHECK_INT(after.size, t->image.size);
		CHECK(memcmp(after.data, t->image.data, after.size) == 0);
		free(after.data);
	}
	fixture_free(t);
}

static void what_is_refused_changes_nothing(void **state)
{
	(void)state;
	engine_run(refused_entry, NULL);
}

/* ---- bitmaps ---- */

static void bitmaps_entry(struct co *co, void *arg)
{
	struct fixture *t = fixture_new(co, 3, false);
	struct node *n = image_open(co, ram_of_bytes(co, &t->image), &t->back, true);
	struct bytes with, after;
	struct err err = {0};
	unsigned requests;

	(void)arg;
	CHECK(n != NULL);
	CHECK_INT(qcow2_bitmap_add(co, n, "b0", 512, true, &err), 0);
	CHECK_INT(qcow2_bitmap_add(co, n, "b1", 0, false, &err), 0);
	with = image_close(co, n);
	CHECK_INT(amend(co, t, &with, &(struct qcow2_amend){.version = 2}, 0, &after, &requests), 0);
	judge(co, t, ram_of_bytes(co, &after));
	free(with.data);
	with = after;
	CHECK_INT(amend(co, t, &with, &(struct qcow2_amend){.version = 3}, 0, &after, &requests), 0);
	judge(co, t, ram_of_bytes(co, &after));
	free(with.data);
	free(after.data);
	fixture_free(t);
}

static void bitmaps_leave_with_version_3(void **state)
{
	(void)state;
	engine_run(bitmaps_entry, NULL);
}

/* ---- records of snapshots ---- */

/* As programs for version 2 write it: without extra data. */
static void record_strip(struct bytes *b)
{
	be64 at;
	uint8_t *record;

	memcpy(&at, b->data + 64, sizeof(at));
	record = b->data + be64_get(at);
	CHECK_INT(record[39], 24);
	record[39] = 0;
	memmove(record + 40, record + 64, 8);
	memset(record + 48, 0, 24);
}

static void records_entry(struct co *co, void *arg)
{
	struct fixture *t = fixture_new(co, 2, false);
	struct qcow2_snapshot_info *list;
	struct qcow2_header h;
	struct err err = {0};
	struct bytes after;
	unsigned n, requests;
	struct ram *r;

	(void)arg;
	record_strip(&t->image);
	judge(co, t, ram_of_bytes(co, &t->image));
	CHECK_INT(amend(co, t, &t->image, &(struct qcow2_amend){.version = 3}, 0, &after, &requests), 0);
	judge(co, t, ram_of_bytes(co, &after));
	r = ram_of_bytes(co, &after);
	CHECK_INT(qcow2_header_load(co, &r->node, 0, &h, &err), 0);
	CHECK_INT(h.version, 3);
	CHECK_INT(qcow2_snapshots_read(co, &r->node, &h, &list, &n, &err), 0);
	CHECK_INT(n, 1);
	CHECK(strcmp(list[0].name, "one") == 0);
	CHECK_INT(list[0].disk_bytes, CLUSTERS * CLUSTER);
	CHECK_INT(node_close(co, &r->node), 0);
	free(list);
	free(after.data);
	fixture_free(t);
}

static void records_of_version_2_become_complete(void **state)
{
	(void)state;
	engine_run(records_entry, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_request_may_fail),
		cmocka_unit_test(it_can_be_given_up),
		cmocka_unit_test(what_is_refused_changes_nothing),
		cmocka_unit_test(bitmaps_leave_with_version_3),
		cmocka_unit_test(records_of_version_2_become_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
