/* SPDX-License-Identifier: MIT */
/* The driver qcow2: its run-time options, in QEMU's names, for the engine. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/driver.h"
#include "base/cleanup.h"
#include "base/math.h"

static const char *const options[] = {"backing.", "data-file.", "lazy-refcounts", "pass-discard-request",
	"pass-discard-snapshot", "pass-discard-other", "discard-no-unref", "overlap-check", "overlap-check.",
	"cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval",
	"encrypt.format", "encrypt.key-secret", NULL};

/* ---- caches ---- */

/* cache-size is for both: what one of them is given is the other's loss; else the tables of the mapping have the most. */
static int caches_take(const json_t *tree, struct qcow2_options *q, struct err *err)
{
	uint64_t both = 0;
	int ret = options_size(tree, "cache-size", &both, err);

	if (ret == 0)
		ret = options_size(tree, "l2-cache-size", &q->l2_cache_bytes, err);
	if (ret == 0)
		ret = options_size(tree, "refcount-cache-size", &q->refcount_cache_bytes, err);
	if (ret < 0 || both == 0)
		return ret;
	if (q->l2_cache_bytes > both)
		return err_set(err, -EINVAL, "l2-cache-size may not exceed cache-size");
	if (q->refcount_cache_bytes > both)
		return err_set(err, -EINVAL, "refcount-cache-size may not exceed cache-size");
	if (q->l2_cache_bytes > 0 && q->refcount_cache_bytes > 0)
		return err_set(err, -EINVAL,
			"cache-size, l2-cache-size and refcount-cache-size may not be set at the same time");
	if (q->l2_cache_bytes > 0)
		q->refcount_cache_bytes = MAX(both - q->l2_cache_bytes, UINT64_C(1));
	else if (q->refcount_cache_bytes > 0)
		q->l2_cache_bytes = MAX(both - q->refcount_cache_bytes, UINT64_C(1));
	else
		q->l2_cache_bytes = both;
	return 0;
}

/* ---- words ---- */

/* The engine always looks before it writes; these are the words by which QEMU is told how much. */
static int overlap_check(const json_t *tree, struct err *err)
{
	static const char *const words[] = {"none", "constant", "cached", "all"};
	const char *word = options_text(tree, "overlap-check");

	for (unsigned i = 0; i < ARRAY_ENTRIES(words); i++) {
		if (!word || strcmp(word, words[i]) == 0)
			return 0;
	}
	return err_set(err, -EINVAL,
		"Unsupported value '%s' for qcow2 option 'overlap-check'. Allowed are any of the following: none, "
		"constant, cached, all",
		word);
}

/* How refcounts are written, the image says; what becomes of freed space, the discard option. */
static int switches_check(const json_t *tree, struct err *err)
{
	static const char *const names[] = {"lazy-refcounts", "pass-discard-request", "pass-discard-snapshot",
		"pass-discard-other", "discard-no-unref"};
	bool on;
	int ret = 0;

	for (unsigned i = 0; i < ARRAY_ENTRIES(names) && ret == 0; i++)
		ret = options_bool(tree, names[i], &on, err);
	return ret;
}

/* The engine's slices of tables are of a fixed size; a wrong one is refused all the same. */
static int slice_check(struct co *co, const json_t *tree, struct node *file, struct err *err)
{
	AUTO_FREE struct qcow2_header *header = NULL;
	uint64_t bytes = 0, cluster;
	int ret = options_size(tree, "l2-cache-entry-size", &bytes, err);

	if (ret < 0 || bytes == 0)
		return ret;
	header = malloc(sizeof(*header));
	ret = header ? qcow2_header_load(co, file, ~UINT64_C(0), header, err) : err_set(err, -ENOMEM, "no memory");
	if (ret < 0)
		return ret;
	cluster = UINT64_C(1) << header->cluster_bits;
	if (!is_power_of_two(bytes) || bytes < 512 || bytes > cluster)
		return err_set(err, -EINVAL,
			"L2 cache entry size must be a power of two between 512 and the cluster size (%" PRIu64 ")",
			cluster);
	return 0;
}

static int secret_take(
	const struct driver_context *context, const json_t *tree, struct qcow2_options *q, struct err *err)
{
	const struct image_open *how = context->how;
	const char *id = options_text(tree, "encrypt.key-secret");

	if (!id && how->secrets_n > 0)
		q->secret = &how->secrets[MIN(context->encrypted, how->secrets_n - 1)];
	for (unsigned i = 0; id && i < how->objects_n; i++) {
		if (strcmp(how->objects[i].id, id) == 0)
			q->secret = &how->objects[i].secret;
	}
	return id && !q->secret ? err_set(err, -EINVAL, "No secret with id '%s'", id) : 0;
}

static int qcow2_driver_open(struct co *co, const struct driver_context *context, const json_t *tree,
	struct node *child, struct node **out, struct err *err)
{
	struct qcow2_options q = context->how->qcow2;
	int ret = caches_take(tree, &q, err);

	if (ret == 0)
		ret = overlap_check(tree, err);
	if (ret == 0)
		ret = switches_check(tree, err);
	if (ret == 0)
		ret = slice_check(co, tree, child, err);
	if (ret == 0)
		ret = secret_take(context, tree, &q, err);
	if (ret < 0)
		return ret;
	if (!context->top)
		q.snapshot = NULL;
	q.write = context->write;
	q.no_discard = context->no_discard;
	q.data_file = context->data;
	return qcow2_open(co, child, &q, out, err);
}

const struct driver driver_qcow2 = {
	.name = "qcow2",
	.kind = DRIVER_FORMAT,
	.child = "file",
	.options = options,
	.open = qcow2_driver_open,
};
