/* SPDX-License-Identifier: MIT */
/* Virtqueues: see ring.h. What both kinds do, with their differences beside each other. */
#include "export/vhost_user/ring.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stddef.h>

#include "export/vhost_user/shared.h"

struct packed_event {
	uint16_t place; /* in the ring, and its wrap counter in the highest bit */
	uint16_t flags;
};

enum { EVENT_ENABLE, EVENT_DISABLE, EVENT_PLACE };

#define BIT(n) (1u << (n))
#define PACKED_AVAIL BIT(VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED BIT(VRING_PACKED_DESC_F_USED)

uint64_t vu_ring_desc_bytes(uint16_t size) { return UINT64_C(16) * size; }
uint64_t vu_ring_driver_bytes(bool packed, uint16_t size) { return packed ? 4 : 6 + UINT64_C(2) * size; }
uint64_t vu_ring_device_bytes(bool packed, uint16_t size) { return packed ? 4 : 6 + UINT64_C(8) * size; }

static uint8_t *desc_at(const struct vu_ring *r, uint16_t i) { return r->desc + 16u * i; }

/* Split: the fourth field is `next`. */
static uint16_t split_copy(const struct vu_ring *r, uint16_t i, struct vu_desc *to)
{
	struct vring_desc raw;

	shared_copy(&raw, desc_at(r, i), sizeof(raw));
	*to = (struct vu_desc){.addr = le64toh(raw.addr), .len = le32toh(raw.len), .flags = le16toh(raw.flags)};
	return le16toh(raw.next);
}

static void packed_copy(const struct vu_ring *r, uint16_t i, struct vu_desc *to)
{
	struct vring_packed_desc raw;

	shared_copy(&raw, desc_at(r, i), sizeof(raw));
	*to = (struct vu_desc){
		.addr = le64toh(raw.addr), .len = le32toh(raw.len), .flags = le16toh(raw.flags), .id = le16toh(raw.id)};
}

void vu_ring_advance(const struct vu_ring *r, uint16_t *at, bool *wrap, uint16_t slots)
{
	uint32_t next = (uint32_t)*at + slots;

	if (next >= r->size) {
		next -= r->size;
		*wrap = !*wrap;
	}
	*at = (uint16_t)next;
}

/* ---- taking ---- */

static uint16_t packed_flags(const struct vu_ring *r, uint16_t at)
{
	return shared_get16(desc_at(r, at) + offsetof(struct vring_packed_desc, flags));
}

static bool packed_is_available(const struct vu_ring *r)
{
	uint16_t flags = packed_flags(r, r->avail);

	return !(flags & PACKED_AVAIL) != r->avail_wrap && !(flags & PACKED_USED) == r->avail_wrap;
}

static uint16_t split_available(const struct vu_ring *r)
{
	return (uint16_t)(shared_get16(r->driver + offsetof(struct vring_avail, idx)) - r->avail);
}

bool vu_ring_empty(const struct vu_ring *r) { return r->packed ? !packed_is_available(r) : split_available(r) == 0; }

int vu_ring_again(const struct vu_ring *r, uint16_t head, struct vu_desc *desc, struct vu_chain *out, struct err *err)
{
	uint16_t at = head;

	*out = (struct vu_chain){.head = head, .slots = 1};
	do {
		if (at >= r->size)
			return err_set(err, -EPROTO, "descriptor %u is named, of %u", at, r->size);
		if (out->n == VU_CHAIN_MAX || out->n == r->size)
			return err_set(err, -EPROTO, "a chain from descriptor %u has more than %u, or is a loop", head,
				out->n);
		at = split_copy(r, at, &desc[out->n++]);
	} while (desc[out->n - 1].flags & VRING_DESC_F_NEXT);
	return 1;
}

static int split_take(struct vu_ring *r, struct vu_desc *desc, struct vu_chain *out, struct err *err)
{
	uint16_t n = split_available(r);
	uint16_t head;
	int rc;

	if (n == 0)
		return 0;
	if (n > r->size || r->outstanding == r->size)
		return err_set(err, -EPROTO, "%u chains are offered while %u are in use, in a ring of %u", n,
			r->outstanding, r->size);
	head = shared_get16(r->driver + offsetof(struct vring_avail, ring) + 2u * (r->avail & (r->size - 1)));
	rc = vu_ring_again(r, head, desc, out, err);
	if (rc > 0) {
		r->avail++;
		r->outstanding++;
	}
	return rc;
}

static int packed_take(struct vu_ring *r, struct vu_desc *desc, struct vu_chain *out, struct err *err)
{
	uint16_t at = r->avail;
	bool wrap = r->avail_wrap;

	if (!packed_is_available(r))
		return 0;
	*out = (struct vu_chain){0};
	do {
		if (out->n == VU_CHAIN_MAX || out->n + r->outstanding == r->size)
			return err_set(err, -EPROTO,
				"a chain from descriptor %u has more than %u, with %u of %u in use", r->avail, out->n,
				r->outstanding, r->size);
		packed_copy(r, at, &desc[out->n++]);
		vu_ring_advance(r, &at, &wrap, 1);
	} while (desc[out->n - 1].flags & VRING_DESC_F_NEXT);
	out->head = desc[out->n - 1].id;
	out->slots = (uint16_t)out->n;
	r->avail = at;
	r->avail_wrap = wrap;
	r->outstanding += out->slots;
	return 1;
}

int vu_ring_take(struct vu_ring *r, struct vu_desc *desc, struct vu_chain *out, struct err *err)
{
	return r->packed ? packed_take(r, desc, out, err) : split_take(r, desc, out, err);
}

/* ---- giving back ---- */

static void split_give(struct vu_ring *r, uint16_t head, uint32_t len)
{
	struct vring_used_elem e = {.id = htole32(head), .len = htole32(len)};

	memcpy(r->device + offsetof(struct vring_used, ring) + sizeof(e) * (r->used & (r->size - 1)), &e, sizeof(e));
	r->used++;
	shared_put16(r->device + offsetof(struct vring_used, idx), r->used);
}

/* The flags come last: they give it back. */
static void packed_give(struct vu_ring *r, const struct vu_chain *chain, uint32_t len)
{
	uint8_t *at = desc_at(r, r->used);
	uint32_t bytes = htole32(len);
	uint16_t id = htole16(chain->head), flags = r->used_wrap ? PACKED_AVAIL | PACKED_USED : 0;

	memcpy(at + offsetof(struct vring_packed_desc, len), &bytes, sizeof(bytes));
	memcpy(at + offsetof(struct vring_packed_desc, id), &id, sizeof(id));
	shared_put16(at + offsetof(struct vring_packed_desc, flags), flags | (len > 0 ? VRING_DESC_F_WRITE : 0));
	if ((uint32_t)r->used + chain->slots >= r->size)
		r->signalled_valid = false;
	vu_ring_advance(r, &r->used, &r->used_wrap, chain->slots);
}

void vu_ring_give(struct vu_ring *r, const struct vu_chain *chain, uint32_t len)
{
	assert(r->outstanding >= chain->slots);
	r->outstanding -= chain->slots;
	if (r->packed)
		packed_give(r, chain, len);
	else
		split_give(r, chain->head, len);
}

uint16_t vu_ring_used_index(const struct vu_ring *r)
{
	return shared_get16(r->device + offsetof(struct vring_used, idx));
}

bool vu_ring_is_given(const struct vu_ring *r, uint16_t at, bool wrap)
{
	uint16_t flags = packed_flags(r, at);

	return !(flags & PACKED_AVAIL) == !wrap && !(flags & PACKED_USED) == !wrap;
}

/* ---- notifications ---- */

/* Whether `event` lies in what came since: [old, now). */
static bool is_passed(uint16_t event, uint16_t now, uint16_t old)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

static bool split_should_signal(const struct vu_ring *r, bool known, uint16_t old)
{
	const uint8_t *used_event = r->driver + offsetof(struct vring_avail, ring) + 2u * r->size;

	if (!r->event_index)
		return !(shared_get16(r->driver) & VRING_AVAIL_F_NO_INTERRUPT);
	return !known || is_passed(shared_get16(used_event), r->used, old);
}

static bool packed_should_signal(const struct vu_ring *r, bool known, uint16_t old)
{
	uint16_t place = shared_get16(r->driver + offsetof(struct packed_event, place));
	uint16_t flags = shared_get16(r->driver + offsetof(struct packed_event, flags));
	uint16_t event = place & 0x7fff;

	if (flags != EVENT_PLACE || !r->event_index)
		return flags != EVENT_DISABLE;
	if ((place >> 15) != r->used_wrap)
		event -= r->size;
	return !known || is_passed(event, r->used, old);
}

bool vu_ring_should_signal(struct vu_ring *r)
{
	uint16_t old = r->signalled;
	bool known = r->signalled_valid;

	r->signalled = r->used;
	r->signalled_valid = true;
	shared_fence();
	return r->packed ? packed_should_signal(r, known, old) : split_should_signal(r, known, old);
}

static void packed_want_kicks(struct vu_ring *r, bool want)
{
	if (want && r->event_index)
		shared_put16(
			r->device + offsetof(struct packed_event, place), (uint16_t)(r->avail | r->avail_wrap << 15));
	shared_put16(r->device + offsetof(struct packed_event, flags),
		!want                    ? EVENT_DISABLE
			: r->event_index ? EVENT_PLACE
					 : EVENT_ENABLE);
}

/* With the event index, where we were when we last wanted one is as good as not wanting any. */
static void split_want_kicks(struct vu_ring *r, bool want)
{
	uint8_t *avail_event = r->device + offsetof(struct vring_used, ring) + sizeof(struct vring_used_elem) * r->size;

	if (!r->event_index)
		shared_put16(r->device, want ? 0 : VRING_USED_F_NO_NOTIFY);
	else if (want)
		shared_put16(avail_event, r->avail);
}

void vu_ring_want_kicks(struct vu_ring *r, bool want)
{
	if (r->packed)
		packed_want_kicks(r, want);
	else
		split_want_kicks(r, want);
	if (want)
		shared_fence();
}
