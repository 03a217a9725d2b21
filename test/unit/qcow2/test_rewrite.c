/* SPDX-License-Identifier: MIT */
/*
 * Rewriting the header cluster: qcow2/rewrite.h. Many pairs of headers, before and after, on files of each cluster size. The
 * file records what reaches it; then every crash is tried: after each flush, every subset of the sectors written since (or
 * many random ones where these are too many). Each must parse as the old header or as the new one, and keep what is unknown.
 */
#include "ram.h"

#include "base/cleanup.h"
#include "qcow2/engine.h"
#include "qcow2/extension.h"
#include "qcow2/qcow2.h"
#include "qcow2/rewrite.h"

#define SECTOR 512u
#define UNKNOWN_TYPE 0x12345678u
#define MOST_SUBSETS 4096u

/* ---- a disk that can lose sectors ---- */

struct lossy {
	struct node node; /* first */
	uint8_t *durable, *now;
	size_t bytes;
	const struct qcow2_header *before, *after;
	bool saw_after;
	unsigned crashes;
	uint64_t rng;
};

static struct lossy *lossy_of(struct node *n) { return container_of(n, struct lossy, node); }

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static bool same_header(const struct qcow2_header *a, const struct qcow2_header *b)
{
	return a->version == b->version && a->size == b->size && a->l1.off == b->l1.off &&
		strcmp(a->backing_name, b->backing_name) == 0 && strcmp(a->backing_format, b->backing_format) == 0 &&
		strcmp(a->data_file, b->data_file) == 0 && a->bitmaps == b->bitmaps &&
		a->bitmap_directory.off == b->bitmap_directory.off && a->autoclear == b->autoclear &&
		a->compatible == b->compatible && a->incompatible == b->incompatible;
}

/* Which unknown extensions there are, and whether they say what they said. */
static unsigned unknown_kept(const uint8_t *bytes, size_t len, const struct qcow2_header *h)
{
	be64 backing;
	struct qcow2_extensions walk = {.bytes = (const char *)bytes, .at = h->header_bytes, .end = len};
	struct qcow2_extension ext;
	unsigned n = 0;

	memcpy(&backing, bytes + 8, 8);
	if (be64_get(backing))
		walk.end = be64_get(backing);
	while (qcow2_extension_next(&walk, &ext, NULL) > 0) {
		if (ext.type != UNKNOWN_TYPE)
			continue;
		CHECK_INT(ext.bytes, 13);
		CHECK(memcmp(ext.data, "whatever it is", 13) == 0);
		n++;
	}
	return n;
}

static void judge(struct lossy *d, const uint8_t *bytes)
{
	size_t cluster = (size_t)1 << d->before->cluster_bits;
	struct qcow2_header h;
	struct err err = {0};

	d->crashes++;
	if (qcow2_header_parse(bytes, cluster, d->bytes, &h, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	CHECK(same_header(&h, d->before) || same_header(&h, d->after));
	CHECK(!d->saw_after || same_header(&h, d->after));
	CHECK_INT(unknown_kept(bytes, cluster, &h), d->before->unknown_extensions);
	if (h.version == 3 && d->before->version == 3 && h.header_bytes > 112)
		CHECK(memcmp(bytes + 112, "from the future!", 16) == 0);
}

static void crash(struct lossy *d)
{
	unsigned pending[256], n = 0;
	AUTO_FREE uint8_t *left = malloc(d->bytes);
	uint64_t subsets;

	for (unsigned s = 0; s < d->bytes / SECTOR; s++)
		if (memcmp(d->durable + s * SECTOR, d->now + s * SECTOR, SECTOR) != 0)
			pending[n++] = s;
	subsets = n < 12 ? UINT64_C(1) << n : MOST_SUBSETS;
	for (uint64_t i = 0; i < subsets; i++) {
		uint64_t lost = n < 12 ? i : next_random(&d->rng);

		memcpy(left, d->now, d->bytes);
		for (unsigned k = 0; k < n; k++)
			if (lost >> k & 1)
				memcpy(left + pending[k] * SECTOR, d->durable + pending[k] * SECTOR, SECTOR);
		judge(d, left);
	}
}

static int lossy_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	(void)co;
	iov_copy_in(to, lossy_of(n)->now + off, to.len);
	return 0;
}

static int lossy_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	(void)co;
	(void)flags;
	iov_copy_out(from, lossy_of(n)->now + off, from.len);
	crash(lossy_of(n));
	return 0;
}

static int lossy_flush(struct co *co, struct node *n)
{
	struct lossy *d = lossy_of(n);
	struct qcow2_header h;

	(void)co;
	memcpy(d->durable, d->now, d->bytes);
	CHECK_INT(qcow2_header_parse(d->now, (size_t)1 << d->before->cluster_bits, d->bytes, &h, NULL), 0);
	d->saw_after |= !same_header(&h, d->before);
	return 0;
}

static int lossy_close(struct co *co, struct node *n)
{
	struct lossy *d = lossy_of(n);

	(void)co;
	node_fini(n);
	free(d->durable);
	free(d->now);
	free(d);
	return 0;
}

static const struct node_ops lossy_ops = {
	.name = "lossy",
	.read = lossy_read,
	.write = lossy_write,
	.flush = lossy_flush,
	.close = lossy_close,
};

/* ---- headers ---- */

static void random_name(uint64_t *rng, size_t most, char *to)
{
	size_t n = next_random(rng) % 3 ? next_random(rng) % (most + 1) : 0;

	for (size_t i = 0; i < n; i++)
		to[i] = (char)('a' + next_random(rng) % 26);
	to[n] = '\0';
}

/* What a rewrite may change. */
static void vary(struct qcow2_header *h, uint64_t *rng, bool first)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;

	random_name(rng, MIN(first ? cluster / 3 : cluster * 2 / 3, UINT64_C(1023)), h->backing_name);
	random_name(rng, first ? 0 : MIN(cluster / 4, UINT64_C(1023)), h->data_file);
	random_name(rng, 30, h->backing_format);
	if (!first && h->header_bytes <= 112)
		h->version = 2 + next_random(rng) % 2;
	h->bitmaps = next_random(rng) % 2;
	h->bitmap_directory.off = h->bitmaps ? (4 + next_random(rng) % 2) * cluster : 0;
	h->bitmap_directory_bytes = h->bitmaps ? 32 : 0;
	h->autoclear = h->bitmaps && h->version == 3 ? QCOW2_AUTOCLEAR_BITMAPS : 0;
	if (h->version == 2 || !h->autoclear) {
		h->bitmaps = 0;
		h->bitmap_directory = (struct host){0};
		h->bitmap_directory_bytes = 0;
	}
	h->compatible = h->version == 3 ? next_random(rng) % 2 : 0;
	h->size = next_random(rng) % 2 * 512;
}

/* An extension and fields of the header that nobody here knows. */
static void add_unknown(uint8_t *bytes, size_t len, struct qcow2_header *h, uint64_t *rng)
{
	AUTO_FREE uint8_t *copy = malloc(len);
	bool future = h->version == 3 && len > 512 && next_random(rng) % 3 == 0;
	size_t at = h->version == 2 ? 72 : future ? 128 : 112;
	size_t names_bytes = 0, name = strlen(h->backing_name);
	const void *names = len >= 8192 && h->version == 3 ? qcow2_feature_names(&names_bytes) : NULL;

	memcpy(copy, bytes, len);
	memset(bytes, 0, len);
	memcpy(bytes, copy, MIN(at, (size_t)112));
	if (future)
		memcpy(bytes + 112, "from the future!", 16);
	h->header_bytes = (uint32_t)at;
	CHECK_INT(qcow2_header_put_extensions(h, names, names_bytes, bytes, len, &at), 0);
	CHECK_INT(qcow2_extension_put(bytes, len, &at, UNKNOWN_TYPE, "whatever it is", 13), 0);
	CHECK_INT(qcow2_extension_put(bytes, len, &at, QCOW2_EXT_END, NULL, 0), 0);
	CHECK(at + name <= len);
	memcpy(bytes + at, h->backing_name, name);
	qcow2_header_put(h, name ? at : 0, bytes);
}

static struct lossy *lossy_new(struct co *co, struct qcow2_header *before, uint64_t seed)
{
	size_t cluster = (size_t)1 << before->cluster_bits;
	struct lossy *d = calloc(1, sizeof(*d));

	CHECK(d != NULL);
	d->bytes = 6 * cluster;
	d->rng = seed * 77 + 1;
	d->now = calloc(1, d->bytes);
	d->durable = calloc(1, d->bytes);
	CHECK_INT(qcow2_header_format(before, d->now, cluster, NULL), 0);
	if (seed % 2)
		add_unknown(d->now, cluster, before, &d->rng);
	memcpy(d->durable, d->now, d->bytes);
	d->node.ops = &lossy_ops;
	d->node.align = d->node.mem_align = d->node.cluster = 1;
	d->node.size = d->bytes;
	CHECK_INT(node_init(&d->node, co_sched_of(co)), 0);
	return d;
}

static void copy_changes(struct qcow2_header *h, void *arg)
{
	const struct qcow2_header *to = arg;

	memcpy(h->backing_name, to->backing_name, sizeof(h->backing_name));
	memcpy(h->data_file, to->data_file, sizeof(h->data_file));
	memcpy(h->backing_format, to->backing_format, sizeof(h->backing_format));
	h->version = to->version;
	h->bitmaps = to->bitmaps;
	h->bitmap_directory = to->bitmap_directory;
	h->bitmap_directory_bytes = to->bitmap_directory_bytes;
	h->autoclear = to->autoclear;
	h->compatible = to->compatible;
	h->size = to->size;
}

/* Returns whether it could be done. */
static bool rewrite_once(struct co *co, unsigned bits, uint64_t seed, unsigned *crashes)
{
	uint64_t cluster = UINT64_C(1) << bits, rng = seed * 1000 + bits + 1;
	struct qcow2_header before = {.version = seed / 2 % 3 ? 3 : 2,
		.cluster_bits = bits,
		.refcount_order = 4,
		.size = 0,
		.l1_entries = 1,
		.l1.off = 2 * cluster,
		.reftable.off = cluster,
		.reftable_clusters = 1};
	struct qcow2_header after, got;
	struct lossy *d;
	struct err err = {0};
	int ret;

	vary(&before, &rng, true);
	d = lossy_new(co, &before, seed);
	CHECK_INT(qcow2_header_parse(d->now, cluster, d->bytes, &before, &err), 0);
	for (unsigned k = 0; k < 3; k++) { /* one after the other, on what the one before left */
		after = before;
		vary(&after, &rng, false);
		d->before = &before;
		d->after = &after;
		d->saw_after = false;
		memcpy(d->durable, d->now, d->bytes);
		ret = qcow2_rewrite_closed(co, &d->node, copy_changes, &after, &err);
		CHECK_INT(qcow2_header_parse(d->now, cluster, d->bytes, &got, &err), 0);
		CHECK(same_header(&got, ret == 0 ? &after : &before));
		if (ret != 0) {
			CHECK(ret == -ENOSPC || ret == -ENAMETOOLONG);
			CHECK(cluster <= 4096);
			CHECK(memcmp(d->now, d->durable, d->bytes) == 0);
			break;
		}
		CHECK(memmem(d->now, cluster, "CrGp", 4) == NULL);
		before = got;
	}
	*crashes += d->crashes;
	CHECK_INT(node_close(co, &d->node), 0);
	return ret == 0;
}

static void every_cut_leaves_old_or_new(struct co *co, void *arg)
{
	(void)arg;
	for (unsigned bits = 9; bits <= 16; bits += bits == 13 ? 3 : 1) {
		unsigned done = 0, crashes = 0, tries = bits == 16 ? 60 : 300;

		for (uint64_t seed = 0; seed < tries; seed++)
			done += rewrite_once(co, bits, seed, &crashes);
		printf("clusters of %u: %u of %u done, %u crashes\n", 1u << bits, done, tries, crashes);
		CHECK(bits < 13 ? done > tries / 3 : done == tries);
		CHECK(crashes > 3 * done);
	}
}

/* ---- an open image ---- */

static void name_it(struct qcow2_header *h, void *arg) { strcpy(h->backing_name, arg); }

static void open_image_follows(struct co *co, void *arg)
{
	struct qcow2_create how = {
		.size = 1 * MiB, .version = 3, .cluster_bits = 16, .refcount_order = 4, .backing_name = "first"};
	char name[400], data[512];
	struct ram *r = ram_new(co);
	struct node *n;
	struct qcow2_header h;
	struct err err = {0};

	(void)arg;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	memset(data, 'd', sizeof(data));
	CHECK_INT(qcow2_create(co, &r->node, &how, &err), 0);
	CHECK_INT(qcow2_open(co, &r->node, &(struct qcow2_options){.write = true, .keep_leaks = true}, &n, &err), 0);
	CHECK_INT(node_write(co, n, 0, IOV_BUF(data, sizeof(data)), 0), 0);
	CHECK_INT(qcow2_rewrite_open(co, container_of(n, struct qcow2, node), name_it, name, &err), 0);
	CHECK(strcmp(qcow2_node_header(n)->backing_name, name) == 0);
	CHECK_INT(qcow2_header_load(co, &r->node, 0, &h, &err), 0);
	CHECK(strcmp(h.backing_name, name) == 0);
	CHECK_INT(node_resize(co, n, 2 * MiB), 0); /* writes the header again: from the new first sector */
	CHECK_INT(qcow2_header_load(co, &r->node, 0, &h, &err), 0);
	CHECK(strcmp(h.backing_name, name) == 0 && h.size == 2 * MiB);
	memset(name, 'm', sizeof(name) - 1);
	name[300] = '\0';
	CHECK_INT(qcow2_rewrite_open(co, container_of(n, struct qcow2, node), name_it, name, &err), 0);
	CHECK_INT(qcow2_header_load(co, &r->node, 0, &h, &err), 0);
	CHECK(strcmp(h.backing_name, name) == 0 && h.size == 2 * MiB);
	CHECK_INT(node_close(co, n), 0);
}

static void test_every_cut_leaves_old_or_new(void **state)
{
	(void)state, engine_run(every_cut_leaves_old_or_new, NULL);
}
static void test_an_open_image_follows(void **state) { (void)state, engine_run(open_image_follows, NULL); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cut_leaves_old_or_new),
		cmocka_unit_test(test_an_open_image_follows),
	};

	return cmocka_run_group_tests_name("qcow2 rewrite", tests, NULL, NULL);
}
