/* SPDX-License-Identifier: MIT */
/*
 * What a power cut may leave of a simulated disk. A question, not an event: d->found changes, and is put back.
 *
 * Each sector is decided by a hash of one random number and of the sector, not by a random number of its own, so that the
 * sectors of one unit (a disk of 4096-byte sectors) are decided alike.
 */
#include <stdlib.h>

#include "base/math.h"
#include "disk.h"

struct cut {
	struct sim_disk *d;
	uint64_t salt;
	uint32_t unit;   /* the one of BUT_ONE and ONLY_ONE */
	uint32_t moment; /* a write, of EARLY and LATE */
};

static uint64_t cut_hash(const struct cut *c, uint64_t what)
{
	uint64_t state = c->salt ^ what * UINT64_C(0xd1342543de82ef95);

	return sim_mix(&state);
}

static uint32_t unit_of(const struct cut *c, uint32_t sector) { return sector / c->d->unit_sectors; }

static uint32_t chain_length(const struct sim_disk *d, uint32_t sector)
{
	uint32_t n = 0;

	for (uint32_t v = d->newest[sector]; v != d->durable[sector]; v = d->versions[v].older)
		n++;
	return n;
}

/* steps back from the newest version, at most to the durable one */
static uint32_t chain_at(const struct sim_disk *d, uint32_t sector, uint32_t steps)
{
	uint32_t v = d->newest[sector];

	while (steps-- > 0 && v != d->durable[sector])
		v = d->versions[v].older;
	return v;
}

static uint32_t chain_any(const struct cut *c, uint32_t sector, uint64_t hash)
{
	return chain_at(c->d, sector, (uint32_t)(hash >> 8) % (chain_length(c->d, sector) + 1));
}

/* Any version but the newest. */
static uint32_t chain_older(const struct cut *c, uint32_t sector, uint64_t hash)
{
	return chain_at(c->d, sector, 1 + (uint32_t)(hash >> 8) % chain_length(c->d, sector));
}

static bool is_data(const struct sim_version *v) { return v->tag != SIM_TAG_OTHER || v->clear != SIM_TAG_OTHER; }

static bool version_is_kept(const struct cut *c, enum sim_cut how, uint32_t version)
{
	const struct sim_version *v = &c->d->versions[version];

	switch (how) {
	case SIM_CUT_DONE: return c->d->writes[v->write].done != 0;
	case SIM_CUT_WRITES: return cut_hash(c, UINT64_C(1) << 40 | v->write) & 1;
	case SIM_CUT_EARLY: return v->write <= c->moment;
	case SIM_CUT_LATE: return v->write >= c->moment;
	case SIM_CUT_DATA: return is_data(v);
	case SIM_CUT_METADATA: return !is_data(v);
	default: abort();
	}
}

static uint32_t sector_kept(const struct cut *c, enum sim_cut how, uint32_t sector)
{
	uint32_t v = c->d->newest[sector];

	while (v != c->d->durable[sector] && !version_is_kept(c, how, v))
		v = c->d->versions[v].older;
	return v;
}

static uint32_t sector_choose(const struct cut *c, enum sim_cut how, uint32_t sector)
{
	const struct sim_disk *d = c->d;
	uint64_t hash = cut_hash(c, unit_of(c, sector));

	switch (how) {
	case SIM_CUT_OLD: return d->durable[sector];
	case SIM_CUT_NEW: return d->newest[sector];
	case SIM_CUT_HALF: return chain_any(c, sector, hash);
	case SIM_CUT_FEW: return (hash & 7) == 0 ? chain_at(d, sector, (hash >> 3) & 1) : d->durable[sector];
	case SIM_CUT_MOST: return (hash & 7) == 0 ? chain_any(c, sector, hash) : d->newest[sector];
	case SIM_CUT_BUT_ONE: return unit_of(c, sector) == c->unit ? chain_older(c, sector, hash) : d->newest[sector];
	case SIM_CUT_ONLY_ONE: return unit_of(c, sector) == c->unit ? chain_at(d, sector, 0) : d->durable[sector];
	default: return sector_kept(c, how, sector);
	}
}

/* The size after the first n changes. */
static uint64_t size_after(const struct sim_disk *d, uint32_t n)
{
	uint64_t size = d->durable_size;

	for (uint32_t i = 0; i < n; i++) {
		const struct sim_size_change *c = &d->size_changes[i];

		size = c->truncate ? c->size : MAX(c->size, size);
	}
	return size;
}

static uint64_t size_choose(const struct sim_disk *d, enum sim_cut how, struct sim_rng *r)
{
	if (how == SIM_CUT_OLD || d->size_changes_count == 0)
		return d->durable_size;
	if (how == SIM_CUT_NEW)
		return size_after(d, d->size_changes_count);
	switch (sim_below(r, 4)) {
	case 0: return d->durable_size;
	case 1: return size_after(d, sim_below(r, d->size_changes_count + 1));
	default: return size_after(d, d->size_changes_count);
	}
}

void sim_disk_cut(struct sim_disk *d, enum sim_cut how, struct sim_rng *r)
{
	struct cut c = {.d = d, .salt = sim_rng_next(r)};

	if (d->dirty_count > 0) {
		uint32_t sector = d->dirty[sim_below(r, d->dirty_count)];

		c.unit = unit_of(&c, sector);
		c.moment = d->versions[chain_any(&c, sector, c.salt)].write;
	}
	for (uint32_t i = 0; i < d->dirty_count; i++)
		d->found.version[d->dirty[i]] = sector_choose(&c, how, d->dirty[i]);
	d->found.size = size_choose(d, how, r);
}

void sim_disk_cut_undo(struct sim_disk *d)
{
	for (uint32_t i = 0; i < d->dirty_count; i++)
		d->found.version[d->dirty[i]] = d->durable[d->dirty[i]];
	d->found.size = d->durable_size;
}

/* ---- all of them ---- */

uint64_t sim_disk_cuts(const struct sim_disk *d, uint64_t most)
{
	uint64_t n = d->size_changes_count + 1;

	for (uint32_t i = 0; i < d->dirty_count && n <= most; i++) {
		if (d->dirty[i] % d->unit_sectors == 0)
			n *= chain_length(d, d->dirty[i]) + 1;
	}
	return MIN(n, most + 1);
}

void sim_disk_cut_nth(struct sim_disk *d, uint64_t n)
{
	d->found.size = size_after(d, (uint32_t)(n % (d->size_changes_count + 1)));
	n /= d->size_changes_count + 1;
	for (uint32_t i = 0; i < d->dirty_count; i++) {
		uint32_t s = d->dirty[i], choices = chain_length(d, s) + 1;

		if (s % d->unit_sectors != 0)
			continue;
		for (uint32_t k = s; k < s + d->unit_sectors; k++)
			d->found.version[k] = chain_at(d, k, (uint32_t)(n % choices));
		n /= choices;
	}
}

/* ---- the power is cut ---- */

static uint32_t version_settle(struct sim_disk *d, uint32_t sector)
{
	uint32_t kept = d->found.version[sector];

	for (uint32_t v = d->newest[sector], next; v != d->durable[sector]; v = next) {
		next = d->versions[v].older;
		if (v != kept)
			sim_version_drop(d, v);
	}
	if (d->durable[sector] != kept)
		sim_version_drop(d, d->durable[sector]);
	d->versions[kept].older = 0;
	return kept;
}

static void sector_settle(struct sim_disk *d, uint32_t sector)
{
	uint32_t v = version_settle(d, sector);

	d->newest[sector] = d->durable[sector] = d->found.version[sector] = v;
	d->dirty_at[sector] = 0;
}

void sim_disk_become(struct sim_disk *d)
{
	for (uint32_t i = 0; i < d->dirty_count; i++)
		sector_settle(d, d->dirty[i]);
	d->dirty_count = 0;
	d->size_changes_count = 0;
	d->size = d->durable_size = d->found.size;
	d->writes_used = 1;
	d->writes_in_flight = 0;
	for (uint32_t s = (uint32_t)div_round_up(d->size, SIM_SECTOR); s < d->sectors; s++) {
		if (d->durable[s] == 0)
			continue;
		sim_version_drop(d, d->durable[s]);
		d->newest[s] = d->durable[s] = d->found.version[s] = 0;
	}
	d->changes++;
}

/* ---- the page cache is dropped ---- */

static bool is_lost(const struct sim_disk *d, uint32_t write) { return write != 0 && d->writes[write].lost; }

static bool size_lost(const struct sim_disk *d)
{
	bool lost = false;

	for (uint32_t i = 0; i < d->size_changes_count; i++)
		lost |= d->writes[d->size_changes[i].write].lost;
	return lost;
}

void sim_disk_drop(struct sim_disk *d, struct sim_rng *r)
{
	uint32_t write;
	uint64_t size;

	sim_disk_cut(d, SIM_CUT_HALF, r);
	size = MIN(d->found.size, d->size);
	write = sim_disk_begin(d, 0, 0);
	for (uint32_t i = 0; i < d->dirty_count; i++) {
		uint32_t s = d->dirty[i];

		if (is_lost(d, d->versions[d->newest[s]].write))
			sim_disk_again(d, s, d->found.version[s], write);
	}
	sim_disk_end(d, write, 0);
	sim_disk_cut_undo(d);
	if (!size_lost(d))
		return;
	write = sim_disk_truncate(d, size);
	if (write != 0)
		sim_disk_end(d, write, UINT32_MAX);
}
