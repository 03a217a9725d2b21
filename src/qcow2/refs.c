/* SPDX-License-Identifier: MIT */
/*
 * References, counted: a number per cluster, in chunks that are as wide as their largest number needs. Where nothing is
 * shared that is a bit per cluster; a chunk that nothing refers to takes no memory.
 */
#include <errno.h>
#include <stdlib.h>

#include "qcow2/engine.h"

#define CHUNK_CLUSTERS UINT64_C(32768)

struct qcow2_refs_chunk {
	void *data; /* as a refcount block of this order: 0, 3 or 5; NULL: all zero */
	unsigned order;
};

int qcow2_refs_init(struct qcow2_refs *c, uint64_t clusters)
{
	c->clusters = clusters;
	c->chunks = calloc(MAX(div_round_up(clusters, CHUNK_CLUSTERS), UINT64_C(1)), sizeof(*c->chunks));
	return c->chunks ? 0 : -ENOMEM;
}

void qcow2_refs_fini(struct qcow2_refs *c)
{
	for (uint64_t i = 0; c->chunks && i < div_round_up(c->clusters, CHUNK_CLUSTERS); i++)
		free(c->chunks[i].data);
	free(c->chunks);
	c->chunks = NULL;
}

static uint64_t most(unsigned order) { return (UINT64_C(1) << (1u << order)) - 1; }

static int widen(struct qcow2_refs_chunk *k)
{
	unsigned order = !k->data ? 0 : k->order == 0 ? 3 : 5;
	void *data = calloc(CHUNK_CLUSTERS / 8, (size_t)1 << order);

	if (!data)
		return -ENOMEM;
	for (uint64_t i = 0; k->data && i < CHUNK_CLUSTERS; i++)
		qcow2_refcount_set(data, order, i, qcow2_refcount_get(k->data, k->order, i));
	free(k->data);
	k->data = data;
	k->order = order;
	return 0;
}

int qcow2_refs_add(struct qcow2_refs *c, uint64_t cluster)
{
	struct qcow2_refs_chunk *k;
	uint64_t i = cluster % CHUNK_CLUSTERS, count;

	if (cluster >= c->clusters)
		return 0;
	k = &c->chunks[cluster / CHUNK_CLUSTERS];
	if (!k->data && widen(k))
		return -ENOMEM;
	count = qcow2_refcount_get(k->data, k->order, i);
	if (count == most(5) && k->order == 5)
		return 0;
	if (count == most(k->order) && widen(k))
		return -ENOMEM;
	qcow2_refcount_set(k->data, k->order, i, count + 1);
	return 0;
}

uint64_t qcow2_refs_get(const struct qcow2_refs *c, uint64_t cluster)
{
	const struct qcow2_refs_chunk *k;
	uint64_t count;

	if (cluster >= c->clusters)
		return 0;
	k = &c->chunks[cluster / CHUNK_CLUSTERS];
	if (!k->data)
		return 0;
	count = qcow2_refcount_get(k->data, k->order, cluster % CHUNK_CLUSTERS);
	return k->order == 5 && count == most(5) ? UINT64_MAX : count;
}
