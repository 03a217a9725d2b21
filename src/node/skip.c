/* SPDX-License-Identifier: MIT */
/*
 * Which layers have nothing: a chain of 64 need not be asked 64 times for each read.
 *
 * Layers that are only read never change their mapping. So once a walk down the chain has found that the first of them, and
 * some behind it, have nothing of a granule (the unit of their mapping), that is so for good; the first one remembers how many
 * may be skipped. What is remembered is a number: where the chain has become another one meanwhile, by a layer that may be
 * written to, it isn't used beyond that layer. Direct mapped: a granule that takes another's place costs that one a walk.
 */
#include "node/skip.h"

#include <stdlib.h>

#include "base/math.h"
#include "node/impl.h"

#define LEAST_GRANULE 4096u
#define ENTRIES 65536u
#define MOST_DEPTH 0xffffu

struct node_skips {
	uint64_t entry[ENTRIES]; /* number of the granule, + 1, above 16 bits of how many layers; 0: nothing */
};

void node_skips_free(struct node_skips *s) { free(s); }

/* Whether all that is known of the layer's mapping stays true. */
static bool lasting(const struct node *n)
{
	return n->read_only && !node_is_storage(n) && n->subcluster >= LEAST_GRANULE;
}

static uint64_t tag_of(const struct node_skip *skip) { return (skip->off / skip->head->subcluster + 1) << 16; }

static uint64_t *entry_of(struct node_skips *s, uint64_t tag) { return &s->entry[(tag >> 16) % ENTRIES]; }

/* Down from the head by what it remembers; the layers in between must be what they were. */
static struct node *descend(struct node *head, unsigned layers)
{
	struct node *n = head;

	for (unsigned i = 0; i < layers; i++) {
		if (n->backing == NULL || !lasting(n) || n->subcluster != head->subcluster)
			return head;
		n = n->backing;
	}
	return n;
}

struct node *node_skip_begin(struct node_skip *skip, struct node *layer, uint64_t off, uint64_t len)
{
	uint64_t found, layers;

	if (skip->head || layer->backing == NULL || !lasting(layer))
		return layer;
	*skip = (struct node_skip){.head = layer, .off = off};
	skip->whole = off % layer->subcluster + len <= layer->subcluster;
	if (!skip->whole || layer->skips == NULL)
		return layer;
	found = *entry_of(layer->skips, tag_of(skip));
	layers = found & MOST_DEPTH;
	if (found >> 16 != tag_of(skip) >> 16)
		return layer;
	layer = descend(skip->head, (unsigned)layers);
	if (layer != skip->head)
		skip->layers = (unsigned)layers;
	return layer;
}

void node_skip_over(struct node_skip *skip, const struct node *layer)
{
	uint64_t granule = skip->head ? skip->head->subcluster : 0;

	if (!skip->head)
		return;
	skip->layers++;
	/* The last granule may reach beyond the end of a short layer: what is behind is the next layer's no more. */
	skip->whole &= lasting(layer) && layer->subcluster == granule &&
		align_down(skip->off, granule) + granule <= layer->size;
}

/* The memory for it comes when it is first of use; where there is none, nothing is remembered. */
void node_skip_end(const struct node_skip *skip)
{
	struct node *head = skip->head;

	if (!head || !skip->whole || skip->layers < 2 || skip->layers > MOST_DEPTH)
		return;
	if (!head->skips)
		head->skips = calloc(1, sizeof(*head->skips));
	if (head->skips)
		*entry_of(head->skips, tag_of(skip)) = tag_of(skip) | skip->layers;
}
