/* SPDX-License-Identifier: MIT */
/* Messages about one queue. */
#include "export/vhost_user/device.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/math.h"

static int set_num(struct vu_session *s, struct vu_queue *q)
{
	uint32_t num = s->message.payload.state.num;

	if (!is_power_of_two(num) || num > s->server->queue_size)
		return err_set(&s->err, -EINVAL, "its size is %u: no power of two, or more than %u", num,
			s->server->queue_size);
	if (q->started)
		return err_set(&s->err, -EBUSY, "it is at work, and can't change its size");
	q->size = (uint16_t)num;
	return 0;
}

static int set_base(struct vu_session *s, struct vu_queue *q)
{
	if (q->started)
		return err_set(&s->err, -EBUSY, "it is at work, and can't begin elsewhere");
	q->base = s->message.payload.state.num;
	return 0;
}

/* Of a queue at work this says whether its writes to the used ring are logged. */
static int set_addr(struct co *co, struct vu_session *s, struct vu_queue *q)
{
	q->addr = s->message.payload.addr;
	q->has_addr = true;
	return q->started ? vu_queue_move(co, q, &s->err) : 0;
}

static int get_base(struct co *co, struct vu_session *s, struct vu_queue *q)
{
	vu_queue_stop(co, q);
	s->message.payload.state.num = q->base;
	return 0;
}

static int set_enable(struct vu_session *s, struct vu_queue *q)
{
	q->enabled = s->message.payload.state.num != 0;
	if (q->enabled && q->started)
		vu_queue_poke(q);
	return 0;
}

/* ---- descriptors ---- */

/* NULL where no descriptor came. */
static int event_get(struct co *co, struct vu_session *s, bool waits, struct io_event **out)
{
	int fd = vu_fd_take(s, 0);
	int r = 0;

	*out = NULL;
	if (fd >= 0)
		r = io_event_adopt(co, fd, waits, out);
	return r < 0 ? err_set(&s->err, r, "its descriptor is no eventfd and no pipe: %s", strerror(-r)) : 0;
}

static int queue_begin(struct vu_session *s, struct vu_queue *q)
{
	if (!(s->features & VU_F_PROTOCOL_FEATURES))
		q->enabled = true;
	return q->started ? 0 : vu_queue_start(q, &s->err);
}

static int set_kick(struct co *co, struct vu_session *s, struct vu_queue *q)
{
	struct io_event *kick;
	int r = event_get(co, s, true, &kick);

	if (r < 0)
		return r;
	vu_queue_unwatch(co, q);
	q->kick = kick;
	r = queue_begin(s, q);
	if (r == 0 && vu_queue_watch(q) < 0)
		r = err_set(&s->err, -EAGAIN, "too many coroutines for one more queue");
	if (r < 0)
		vu_queue_stop(co, q);
	if (r < 0)
		io_event_close(co, take(q->kick));
	return r;
}

/* A signal may be on its way to the old one. The new one gets one at once: it may have been a predecessor's to send. */
static int set_call(struct co *co, struct vu_session *s, struct vu_queue *q)
{
	struct io_event *call, *old;
	int r = event_get(co, s, false, &call);

	if (r < 0)
		return r;
	while (q->signalling)
		co_queue_wait(co, &s->rested);
	old = q->call;
	q->call = call;
	io_event_close(co, old);
	if (call)
		io_event_signal(co, call);
	return 0;
}

static int set_err(struct co *co, struct vu_session *s, struct vu_queue *q)
{
	struct io_event *error, *old = q->error;
	int r = event_get(co, s, false, &error);

	if (r < 0)
		return r;
	q->error = error;
	io_event_close(co, old);
	return 0;
}

/* ---- all of them ---- */

static uint32_t index_of(const struct vu_message *m)
{
	switch (m->request) {
	case VU_SET_VRING_KICK:
	case VU_SET_VRING_CALL:
	case VU_SET_VRING_ERR: return m->payload.u64 & VU_VRING_INDEX;
	case VU_SET_VRING_ADDR: return m->payload.addr.index;
	default: return m->payload.state.index;
	}
}

static int handle(struct co *co, struct vu_session *s, struct vu_queue *q)
{
	switch (s->message.request) {
	case VU_SET_VRING_NUM: return set_num(s, q);
	case VU_SET_VRING_ADDR: return set_addr(co, s, q);
	case VU_SET_VRING_BASE: return set_base(s, q);
	case VU_GET_VRING_BASE: return get_base(co, s, q);
	case VU_SET_VRING_KICK: return set_kick(co, s, q);
	case VU_SET_VRING_CALL: return set_call(co, s, q);
	case VU_SET_VRING_ERR: return set_err(co, s, q);
	default: assert(s->message.request == VU_SET_VRING_ENABLE); return set_enable(s, q);
	}
}

int vu_handle_vring(struct co *co, struct vu_session *s)
{
	uint32_t i = index_of(&s->message);
	int r;

	if (i >= s->server->queues)
		return err_set(&s->err, -EINVAL, "there is no queue %u, only %u of them", i, s->server->queues);
	r = handle(co, s, &s->queue[i]);
	if (r < 0)
		err_prefix(&s->err, "queue %u", i);
	return r;
}
