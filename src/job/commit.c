/* SPDX-License-Identifier: MIT */
/* Committing an overlay: see commit.h, which draws the order of writes. */
#include "job/commit.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/mutant.h"
#include "job/copy.h"

static int base_grow(struct co *co, const struct commit_how *how, struct err *err)
{
	struct node *base = how->base;
	int ret = base->size < how->top->size ? node_resize(co, base, how->top->size) : 0;

	return ret < 0 ? err_set(err, ret, "'%s' can't be made as large as the overlay, %" PRIu64 " bytes: %s",
				 base->name, how->top->size, strerror(-ret))
		       : 0;
}

static int content_copy(struct co *co, const struct commit_how *how, uint64_t base_size, struct err *err)
{
	struct copy_how copy = {
		.from = how->top,
		.to = how->base,
		.len = how->top->size,
		.shared = how->base,
		.shared_size = base_size,
		.requests = how->requests,
		.sparse = COPY_SPARSE_BYTES,
		.rate = how->rate,
		.progress = how->progress,
		.arg = how->arg,
	};

	return copy_run(co, &copy, NULL, err);
}

static int overlay_empty(struct co *co, const struct commit_how *how, struct err *err)
{
	int ret = node_forget(co, how->top);

	if (ret == 0)
		ret = node_flush(co, how->top);
	return ret < 0 ? err_set(err, ret, "'%s' can't be emptied: %s; its content is in '%s', and still in it as well",
				 how->top->name, strerror(-ret), how->base->name)
		       : 0;
}

int commit_run(struct co *co, const struct commit_how *how, struct err *err)
{
	uint64_t base_size = how->base->size;
	int ret = base_grow(co, how, err);

	if (ret == 0)
		ret = content_copy(co, how, base_size, err);
	if (ret < 0)
		return ret;
	ret = MUTANT(115) ? 0 : node_flush(co, how->base);
	if (ret < 0)
		return err_set(err, ret, "'%s' can't be flushed: %s; '%s' is as it was", how->base->name,
			strerror(-ret), how->top->name);
	return how->keep ? 0 : overlay_empty(co, how, err);
}
