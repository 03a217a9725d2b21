/* SPDX-License-Identifier: MIT */
/* Repair: rounds of counting and putting right, and the writer. See repair.h for the order of writes. */
#include "qcow2/repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 5

/* ---- the writer ---- */

static int put(struct co *co, struct qcow2_repairer *r, uint64_t off, const void *bytes, size_t len)
{
	/* The file may end inside its last cluster, and a table in it. */
	int ret = off + len > r->c->file->size ? node_resize(co, r->c->file, off + len) : 0;

	return ret == 0 ? node_write(co, r->c->file, off, IOV_BUF(bytes, len), 0) : ret;
}

int qcow2_repair_flush(struct co *co, struct qcow2_repairer *r) { return MUTANT(94) ? 0 : node_flush(co, r->c->file); }

int qcow2_repair_header(struct co *co, struct qcow2_repairer *r)
{
	uint8_t *sector = r->c->sector;
	int ret = node_read(co, r->c->file, 0, IOV_BUF(sector, QCOW2_HEADER_SECTOR));

	if (ret < 0)
		return ret;
	qcow2_header_patch(&r->c->header, sector);
	ret = put(co, r, 0, sector, QCOW2_HEADER_SECTOR);
	return ret == 0 ? qcow2_repair_flush(co, r) : ret;
}

/* Before the first change: a feature of which only its autoclear bit is known must not survive it. */
int qcow2_repair_write(struct co *co, struct qcow2_repairer *r, uint64_t off, const void *bytes, size_t len)
{
	int ret = 0;

	if (r->c->header.autoclear & QCOW2_UNKNOWN_AUTOCLEAR) {
		r->c->header.autoclear &= ~QCOW2_UNKNOWN_AUTOCLEAR;
		ret = qcow2_repair_header(co, r);
	}
	return ret == 0 ? put(co, r, off, bytes, len) : ret;
}

bool qcow2_repair_writable(const struct qcow2_checker *c, uint64_t host, uint64_t bytes, enum qcow2_role role)
{
	return host != 0 && is_aligned(host, c->cluster_bytes) && host < c->file->size &&
		qcow2_counts_table(c, host, bytes, role);
}

/* ---- one round ---- */

static bool fixes_errors(const struct qcow2_repairer *r) { return r->c->how->fix & QCOW2_FIX_ERRORS; }

static int flags_pass(struct co *co, struct qcow2_repairer *r, bool setting)
{
	r->setting = setting;
	return qcow2_repair_copied(co, r);
}

static int refcounts_raise(struct co *co, struct qcow2_repairer *r)
{
	uint64_t fixed = 0;
	int ret = 0;

	if (r->c->low > 0)
		ret = qcow2_repair_refcounts(co, r, QCOW2_TOO_LOW, &fixed);
	r->c->out->corruptions -= MIN(fixed, r->c->out->corruptions);
	return ret;
}

/* Not where a damaged table may have referred to what looks leaked, or where not every reference could be counted. */
static int refcounts_lower(struct co *co, struct qcow2_repairer *r)
{
	struct qcow2_checker *c = r->c;
	uint64_t fixed = 0;
	int ret = 0;

	if (c->high == 0)
		return 0;
	if (qcow2_repair_keeps_leaks(r)) {
		qcow2_check_found(c, NULL, "Leaks are left alone: they may belong to what is damaged");
		return 0;
	}
	ret = qcow2_repair_refcounts(co, r, QCOW2_TOO_HIGH, &fixed);
	c->out->leaks -= MIN(fixed, c->out->leaks);
	return ret;
}

/* What needs whole clusters: another round gives back what it replaces. *again: there is to be one. */
static int moves(struct co *co, struct qcow2_repairer *r, bool *again)
{
	struct qcow2_checker *c = r->c;
	uint64_t before = r->entries_fixed;
	uint64_t table = c->header.snapshots_at.off;
	int ret = 0;

	if (r->recovery || c->unsure)
		return 0;
	if (c->fixable_entries > 0)
		ret = qcow2_repair_entries(co, r);
	if (ret == 0 && c->mixed > 0)
		ret = qcow2_repair_untangle(co, r);
	if (ret == 0 && c->bad_snapshots > 0)
		ret = qcow2_repair_snapshots(co, r);
	*again = r->entries_fixed > before || c->header.snapshots_at.off != table;
	return ret;
}

static int errors_repair(struct co *co, struct qcow2_repairer *r, bool *again)
{
	struct qcow2_checker *c = r->c;
	int ret = 0;

	if (c->copied_wrong && !MUTANT(93))
		ret = flags_pass(co, r, false);
	if (ret == 0 && c->rebuild) {
		*again = true;
		return qcow2_repair_rebuild(co, r);
	}
	if (ret == 0)
		ret = refcounts_raise(co, r);
	if (ret == 0)
		ret = refcounts_lower(co, r);
	if (ret == 0 && c->copied_wrong)
		ret = flags_pass(co, r, true);
	return ret == 0 ? moves(co, r, again) : ret;
}

/* Of flags only those that the lowering makes necessary. */
static int leaks_repair(struct co *co, struct qcow2_repairer *r)
{
	struct qcow2_checker *c = r->c;
	int ret;

	if (c->rebuild) {
		qcow2_check_found(c, &c->out->check_errors, "ERROR need to rebuild refcount structures");
		return 0;
	}
	ret = refcounts_lower(co, r);
	if (ret == 0 && c->high > 0 && c->copied_wrong)
		ret = flags_pass(co, r, true);
	return ret == 0 ? qcow2_check_copied(co, c) : ret;
}

static int round_run(struct co *co, struct qcow2_repairer *r, bool *again)
{
	struct qcow2_checker *c = r->c;
	int ret = qcow2_check_count_all(co, c);

	*again = false;
	if (ret < 0)
		return ret;
	if (r->rounds++ == 0) {
		r->found_corruptions = c->out->corruptions;
		r->found_leaks = c->out->leaks;
	}
	if (c->incomplete) {
		qcow2_check_found(c, NULL,
			"Nothing is repaired: not all references are known, and what is in use might be given back");
		return qcow2_check_copied(co, c);
	}
	return fixes_errors(r) ? errors_repair(co, r, again) : leaks_repair(co, r);
}

/* ---- all of it ---- */

static int rounds_run(struct co *co, struct qcow2_repairer *r, struct err *err)
{
	struct qcow2_checker *c = r->c;
	bool again = true;
	int ret = 0;

	while (r->rounds < ROUNDS && again && ret == 0) {
		r->next_free = 1;
		r->pass_failed = false;
		ret = qcow2_checker_init(c, err);
		if (ret == 0) {
			ret = round_run(co, r, &again);
			if (ret == -ENOSPC)
				err_set(err, ret,
					"there is no room for new refcounts: no cluster is free, and the file can't grow, or something "
					"refers to where it would");
			else if (ret < 0)
				err_set(err, ret, "the repair had to be given up: %s", strerror(-ret));
		}
		c->out->corruptions += r->pass_failed;
		if (r->rounds == 1)
			r->found_corruptions += r->flags_fixed;
		qcow2_checker_fini(c);
		c->silent = true;
	}
	return ret;
}

static int bits_clear(struct co *co, struct qcow2_repairer *r)
{
	struct qcow2_header *h = &r->c->header;
	int ret;

	if (!(h->incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT)))
		return 0;
	ret = qcow2_repair_flush(co, r);
	if (ret < 0)
		return ret;
	h->incompatible &= ~(uint64_t)(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
	return qcow2_repair_header(co, r);
}

static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static int repair(struct co *co, struct qcow2_repairer *r, struct err *err)
{
	struct qcow2_check *out = r->c->out;
	int ret;

	r->c->repair = r;
	ret = rounds_run(co, r, err);
	if (ret < 0)
		return ret;
	out->corruptions_fixed = less(r->found_corruptions, out->corruptions);
	out->leaks_fixed = less(r->found_leaks, out->leaks);
	if (out->corruptions == 0 && out->check_errors == 0)
		ret = bits_clear(co, r);
	return ret == 0 ? 0 : err_set(err, ret, "the header can't be written: %s", strerror(-ret));
}

int qcow2_repair(struct co *co, struct qcow2_checker *c, struct err *err)
{
	struct qcow2_repairer r = {.c = c};

	return repair(co, &r, err);
}

/* ---- opening ---- */

int qcow2_recover(struct co *co, struct node *file, const struct qcow2_header *header, struct err *err)
{
	const struct qcow2_check_how how = {.fix = QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS};
	struct qcow2_checker *c = calloc(1, sizeof(*c));
	struct qcow2_repairer r = {.c = c, .recovery = true};
	struct qcow2_check out = {0};
	int ret;

	if (!c)
		return err_set(err, -ENOMEM, "no memory for the repair");
	c->file = file;
	c->header = *header;
	c->how = &how;
	c->out = &out;
	ret = repair(co, &r, err);
	free(c);
	if (ret == 0 && (out.corruptions > 0 || out.check_errors > 0))
		ret = err_set(err, -EROFS, "%" PRIu64 " errors are left that aren't a matter of refcounts",
			out.corruptions + out.check_errors);
	return ret;
}
