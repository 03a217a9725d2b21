/* SPDX-License-Identifier: MIT */
/*
 * Messages about the guest's memory: each makes a new table, which takes the place of the old one when it is complete.
 * Requests that are under way keep the old one.
 */
#include "export/vhost_user/device.h"

#include <errno.h>

static int table_fill(struct co *co, struct vu_session *s, struct vu_memory *m)
{
	const struct vu_table_wire *w = &s->message.payload.table;
	int r = 0;

	for (unsigned i = 0; i < w->n && r == 0; i++)
		r = vu_memory_add(co, m, &w->region[i], s->fds.fd[i], &s->err);
	return r;
}

static int table_change(struct co *co, struct vu_session *s, struct vu_memory *m)
{
	const struct vu_region_wire *region = &s->message.payload.single.region;

	switch (s->message.request) {
	case VU_ADD_MEM_REG: return vu_memory_add(co, m, region, s->fds.fd[0], &s->err);
	case VU_REM_MEM_REG: return vu_memory_remove(co, m, region, &s->err);
	default: return table_fill(co, s, m);
	}
}

/* A ring that lies in none of the regions any more can't go on; it keeps what it has until it is stopped. */
static void queues_move(struct co *co, struct vu_session *s)
{
	for (unsigned i = 0; i < s->server->queues; i++) {
		struct vu_queue *q = &s->queue[i];

		if (q->started && vu_queue_move(co, q, &s->err) < 0)
			vu_queue_break(co, q, &s->err);
	}
}

int vu_handle_memory(struct co *co, struct vu_session *s)
{
	struct vu_memory *old = s->memory;
	bool all = s->message.request == VU_SET_MEM_TABLE;
	struct vu_memory *m = all ? vu_memory_new(old->keeps) : vu_memory_copy(old);
	int r;

	if (!m)
		return err_set(&s->err, -ENOMEM, "no memory");
	r = table_change(co, s, m);
	if (r < 0) {
		vu_memory_put(co, m);
		return r;
	}
	s->memory = m;
	queues_move(co, s);
	vu_memory_put(co, old);
	return 0;
}
