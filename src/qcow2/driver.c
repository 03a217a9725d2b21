/* SPDX-License-Identifier: MIT */
/* Opening and closing an image, and what it is as a node. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "qcow2/bitmaps.h"
#include "qcow2/compress.h"
#include "qcow2/crypt.h"
#include "qcow2/engine.h"
#include "qcow2/snapshot_ops.h"

int qcow2_corrupt(struct co *co, struct qcow2 *q, const char *format, ...)
{
	va_list args;

	if (q->corrupt || !q->options.write)
		return -EIO;
	q->corrupt = true;
	q->node.failed = -EIO;
	va_start(args, format);
	vsnprintf(q->stats.corruption, sizeof(q->stats.corruption), format, args);
	va_end(args);
	log_line(q->options.log, LOG_LEVEL_ERROR, "%s: Marking image as corrupt: %s; it is read only from now on",
		q->node.name, q->stats.corruption);
	if (q->header.version >= 3) {
		q->header.incompatible |= QCOW2_INCOMPAT_CORRUPT;
		qcow2_header_changed(q);
		if (qcow2_commit(co, q))
			q->stats.reclaim_errors++;
	}
	return -EIO;
}

/* ---- closing ---- */

static void release_memory(struct qcow2 *q)
{
	qcow2_cache_fini(&q->l2_cache);
	qcow2_cache_fini(&q->refcount_cache);
	qcow2_decoder_fini(q);
	qcow2_codecs_fini(q);
	qcow2_guard_fini(q);
	qcow2_table_fini(&q->l1);
	qcow2_table_fini(&q->reftable);
	qcow2_batch_fini(&q->phase_a);
	qcow2_batch_fini(&q->phase_b);
	free(q->freed.v);
	free(q->freed_commit.v);
	free(q->freed_durable.v);
	free(q->full);
	free(q->touched);
	qcow2_bitmaps_free(q);
}

/* Refcounts that fell, or were put off; the dirty bit goes when they are durable. */
static int settle_refcounts(struct co *co, struct qcow2 *q)
{
	if (!list_empty(&q->refcount_cache.dirty))
		qcow2_refcounts_want(q);
	if (q->header.incompatible & QCOW2_INCOMPAT_DIRTY) {
		q->header.incompatible &= ~(uint64_t)QCOW2_INCOMPAT_DIRTY;
		qcow2_header_changed(q);
	}
	return q->dirty ? qcow2_commit(co, q) : 0;
}

/* Commit what is mapped; then nothing holds the quarantine back; then the refcounts. */
static int close_metadata(struct co *co, struct qcow2 *q)
{
	int rc = qcow2_commit(co, q);

	if (!rc)
		rc = qcow2_reclaim(co, q);
	if (!rc)
		rc = settle_refcounts(co, q);
	if (!rc)
		rc = qcow2_trim(co, q);
	return rc;
}

static int driver_close(struct co *co, struct node *n)
{
	struct qcow2 *q = qcow2_of(n);
	int rc = 0, closed = 0;

	qcow2_snapshots_stop(co, q);
	qcow2_leaks_stop(co, q);
	qcow2_keeper_stop(co, q);
	if (q->options.write) {
		rc = qcow2_bitmaps_close(co, q);
		closed = close_metadata(co, q);
	}
	release_memory(q);
	crypto_cipher_free(q->aes);
	node_fini(n);
	free(q);
	return rc ? rc : closed;
}

static int driver_flush(struct co *co, struct node *n)
{
	struct qcow2 *q = qcow2_of(n);

	return q->options.write ? qcow2_commit(co, q) : 0;
}

static const struct node_ops qcow2_ops = {
	.name = "qcow2",
	.close = driver_close,
	.flush = driver_flush,
	.resize = qcow2_resize,
	.map = qcow2_map,
	.decode = qcow2_decode,
	.compress = qcow2_compress,
	.changing = qcow2_bitmaps_changing,
	.overwriting = qcow2_overwriting,
	.reserve = qcow2_reserve,
	.publish = qcow2_publish,
	.cancel = qcow2_cancel,
	.unmap = qcow2_unmap,
};

bool node_is_qcow2(const struct node *n) { return n->ops == &qcow2_ops; }

const struct qcow2_header *qcow2_node_header(const struct node *n)
{
	assert(node_is_qcow2(n));
	return &container_of(n, struct qcow2, node)->header;
}

const struct qcow2_stats *qcow2_node_stats(struct node *n)
{
	struct qcow2 *q = qcow2_of(n);

	assert(node_is_qcow2(n));
	q->stats.l2_hits = q->l2_cache.hits;
	q->stats.l2_misses = q->l2_cache.misses;
	q->stats.refcount_misses = q->refcount_cache.misses;
	q->stats.leaks_searched = !q->leaks_alive;
	return &q->stats;
}

/* ---- opening ---- */

static int refuse(const struct qcow2 *q, const struct qcow2_options *o, struct err *err)
{
	const struct qcow2_header *h = &q->header;
	int rc;

	if (!qcow2_codec_known(h->compression_type))
		return err_set(
			err, -ENOTSUP, "the image is compressed with zstd, which this program was built without");
	rc = qcow2_data_check(h, o, err);
	if (rc || !o->write)
		return rc;
	if (o->snapshot)
		return err_set(err, -EROFS, "a snapshot can only be opened read only");
	if (h->crypt_method == QCOW2_CRYPT_AES)
		return err_set(err, -EROFS,
			"the image is encrypted in the old way (AES), which is unsafe: it may only be opened read only, to copy "
			"it to one with encrypt.format=luks");
	if (h->incompatible & QCOW2_INCOMPAT_CORRUPT)
		return err_set(err, -EROFS,
			"the image is marked corrupt: repair it (corral check -r all), or open it read only");
	return 0;
}

static void set_geometry(struct qcow2 *q, struct node *file, const struct qcow2_options *o)
{
	const struct qcow2_header *h = &q->header;

	q->options = *o;
	q->options.snapshot = NULL;
	if (!q->options.commit_interval_ns)
		q->options.commit_interval_ns = QCOW2_DEFAULT_COMMIT_NS;
	q->cluster_bits = h->cluster_bits;
	q->cluster_bytes = 1u << h->cluster_bits;
	q->unit_bytes = MAX(QCOW2_SECTOR, file->align);
	q->subclusters = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? QCOW2_SUBCLUSTERS : 1;
	q->l2_entry_bytes = q->subclusters > 1 ? 16 : 8;
	q->l2_entries = q->cluster_bytes / q->l2_entry_bytes;
	q->block_refcounts = (uint64_t)q->cluster_bytes * 8 >> h->refcount_order;
	q->file_bytes = file->size;
	q->high_water = align_up(file->size, q->cluster_bytes);
	q->zero_from = file->grows_zeroed ? q->high_water : UINT64_MAX;
	q->next_cluster = 1;
	q->node.ops = &qcow2_ops;
	q->node.file = file;
	q->node.data = o->data_file;
	q->node.data_apart = o->data_file != NULL;
	q->node.size = h->size;
	q->node.align = 1;
	q->node.mem_align = 1;
	q->node.cluster = q->cluster_bytes;
	q->node.subcluster = q->cluster_bytes / q->subclusters;
	q->node.read_only = !o->write;
	memcpy(q->node.name, file->name, sizeof(q->node.name));
}

static void init_lists(struct qcow2 *q)
{
	list_init(&q->l1_making);
	list_init(&q->commit_waiters);
	co_mutex_init(&q->rewriting);
	co_mutex_init(&q->grow_refcounts);
	co_mutex_init(&q->grow_file);
	co_mutex_init(&q->pack);
	co_sem_init(&q->encoders, QCOW2_ENCODERS);
	qcow2_decoder_init(q);
	co_queue_init(&q->keeper_wake);
	co_queue_init(&q->keeper_done);
	co_queue_init(&q->leaks_done);
	co_queue_init(&q->leaks_wake);
	co_queue_init(&q->snapshots_done);
	co_mutex_init(&q->snapshots);
}

/* As asked, or enough for all of it but no more than a default. */
static uint64_t cache_bytes(uint64_t asked, uint64_t all, uint64_t most)
{
	return asked ? asked : MIN(MAX(all, QCOW2_LEAST_CACHE), most);
}

static int init_caches(struct qcow2 *q)
{
	const struct qcow2_options *o = &q->options;
	uint64_t l2 = cache_bytes(o->l2_cache_bytes, 2 * q->l1.n * q->cluster_bytes, QCOW2_DEFAULT_L2_CACHE);
	uint64_t refcounts =
		cache_bytes(o->refcount_cache_bytes, q->reftable.n * q->cluster_bytes, QCOW2_DEFAULT_REFCOUNT_CACHE);
	int rc = qcow2_cache_init(&q->l2_cache, q, l2);

	if (!rc)
		rc = qcow2_cache_init(&q->refcount_cache, q, refcounts);
	q->l2_cache.load_event = NODE_EVENT_L2_LOAD;
	q->l2_cache.update_event = NODE_EVENT_L2_UPDATE;
	q->refcount_cache.load_event = NODE_EVENT_REFBLOCK_LOAD;
	q->refcount_cache.update_event = NODE_EVENT_REFBLOCK_UPDATE_PART;
	return rc;
}

static int load_tables(struct co *co, struct qcow2 *q)
{
	uint64_t entries = (uint64_t)q->header.reftable_clusters << q->cluster_bits >> 3;
	int rc = qcow2_table_init(&q->l1, q->header.l1_entries, q->unit_bytes);

	if (!rc)
		rc = qcow2_table_init(&q->reftable, entries, q->unit_bytes);
	if (!rc)
		rc = init_caches(q);
	if (rc)
		return rc;
	q->full = calloc(1, bitmap_bytes(entries * (q->cluster_bytes / q->refcount_cache.slice_bytes)));
	if (!q->full)
		return -ENOMEM;
	rc = qcow2_table_load(co, q, &q->l1, q->header.l1.off);
	if (rc)
		return rc;
	node_event(co, q->node.file, NODE_EVENT_REFTABLE_LOAD);
	rc = qcow2_table_load(co, q, &q->reftable, q->header.reftable.off);
	return rc ? rc : qcow2_guard_start(co, q);
}

/* Before the first change: whoever relies on what an autoclear bit promises must see that it no longer holds. */
static int clear_autoclear(struct co *co, struct qcow2 *q)
{
	uint64_t kept = q->header.autoclear & (qcow2_bitmaps_autoclear(q) | QCOW2_AUTOCLEAR_DATA_FILE_RAW);

	if (!q->options.write || q->header.autoclear == kept)
		return 0;
	q->header.autoclear = kept;
	qcow2_header_changed(q);
	return qcow2_commit(co, q);
}

static int start(struct co *co, struct qcow2 *q, struct err *err)
{
	int rc = load_tables(co, q);

	if (rc)
		return err_set(err, rc, "%s: can't load the L1 and refcount tables: %s", q->node.name, strerror(-rc));
	rc = qcow2_data_start(co, q, err);
	if (rc)
		return rc;
	rc = q->options.write ? qcow2_keeper_start(q) : 0;
	if (!rc && q->options.write && !q->options.keep_leaks)
		rc = qcow2_leaks_start(q);
	if (!rc)
		rc = clear_autoclear(co, q);
	if (!rc) {
		qcow2_cut_leftovers(co, q);
		return qcow2_bitmaps_open(co, q, err);
	}
	return rc ? err_set(err, rc, "%s: can't prepare the image for writing: %s", q->node.name, strerror(-rc)) : 0;
}

/* It wasn't closed: refcounts may be wrong, the mapping isn't. */
static int recover(struct co *co, struct qcow2 *q, struct node *file, struct err *err)
{
	int rc = qcow2_recover(co, file, &q->header, err);

	if (rc) {
		err_prefix(err,
			"the image was not closed cleanly and its refcounts couldn't be put right; repair it "
			"(corral check -r all), or open it read only");
		return rc;
	}
	return qcow2_header_load(co, file, QCOW2_INCOMPAT_KNOWN, &q->header, err);
}

static int read_header(
	struct co *co, struct qcow2 *q, struct node *file, const struct qcow2_options *o, struct err *err)
{
	int rc = qcow2_header_load(co, file, QCOW2_INCOMPAT_KNOWN, &q->header, err);

	if (!rc)
		rc = refuse(q, o, err);
	if (!rc && o->snapshot)
		rc = qcow2_snapshot_view(co, file, &q->header, o->snapshot, err);
	if (!rc && o->write && (q->header.incompatible & QCOW2_INCOMPAT_DIRTY))
		rc = recover(co, q, file, err);
	if (rc)
		return rc;
	rc = node_read(co, file, 0, IOV_BUF(q->sector, MIN(file->size, (uint64_t)QCOW2_HEADER_SECTOR)));
	memcpy(q->durable_sector, q->sector, sizeof(q->sector));
	return rc ? err_set(err, rc, "%s: can't read the header: %s", file->name, strerror(-rc)) : 0;
}

/* Of an image that couldn't be opened: nothing was written, and the data file stays its caller's. */
static void close_crypt(struct co *co, struct qcow2 *q)
{
	crypto_cipher_free(q->aes);
	if (!q->encrypted)
		return;
	q->node.data->file = q->node.data->data = NULL;
	(void)!node_close(co, q->node.data);
}

int qcow2_open(
	struct co *co, struct node *file, const struct qcow2_options *options, struct node **out, struct err *err)
{
	AUTO_FREE struct qcow2 *q = calloc(1, sizeof(*q));
	int rc;

	if (!q)
		return err_set(err, -ENOMEM, "no memory for the image");
	rc = read_header(co, q, file, options, err);
	if (rc)
		return rc;
	set_geometry(q, file, options);
	init_lists(q);
	rc = qcow2_crypt_open(co, q, err);
	if (rc)
		return rc;
	rc = qcow2_bitmaps_init(q);
	if (!rc)
		rc = node_init(&q->node, co_sched_of(co));
	if (rc) {
		qcow2_bitmaps_free(q);
		close_crypt(co, q);
		return err_set(err, rc, "no memory for the image");
	}
	rc = start(co, q, err);
	if (rc) {
		qcow2_leaks_stop(co, q);
		qcow2_keeper_stop(co, q);
		release_memory(q);
		node_fini(&q->node);
		close_crypt(co, q);
		return rc;
	}
	*out = &take(q)->node;
	return 0;
}
