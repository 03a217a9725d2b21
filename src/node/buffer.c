/* SPDX-License-Identifier: MIT */
/*
 * Buffers come in sizes that are powers of two, from 4 KiB on. Of what is given back a little is kept, by size, so that
 * a steady load allocates nothing; the rest goes to the system. One larger than the whole budget gets it all for itself.
 */
#include "node/buffer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

#define BUFFER_ALIGN 4096u
#define BUFFER_SIZES 12u                      /* that are kept: 4 KiB to 8 MiB */
#define BUFFER_KEPT_BYTES (UINT64_C(8) << 20) /* in all */

struct node_buffers {
	struct co_sem budget;
	uint64_t kept_bytes;
	struct list kept[BUFFER_SIZES]; /* the link is the first bytes of the buffer itself */
};

void *node_alloc(size_t bytes) { return aligned_alloc(BUFFER_ALIGN, align_up(MAX(bytes, (size_t)1), BUFFER_ALIGN)); }

void *node_alloc_zeroed(size_t bytes)
{
	void *memory = node_alloc(bytes);

	return memory ? memset(memory, 0, bytes) : NULL;
}

int node_buffers_new(struct node_buffers **out)
{
	struct node_buffers *b = malloc(sizeof(*b));

	*out = b;
	if (b == NULL)
		return -ENOMEM;
	co_sem_init(&b->budget, NODE_BUFFER_BYTES);
	b->kept_bytes = 0;
	for (unsigned i = 0; i < BUFFER_SIZES; i++)
		list_init(&b->kept[i]);
	return 0;
}

static void *kept_take(struct node_buffers *b, unsigned index)
{
	struct list *it = b->kept[index].next;

	list_remove(it);
	b->kept_bytes -= (uint64_t)BUFFER_ALIGN << index;
	return it;
}

void node_buffers_free(struct node_buffers *b)
{
	if (b == NULL)
		return;
	assert(b->budget.available == NODE_BUFFER_BYTES);
	for (unsigned i = 0; i < BUFFER_SIZES; i++)
		while (!list_empty(&b->kept[i]))
			free(kept_take(b, i));
	free(b);
}

/* The smallest size that holds so many bytes; BUFFER_SIZES: larger than any that is kept. */
static unsigned size_index(size_t bytes)
{
	unsigned index = 0;

	while (index < BUFFER_SIZES && ((size_t)BUFFER_ALIGN << index) < bytes)
		index++;
	return index;
}

static uint64_t size_bytes(unsigned index, size_t bytes)
{
	return index < BUFFER_SIZES ? (uint64_t)BUFFER_ALIGN << index : align_up(bytes, BUFFER_ALIGN);
}

int node_buffers_get(struct co *co, struct node_buffers *b, size_t bytes, void **out)
{
	unsigned index = size_index(bytes);
	uint64_t size = size_bytes(index, bytes);

	co_sem_acquire(co, &b->budget, MIN(size, NODE_BUFFER_BYTES));
	if (index < BUFFER_SIZES && !list_empty(&b->kept[index]))
		*out = kept_take(b, index);
	else
		*out = aligned_alloc(BUFFER_ALIGN, size);
	if (*out != NULL)
		return 0;
	co_sem_release(&b->budget, MIN(size, NODE_BUFFER_BYTES));
	return -ENOMEM;
}

void node_buffers_put(struct node_buffers *b, void *buffer, size_t bytes)
{
	unsigned index = size_index(bytes);
	uint64_t size = size_bytes(index, bytes);

	if (index < BUFFER_SIZES && b->kept_bytes + size <= BUFFER_KEPT_BYTES) {
		list_push_front(&b->kept[index], buffer);
		b->kept_bytes += size;
	} else {
		free(buffer);
	}
	co_sem_release(&b->budget, MIN(size, NODE_BUFFER_BYTES));
}

int node_buffer_get(struct co *co, struct node *n, size_t bytes, void **out)
{
	return node_buffers_get(co, n->buffers, bytes, out);
}

void node_buffer_put(struct node *n, void *buffer, size_t bytes) { node_buffers_put(n->buffers, buffer, bytes); }
