/* SPDX-License-Identifier: MIT */
/*
 * Refcounts of another width: new structures, made from the old ones, in clusters that are free.
 *
 *     the new blocks, which count themselves and the new table too, and the new table; flush
 *     the header: place and size of the table, width of a refcount, in one sector; flush
 *     the old blocks and the old table are punched; their refcounts, in the new blocks, fall; flush
 *
 * Until the header is written the old structures are untouched, and nothing that the new ones lie in is in use by them.
 * After it the old ones are only leaked: should the end of it be missing, the search for leaks gives them back. Nothing but
 * both tables and a list of the new blocks is kept in memory; refcounts come and go a block at a time.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/amend.h"
#include "qcow2/engine.h"
#include "qcow2/rewrite.h"

#define RESERVED UINT64_C(0x1ff) /* of an entry of the refcount table */

struct width {
	struct node *file;
	struct qcow2_header header; /* as it was */
	unsigned order;             /* to be */
	uint64_t cluster_bytes;
	qcow2_progress *progress;
	void *arg;

	uint64_t *
		old; /* the old table, in host order; the next two: the block that is in memory, and which it is, + 1 */
	void *old_block;
	uint64_t old_loaded;
	uint64_t old_entries, old_per_block;

	uint64_t per_block;
	uint8_t *needed; /* per new block, so many: it counts something */
	uint64_t needed_room;
	uint64_t *places; /* clusters of the new blocks, ascending, all before that of the table */
	uint64_t blocks, table_at, table_clusters;
	be64 *table;
	void *block;
};

static struct width *width_new(struct node *file, unsigned order)
{
	struct width *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->file = file;
	w->order = order;
	return w;
}

static void width_free(struct width *w)
{
	if (!w)
		return;
	free(w->old);
	free(w->old_block);
	free(w->needed);
	free(w->places);
	free(w->table);
	free(w->block);
	free(w);
}

static void *memory_new(uint64_t bytes) { return aligned_alloc(4096, align_up(bytes, 4096)); }

/* ---- the old refcounts ---- */

static int old_table_load(struct co *co, struct width *w)
{
	uint64_t bytes = w->old_entries * 8;
	int ret;

	w->old = memory_new(bytes);
	w->old_block = memory_new(w->cluster_bytes);
	w->block = memory_new(w->cluster_bytes);
	if (!w->old || !w->old_block || !w->block)
		return -ENOMEM;
	ret = node_read(co, w->file, w->header.reftable.off, IOV_BUF(w->old, bytes));
	for (uint64_t i = 0; ret == 0 && i < w->old_entries; i++)
		w->old[i] = be64toh(w->old[i]);
	return ret;
}

static int old_table_check(const struct width *w, struct err *err)
{
	for (uint64_t i = 0; i < w->old_entries; i++) {
		uint64_t at = w->old[i];

		if (at && (at & RESERVED || !is_aligned(at, w->cluster_bytes) || at >= w->file->size))
			return err_set(err, -EINVAL,
				"entry %" PRIu64
				" of the refcount table is damaged: repair the image first (corral check -r all)",
				i);
	}
	return 0;
}

static int load(struct co *co, struct width *w, struct err *err)
{
	int ret = qcow2_header_load(co, w->file, UINT64_MAX, &w->header, err);

	if (ret < 0)
		return ret;
	w->cluster_bytes = UINT64_C(1) << w->header.cluster_bits;
	w->old_per_block = w->cluster_bytes * 8 >> w->header.refcount_order;
	w->per_block = w->cluster_bytes * 8 >> w->order;
	w->old_entries = w->header.reftable_clusters * w->cluster_bytes / 8;
	ret = old_table_load(co, w);
	if (ret < 0)
		return err_set(err, ret, "the refcount table can't be read: %s", strerror(-ret));
	return old_table_check(w, err);
}

/* The file may end within a block. */
static int old_block_load(struct co *co, struct width *w, uint64_t i)
{
	uint64_t there = MIN(w->cluster_bytes, w->file->size - w->old[i]);
	int ret;

	if (w->old_loaded == i + 1)
		return 0;
	w->old_loaded = 0;
	memset(w->old_block, 0, w->cluster_bytes);
	ret = node_read(co, w->file, w->old[i], IOV_BUF(w->old_block, there));
	if (ret == 0)
		w->old_loaded = i + 1;
	return ret;
}

static int old_refcount(struct co *co, struct width *w, uint64_t cluster, uint64_t *out)
{
	uint64_t i = cluster / w->old_per_block;
	int ret;

	*out = 0;
	if (i >= w->old_entries || !w->old[i])
		return 0;
	ret = old_block_load(co, w, i);
	if (ret == 0)
		*out = qcow2_refcount_get(w->old_block, w->header.refcount_order, cluster % w->old_per_block);
	return ret;
}

/* ---- which new blocks there must be ---- */

static int need(struct width *w, uint64_t cluster)
{
	uint64_t i = cluster / w->per_block;

	if (i >= QCOW2_MAX_REFTABLE_BYTES / 8)
		return -EFBIG;
	if (i >= w->needed_room) {
		uint64_t room = MAX(i + 1, 2 * w->needed_room);
		uint8_t *needed = realloc(w->needed, room);

		if (!needed)
			return -ENOMEM;
		memset(needed + w->needed_room, 0, room - w->needed_room);
		w->needed = needed;
		w->needed_room = room;
	}
	w->blocks += !w->needed[i];
	w->needed[i] = 1;
	w->table_clusters =
		MAX(w->table_clusters, (i + 1) * 8 / w->cluster_bytes + ((i + 1) * 8 % w->cluster_bytes != 0));
	return 0;
}

static int block_survey(struct width *w, uint64_t i, struct err *err)
{
	uint64_t most = w->order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << w->order)) - 1;

	for (uint64_t k = 0; k < w->old_per_block; k++) {
		uint64_t count = qcow2_refcount_get(w->old_block, w->header.refcount_order, k);
		uint64_t cluster = i * w->old_per_block + k;
		int ret = count ? need(w, cluster) : 0;

		if (count > most)
			return err_set(err, -ERANGE,
				"Cannot decrease refcount entry width to %u bits: Cluster at offset %#" PRIx64
				" has a refcount of %" PRIu64,
				1u << w->order, cluster * w->cluster_bytes, count);
		if (ret < 0)
			return err_set(
				err, ret, "there can't be a refcount table as large as that: %s", strerror(-ret));
	}
	return 0;
}

/* What the old refcounts say, and that all of it can be said. */
static int survey(struct co *co, struct width *w, struct err *err)
{
	int ret = 0;

	for (uint64_t i = 0; ret == 0 && i < w->old_entries; i++) {
		if (!w->old[i])
			continue;
		ret = old_block_load(co, w, i);
		if (ret < 0)
			return err_set(err, ret, "refcounts can't be read: %s", strerror(-ret));
		ret = block_survey(w, i, err);
	}
	return ret;
}

/* ---- where to put them ---- */

/* The first n adjacent clusters from *from on that are free; *from: behind them. */
static int place(struct co *co, struct width *w, uint64_t n, uint64_t *from, uint64_t *cluster)
{
	uint64_t run = 0, at = *from, count;

	while (run < n) {
		int ret = old_refcount(co, w, at, &count);

		if (ret < 0)
			return ret;
		run = count == 0 ? run + 1 : 0;
		at++;
	}
	*from = at;
	*cluster = at - n;
	return at * w->cluster_bytes > w->file->size && !w->file->grows_zeroed ? -ENOSPC : 0;
}

static int place_all(struct co *co, struct width *w, uint64_t blocks, uint64_t table_clusters)
{
	uint64_t from = 1, *places = realloc(w->places, blocks * sizeof(*places));
	int ret = places ? 0 : -ENOMEM;

	if (ret < 0)
		return ret;
	w->places = places;
	for (uint64_t k = 0; ret == 0 && k < blocks; k++) {
		ret = place(co, w, 1, &from, &places[k]);
		if (ret == 0)
			ret = need(w, places[k]);
	}
	if (ret == 0)
		ret = place(co, w, table_clusters, &from, &w->table_at);
	for (uint64_t k = 0; ret == 0 && k < table_clusters; k++)
		ret = need(w, w->table_at + k);
	return ret;
}

/* The blocks count themselves and the table, which may take further blocks; that only grows, and ends. */
static int plan(struct co *co, struct width *w)
{
	uint64_t blocks, table_clusters;
	int ret;

	do {
		blocks = w->blocks;
		table_clusters = w->table_clusters;
		ret = place_all(co, w, blocks, table_clusters);
	} while (ret == 0 && (w->blocks > blocks || w->table_clusters > table_clusters));
	return ret;
}

/* ---- writing ---- */

/* In the new block `index`, what the old blocks count of its clusters. */
static int block_convert(struct co *co, struct width *w, uint64_t index)
{
	uint64_t first = index * w->per_block, end = first + w->per_block, next;
	int ret = 0;

	memset(w->block, 0, w->cluster_bytes);
	for (uint64_t at = first; ret == 0 && at < end && at / w->old_per_block < w->old_entries; at = next) {
		next = MIN(end, align_down(at, w->old_per_block) + w->old_per_block);
		if (!w->old[at / w->old_per_block])
			continue;
		ret = old_block_load(co, w, at / w->old_per_block);
		for (uint64_t i = at; ret == 0 && i < next; i++)
			qcow2_refcount_set(w->block, w->order, i - first,
				qcow2_refcount_get(w->old_block, w->header.refcount_order, i % w->old_per_block));
	}
	return ret;
}

/* The k-th of the clusters of the new structures, in ascending order. */
static uint64_t own(const struct width *w, uint64_t k)
{
	return k < w->blocks ? w->places[k] : w->table_at + k - w->blocks;
}

/* *k: the first of them that hasn't been counted yet. */
static void block_count_own(struct width *w, uint64_t index, uint64_t *k)
{
	for (; *k < w->blocks + w->table_clusters && own(w, *k) / w->per_block == index; ++*k) {
		if (!MUTANT(107))
			qcow2_refcount_set(w->block, w->order, own(w, *k) % w->per_block, 1);
	}
}

static int block_make(struct co *co, struct width *w, uint64_t index, uint64_t host, uint64_t *counted)
{
	int ret = block_convert(co, w, index);

	if (ret < 0)
		return ret;
	block_count_own(w, index, counted);
	w->table[index] = be64_of(host);
	return node_write(co, w->file, host, IOV_BUF(w->block, w->cluster_bytes), 0);
}

static int structures_write(struct co *co, struct width *w)
{
	uint64_t bytes = w->table_clusters * w->cluster_bytes, counted = 0, made = 0;
	int ret;

	w->table = memory_new(bytes);
	if (!w->table)
		return -ENOMEM;
	memset(w->table, 0, bytes);
	ret = node_reach(co, w->file, w->table_at * w->cluster_bytes + bytes);
	for (uint64_t i = 0; ret == 0 && i < w->needed_room; i++) {
		if (!w->needed[i])
			continue;
		ret = block_make(co, w, i, w->places[made++] * w->cluster_bytes, &counted);
		if (ret == 0 && w->progress && !w->progress(w->arg, made, w->blocks + 1))
			ret = -ECANCELED;
	}
	if (ret == 0)
		ret = node_write(co, w->file, w->table_at * w->cluster_bytes, IOV_BUF(w->table, bytes), 0);
	return ret == 0 ? node_flush(co, w->file) : ret;
}

static void header_change(struct qcow2_header *h, void *arg)
{
	const struct width *w = arg;

	h->reftable.off = w->table_at * w->cluster_bytes;
	h->reftable_clusters = (uint32_t)w->table_clusters;
	h->refcount_order = w->order;
}

/* ---- the old structures are free ---- */

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Clusters of the old table and blocks, ascending; *list is malloc'd. */
static int old_list(const struct width *w, uint64_t **list, uint64_t *n)
{
	*n = 0;
	*list = malloc((w->header.reftable_clusters + w->old_entries) * sizeof(**list));
	if (!*list)
		return -ENOMEM;
	for (uint64_t i = 0; i < w->header.reftable_clusters; i++)
		(*list)[(*n)++] = w->header.reftable.off / w->cluster_bytes + i;
	for (uint64_t i = 0; i < w->old_entries; i++) {
		if (w->old[i])
			(*list)[(*n)++] = w->old[i] / w->cluster_bytes;
	}
	qsort(*list, *n, sizeof(**list), ascending);
	return 0;
}

static int cluster_punch(struct co *co, struct width *w, uint64_t cluster)
{
	uint64_t host = cluster * w->cluster_bytes;
	int ret = node_discard(co, w->file, host, MIN(w->cluster_bytes, w->file->size - host));

	return ret == -ENOTSUP ? 0 : ret;
}

/* One reference less to each of n clusters that a new block counts; what somebody else refers to as well stays. */
static int block_lower(struct co *co, struct width *w, const uint64_t *clusters, uint64_t n)
{
	uint64_t host = be64_get(w->table[clusters[0] / w->per_block]);
	int ret = node_read(co, w->file, host, IOV_BUF(w->block, w->cluster_bytes));

	for (uint64_t i = 0; ret == 0 && i < n; i++) {
		uint64_t index = clusters[i] % w->per_block, count = qcow2_refcount_get(w->block, w->order, index);

		if (count == 0)
			continue;
		qcow2_refcount_set(w->block, w->order, index, count - 1);
		if (count == 1)
			ret = cluster_punch(co, w, clusters[i]);
	}
	return ret == 0 ? node_write(co, w->file, host, IOV_BUF(w->block, w->cluster_bytes), 0) : ret;
}

static int old_free(struct co *co, struct width *w)
{
	AUTO_FREE uint64_t *list = NULL;
	uint64_t n, next;
	int ret = old_list(w, &list, &n);

	for (uint64_t i = 0; ret == 0 && i < n; i = next) {
		for (next = i + 1; next < n && list[next] / w->per_block == list[i] / w->per_block;)
			next++;
		if (list[i] / w->per_block < w->needed_room && w->needed[list[i] / w->per_block])
			ret = block_lower(co, w, list + i, next - i);
	}
	return ret == 0 ? node_flush(co, w->file) : ret;
}

/* ---- all of it ---- */

static int replace(struct co *co, struct width *w, struct err *err)
{
	int ret = plan(co, w);

	if (ret == 0 && MUTANT(105))
		ret = qcow2_rewrite_closed(co, w->file, header_change, w, err);
	if (ret == 0)
		ret = structures_write(co, w);
	if (ret == 0 && MUTANT(106))
		ret = old_free(co, w);
	if (ret < 0)
		return err_set(err, ret, "new refcounts can't be written: %s", strerror(-ret));
	ret = qcow2_rewrite_closed(co, w->file, header_change, w, err);
	if (ret < 0)
		return ret;
	ret = old_free(co, w);
	return ret < 0 ? err_set(err, ret, "the old refcounts can't be given back: %s", strerror(-ret)) : 0;
}

static int width_run(struct co *co, struct node *file, unsigned order, qcow2_progress *progress, void *arg, bool check,
	struct err *err)
{
	struct width *w = width_new(file, order);
	int ret = w ? 0 : err_set(err, -ENOMEM, "no memory for new refcounts");

	if (ret < 0)
		return ret;
	w->progress = progress;
	w->arg = arg;
	ret = load(co, w, err);
	if (ret == 0)
		ret = survey(co, w, err);
	if (ret == 0 && !check)
		ret = replace(co, w, err);
	width_free(w);
	return ret;
}

int qcow2_refcount_width_check(struct co *co, struct node *file, unsigned order, struct err *err)
{
	return width_run(co, file, order, NULL, NULL, true, err);
}

int qcow2_refcount_width(
	struct co *co, struct node *file, unsigned order, qcow2_progress *progress, void *arg, struct err *err)
{
	return width_run(co, file, order, progress, arg, false, err);
}
