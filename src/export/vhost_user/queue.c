/* SPDX-License-Identifier: MIT */
/* A queue's life: where its ring lies, where it begins, and how it ends; see device.h. */
#include "export/vhost_user/device.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>

#include "base/math.h"

/* ---- place ---- */

static int part_find(const struct vu_memory *m, const char *name, uint64_t user, uint64_t len, uint32_t align,
	uint8_t **out, struct err *err)
{
	*out = vu_memory_user(m, user, len);
	if (!*out)
		return err_set(err, -EINVAL,
			"its %s, %" PRIu64 " bytes at %#" PRIx64 ", doesn't lie in a region of memory", name, len,
			user);
	if (!is_aligned((uintptr_t)*out, align))
		return err_set(err, -EINVAL, "its %s at %#" PRIx64 " isn't aligned to %u bytes", name, user, align);
	return 0;
}

/* Finds the ring in m. Nothing has changed after a failure. */
static int ring_place(struct vu_queue *q, struct vu_memory *m, struct err *err)
{
	struct vu_ring r = q->ring;
	uint64_t driver = vu_ring_driver_bytes(r.packed, r.size), device = vu_ring_device_bytes(r.packed, r.size);
	int rc = part_find(m, "descriptor table", q->addr.descriptor, vu_ring_desc_bytes(r.size), VU_RING_DESC_ALIGN,
		&r.desc, err);

	if (rc == 0)
		rc = part_find(m, r.packed ? "driver's event structure" : "available ring", q->addr.available, driver,
			VU_RING_DRIVER_ALIGN(r.packed), &r.driver, err);
	if (rc == 0)
		rc = part_find(m, r.packed ? "device's event structure" : "used ring", q->addr.used, device,
			VU_RING_DEVICE_ALIGN, &r.device, err);
	if (rc == 0) {
		q->ring = r;
		q->memory = vu_memory_get(m);
	}
	return rc;
}

int vu_queue_move(struct co *co, struct vu_queue *q, struct err *err)
{
	struct vu_memory *old = q->memory;
	int r = ring_place(q, q->session->memory, err);

	if (r < 0)
		return r;
	vu_memory_put(co, old);
	return 0;
}

/* ---- where it begins ---- */

/* The number of SET_VRING_BASE. Packed: 15 bits and a wrap counter for what is taken, and the same for what is used. */
static int base_set(struct vu_ring *r, uint32_t base, struct err *err)
{
	r->avail = (uint16_t)base;
	if (!r->packed) {
		r->used = vu_ring_used_index(r);
		return 0;
	}
	r->avail &= 0x7fff;
	r->avail_wrap = base >> 15 & 1;
	r->used = base >> 16 & 0x7fff;
	r->used_wrap = base >> 31;
	if (r->avail >= r->size || r->used >= r->size)
		return err_set(err, -EINVAL, "its base %#x isn't a place in a ring of %u", base, r->size);
	return 0;
}

uint32_t vu_queue_base(const struct vu_queue *q)
{
	const struct vu_ring *r = &q->ring;

	if (!r->packed)
		return r->avail;
	return r->avail | (uint32_t)r->avail_wrap << 15 | (uint32_t)r->used << 16 | (uint32_t)r->used_wrap << 31;
}

/*
 * The record's place: an equal share of it for each queue. A guest may choose a larger ring than the front end had in mind
 * (SeaBIOS does), and where its share is too small for that, it is better served without a record than not at all.
 */
static void record_find(struct vu_queue *q)
{
	const struct vu_session *s = q->session;
	const struct vu_ring *r = &q->ring;
	uint64_t share;

	q->inflight = (struct vu_inflight){.packed = r->packed, .size = r->size};
	if (!s->inflight_map || q->index >= s->inflight_queues)
		return;
	share = vu_inflight_share(io_map_len(s->inflight_map), s->inflight_queues);
	if (vu_inflight_bytes(r->packed, r->size) <= share)
		q->inflight.area = io_map_bytes(s->inflight_map) + q->index * share;
	else
		vu_say(s->server,
			"queue %u won't outlive this server: its %u entries don't fit into its %" PRIu64
			" bytes of the record of requests in flight",
			q->index, r->size, share);
}

/* Where a predecessor has left a record, that counts, and not what the front end believes. */
static int record_begin(struct vu_queue *q, struct err *err)
{
	int r;

	record_find(q);
	q->again_n = q->again_done = 0;
	if (!q->inflight.area)
		return 0;
	r = vu_inflight_begin(&q->inflight, &q->ring, err);
	if (r > 0)
		r = vu_inflight_recover(&q->inflight, &q->ring, q->again, err);
	if (r < 0)
		return r;
	q->again_n = (unsigned)r;
	return 0;
}

static int room_make(struct vu_queue *q)
{
	if (!q->scratch)
		q->scratch = malloc(sizeof(*q->scratch));
	if (!q->again)
		q->again = calloc(VU_RING_MAX, sizeof(*q->again));
	return q->scratch && q->again ? 0 : -ENOMEM;
}

int vu_queue_start(struct vu_queue *q, struct err *err)
{
	struct vu_session *s = q->session;
	bool packed = s->features & VU_F(VIRTIO_F_RING_PACKED);
	int r;

	if (!q->has_addr || q->size == 0)
		return err_set(err, -EINVAL, "it is started before its size and its addresses are known");
	if (room_make(q) < 0)
		return err_set(err, -ENOMEM, "no memory");
	q->ring = (struct vu_ring){
		.packed = packed, .size = q->size, .event_index = s->features & VU_F(VIRTIO_RING_F_EVENT_IDX)};
	q->terms = (struct vu_terms){.packed = packed, .indirect = s->features & VU_F(VIRTIO_RING_F_INDIRECT_DESC)};
	r = ring_place(q, s->memory, err);
	if (r < 0)
		return r;
	r = base_set(&q->ring, q->base, err);
	if (r == 0)
		r = record_begin(q, err);
	q->started = true; /* also after a failure: then a stop is owed */
	q->broken = r < 0;
	return r;
}

/* ---- how it ends ---- */

bool vu_queue_is_resting(const struct vu_queue *q) { return q->in_flight == 0 && !q->serving && !q->signalling; }

void vu_queue_stop(struct co *co, struct vu_queue *q)
{
	if (!q->started)
		return;
	q->started = false;
	vu_queue_unwatch(co, q);
	while (!vu_queue_is_resting(q))
		co_queue_wait(co, &q->session->rested);
	q->base = vu_queue_base(q);
	q->inflight.area = NULL;
	vu_memory_put(co, take(q->memory));
}

void vu_queue_free(struct vu_queue *q)
{
	assert(!q->started && !q->memory);
	free(q->scratch);
	free(q->again);
}
