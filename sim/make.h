/* SPDX-License-Identifier: MIT */
/* Images made of raw bytes, without the engine: what a run starts from. */
#ifndef CORRAL_SIM_MAKE_H
#define CORRAL_SIM_MAKE_H

#include "codec.h"
#include "prng.h"
#include "raw.h"

enum sim_fill { /* what the clusters of the guest are at first */
	SIM_FILL_EMPTY,
	SIM_FILL_MIXED, /* of every kind */
	SIM_FILL_FULL,  /* data everywhere */
	SIM_FILL_ZERO,  /* zero clusters that keep their space: preallocated */
};

enum sim_data { /* where the data of the guest lies */
	SIM_DATA_INSIDE,
	SIM_DATA_FILE, /* in an external data file: "data" */
	SIM_DATA_RAW,  /* in one that holds by itself what the guest reads; all of it is mapped */
};

struct sim_geometry {
	uint32_t version, cluster_bits, refcount_order;
	uint64_t guest_bytes;
	bool lazy;
	bool extended;  /* L2 entries with subclusters: clusters of 16 KiB or more */
	bool encrypted; /* its data, as crypt.h has it */
	enum sim_fill fill;
	uint32_t snapshots;
	uint32_t compressed_in;           /* one data cluster in so many is compressed; 0: none */
	enum sim_compression compression; /* zstd: only version 3 */
	uint32_t gaps_in;                 /* one cluster in so many is left out: free, and full of garbage; 0: none */
	uint64_t used_until; /* everything below is counted as used, as if it had leaked; bytes of the file */
	enum sim_data data;
	const char *backing; /* name, or NULL */
	const char *backing_format;
	uint32_t id;      /* in the stamps of its data */
	uint32_t bitmaps; /* how many there are at first */
	uint32_t names;   /* entries of a feature name table in the header: bitmaps are named behind it */
};

struct sim_made_bitmap {
	bool enabled;
	unsigned granularity_bits;
	bool *bits; /* per granule */
};

struct sim_made {
	uint8_t *bytes;
	uint64_t len;
	uint8_t *data; /* the data file, or NULL */
	uint64_t data_len;
	uint64_t *tags; /* per guest sector: 0 where nothing is allocated */
	bool *holds;    /* per guest sector: this image says what it reads as, not the one below */
	uint64_t *snapshot_tags[SIM_SNAPSHOTS];
	bool *snapshot_holds[SIM_SNAPSHOTS];
	struct sim_made_bitmap bitmap[SIM_BITMAPS];
};

/* make_bitmaps.c: draws g's bitmaps, and puts them into space that take gives; returns the bytes of their directory. */
typedef uint64_t sim_take(void *arg, uint64_t clusters);
uint64_t sim_make_bitmaps(struct sim_made *out, const struct sim_geometry *g, struct sim_rng *r, sim_take *take,
	void *arg, uint64_t *directory);

void sim_make(struct sim_made *out, const struct sim_geometry *g, struct sim_rng *r);
/* Moves the guest's data to out->data, which is a data file of at most `room` bytes. */
void sim_make_data(struct sim_made *out, const struct sim_geometry *g, uint64_t room, struct sim_rng *r);
void sim_made_free(struct sim_made *m);

#endif
