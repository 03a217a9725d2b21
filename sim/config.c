/* SPDX-License-Identifier: MIT */
/*
 * The swarm: each seed draws its own image, host and faults, and its own subset of the operations with weights of their
 * own. What always happens hides what rarely does; so most seeds leave most things out. See config.h.
 */
#include "config.h"

#include <string.h>

#include "base/math.h"
#include "crypt.h"
#include "damage.h"
#include "memory.h"

static const char *const op_names[SIM_OP_KINDS] = {"read", "write", "write-fua", "write-compressed", "flush", "zero",
	"zero-unmap", "discard", "resize", "drain", "snapshot-create", "snapshot-delete", "snapshot-goto",
	"snapshot-read", "bitmap-add", "bitmap-remove", "bitmap-clear", "bitmap-enable", "bitmap-disable",
	"bitmap-merge", "reopen", "cut", "amend"};

const char *sim_op_name(enum sim_op_kind kind) { return op_names[kind]; }

#define CYCLE_OPS 24
#define LONG_OPS 3000

static bool coin(struct sim_rng *r) { return sim_below(r, 2) == 0; }

/* ---- the image ---- */

static void draw_compression(struct sim_geometry *g, struct sim_rng *r)
{
	g->compressed_in = 1 + sim_below(r, 3);
	if (g->version >= 3 && coin(r) && sim_codec_there(SIM_ZSTD))
		g->compression = SIM_ZSTD;
}

static void draw_geometry(struct sim_geometry *g, struct sim_rng *r)
{
	g->version = sim_one_in(r, 5) ? 2 : 3;
	g->cluster_bits = 9 + sim_below(r, 3);
	g->cluster_bits += sim_below(r, 2);
	g->refcount_order = g->version == 2 ? 4 : sim_below(r, 7);
	g->lazy = g->version == 3 && sim_one_in(r, 5);
	g->extended = g->version == 3 && sim_one_in(r, 6);
	if (g->extended)
		g->cluster_bits = 14 + sim_below(r, 2);
	g->fill = (enum sim_fill)sim_below(r, 4);
	g->gaps_in = sim_one_in(r, 3) ? 1 + sim_below(r, 8) : 0;
	g->guest_bytes = (8 + sim_below(r, sim_one_in(r, 4) ? 600 : 120)) * UINT64_C(512);
	if (g->refcount_order >= 2 && sim_one_in(r, 4))
		g->snapshots = 1 + sim_below(r, 2);
	if (sim_one_in(r, 5))
		draw_compression(g, r);
	g->id = SIM_ID_IMAGE;
}

/* One or two blocks, but for a few clusters. */
static uint64_t block_pressure(const struct sim_geometry *g, uint64_t block, struct sim_rng *r)
{
	uint64_t all = block * (1 + sim_below(r, 2));

	return all - (sim_below(r, 6) << g->cluster_bits);
}

/* Where refcount structures must grow: the space that one block, or the whole table, counts is nearly used up. */
static void draw_pressure(struct sim_geometry *g, struct sim_rng *r)
{
	uint64_t block = ((UINT64_C(8) << g->cluster_bits) >> g->refcount_order) << g->cluster_bits;
	uint64_t table = block << (g->cluster_bits - 3);

	if (table <= UINT64_C(3) << 20 && sim_one_in(r, 3))
		g->used_until = table - (((1u << g->cluster_bits) / 8 + 2 + sim_below(r, 12)) << g->cluster_bits);
	else if (block <= UINT64_C(512) << 10 && sim_one_in(r, 2))
		g->used_until = block_pressure(g, block, r);
}

static void draw_below(struct sim_config *c, struct sim_rng *r)
{
	if (!sim_one_in(r, 3))
		return;
	c->below = coin(r) ? SIM_BELOW_RAW : SIM_BELOW_QCOW2;
	draw_geometry(&c->base, r);
	c->base.guest_bytes = (1 + sim_below(r, (uint32_t)(c->image.guest_bytes / 512) + 40)) * UINT64_C(512);
	c->base.snapshots = 0;
	c->base.id = SIM_ID_BACKING;
	c->image.backing = "base";
	c->image.backing_format = c->below == SIM_BELOW_RAW ? "raw" : "qcow2";
}

/* From numbers of their own: the other images stay what they were. What all is mapped has no other kinds of clusters. */
static void draw_data(struct sim_config *c)
{
	struct sim_rng r;

	sim_rng_init(&r, c->seed, 7);
	if (!sim_one_in(&r, 8))
		return;
	c->image.data = c->below == SIM_BELOW_NONE && coin(&r) ? SIM_DATA_RAW : SIM_DATA_FILE;
	c->image.version = 3;
	c->image.snapshots = 0;
	c->image.compressed_in = 0;
	c->image.compression = SIM_ZLIB;
	if (c->image.data == SIM_DATA_RAW)
		c->image.fill = coin(&r) ? SIM_FILL_FULL : SIM_FILL_ZERO;
	c->data_device = sim_one_in(&r, 5);
}

/* Persistent bitmaps; and a feature name table, so that the extension that names them lies at and behind the end of the
 * first sector, too. */
static void draw_bitmaps(struct sim_config *c)
{
	struct sim_rng r;

	sim_rng_init(&r, c->seed, 8);
	c->bitmaps = c->image.version >= 3 && sim_one_in(&r, 4);
	if (!c->bitmaps)
		return;
	c->image.bitmaps = sim_below(&r, SIM_BITMAPS + 1);
	if (c->image.cluster_bits >= 11 && coin(&r))
		c->image.names = 6 + sim_below(&r, 4);
}

static void draw_image(struct sim_config *c, struct sim_rng *r)
{
	draw_geometry(&c->image, r);
	if (sim_one_in(r, 4) && !c->image.extended)
		draw_pressure(&c->image, r);
	draw_below(c, r);
	draw_data(c);
	draw_bitmaps(c);
	c->guest_most = c->image.guest_bytes * 2;
	c->unit_bytes = sim_one_in(r, 10) ? 4096 : 512;
	c->device =
		sim_one_in(r, 10) && !c->image.extended; /* which has few clusters: quarantine alone would fill it */
	c->file_bytes = UINT64_C(4) << (c->image.extended ? 22 : 20);
}

/* In few seeds: what it shows, these show. */
static void draw_encryption(struct sim_config *c)
{
	struct sim_rng r;

	sim_rng_init(&r, c->seed, 20);
	if (!sim_crypt_available() || !sim_one_in(&r, 8))
		return;
	c->image.encrypted = c->image.data != SIM_DATA_RAW && coin(&r);
	c->base.encrypted = c->below == SIM_BELOW_QCOW2 && (!c->image.encrypted || coin(&r));
	if (c->image.encrypted) /* nobody makes both */
		c->image.compressed_in = 0;
	if (c->base.encrypted)
		c->base.compressed_in = 0;
}

static void damage_kinds(struct sim_config *c, struct sim_rng *r)
{
	c->damage = 1 + sim_below(r, SIM_DAMAGE_ALL);
	if (c->image.encrypted) /* by its place: what shares a cluster with metadata can't be moved out of it */
		c->damage &= ~(uint32_t)SIM_DAMAGE_TANGLE;
	if (c->image.used_until && coin(r))
		c->image.used_until = 0;
}

/* By numbers of their own: other seeds' draws are as they were. */
static void draw_damage(struct sim_config *c)
{
	struct sim_rng r;

	sim_rng_init(&r, c->seed, 9);
	for (unsigned i = 0; i < SIM_RECOVERY_CUTS; i++)
		c->recovery_cuts[i] = coin(&r) ? 1 + sim_below(&r, 60) : 0;
	if (sim_one_in(&r, 10))
		damage_kinds(c, &r);
}

void sim_config_damage(struct sim_config *c)
{
	struct sim_rng r;

	sim_rng_init(&r, c->seed, 21);
	damage_kinds(c, &r);
}

/* ---- the host ---- */

static void draw_latency(struct sim_latency *l, struct sim_rng *r)
{
	static const uint64_t spreads[] = {0, 2000, 100000, 5000000};

	l->least = 1000;
	l->spread = spreads[sim_below(r, 4)];
	l->flush = coin(r) ? l->spread * 4 : 0;
	l->tail_in = coin(r) ? 0 : 2 + sim_below(r, 30);
	l->tail = (1 + l->spread) * (1 + sim_below(r, 20));
	l->slow_in = coin(r) ? 2 + sim_below(r, 20) : 0;
	l->slow = (1000 + l->spread + l->flush) * (10 + sim_below(r, 100));
}

/* By numbers of their own. */
static void draw_hangs(struct sim_config *c)
{
	struct sim_rng r;

	sim_rng_init(&r, c->seed, 22);
	c->latency.hang_in = sim_one_in(&r, 8) ? 20 + sim_below(&r, 300) : 0;
}

static uint32_t rarely(struct sim_rng *r) { return coin(r) ? 0 : 5 + sim_below(r, 300); }

static void draw_faults(struct sim_config *c, struct sim_rng *r)
{
	struct sim_faults *f = &c->faults;

	f->no_zero = sim_one_in(r, 4);
	f->no_punch = sim_one_in(r, 4);
	f->short_in = sim_one_in(r, 4) ? 2 + sim_below(r, 30) : 0;
	f->again_in = sim_one_in(r, 8) ? 4 + sim_below(r, 30) : 0;
	f->interrupt_in = sim_one_in(r, 8) ? 4 + sim_below(r, 30) : 0;
	c->faulty = sim_one_in(r, 3);
	if (!c->faulty)
		return;
	f->read_in = rarely(r);
	f->write_in = rarely(r);
	f->zero_in = rarely(r);
	f->flush_in = sim_one_in(r, 3) ? 5 + sim_below(r, 60) : 0;
	f->full_in = rarely(r);
	if (sim_one_in(r, 8))
		f->limit = (100 + sim_below(r, 800)) * UINT64_C(512);
	if (sim_one_in(r, 6)) {
		f->sticky_from = sim_below(r, 400) * UINT64_C(512);
		f->sticky_to = f->sticky_from + (1 + sim_below(r, 8)) * UINT64_C(512);
	}
}

static uint64_t draw_cache(const struct sim_config *c, struct sim_rng *r)
{
	return coin(r) ? 0 : (1 + sim_below(r, 4)) << c->image.cluster_bits;
}

static void draw_host(struct sim_config *c, struct sim_rng *r)
{
	static const uint64_t intervals[] = {200000, 2000000, 50000000, 0};

	draw_latency(&c->latency, r);
	draw_faults(c, r);
	c->fifo = sim_one_in(r, 3);
	c->options = (struct qcow2_options){.write = true};
	c->options.l2_cache_bytes = draw_cache(c, r);
	c->options.refcount_cache_bytes = draw_cache(c, r);
	c->options.commit_interval_ns = intervals[sim_below(r, 4)];
	c->options.no_discard = sim_one_in(r, 4);
	c->options.keep_leaks = sim_one_in(r, 3);
	c->buggify_in = coin(r) ? 0 : 2 + sim_below(r, 40);
	if (c->seed % 2) /* some bugs need luck, which nuisances spoil */
		c->buggify_in = 0;
}

static void draw_growth(struct sim_config *c)
{
	struct sim_rng r;

	sim_rng_init(&r, c->seed, 23);
	if (sim_one_in(&r, 3))
		c->options.growth = (enum qcow2_preallocation)(1 + sim_below(&r, 3));
}

/* ---- operations ---- */

/* Clusters are freed, made durable, used again, all the time, while slow reads are under way. */
static void draw_churn(struct sim_config *c, struct sim_rng *r)
{
	c->weight[SIM_WRITE] = 6 + sim_below(r, 10);
	c->weight[SIM_READ] = 4 + sim_below(r, 10);
	c->weight[SIM_DISCARD] = 2 + sim_below(r, 10);
	c->latency.slow_in = 2 + sim_below(r, 4);
	c->latency.slow = (1000 + c->latency.spread + c->latency.flush) * (10 + sim_below(r, 30));
	c->weight[SIM_ZERO_UNMAP] = sim_below(r, 10);
	c->weight[SIM_FLUSH] = 2 + sim_below(r, 20);
}

static void draw_snapshots(struct sim_config *c, struct sim_rng *r)
{
	bool any = sim_one_in(r, 4) && !c->image.data;

	c->weight[SIM_SNAPSHOT_CREATE] = any ? 1 + sim_below(r, 3) : 0;
	c->weight[SIM_SNAPSHOT_DELETE] = any || (c->image.snapshots && coin(r)) ? 1 + sim_below(r, 2) : 0;
	c->weight[SIM_SNAPSHOT_GOTO] = any || c->image.snapshots ? sim_one_in(r, 3) : 0;
	c->weight[SIM_SNAPSHOT_READ] = any || c->image.snapshots ? sim_one_in(r, 4) : 0;
	c->audit = any || sim_one_in(r, 4);
	if (any)
		c->file_bytes = UINT64_C(8) << 20;
}

/* In few seeds, by numbers of their own. */
static void draw_amend(struct sim_config *c)
{
	struct sim_rng r;

	sim_rng_init(&r, c->seed, 21);
	c->weight[SIM_AMEND] = sim_one_in(&r, 8) ? 1 + sim_below(&r, 3) : 0;
}

/* Snapshots would read something else afterwards. */
static bool may_rebase(const struct sim_config *c)
{
	return c->below != SIM_BELOW_NONE && c->image.snapshots == 0 && c->weight[SIM_SNAPSHOT_CREATE] == 0;
}

/* Bitmaps don't survive a change to version 2, which is asked for nowhere else. */
static void draw_amendment(const struct sim_config *c, struct sim_op *op, struct sim_rng *r)
{
	uint32_t version = sim_below(r, 4), order = sim_below(r, 8), lazy = sim_below(r, 3);

	if (c->bitmaps && version == 2)
		version = 3;
	op->sectors = SIM_AMENDMENT(version < 2 ? 0 : version, order, lazy);
	if (lazy == 2 && may_rebase(c))
		op->sectors = SIM_REBASE;
	op->first = coin(r) ? 1 + sim_below(r, 60) : 0;
}

static void draw_weights(struct sim_config *c, struct sim_rng *r)
{
	for (unsigned k = 0; k < SIM_AMEND; k++)
		c->weight[k] = coin(r) ? 0 : 1 + sim_below(r, 10);
	c->weight[SIM_WRITE] += 2;
	if (sim_one_in(r, 3))
		draw_churn(c, r);
	c->weight[SIM_WRITE_COMPRESSED] = sim_one_in(r, c->image.compressed_in ? 2 : 6) ? 2 + sim_below(r, 20) : 0;
	if (c->image.data)
		c->weight[SIM_WRITE_COMPRESSED] = 0;
	c->weight[SIM_RESIZE] = sim_one_in(r, 3) ? 1 + sim_below(r, 3) : 0;
	c->weight[SIM_DRAIN] = sim_one_in(r, 4);
	draw_snapshots(c, r);
	for (unsigned k = SIM_BITMAP_ADD; k <= SIM_BITMAP_MERGE; k++)
		c->weight[k] = c->bitmaps && coin(r) ? 1 + sim_below(r, 3) : 0;
	c->weight[SIM_REOPEN] = sim_one_in(r, 3);
	c->weight[SIM_CUT] = sim_one_in(r, 3);
	draw_amend(c);
}

static enum sim_op_kind draw_kind(const struct sim_config *c, struct sim_rng *r)
{
	uint32_t sum = 0, at;
	unsigned k = 0;

	for (unsigned i = 0; i < SIM_OP_KINDS; i++)
		sum += c->weight[i];
	for (at = sim_below(r, sum); at >= c->weight[k]; k++)
		at -= c->weight[k];
	return (enum sim_op_kind)k;
}

struct style {                         /* of addresses and lengths */
	uint32_t hot, cluster_sectors; /* or those of a subcluster */
	bool whole_clusters;
};

/* Mostly few addresses, so that operations meet. */
static void draw_range(struct sim_op *op, const struct style *s, uint32_t sectors, struct sim_rng *r)
{
	uint32_t unit = s->whole_clusters ? s->cluster_sectors : 1;
	uint32_t span = sim_one_in(r, 4) ? sectors : MIN(sectors, s->hot * s->cluster_sectors);
	uint32_t most = sim_one_in(r, 20) ? sectors : s->cluster_sectors * (1 + sim_below(r, 4));

	op->first = sim_below(r, span) / unit * unit;
	op->sectors = (1 + sim_below(r, most) + unit - 1) / unit * unit;
	op->sectors = MIN(op->sectors, sectors - op->first);
}

/* The last one ends where the disk does. */
static void whole_clusters(struct sim_op *op, uint32_t cluster, uint32_t sectors)
{
	uint32_t end = MIN((op->first + op->sectors + cluster - 1) / cluster * cluster, sectors);

	op->first = op->first / cluster * cluster;
	op->sectors = end - op->first;
}

static void draw_op(
	struct sim_config *c, struct sim_op *op, const struct style *s, uint32_t *sectors, struct sim_rng *r)
{
	*op = (struct sim_op){.kind = draw_kind(c, r)};
	op->idle = sim_one_in(r, 12);
	if (sim_one_in(r, 10))
		op->delay_us = sim_below(r, 3000);
	switch (op->kind) {
	case SIM_RESIZE:
		*sectors = (uint32_t)MIN(*sectors + 1 + sim_below(r, 100), c->guest_most / SIM_SECTOR);
		if (coin(r))
			*sectors = 1 + sim_below(r, *sectors);
		op->sectors = *sectors;
		break;
	case SIM_CUT: op->first = sim_below(r, 60); break;
	case SIM_AMEND: draw_amendment(c, op, r); break;
	case SIM_SNAPSHOT_DELETE:
	case SIM_SNAPSHOT_GOTO:
	case SIM_SNAPSHOT_READ: op->first = sim_below(r, SIM_SNAPSHOTS); break;
	case SIM_BITMAP_ADD:
	case SIM_BITMAP_REMOVE:
	case SIM_BITMAP_CLEAR:
	case SIM_BITMAP_ENABLE:
	case SIM_BITMAP_DISABLE:
	case SIM_BITMAP_MERGE:
		op->first = sim_below(r, SIM_BITMAPS);
		op->sectors = sim_below(r, 12);
		break;
	case SIM_READ:
	case SIM_WRITE:
	case SIM_WRITE_FUA:
	case SIM_WRITE_COMPRESSED:
	case SIM_ZERO:
	case SIM_ZERO_UNMAP:
	case SIM_DISCARD: draw_range(op, s, *sectors, r); break;
	default: break;
	}
	if (op->kind == SIM_WRITE_COMPRESSED)
		whole_clusters(op, s->cluster_sectors, *sectors);
}

static void draw_ops(struct sim_config *c, uint32_t count, struct sim_rng *r)
{
	struct style s = {.hot = 1 + sim_below(r, 12)};
	uint32_t sectors = (uint32_t)(c->image.guest_bytes / SIM_SECTOR);

	s.cluster_sectors = (1u << c->image.cluster_bits) / SIM_SECTOR >> (c->image.extended && coin(r) ? 5 : 0);
	s.whole_clusters = sim_one_in(r, 3);
	draw_weights(c, r);
	c->ops = sim_alloc(count * sizeof(*c->ops));
	c->ops_count = count;
	for (uint32_t i = 0; i < count; i++)
		draw_op(c, &c->ops[i], &s, &sectors, r);
}

/* In some seeds, by numbers of their own. */
static void draw_lasting(struct sim_config *c)
{
	struct sim_rng r;
	uint32_t in;

	sim_rng_init(&r, c->seed, 24);
	in = sim_one_in(&r, 3) ? 1 + sim_below(&r, 3) : 0;
	for (uint32_t i = 0; i < c->ops_count; i++) {
		struct sim_op *op = &c->ops[i];

		op->lasting = sim_one_in(&r, in) &&
			(op->kind == SIM_WRITE || op->kind == SIM_ZERO || op->kind == SIM_ZERO_UNMAP);
	}
}

/* So many operations that what grows a little with each of them shows; few power cuts are tried. */
static void draw_long(struct sim_config *c, struct sim_rng *r)
{
	c->cuts = 1;
	c->all_cuts = 0;
	c->image.snapshots = 0;
	draw_ops(c, LONG_OPS, r);
}

void sim_config_draw(struct sim_config *c, uint64_t seed, enum sim_overlap overlap, uint32_t ops)
{
	struct sim_rng r;

	*c = (struct sim_config){.seed = seed, .schedule = seed};
	sim_rng_init(&r, seed, 0);
	draw_image(c, &r);
	draw_encryption(c);
	draw_host(c, &r);
	draw_hangs(c);
	draw_growth(c);
	draw_damage(c);
	c->overlap = coin(&r);
	if (overlap != SIM_OVERLAP_AUTO)
		c->overlap = overlap == SIM_OVERLAP_YES;
	c->spared_in = 2;
	c->depth = sim_one_in(&r, 3) ? 16 : 1 + sim_below(&r, 16);
	c->cuts = 1 + sim_below(&r, 8);
	c->all_cuts = coin(&r) ? 0 : 1 + sim_below(&r, 128);
	if (sim_one_in(&r, 50) && !ops)
		draw_long(c, &r);
	else
		draw_ops(c, ops ? ops : 20 + sim_below(&r, 200), &r);
	draw_lasting(c);
}

void sim_config_cycles(struct sim_config *c, uint32_t cycles)
{
	struct sim_rng r;

	sim_rng_init(&r, c->seed, 6);
	sim_free(c->ops);
	c->faults = (struct sim_faults){.no_zero = c->faults.no_zero, .no_punch = c->faults.no_punch};
	c->faulty = false;
	c->damage = 0;
	c->spared_in = 0;
	draw_ops(c, cycles * CYCLE_OPS, &r);
	for (uint32_t i = 0; i < c->ops_count; i++) {
		if (i % CYCLE_OPS == 0)
			c->ops[i] = (struct sim_op){.kind = SIM_CUT, .first = sim_below(&r, 60)};
		else if (c->ops[i].kind == SIM_CUT || c->ops[i].kind == SIM_RESIZE || c->ops[i].kind == SIM_AMEND)
			c->ops[i] = (struct sim_op){.kind = SIM_FLUSH};
	}
}

static void only_kinds(struct sim_config *c, bool zeroes)
{
	for (uint32_t i = 0; i < c->ops_count; i++) {
		struct sim_op *op = &c->ops[i];

		switch (op->kind) {
		case SIM_READ:
		case SIM_WRITE:
		case SIM_WRITE_FUA:
		case SIM_FLUSH:
		case SIM_REOPEN:
		case SIM_CUT: break;
		case SIM_ZERO:
		case SIM_ZERO_UNMAP:
		case SIM_DISCARD: op->kind = zeroes ? SIM_ZERO_UNMAP : SIM_WRITE; break;
		default: *op = (struct sim_op){.kind = SIM_FLUSH};
		}
	}
}

bool sim_config_workload(struct sim_config *c, const char *name)
{
	static const char *const names[] = {"plain", "zero-unmap", "compressed", "lazy"};
	struct sim_geometry *g = &c->image;
	unsigned which = 0;

	while (which < ARRAY_ENTRIES(names) && strcmp(names[which], name) != 0)
		which++;
	if (which == ARRAY_ENTRIES(names))
		return false;
	only_kinds(c, which == 1 || which == 3);
	g->version = 3;
	g->data = SIM_DATA_INSIDE;
	g->snapshots = g->bitmaps = 0;
	g->encrypted = c->bitmaps = false;
	c->damage = 0;
	g->compressed_in = which == 2;
	if (which == 2)
		g->fill = SIM_FILL_FULL;
	else
		g->compression = SIM_ZLIB;
	g->lazy = which == 3;
	return true;
}

bool sim_config_without(struct sim_config *c, const char *name)
{
	uint32_t left = 0;
	unsigned kind = 0;

	while (kind < SIM_OP_KINDS && strcmp(op_names[kind], name) != 0)
		kind++;
	for (uint32_t i = 0; i < c->ops_count; i++) {
		if (c->ops[i].kind != kind)
			c->ops[left++] = c->ops[i];
	}
	c->ops_count = left;
	return kind < SIM_OP_KINDS;
}

void sim_config_free(struct sim_config *c) { sim_free(c->ops); }
