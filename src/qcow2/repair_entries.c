/* SPDX-License-Identifier: MIT */
/*
 * Entries of L1 and L2 tables, put right where they lie. A table is written only if its clusters are in the file and serve
 * as nothing else: a "table" that is a refcount block as well would be destroyed by its repair.
 */
#include "qcow2/repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define SECTOR 512u
#define ALL_ZEROES UINT64_C(0xffffffff00000000)

struct edit { /* of an L2 table in memory */
	be64 *words;
	unsigned words_per_entry;
	uint64_t from, to; /* bytes that differ from the disk */
};

static struct edit edit_begin(const struct qcow2_checker *c, const struct qcow2_piece *table)
{
	return (struct edit){.words = table->bytes, .words_per_entry = qcow2_check_is_extended(c) ? 2 : 1};
}

static void edit_put(struct edit *e, uint64_t index, unsigned word, uint64_t value)
{
	uint64_t at = index * e->words_per_entry + word, sector = align_down(at * 8, SECTOR);

	e->words[at] = be64_of(value);
	e->from = e->from == e->to ? sector : MIN(e->from, sector);
	e->to = MAX(e->to, sector + SECTOR);
}

static int edit_end(struct co *co, struct qcow2_repairer *r, const struct qcow2_piece *table, const struct edit *e)
{
	if (e->from == e->to)
		return 0;
	return qcow2_repair_write(co, r, table->host + e->from, (const char *)table->bytes + e->from, e->to - e->from);
}

static bool table_writable(const struct qcow2_checker *c, const struct qcow2_piece *table)
{
	return qcow2_repair_writable(c, table->host, c->cluster_bytes, QCOW2_ROLE_L2);
}

/* ---- COPIED ---- */

/* Whether the flag must be changed in this pass, given what the refcount will be. */
static bool flag_wrong(const struct qcow2_repairer *r, uint64_t entry, uint64_t refcount)
{
	bool has = entry & CHECK_COPIED, wants = refcount == 1;

	return has != wants && wants == r->setting;
}

static int l1_flag_fix(struct co *co, struct qcow2_repairer *r, const struct qcow2_piece *table)
{
	struct qcow2_checker *c = r->c;
	uint64_t at = c->header.l1.off + table->index * 8, sector = align_down(at, SECTOR);
	uint64_t refcount = qcow2_repair_refcount(co, r, table->host / c->cluster_bytes);
	be64 words[SECTOR / 8];
	int ret;

	if (!flag_wrong(r, table->entry, refcount))
		return 0;
	if (!qcow2_repair_writable(c, c->header.l1.off, c->header.l1_entries * UINT64_C(8), QCOW2_ROLE_L1)) {
		r->pass_failed = true;
		return 0;
	}
	ret = qcow2_check_read(co, c, sector, words, sizeof(words));
	if (ret < 0)
		return ret;
	qcow2_check_found(c, NULL,
		"Repairing OFLAG_COPIED L2 cluster: l1_index=%" PRIu64 " l1_entry=%" PRIx64 " refcount=%" PRIu64,
		table->index, table->entry, refcount);
	words[(at - sector) / 8] = be64_of(table->entry ^ CHECK_COPIED);
	r->flags_fixed++;
	return qcow2_repair_write(co, r, sector, words, sizeof(words));
}

static void entry_flag_fix(
	struct co *co, struct qcow2_repairer *r, const struct qcow2_check_entry *e, struct edit *edit)
{
	struct qcow2_checker *c = r->c;
	uint64_t refcount = qcow2_check_has_data_file(c) ? 1 : qcow2_repair_refcount(co, r, e->host / c->cluster_bytes);

	if (e->kind != QCOW2_ENTRY_ALLOCATED || !flag_wrong(r, e->raw, refcount))
		return;
	if (!edit) {
		r->pass_failed = true;
		return;
	}
	qcow2_check_found(c, NULL, "Repairing OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64,
		e->raw, refcount);
	edit_put(edit, e->index, 0, e->raw ^ CHECK_COPIED);
	r->flags_fixed++;
}

static int table_flags_fix(struct co *co, struct qcow2_checker *c, const struct qcow2_piece *table)
{
	struct edit edit = edit_begin(c, table);
	bool writable = table_writable(c, table);
	int ret = l1_flag_fix(co, c->repair, table);

	for (uint64_t i = 0; i < qcow2_check_table_entries(c) && ret == 0; i++) {
		struct qcow2_check_entry e = qcow2_check_entry_get(c, table->bytes, i);

		if (e.raw != 0)
			entry_flag_fix(co, c->repair, &e, writable ? &edit : NULL);
	}
	return ret == 0 ? edit_end(co, c->repair, table, &edit) : ret;
}

int qcow2_repair_copied(struct co *co, struct qcow2_repairer *r)
{
	struct qcow2_checker *c = r->c;
	int ret = qcow2_check_tables(co, c, c->header.l1, c->header.l1_entries, table_flags_fix);

	/* When the references were counted all tables could be read. A flag that stays would lie when refcounts rise. */
	if (ret == 0 && c->incomplete && !MUTANT(136))
		ret = -EIO;
	return ret == 0 ? qcow2_repair_flush(co, r) : ret;
}

/* ---- what can't be so ---- */

/* Space that was reserved without data, at an impossible address, is forgotten: it reads zeros as before. */
static void preallocated_forget(struct qcow2_repairer *r, const struct qcow2_check_entry *e, struct edit *edit)
{
	if (e->kind != QCOW2_ENTRY_ALLOCATED || is_aligned(e->host, r->c->cluster_bytes) ||
		qcow2_check_entry_has_data(r->c, e))
		return;
	qcow2_check_found(r->c, NULL,
		"Repairing offset=%" PRIx64 ": Preallocated cluster is not properly aligned; L2 entry corrupted.",
		e->host);
	r->entries_fixed++;
	edit_put(edit, e->index, 0, edit->words_per_entry == 2 ? 0 : CHECK_ZERO);
	if (edit->words_per_entry == 2)
		edit_put(edit, e->index, 1, e->subclusters & ALL_ZEROES);
}

static void compressed_flag_clear(struct qcow2_repairer *r, const struct qcow2_check_entry *e, struct edit *edit)
{
	if (e->kind != QCOW2_ENTRY_INFLATABLE || !(e->raw & CHECK_COPIED))
		return;
	qcow2_check_found(r->c, NULL, "Repairing OFLAG_COPIED compressed cluster: l2_entry=%" PRIx64, e->raw);
	r->entries_fixed++;
	edit_put(edit, e->index, 0, e->raw & ~CHECK_COPIED);
}

static int table_entries_fix(struct co *co, struct qcow2_checker *c, const struct qcow2_piece *table)
{
	struct edit edit = edit_begin(c, table);

	if (!table_writable(c, table))
		return 0;
	for (uint64_t i = 0; i < qcow2_check_table_entries(c); i++) {
		struct qcow2_check_entry e = qcow2_check_entry_get(c, table->bytes, i);

		preallocated_forget(c->repair, &e, &edit);
		compressed_flag_clear(c->repair, &e, &edit);
	}
	return edit_end(co, c->repair, table, &edit);
}

int qcow2_repair_entries(struct co *co, struct qcow2_repairer *r)
{
	int ret = qcow2_check_trees(co, r->c, table_entries_fix);

	return ret == 0 ? qcow2_repair_flush(co, r) : ret;
}

/* ---- data that lies on something else ---- */

static bool is_tangled(const struct qcow2_checker *c, const struct qcow2_check_entry *e)
{
	return e->kind == QCOW2_ENTRY_ALLOCATED && is_aligned(e->host, c->cluster_bytes) &&
		qcow2_counts_get(c, e->host / c->cluster_bytes).other != QCOW2_ROLE_NONE;
}

/* A copy reads as the original did; the guest can then write to it without destroying the other. */
static int entry_untangle(
	struct co *co, struct qcow2_repairer *r, const struct qcow2_check_entry *e, struct edit *edit, void *data)
{
	struct qcow2_checker *c = r->c;
	uint64_t host;
	int ret = qcow2_repair_claim(co, r, 1, QCOW2_ROLE_DATA, &host);

	if (ret == 0)
		ret = qcow2_check_read(co, c, e->host, data, c->cluster_bytes);
	if (ret == 0)
		ret = qcow2_repair_write(co, r, host, data, c->cluster_bytes);
	if (ret < 0)
		return ret;
	qcow2_check_found(c, NULL,
		"Repairing offset=%" PRIx64 ": guest data that lies on something else is copied to %" PRIx64, e->host,
		host);
	edit_put(edit, e->index, 0, (e->raw & ~(CHECK_OFFSET_MASK | CHECK_COPIED)) | host);
	r->entries_fixed++;
	return 0;
}

static int table_untangle(struct co *co, struct qcow2_checker *c, const struct qcow2_piece *table)
{
	struct edit edit = edit_begin(c, table);
	AUTO_FREE void *data = NULL;
	int ret = 0;

	if (!table_writable(c, table))
		return 0;
	for (uint64_t i = 0; i < qcow2_check_table_entries(c) && ret == 0; i++) {
		struct qcow2_check_entry e = qcow2_check_entry_get(c, table->bytes, i);

		if (!is_tangled(c, &e))
			continue;
		if (!data)
			data = node_alloc(c->cluster_bytes);
		ret = data ? entry_untangle(co, c->repair, &e, &edit, data) : -ENOMEM;
	}
	/* Copies and their refcounts first, then what points to them. */
	if (ret == 0 && edit.to > edit.from && !MUTANT(92))
		ret = qcow2_repair_flush(co, c->repair);
	return ret == 0 ? edit_end(co, c->repair, table, &edit) : ret;
}

int qcow2_repair_untangle(struct co *co, struct qcow2_repairer *r)
{
	int ret;

	/* What is encrypted by its address in the file can't be moved; offset 0 isn't ours in a data file. */
	if (r->c->header.crypt_method == QCOW2_CRYPT_LUKS || qcow2_check_has_data_file(r->c))
		return 0;
	ret = qcow2_check_trees(co, r->c, table_untangle);
	if (ret == -ENOSPC) {
		qcow2_check_found(r->c, NULL, "No free cluster is left to separate what lies on something else");
		ret = 0;
	}
	return ret == 0 ? qcow2_repair_flush(co, r) : ret;
}
