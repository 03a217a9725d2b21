/* SPDX-License-Identifier: MIT */
/*
 * A host file or block device with a page cache that a power cut empties: the rules A1 to A9 of docs/crash-safety.md and
 * nothing kinder.
 *
 * Each 512-byte sector has a chain of versions: the durable one and every later submitted one. After a power cut a sector
 * holds any of them, each sector on its own; the file has any size that it had since the last flush. Writes take effect in
 * two steps, begin (when they are submitted) and end (when their completion is delivered); between the two a read may see
 * either state. A flush covers what ended before it began. When it fails no later one covers that either, though reads go
 * on giving it, until the page cache is told to drop it.
 *
 * A power cut is not an event here but a question: struct sim_image says which version each sector would have. The disk
 * goes on as if nothing had happened, unless sim_disk_become makes such an image its new contents.
 *
 * Two writes in flight in one sector have no defined order, so whoever issues them has a bug: begin says so.
 */
#ifndef CORRAL_SIM_DISK_H
#define CORRAL_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "prng.h"
#include "stamp.h"

/* A write of zeros over space that was never written is the version 0 of a file; a device has a garbage version each. */
struct sim_version {
	uint64_t tag;
	uint64_t clear; /* of an encrypted disk: the tag of what is there when it is decrypted */
	uint8_t *bytes; /* only where tag is SIM_TAG_OTHER; and a hash of them, see sim_version_content */
	uint32_t older; /* 0: this is the durable one, or 0 is */
	uint32_t write; /* which write made it; 0: it was there before */
};

struct sim_write {               /* in the order of submission */
	uint64_t done;           /* in which place it ended; 0: in flight */
	uint32_t first, sectors; /* where */
	bool lost;               /* a failed flush was to cover it: no later one does */
};

struct sim_size_change { /* not yet durable, in the order of submission */
	uint64_t size;
	uint32_t write;
	bool truncate; /* set to size; else at least size */
};

struct sim_image { /* what a power cut would leave */
	const struct sim_disk *disk;
	uint32_t *version; /* of each sector */
	uint64_t size;     /* of the file, bytes; what lies beyond reads zeros */
};

struct sim_disk {
	uint32_t sectors;       /* the most that it may have */
	uint32_t unit_sectors;  /* what a power cut can't tear: 1, or 8 for a disk of 4096-byte sectors */
	bool device;            /* a block device: fixed size, garbage where it was never written */
	bool encrypted;         /* what the guest writes is: set before there is anything */
	uint32_t *newest;       /* of each sector: its newest version */
	uint32_t *durable;      /* of each sector: the last version of its chain */
	uint64_t durable_size;  /* of the file, bytes */
	struct sim_image found; /* the durable state; another one for the time of a question */

	uint32_t *dirty, *dirty_at; /* sectors with more than the durable version; where each is in dirty, plus 1 */
	uint32_t dirty_count;

	struct sim_version *versions;
	uint32_t versions_used, versions_room, versions_free; /* free: a list through older */
	uint8_t **spare;                                      /* memory of versions */
	uint32_t spare_count, spare_room;

	struct sim_write *writes;
	uint32_t writes_used, writes_room, writes_in_flight;
	uint64_t done; /* how many writes have ended */

	uint64_t size; /* as a program sees it, bytes */
	struct sim_size_change *size_changes;
	uint32_t size_changes_count, size_changes_room;

	uint64_t changes; /* counts what adds to or takes from the states that a power cut may leave */
};

void sim_disk_init(struct sim_disk *d, uint64_t bytes, uint32_t unit_bytes, bool device);
void sim_disk_fini(struct sim_disk *d);

/* Puts bytes in at once, durably: for making an image. */
void sim_disk_load(struct sim_disk *d, uint64_t off, const void *bytes, uint64_t len);
/* The same, the size of a file (an empty one has none). */
void sim_disk_load_size(struct sim_disk *d, uint64_t size);

/* ---- writes: all return the number of the write, or 0 where another one is in flight in the same sector ---- */

struct iovec;
uint32_t sim_disk_write(struct sim_disk *d, uint64_t off, const struct iovec *v, uint64_t len);
uint32_t sim_disk_zero(struct sim_disk *d, uint64_t off, uint64_t len, bool extends);
uint32_t sim_disk_allocate(struct sim_disk *d, uint64_t off, uint64_t len); /* size alone */
uint32_t sim_disk_truncate(struct sim_disk *d, uint64_t size);
/* The write is over: the first `kept` of its sectors took the new contents, the others are as they were. */
void sim_disk_end(struct sim_disk *d, uint32_t write, uint32_t kept);
/* The write is over and failed: each sector took the new contents or didn't. */
void sim_disk_fail(struct sim_disk *d, uint32_t write, struct sim_rng *r);
/* Whether the bytes of a write in flight are still what they were when it was submitted. */
bool sim_disk_same(const struct sim_disk *d, uint32_t write, uint64_t off, const struct iovec *v, uint64_t len);
/* The sectors of a write that ended are durable, as after a DSYNC write. */
void sim_disk_force(struct sim_disk *d, uint32_t write);

/* ---- flush ---- */

uint64_t sim_disk_flush_begin(const struct sim_disk *d); /* what it will cover */
void sim_disk_flush_end(struct sim_disk *d, uint64_t covers);
void sim_disk_flush_failed(struct sim_disk *d, uint64_t covers);
/* The page cache gives up what failed flushes were to cover, where nothing was written since: any version that the sector has
 * turns out to be what the storage holds, and so does any size. It counts as written anew, so that a flush can cover it. */
void sim_disk_drop(struct sim_disk *d, struct sim_rng *r);

/* ---- reads ---- */

/* At most len bytes, less at the end of the file; sectors that are being written give either version. */
uint64_t sim_disk_read(struct sim_disk *d, uint64_t off, const struct iovec *v, uint64_t len, struct sim_rng *which);
/* The bytes of a version, wherever they come from; scratch is a sector that may be used for it. */
const uint8_t *sim_version_bytes(const struct sim_disk *d, uint32_t version, uint8_t *scratch);
/* A number that tells contents apart. */
uint64_t sim_version_content(const struct sim_disk *d, uint32_t version);
/* For disk_cut.c: it is in no chain any more; a write of its own, of nothing as yet; on top what the sector had once more. */
void sim_version_drop(struct sim_disk *d, uint32_t version);
uint32_t sim_disk_begin(struct sim_disk *d, uint64_t off, uint64_t len);
void sim_disk_again(struct sim_disk *d, uint32_t sector, uint32_t version, uint32_t write);

/* ---- power cuts: disk_cut.c ---- */

enum sim_cut {
	SIM_CUT_OLD,      /* nothing but what is durable */
	SIM_CUT_NEW,      /* everything that was submitted */
	SIM_CUT_DONE,     /* everything that ended */
	SIM_CUT_HALF,     /* each sector on its own, any of its versions */
	SIM_CUT_FEW,      /* each sector on its own, one in eight is new */
	SIM_CUT_MOST,     /* each sector on its own, seven in eight are new */
	SIM_CUT_WRITES,   /* each write whole or not at all */
	SIM_CUT_EARLY,    /* what was submitted up to some moment */
	SIM_CUT_LATE,     /* what was submitted after some moment, and nothing before */
	SIM_CUT_BUT_ONE,  /* everything but one sector */
	SIM_CUT_ONLY_ONE, /* nothing but one sector */
	SIM_CUT_DATA,     /* what the guest wrote, no metadata */
	SIM_CUT_METADATA, /* metadata, nothing that the guest wrote */
	SIM_CUT_KINDS
};

/* Makes d->found such an image; sim_disk_cut_undo before anything else happens to the disk. */
void sim_disk_cut(struct sim_disk *d, enum sim_cut how, struct sim_rng *r);
void sim_disk_cut_undo(struct sim_disk *d);
/* How many images there are, or most + 1 if there are more; and the n-th of them, made as by sim_disk_cut. */
uint64_t sim_disk_cuts(const struct sim_disk *d, uint64_t most);
void sim_disk_cut_nth(struct sim_disk *d, uint64_t n);
/* Makes the image in d->found the durable contents; nothing else is left. The writes in flight must not be ended any more. */
void sim_disk_become(struct sim_disk *d);

#endif
