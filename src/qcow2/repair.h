/* SPDX-License-Identifier: MIT */
/*
 * Repair inside: what its files share. It has its own small writer, which goes to the file at once and remembers nothing:
 * every write is preceded by a read of what is there.
 *
 * The order of writes, within a round; a power cut after any of them leaves an image that is no worse, and from which the
 * next run goes on:
 *
 *     COPIED flags cleared where the cluster has not exactly one reference; flush
 *     refcounts raised that are too low; flush                    (or new refcount structures; flush; header; flush)
 *     refcounts lowered that are too high; flush
 *     COPIED flags set where the cluster has exactly one reference; flush
 *     what needs space of its own: refcount raised, content; flush; pointer; flush
 *     the dirty and the corrupt bit, last of all
 *
 * What is replaced is only leaked by that: another round counts again and gives it back.
 */
#ifndef CORRAL_QCOW2_REPAIR_H
#define CORRAL_QCOW2_REPAIR_H

#include "qcow2/check.h"

#define QCOW2_UNKNOWN_AUTOCLEAR (~(uint64_t)(QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_DATA_FILE_RAW))

struct qcow2_repairer {
	struct qcow2_checker *c;
	bool recovery;    /* an image is being opened: only refcounts and flags are touched */
	bool setting;     /* the COPIED pass: set, or clear */
	bool pass_failed; /* it met flags that are wrong in a table that mustn't be written */
	unsigned rounds;
	uint64_t found_corruptions, found_leaks; /* in the first of them */
	uint64_t flags_fixed, entries_fixed;
	uint64_t next_free; /* no free cluster below */
};

/* The checker's header has been loaded; its counts are made and freed here, once a round. */
int qcow2_repair(struct co *co, struct qcow2_checker *c, struct err *err) ATTR_MUST_USE;

/* ---- the writer ---- */

int qcow2_repair_write(struct co *co, struct qcow2_repairer *r, uint64_t off, const void *bytes, size_t len)
	ATTR_MUST_USE;
int qcow2_repair_flush(struct co *co, struct qcow2_repairer *r) ATTR_MUST_USE;
/* The changeable fields of the checker's header, into the header on disk, and a flush. */
int qcow2_repair_header(struct co *co, struct qcow2_repairer *r) ATTR_MUST_USE;
/* Whether a table's clusters are in the file, and nothing else lies there. */
bool qcow2_repair_writable(const struct qcow2_checker *c, uint64_t host, uint64_t bytes, enum qcow2_role role);

/* Refcounts that seem too high may belong to what can't be followed: then they stay. */
static inline bool qcow2_repair_keeps_leaks(const struct qcow2_repairer *r)
{
	return r->c->unsure || (r->recovery && r->c->header.unknown_extensions);
}

/* ---- repair_refcounts.c ---- */

/* What a cluster's refcount is to be, be it wide enough or not. Where it was to be read and can't be, c->incomplete is set. */
uint64_t qcow2_repair_refcount(struct co *co, struct qcow2_repairer *r, uint64_t cluster);

/* All refcounts that are too low (or too high) become what was counted; *fixed: how many. Ends with a flush. */
int qcow2_repair_refcounts(struct co *co, struct qcow2_repairer *r, uint8_t which, uint64_t *fixed) ATTR_MUST_USE;
void qcow2_repair_refcount_put(void *block, uint64_t index, unsigned order, uint64_t value);
/* n adjacent clusters that nothing refers to, and that aren't counted by a block yet if `counted` isn't set. -ENOSPC */
int qcow2_repair_find(struct co *co, struct qcow2_repairer *r, uint64_t n, bool counted, uint64_t *cluster)
	ATTR_MUST_USE;
/* The same; their refcounts, which are counted, have been written as 1. Not flushed. */
int qcow2_repair_claim(struct co *co, struct qcow2_repairer *r, uint64_t n, enum qcow2_role role, uint64_t *host)
	ATTR_MUST_USE;

/* ---- repair_rebuild.c ---- */

int qcow2_repair_rebuild(struct co *co, struct qcow2_repairer *r) ATTR_MUST_USE;

/* ---- repair_entries.c ---- */

/* COPIED flags that disagree with what the refcounts will be are set, or cleared, as r->setting says. Ends with a flush. */
int qcow2_repair_copied(struct co *co, struct qcow2_repairer *r) ATTR_MUST_USE;
/* Entries that can be put right where they lie. */
int qcow2_repair_entries(struct co *co, struct qcow2_repairer *r) ATTR_MUST_USE;
/* Guest data that lies in a cluster that is something else as well moves to one of its own. */
int qcow2_repair_untangle(struct co *co, struct qcow2_repairer *r) ATTR_MUST_USE;

/* ---- repair_snapshots.c ---- */

/* Writes a new snapshot table, whose records are complete. */
int qcow2_repair_snapshots(struct co *co, struct qcow2_repairer *r) ATTR_MUST_USE;

#endif
