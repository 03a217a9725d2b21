/* SPDX-License-Identifier: MIT */
/* Writing an image in order: see stream.h, which draws it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/math.h"
#include "base/sparse.h"
#include "qcow2/stream.h"

#define COPIED (UINT64_C(1) << 63)
#define REFCOUNT_ORDER 4u
#define PLAN_BYTES                                                                                                     \
	(UINT64_C(16) << 20) /* of memory; where it isn't enough, more is planned than there is, and is zeros */
#define ZEROS_BYTES (UINT64_C(1) << 16)

struct stream {
	struct node node; /* first; node.file is the sink */
	struct qcow2_create how;
	uint32_t cluster;
	uint64_t clusters, l2_entries; /* of the disk, and of an L2 table */
	struct sparse planned;         /* a bit per cluster of the disk */
	struct sparse_budget budget;
	bool begun;
	uint64_t at;                                             /* bytes written */
	uint64_t next;                                           /* the cluster of the disk that comes next */
	uint64_t table;                                          /* whose L2 table was written last, plus one */
	char *buffer;                                            /* a cluster */
	uint64_t tables, data, blocks, reftable, l1_entries, l1; /* how many; all but l1_entries are clusters */
};

static struct stream *stream_of(struct node *n) { return container_of(n, struct stream, node); }

/* ---- counting ---- */

/* How many bits are set in [from, to). */
static uint64_t count(const struct sparse *s, uint64_t from, uint64_t to)
{
	uint64_t n = 0;

	while ((from = sparse_find(s, from, to, true)) < to) {
		uint64_t end = sparse_find(s, from, to, false);

		n += end - from;
		from = end;
	}
	return n;
}

static uint64_t table_end(const struct stream *s, uint64_t table)
{
	return MIN((table + 1) * s->l2_entries, s->clusters);
}

/* The first cluster in use from `from` on, in terms of whole tables. */
static bool table_find(const struct stream *s, uint64_t from, uint64_t *table)
{
	uint64_t first = MIN(from * s->l2_entries, s->clusters),
		 at = sparse_find(&s->planned, first, s->clusters, true);

	*table = at / s->l2_entries;
	return at < s->clusters;
}

/* More refcount blocks are more clusters to count; they only grow, so this ends. */
static void count_all(struct stream *s)
{
	uint64_t per_block = s->cluster * 8u >> REFCOUNT_ORDER, others, t;

	s->data = count(&s->planned, 0, s->clusters);
	for (uint64_t from = 0; table_find(s, from, &t); from = t + 1)
		s->tables++;
	s->l1_entries = div_round_up(s->clusters, s->l2_entries);
	s->l1 = div_round_up(s->l1_entries * 8, s->cluster);
	others = 1 + s->l1 + s->tables + s->data;
	s->blocks = s->reftable = 1;
	for (;;) {
		uint64_t blocks = div_round_up(others + s->blocks + s->reftable, per_block);
		uint64_t reftable = div_round_up(blocks * 8, s->cluster);

		if (blocks <= s->blocks && reftable <= s->reftable)
			break;
		s->blocks = MAX(blocks, s->blocks);
		s->reftable = MAX(reftable, s->reftable);
	}
}

/* ---- the metadata in front ---- */

static int emit(struct co *co, struct stream *s, const void *data, uint64_t len)
{
	int ret = node_write(co, s->node.file, s->at, IOV_BUF(data, len), 0);

	s->at += len;
	return ret;
}

static int emit_header(struct co *co, struct stream *s)
{
	AUTO_FREE struct qcow2_header *h = calloc(1, sizeof(*h));
	struct err err;
	int ret;

	if (!h)
		return -ENOMEM;
	h->version = s->how.version;
	h->cluster_bits = s->how.cluster_bits;
	h->refcount_order = REFCOUNT_ORDER;
	h->size = s->node.size;
	h->l1_entries = (uint32_t)s->l1_entries;
	h->l1.off = s->l1 ? (1 + s->reftable + s->blocks) * s->cluster : 0;
	h->reftable.off = s->cluster;
	h->reftable_clusters = (uint32_t)s->reftable;
	h->compatible = s->how.lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0;
	ret = qcow2_header_format(h, s->buffer, s->cluster, &err);
	return ret < 0 ? ret : emit(co, s, s->buffer, s->cluster);
}

static int emit_reftable(struct co *co, struct stream *s)
{
	uint64_t per_cluster = s->cluster / 8;
	be64 *entry = (be64 *)s->buffer;
	int ret = 0;

	for (uint64_t i = 0; ret == 0 && i < s->reftable * per_cluster; i += per_cluster) {
		for (uint64_t j = 0; j < per_cluster; j++)
			entry[j] = be64_of(i + j < s->blocks ? (1 + s->reftable + i + j) * s->cluster : 0);
		ret = emit(co, s, s->buffer, s->cluster);
	}
	return ret;
}

/* Every cluster of the file has one reference. */
static int emit_blocks(struct co *co, struct stream *s)
{
	uint64_t all = 1 + s->reftable + s->blocks + s->l1 + s->tables + s->data, per_block = s->cluster / 2;
	be16 *entry = (be16 *)s->buffer;
	int ret = 0;

	for (uint64_t i = 0; ret == 0 && i < s->blocks * per_block; i += per_block) {
		for (uint64_t j = 0; j < per_block; j++)
			entry[j] = be16_of(i + j < all);
		ret = emit(co, s, s->buffer, s->cluster);
	}
	return ret;
}

static int emit_l1(struct co *co, struct stream *s)
{
	uint64_t per_cluster = s->cluster / 8, host = s->at + s->l1 * s->cluster;
	be64 *entry = (be64 *)s->buffer;
	int ret = 0;

	for (uint64_t i = 0; ret == 0 && i < s->l1 * per_cluster; i += per_cluster) {
		memset(s->buffer, 0, s->cluster);
		for (uint64_t t = i; t < MIN(i + per_cluster, s->l1_entries); t++) {
			uint64_t n = count(&s->planned, t * s->l2_entries, table_end(s, t));

			entry[t - i] = be64_of(n ? COPIED | host : 0);
			host += n ? (1 + n) * s->cluster : 0;
		}
		ret = emit(co, s, s->buffer, s->cluster);
	}
	return ret;
}

static int begin(struct co *co, struct stream *s)
{
	int ret;

	if (s->begun)
		return 0;
	s->begun = true;
	count_all(s);
	ret = emit_header(co, s);
	if (ret == 0)
		ret = emit_reftable(co, s);
	if (ret == 0)
		ret = emit_blocks(co, s);
	return ret ? ret : emit_l1(co, s);
}

/* ---- tables and data ---- */

/* The L2 table of a cluster, if its data is the first of it. */
static int emit_table_of(struct co *co, struct stream *s, uint64_t cluster)
{
	uint64_t table = cluster / s->l2_entries, first = table * s->l2_entries, host = s->at + s->cluster;
	be64 *entry = (be64 *)s->buffer;

	if (s->table == table + 1)
		return 0;
	s->table = table + 1;
	memset(s->buffer, 0, s->cluster);
	for (uint64_t i = first; (i = sparse_find(&s->planned, i, table_end(s, table), true)) < table_end(s, table);
		i++) {
		entry[i - first] = be64_of(COPIED | host);
		host += s->cluster;
	}
	return emit(co, s, s->buffer, s->cluster);
}

static int emit_zeros(struct co *co, struct stream *s, uint64_t len)
{
	static const char zeros[ZEROS_BYTES];
	int ret = 0;

	for (uint64_t now; ret == 0 && len > 0; len -= now) {
		now = MIN(len, ZEROS_BYTES);
		ret = emit(co, s, zeros, now);
	}
	return ret;
}

/* Up to a cluster of the disk: what was planned before it, and hasn't come, is zeros. */
static int advance(struct co *co, struct stream *s, uint64_t to)
{
	int ret = begin(co, s);

	while (ret == 0 && (s->next = sparse_find(&s->planned, MIN(s->next, to), to, true)) < to) {
		ret = emit_table_of(co, s, s->next++);
		if (ret == 0)
			ret = emit_zeros(co, s, s->cluster);
	}
	return ret;
}

/* The clusters from s->next on that are planned, in one table, and in the data: their end. */
static uint64_t run_end(const struct stream *s, uint64_t end)
{
	return sparse_find(&s->planned, s->next, MIN(end, table_end(s, s->next / s->l2_entries)), false);
}

static int stream_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct stream *s = stream_of(n);
	uint64_t first = off / s->cluster, end = div_round_up(off + from.len, s->cluster);
	int ret = is_aligned(off, s->cluster) && first >= s->next ? advance(co, s, first) : -ESPIPE;

	(void)flags;
	while (ret == 0 && s->next < end) {
		uint64_t to = run_end(s, end), at = s->next * s->cluster - off;
		uint64_t len = MIN(to * s->cluster - off, from.len) - at;

		if (to == s->next)
			return -ESTALE;
		ret = emit_table_of(co, s, s->next);
		if (ret == 0)
			ret = node_write(co, n->file, s->at, iov_slice(from, at, len), 0);
		s->at += len;
		if (ret == 0)
			ret = emit_zeros(co, s, align_up(len, s->cluster) - len);
		s->next = to;
	}
	return ret;
}

static int stream_read(
	struct co *co ATTR_UNUSED, struct node *n ATTR_UNUSED, uint64_t off ATTR_UNUSED, struct iov to ATTR_UNUSED)
{
	return -ESPIPE;
}

static int stream_flush(struct co *co, struct node *n)
{
	struct stream *s = stream_of(n);
	int ret = advance(co, s, s->clusters);

	return ret < 0 ? ret : node_flush(co, n->file);
}

static int stream_close(struct co *co ATTR_UNUSED, struct node *n)
{
	struct stream *s = stream_of(n);

	sparse_fini(&s->planned);
	node_fini(n);
	free(s->buffer);
	free(s);
	return 0;
}

static const struct node_ops stream_ops = {
	.name = "qcow2 stream",
	.close = stream_close,
	.flush = stream_flush,
	.read = stream_read,
	.write = stream_write,
};

/* ---- making one ---- */

void qcow2_stream_plan(struct node *n, uint64_t off, uint64_t len)
{
	struct stream *s = stream_of(n);
	uint64_t first = off / s->cluster, end = div_round_up(off + len, s->cluster);

	assert(n->ops == &stream_ops && !s->begun);
	sparse_set(&s->planned, first, end - first);
}

static int check(const struct qcow2_create *how, struct err *err)
{
	const char *what = NULL;

	if (how->backing_name)
		what = "a backing file";
	else if (how->data_name)
		what = "an external data file";
	else if (how->luks)
		what = "encryption";
	else if (how->extended_l2)
		what = "extended_l2";
	else if (how->preallocation != QCOW2_PREALLOCATE_OFF)
		what = "preallocation";
	else if (how->refcount_order != REFCOUNT_ORDER)
		what = "refcount_bits other than 16";
	if (what)
		return err_set(err, -ENOTSUP, "an image that is written to a pipe can't have %s", what);
	return qcow2_create_check(how, err);
}

static int stream_init(struct co *co, struct stream *s, struct node *sink)
{
	int ret = s->buffer ? sparse_init(&s->planned, s->clusters, &s->budget) : -ENOMEM;

	if (ret < 0)
		return ret;
	s->node.ops = &stream_ops;
	s->node.file = sink;
	s->node.size = align_up(s->how.size, 512);
	s->node.align = s->node.mem_align = 1;
	s->node.cluster = s->cluster;
	strcpy(s->node.name, sink->name);
	ret = node_init(&s->node, co_sched_of(co));
	if (ret < 0)
		sparse_fini(&s->planned);
	return ret;
}

int qcow2_stream_new(
	struct co *co, struct node *sink, const struct qcow2_create *how, struct node **out, struct err *err)
{
	struct stream *s;
	int ret = check(how, err);

	if (ret < 0)
		return ret;
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "no memory");
	s->how = *how;
	s->cluster = 1u << how->cluster_bits;
	s->clusters = div_round_up(align_up(how->size, 512), s->cluster);
	s->l2_entries = s->cluster / 8;
	s->budget.limit = PLAN_BYTES;
	s->buffer = malloc(s->cluster);
	ret = stream_init(co, s, sink);
	if (ret < 0) {
		free(s->buffer);
		free(s);
		return err_set(err, ret, "no memory");
	}
	*out = &s->node;
	return 0;
}
