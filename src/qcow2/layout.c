/* SPDX-License-Identifier: MIT */
/*
 * Arrangements of the header cluster: see layout.h.
 *
 *     usual      header | extensions | names of features | more extensions | end | backing name
 *     apart      the same, with the backing name behind everything that is in use now
 *     bare       apart, without the names of features, so that the extensions end in the first sector
 *     beyond     header | gap over everything that is in use now | extensions | end | backing name
 *
 * The usual one is the aim. Where it can't follow at once, one of the others comes first: all of these say the same. The
 * gap is an extension of a type that means nothing; nobody finds it unless the power fails just then, and whoever rewrites
 * the header next leaves it out.
 */
#include "qcow2/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/math.h"
#include "base/mutant.h"
#include "qcow2/extension.h"

#define END_BYTES sizeof(struct qcow2_disk_extension)

void qcow2_layout_free(struct qcow2_layout *l)
{
	free(l->bytes);
	free(l->used);
	*l = (struct qcow2_layout){0};
}

static int layout_new(struct qcow2_layout *l, size_t len)
{
	*l = (struct qcow2_layout){.bytes = calloc(1, len), .used = calloc(len, sizeof(bool)), .len = len};
	if (l->bytes && l->used)
		return 0;
	qcow2_layout_free(l);
	return -ENOMEM;
}

static void use(struct qcow2_layout *l, size_t at, size_t bytes) { memset(l->used + at, true, bytes); }

static size_t used_end(const struct qcow2_layout *l)
{
	size_t end = l->len;

	while (end > 0 && !l->used[end - 1])
		end--;
	return end;
}

static struct qcow2_disk_header fixed_part(const struct qcow2_layout *l)
{
	struct qcow2_disk_header disk;

	memcpy(&disk, l->bytes, sizeof(disk));
	return disk;
}

static struct qcow2_extensions extensions_of(const struct qcow2_layout *l)
{
	struct qcow2_disk_header disk = fixed_part(l);
	uint64_t name = be64_get(disk.backing_offset);

	return (struct qcow2_extensions){
		.bytes = (const char *)l->bytes,
		.at = be32_get(disk.version) == 2 ? offsetof(struct qcow2_disk_header, incompatible)
						  : be32_get(disk.header_bytes),
		.end = name ? name : l->len,
	};
}

int qcow2_layout_of(const void *cluster, size_t len, const struct qcow2_header *h, struct qcow2_layout *out)
{
	struct qcow2_extensions walk;
	struct qcow2_extension ext;
	int ret = layout_new(out, len);

	if (ret < 0)
		return ret;
	memcpy(out->bytes, cluster, len);
	walk = extensions_of(out);
	use(out, 0, walk.at);
	while (qcow2_extension_next(&walk, &ext, NULL) > 0)
		use(out, ext.at, ext.type == QCOW2_EXT_GAP ? END_BYTES : walk.at - ext.at);
	use(out, walk.at, MIN(END_BYTES, walk.end - walk.at));
	if (h->backing_name[0])
		use(out, be64_get(fixed_part(out).backing_offset), strlen(h->backing_name));
	return 0;
}

/* ---- making one ---- */

struct arrangement {
	size_t beyond;  /* 0, or where the extensions begin, behind a gap */
	size_t name_at; /* 0: behind the extensions, else there, or behind them if they reach further */
	bool no_names;  /* of features */
};

/* The image's own table, or ours where it has none. */
static const void *feature_names(const struct qcow2_layout *old, const struct qcow2_header *h, size_t *bytes)
{
	struct qcow2_extensions walk = extensions_of(old);
	struct qcow2_extension ext;

	*bytes = 0;
	if (h->version == 2)
		return NULL;
	while (qcow2_extension_next(&walk, &ext, NULL) > 0) {
		if (ext.type == QCOW2_EXT_FEATURE_NAMES) {
			*bytes = ext.bytes;
			return ext.data;
		}
	}
	return qcow2_header_wants_names(h) ? qcow2_feature_names(bytes) : NULL;
}

static int put_unknown(const struct qcow2_layout *old, struct qcow2_layout *l, size_t *at)
{
	struct qcow2_extensions walk = extensions_of(old);
	struct qcow2_extension ext;
	int ret = 0;

	while (ret == 0 && qcow2_extension_next(&walk, &ext, NULL) > 0) {
		if (!qcow2_extension_is_known(ext.type))
			ret = qcow2_extension_put(l->bytes, l->len, at, ext.type, ext.data, ext.bytes);
	}
	return ret;
}

static int put_gap(struct qcow2_layout *l, size_t *at, size_t to)
{
	struct qcow2_disk_extension disk = {be32_of(QCOW2_EXT_GAP), be32_of((uint32_t)(to - *at - sizeof(disk)))};

	if (to > l->len)
		return -ENAMETOOLONG;
	memcpy(l->bytes + *at, &disk, sizeof(disk));
	use(l, *at, sizeof(disk));
	*at = to;
	return 0;
}

static int put_extensions(const struct qcow2_layout *old, const struct qcow2_header *h, const struct arrangement *how,
	struct qcow2_layout *l, size_t *at)
{
	size_t first, bytes = 0;
	const void *names = how->no_names ? NULL : feature_names(old, h, &bytes);
	int ret = how->beyond ? put_gap(l, at, how->beyond) : 0;

	first = *at;
	if (ret == 0)
		ret = qcow2_header_put_extensions(h, names, bytes, l->bytes, l->len, at);
	if (ret == 0)
		ret = put_unknown(old, l, at);
	if (ret == 0)
		ret = qcow2_extension_put(l->bytes, l->len, at, QCOW2_EXT_END, NULL, 0);
	if (ret == 0)
		use(l, first, *at - first);
	return ret;
}

static int arrange(const struct qcow2_layout *old, const struct qcow2_header *h, const struct arrangement *how,
	struct qcow2_layout *out)
{
	size_t at = qcow2_header_length(h), name = strlen(h->backing_name);
	int ret = layout_new(out, old->len);

	if (ret < 0)
		return ret;
	/* What version 2 has there are extensions. */
	if (h->version == 3 && be32_get(fixed_part(old).version) == 3)
		memcpy(out->bytes, old->bytes, at);
	use(out, 0, at);
	ret = put_extensions(old, h, how, out, &at);
	at = MAX(at, how->name_at);
	if (ret == 0 && (at > out->len || name > out->len - at))
		ret = -ENAMETOOLONG;
	if (ret < 0) {
		qcow2_layout_free(out);
		return ret;
	}
	memcpy(out->bytes + at, h->backing_name, name);
	use(out, at, name);
	qcow2_header_put(h, name ? at : 0, out->bytes);
	return 0;
}

/* ---- one after the other ---- */

/* No byte behind the first sector is used by both and differs. */
static bool may_follow(const struct qcow2_layout *from, const struct qcow2_layout *to)
{
	for (size_t i = QCOW2_HEADER_SECTOR; i < from->len; i++) {
		if (from->used[i] && to->used[i] && from->bytes[i] != to->bytes[i] && !MUTANT(96))
			return false;
	}
	return true;
}

void qcow2_layout_merge(const struct qcow2_layout *from, const struct qcow2_layout *to, uint8_t *cluster)
{
	for (size_t i = QCOW2_HEADER_SECTOR; i < to->len; i++)
		cluster[i] = to->used[i] ? to->bytes[i] : from->used[i] ? from->bytes[i] : 0;
}

/* Where names of features don't fit any more they are done without. */
static int arrange_usual(const struct qcow2_layout *old, const struct qcow2_header *h, struct qcow2_layout *out)
{
	int ret = arrange(old, h, &(struct arrangement){0}, out);

	return ret == -ENAMETOOLONG ? arrange(old, h, &(struct arrangement){.no_names = true}, out) : ret;
}

/* The aim is in steps[0]; puts what comes before it there, and the aim behind. */
static int find_detour(
	const struct qcow2_layout *old, const struct qcow2_header *h, struct qcow2_layout steps[QCOW2_LAYOUT_STEPS])
{
	size_t free_from = align_up(MAX(used_end(old), used_end(&steps[0])), 8);
	const struct arrangement detours[] = {
		{.name_at = free_from},
		{.name_at = free_from, .no_names = true},
		{.beyond = free_from},
		{.beyond = free_from, .no_names = true},
	};

	for (unsigned i = 0; i < ARRAY_ENTRIES(detours); i++) {
		struct qcow2_layout way;
		int ret = arrange(old, h, &detours[i], &way);

		if (ret == -ENAMETOOLONG)
			continue;
		if (ret < 0)
			return ret;
		if (may_follow(old, &way) && may_follow(&way, &steps[0])) {
			steps[1] = steps[0];
			steps[0] = way;
			return 0;
		}
		qcow2_layout_free(&way);
	}
	return -ENOSPC;
}

int qcow2_layout_plan(const struct qcow2_layout *old, const struct qcow2_header *h,
	struct qcow2_layout steps[QCOW2_LAYOUT_STEPS], unsigned *n, struct err *err)
{
	int ret = arrange_usual(old, h, &steps[0]);

	*n = 1;
	steps[1] = (struct qcow2_layout){0};
	if (ret == -ENAMETOOLONG)
		return err_set(err, ret, "the names and extensions of the header don't fit in its cluster of %zu bytes",
			old->len);
	if (ret == 0 && !may_follow(old, &steps[0])) {
		ret = find_detour(old, h, steps);
		*n = 2;
	}
	if (ret == 0)
		return 0;
	qcow2_layout_free(&steps[0]);
	if (ret == -ENOSPC)
		return err_set(err, ret,
			"the header's cluster of %zu bytes has no room for the new names beside those that are there, "
			"and so can't be changed safely: first shorten the backing file's name",
			old->len);
	return err_set(err, ret, "no memory for the header");
}
