/* SPDX-License-Identifier: MIT */
/* What inspect.h says. Everything that is read is checked against the file's size before it is believed. */
#include "qcow2/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"

enum { PIECE = 64 << 10, TOLD_ENTRIES = 4, AREAS = 8 };

struct area { /* of the file, that the header lays claim to */
	const char *what;
	uint64_t off, bytes;
};

struct inspector {
	struct node *file;
	qcow2_say *say;
	void *arg;
	struct qcow2_inspection *out;
	struct err *err;
	struct area areas[AREAS];
	unsigned areas_n;
};

static void anomaly(struct inspector *in, const char *format, ...) ATTR_PRINTF(2, 3);

static void anomaly(struct inspector *in, const char *format, ...)
{
	AUTO_FREE char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	in->out->anomalies++;
	in->say(in->arg, text ? text : "something is wrong, and there is no memory to say what");
}

/* An explanation that somebody else gave. What the file can't be read for is ours to report, what is wrong in it isn't. */
static int outcome(struct inspector *in, int rc)
{
	if (rc == -EIO || rc == -ENOMEM || rc >= 0)
		return MIN(rc, 0);
	anomaly(in, "%s", in->err->text);
	return 0;
}

/* ---- the header ---- */

/* What can't be parsed strictly may still say what the image refers to. */
static int header_get(struct co *co, struct inspector *in)
{
	struct qcow2_header *h = &in->out->header;
	int rc = qcow2_header_load(co, in->file, UINT64_MAX, h, in->err);

	if (rc == 0) {
		in->out->has_header = true;
		return 0;
	}
	rc = outcome(in, rc);
	if (rc == 0)
		in->out->has_header = qcow2_header_load_damaged(co, in->file, UINT64_MAX, h, in->err) == 0;
	return rc;
}

static int features_check(struct co *co, struct inspector *in)
{
	AUTO_FREE struct qcow2_header *again = malloc(sizeof(*again));
	int rc = again ? 0 : err_set(in->err, -ENOMEM, "no memory");

	if (rc == 0 && in->out->header.incompatible & ~(uint64_t)QCOW2_INCOMPAT_KNOWN)
		rc = outcome(in, qcow2_header_load_damaged(co, in->file, QCOW2_INCOMPAT_KNOWN, again, in->err));
	if (rc == 0 && in->out->header.incompatible & QCOW2_INCOMPAT_CORRUPT)
		anomaly(in, "the image is marked corrupt: an earlier user found damage in it");
	return rc;
}

static void claim(struct inspector *in, const char *what, uint64_t off, uint64_t bytes)
{
	if (bytes == 0)
		return;
	if (off > in->file->size || bytes > in->file->size - off) {
		anomaly(in, "the %s (%" PRIu64 " bytes at %#" PRIx64 ") doesn't lie in the file", what, bytes, off);
		return;
	}
	for (unsigned i = 0; i < in->areas_n; i++) {
		if (ranges_overlap(off, bytes, in->areas[i].off, in->areas[i].bytes))
			anomaly(in, "the %s at %#" PRIx64 " overlaps the %s", what, off, in->areas[i].what);
	}
	in->areas[in->areas_n++] = (struct area){what, off, bytes};
}

static void areas_check(struct inspector *in)
{
	const struct qcow2_header *h = &in->out->header;
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;

	claim(in, "header", 0, MIN(cluster, in->file->size));
	claim(in, "L1 table", h->l1.off, h->l1_entries * UINT64_C(8));
	claim(in, "refcount table", h->reftable.off, h->reftable_clusters * cluster);
	claim(in, "snapshot table", h->snapshots_at.off, h->snapshots ? 1 : 0);
	claim(in, "bitmap directory", h->bitmap_directory.off, h->bitmaps ? h->bitmap_directory_bytes : 0);
	claim(in, "encryption header", h->crypto.off, h->crypt_method == QCOW2_CRYPT_LUKS ? h->crypto_bytes : 0);
}

/* ---- tables ---- */

struct table {
	const char *what;
	uint64_t off, entries;
	uint64_t address;  /* the bits of an entry that say where something lies */
	uint64_t reserved; /* the bits that must be 0 */
};

/* What an address in a table lies in that it can't mean; NULL: nothing. */
static const char *occupied(const struct inspector *in, uint64_t at, uint64_t bytes)
{
	for (unsigned i = 0; i < in->areas_n; i++) {
		if (ranges_overlap(at, bytes, in->areas[i].off, in->areas[i].bytes))
			return in->areas[i].what;
	}
	return NULL;
}

static void entry_complain(
	struct inspector *in, const struct table *t, uint64_t index, uint64_t entry, const char *what)
{
	if (in->out->bad_entries++ < TOLD_ENTRIES)
		anomaly(in, "entry %" PRIu64 " of the %s, %#" PRIx64 ", %s", index, t->what, entry, what);
}

static void entry_check(struct inspector *in, const struct table *t, uint64_t index, uint64_t entry)
{
	uint64_t at = entry & t->address, cluster = UINT64_C(1) << in->out->header.cluster_bits;

	if (entry & t->reserved)
		entry_complain(in, t, index, entry, "has reserved bits set");
	else if (!is_aligned(at, cluster))
		entry_complain(in, t, index, entry, "isn't aligned");
	else if (at && at >= in->file->size)
		entry_complain(in, t, index, entry, "points behind the end of the file");
	else if (at && occupied(in, at, cluster))
		entry_complain(in, t, index, entry, "points into other metadata");
}

static int table_check(struct co *co, struct inspector *in, const struct table *t, uint64_t *used)
{
	AUTO_FREE be64 *piece = malloc(PIECE);
	int rc = piece ? 0 : -ENOMEM;

	for (uint64_t i = 0, n; rc == 0 && i < t->entries; i += n) {
		n = MIN(t->entries - i, (uint64_t)PIECE / sizeof(*piece));
		rc = node_read(co, in->file, t->off + i * 8, IOV_BUF(piece, n * 8));
		for (uint64_t k = 0; rc == 0 && k < n; k++) {
			uint64_t entry = be64_get(piece[k]);

			*used += entry != 0;
			if (entry != 0)
				entry_check(in, t, i + k, entry);
		}
	}
	return rc ? err_set(in->err, rc, "the %s can't be read: %s", t->what, strerror(-rc)) : 0;
}

static int tables_check(struct co *co, struct inspector *in)
{
	const struct qcow2_header *h = &in->out->header;
	uint64_t cluster = UINT64_C(1) << h->cluster_bits, blocks = 0;
	struct table l1 = {
		"L1 table", h->l1.off, h->l1_entries, UINT64_C(0x00fffffffffffe00), UINT64_C(0x7f000000000001ff)};
	struct table refcounts = {"refcount table", h->reftable.off, h->reftable_clusters * cluster / 8,
		~UINT64_C(0x1ff), UINT64_C(0x1ff)};
	int rc = 0;

	if (h->l1_entries && l1.off <= in->file->size && l1.entries * 8 <= in->file->size - l1.off)
		rc = table_check(co, in, &l1, &in->out->l2_tables);
	if (rc == 0 && refcounts.entries * 8 <= QCOW2_MAX_REFTABLE_BYTES && refcounts.off <= in->file->size &&
		refcounts.entries * 8 <= in->file->size - refcounts.off)
		rc = table_check(co, in, &refcounts, &blocks);
	if (rc == 0 && in->out->bad_entries > TOLD_ENTRIES)
		anomaly(in, "%" PRIu64 " more such entries", in->out->bad_entries - TOLD_ENTRIES);
	return rc;
}

/* ---- lists ---- */

static int lists_check(struct co *co, struct inspector *in)
{
	const struct qcow2_header *h = &in->out->header;
	AUTO_FREE struct qcow2_snapshot_info *snapshots = NULL;
	AUTO_FREE struct qcow2_bitmap_info *bitmaps = NULL;
	AUTO_FREE struct luks *luks = malloc(sizeof(*luks));
	unsigned n;
	int rc = luks ? 0 : err_set(in->err, -ENOMEM, "no memory");

	if (rc == 0 && h->snapshots)
		rc = outcome(in, qcow2_snapshots_read(co, in->file, h, &snapshots, &n, in->err));
	if (rc == 0 && h->bitmaps)
		rc = outcome(in, qcow2_bitmaps_read(co, in->file, h, &bitmaps, &n, in->err));
	if (rc == 0 && h->crypt_method == QCOW2_CRYPT_LUKS)
		rc = outcome(in, qcow2_luks_load(co, in->file, h, luks, in->err));
	return rc;
}

int qcow2_inspect(
	struct co *co, struct node *file, qcow2_say *say, void *arg, struct qcow2_inspection *out, struct err *err)
{
	struct inspector in = {.file = file, .say = say, .arg = arg, .out = out, .err = err};
	int rc;

	*out = (struct qcow2_inspection){0};
	rc = header_get(co, &in);
	if (rc < 0 || !out->has_header)
		return rc;
	rc = features_check(co, &in);
	if (rc < 0)
		return rc;
	areas_check(&in);
	rc = tables_check(co, &in);
	return rc < 0 ? rc : lists_check(co, &in);
}
