/* SPDX-License-Identifier: MIT */
/* Payload buffers of one connection; see pool.h. */
#include "export/nbd/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "io/io.h"

#define NBD_POOL_SMALLEST ((size_t)4096)

static size_t class_bytes(unsigned class) { return NBD_POOL_SMALLEST << class; }

static unsigned class_of(size_t bytes)
{
	unsigned class = 0;

	while (class_bytes(class) < bytes)
		class ++;
	assert(class < NBD_POOL_CLASSES);
	return class;
}

void nbd_pool_init(struct nbd_pool *p)
{
	*p = (struct nbd_pool){0};
	co_sem_init(&p->bytes, NBD_POOL_BYTES);
}

void nbd_pool_fini(struct nbd_pool *p)
{
	assert(p->bytes.available == NBD_POOL_BYTES);
	for (unsigned class = 0; class < NBD_POOL_CLASSES; class ++) {
		while (p->free[class]) {
			void *buffer = p->free[class];

			p->free[class] = *(void **)buffer;
			free(buffer);
		}
	}
}

int nbd_pool_get(struct co *co, struct nbd_pool *p, size_t bytes, struct nbd_buffer *out)
{
	unsigned class = class_of(bytes);

	co_sem_acquire(co, &p->bytes, class_bytes(class));
	*out = (struct nbd_buffer){.data = p->free[class], .class = class};
	if (out->data) {
		p->free[class] = *(void **)out->data;
		p->kept -= class_bytes(class);
		return 0;
	}
	out->data = io_alloc(class_bytes(class));
	if (out->data)
		return 0;
	co_sem_release(&p->bytes, class_bytes(class));
	return -ENOMEM;
}

void nbd_pool_put(struct nbd_pool *p, struct nbd_buffer *buffer)
{
	size_t bytes = class_bytes(buffer->class);
	void *data = take(buffer->data);

	if (!data)
		return;
	if (p->kept + bytes <= NBD_POOL_KEPT) {
		*(void **)data = p->free[buffer->class];
		p->free[buffer->class] = data;
		p->kept += bytes;
	} else {
		free(data);
	}
	co_sem_release(&p->bytes, bytes);
}
