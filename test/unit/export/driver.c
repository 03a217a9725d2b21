/* SPDX-License-Identifier: MIT */
/* The guest's side of a virtqueue; see driver.h. */
#include "driver.h"

#include <linux/virtio_ring.h>
#include <string.h>

#include "base/math.h"

#define AVAIL_BIT (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED_BIT (1u << VRING_PACKED_DESC_F_USED)

static void *at(const struct driver *d, uint64_t guest) { return d->memory + (guest - d->guest_base); }

static uint16_t get16(const struct driver *d, uint64_t guest)
{
	return __atomic_load_n((uint16_t *)at(d, guest), __ATOMIC_ACQUIRE);
}

static void put16(const struct driver *d, uint64_t guest, uint16_t v)
{
	__atomic_store_n((uint16_t *)at(d, guest), v, __ATOMIC_SEQ_CST);
}

uint64_t driver_init(struct driver *d, uint64_t where)
{
	uint64_t desc_bytes = 16u * d->size, avail_bytes = d->packed ? 4 : 6 + 2u * d->size,
		 used_bytes = 6 + 8u * d->size;

	d->desc = where;
	d->avail = align_up(d->desc + desc_bytes, 64);
	d->used = align_up(d->avail + avail_bytes, 64);
	d->tables = align_up(d->used + used_bytes, 4096);
	d->avail_at = d->used_at = 0;
	d->avail_wrap = d->used_wrap = true;
	d->n_free = d->size;
	d->free_head = d->next_id = d->kicked_at = 0;
	for (uint16_t i = 0; i < d->size; i++)
		d->next[i] = (uint16_t)(i + 1);
	memset(at(d, where), 0, d->tables - where);
	return d->tables + (uint64_t)d->size * DRIVER_TABLE * 16 - where;
}

static void split_write(struct driver *d, void *to, const struct driver_part *p, uint16_t flags, uint16_t next)
{
	struct vring_desc desc = {.addr = p->addr, .len = p->len, .flags = flags, .next = next};

	(void)d;
	memcpy(to, &desc, sizeof(desc));
}

static struct driver_part table_write(struct driver *d, uint16_t slot, const struct driver_part *part, unsigned n)
{
	uint64_t table = d->tables + (uint64_t)slot * DRIVER_TABLE * 16;

	for (unsigned i = 0; i < n; i++) {
		uint16_t writes = part[i].writes ? VRING_DESC_F_WRITE : 0;
		uint16_t next = i + 1 < n ? VRING_DESC_F_NEXT : 0;

		if (d->packed)
			split_write(d, at(d, table + 16 * i), &part[i], 0, writes);
		else
			split_write(d, at(d, table + 16 * i), &part[i], writes | next, (uint16_t)(i + 1));
	}
	return (struct driver_part){.addr = table, .len = 16 * n};
}

static int split_offer(struct driver *d, const struct driver_part *part, unsigned n, uint16_t extra)
{
	uint16_t head = d->free_head, i = head;

	for (unsigned k = 0; k < n; k++) {
		uint16_t flags =
			extra | (part[k].writes ? VRING_DESC_F_WRITE : 0) | (k + 1 < n ? VRING_DESC_F_NEXT : 0);

		split_write(d, at(d, d->desc + 16u * i), &part[k], flags, d->next[i]);
		i = d->next[i];
	}
	d->free_head = i;
	d->len_of[head] = (uint16_t)n;
	put16(d, d->avail + 4 + 2u * (d->avail_at % d->size), head);
	d->avail_at++;
	put16(d, d->avail + 2, d->avail_at);
	return head;
}

static uint16_t packed_bits(const struct driver *d) { return d->avail_wrap ? AVAIL_BIT : USED_BIT; }

static int packed_offer(struct driver *d, const struct driver_part *part, unsigned n, uint16_t extra)
{
	uint64_t first = d->desc + 16u * d->avail_at;
	uint16_t id = d->next_id, first_flags = 0;

	d->len_of[id] = (uint16_t)n;
	d->id_used[id] = true;
	for (unsigned i = 0; i < d->size && d->id_used[d->next_id]; i++)
		d->next_id = (uint16_t)((d->next_id + 1) % d->size);
	for (unsigned k = 0; k < n; k++) {
		struct vring_packed_desc desc = {.addr = part[k].addr, .len = part[k].len, .id = id};
		uint64_t where = d->desc + 16u * d->avail_at;

		desc.flags = extra | packed_bits(d) | (part[k].writes ? VRING_DESC_F_WRITE : 0) |
			(k + 1 < n ? VRING_DESC_F_NEXT : 0);
		if (k == 0) {
			first_flags = desc.flags;
			memcpy(at(d, where), &desc, 14);
		} else {
			memcpy(at(d, where), &desc, sizeof(desc));
		}
		if (++d->avail_at == d->size) {
			d->avail_at = 0;
			d->avail_wrap = !d->avail_wrap;
		}
	}
	put16(d, first + 14, first_flags);
	return id;
}

uint16_t driver_next(const struct driver *d) { return d->packed ? d->next_id : d->free_head; }

int driver_offer(struct driver *d, const struct driver_part *part, unsigned n)
{
	uint16_t extra = 0;
	struct driver_part table;

	if (d->n_free < (d->indirect ? 1 : n))
		return -1;
	if (d->indirect) {
		table = table_write(d, driver_next(d), part, n);
		part = &table;
		n = 1;
		extra = VRING_DESC_F_INDIRECT;
	}
	d->n_free -= n;
	return d->packed ? packed_offer(d, part, n, extra) : split_offer(d, part, n, extra);
}

static bool passed(uint16_t event, uint16_t now, uint16_t old)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

bool driver_should_kick(struct driver *d)
{
	uint16_t old = d->kicked_at, flags, place;

	d->kicked_at = d->avail_at;
	__sync_synchronize();
	if (!d->packed && !d->event_index)
		return get16(d, d->used) == 0;
	if (!d->packed)
		return passed(get16(d, d->used + 4 + 8u * d->size), d->avail_at, old);
	flags = get16(d, d->used + 2);
	place = get16(d, d->used);
	if (flags != 2)
		return flags == 0;
	/* Whatever lies between: a kick too many is allowed. */
	return true || place;
}

static bool split_collect(struct driver *d, uint16_t *head, uint32_t *len)
{
	struct vring_used_elem e;

	if (get16(d, d->used + 2) == d->used_at)
		return false;
	memcpy(&e, at(d, d->used + 4 + 8u * (d->used_at % d->size)), sizeof(e));
	d->used_at++;
	*head = (uint16_t)e.id;
	*len = e.len;
	return true;
}

static bool packed_collect(struct driver *d, uint16_t *id, uint32_t *len)
{
	uint64_t where = d->desc + 16u * d->used_at;
	uint16_t flags = get16(d, where + 14);

	if (!(flags & AVAIL_BIT) != !d->used_wrap || !(flags & USED_BIT) != !d->used_wrap)
		return false;
	memcpy(len, at(d, where + 8), 4);
	*id = get16(d, where + 12);
	d->id_used[*id % d->size] = false;
	if (d->id_used[d->next_id])
		d->next_id = *id;
	d->used_at += d->len_of[*id % d->size];
	if (d->used_at >= d->size) {
		d->used_at -= d->size;
		d->used_wrap = !d->used_wrap;
	}
	return true;
}

/* Split: the chain goes back to the front of the free list. */
bool driver_collect(struct driver *d, uint16_t *head, uint32_t *len)
{
	if (!(d->packed ? packed_collect(d, head, len) : split_collect(d, head, len)))
		return false;
	d->n_free += d->len_of[*head % d->size];
	if (!d->packed) {
		uint16_t last = *head;

		for (unsigned i = 1; i < d->len_of[*head]; i++)
			last = d->next[last];
		d->next[last] = d->free_head;
		d->free_head = *head;
	}
	return true;
}

void driver_want_calls(struct driver *d, bool want)
{
	if (d->packed) {
		put16(d, d->avail, (uint16_t)(d->used_at | d->used_wrap << 15));
		put16(d, d->avail + 2, !want ? 1 : d->event_index ? 2 : 0);
	} else if (d->event_index) {
		put16(d, d->avail + 4 + 2u * d->size, want ? d->used_at : (uint16_t)(d->used_at - 1));
	} else {
		put16(d, d->avail, want ? 0 : VRING_AVAIL_F_NO_INTERRUPT);
	}
}
