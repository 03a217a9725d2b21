/* SPDX-License-Identifier: MIT */
/*
 * The record of what is in flight: see inflight.h. The order of the writes to it is the specification's: whatever
 * moment we die at, a successor can tell whether the last chain reached the driver.
 */
#include "export/vhost_user/inflight.h"

#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "export/vhost_user/shared.h"

struct split_entry {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;
	uint64_t counter;
};

struct split_area {
	uint64_t features;
	uint16_t version;
	uint16_t entries;
	uint16_t last_batch_head;
	uint16_t used;
	struct split_entry entry[];
};

struct packed_entry {
	uint8_t inflight;
	uint8_t padding;
	uint16_t next;
	uint16_t last;
	uint16_t num;
	uint64_t counter;
	uint16_t id;
	uint16_t flags;
	uint32_t len;
	uint64_t addr;
};

struct packed_area {
	uint64_t features;
	uint16_t version;
	uint16_t entries;
	uint16_t free_head;
	uint16_t old_free_head;
	uint16_t used;
	uint16_t old_used;
	uint8_t used_wrap;
	uint8_t old_used_wrap;
	uint8_t padding[7];
	struct packed_entry entry[];
};

struct head { /* what both kinds begin with */
	uint64_t features;
	uint16_t version;
	uint16_t entries;
};

#define AREA_ALIGN 64
#define AREA_VERSION 1

/* What was written before is there before what is written after: for a successor, who sees what this process wrote. */
static void ordered(void) { __asm__ volatile("" ::: "memory"); }

/* Front ends and other back ends share this memory with us. */
#define LOAD(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define STORE(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

uint64_t vu_inflight_bytes(bool packed, uint16_t size)
{
	uint64_t bytes = packed ? sizeof(struct packed_area) + size * sizeof(struct packed_entry)
				: sizeof(struct split_area) + size * sizeof(struct split_entry);

	return align_up(bytes, AREA_ALIGN);
}

uint64_t vu_inflight_share(uint64_t bytes, uint16_t queues) { return align_down(bytes / queues, AREA_ALIGN); }

static struct split_entry *split_entry(const struct vu_inflight *f, uint16_t i)
{
	return &((struct split_area *)f->area)->entry[i];
}

static struct packed_entry *packed_entry(const struct vu_inflight *f, uint16_t i)
{
	return &((struct packed_area *)f->area)->entry[i];
}

static void split_begin(struct split_area *a, const struct vu_ring *r) { STORE(a->used, r->used); }

static void packed_begin(struct packed_area *a, const struct vu_ring *r)
{
	for (uint16_t i = 0; i < r->size; i++)
		STORE(a->entry[i].next, (uint16_t)(i + 1));
	STORE(a->used, r->used);
	STORE(a->old_used, r->used);
	STORE(a->used_wrap, r->used_wrap);
	STORE(a->old_used_wrap, r->used_wrap);
}

int vu_inflight_begin(struct vu_inflight *f, const struct vu_ring *r, struct err *err)
{
	struct head *h = f->area;
	uint16_t version = LOAD(h->version), entries = LOAD(h->entries);

	if (version > AREA_VERSION)
		return err_set(err, -EPROTO, "its record of requests in flight is of version %u", version);
	if (version != 0 && entries == f->size)
		return 1;
	memset(f->area, 0, vu_inflight_bytes(f->packed, f->size));
	if (f->packed)
		packed_begin(f->area, r);
	else
		split_begin(f->area, r);
	STORE(h->entries, f->size);
	ordered();
	STORE(h->version, AREA_VERSION);
	return 0;
}

/* ---- taking ---- */

static void split_note(struct vu_inflight *f, uint16_t head)
{
	struct split_entry *e = split_entry(f, head);

	STORE(e->counter, f->counter++);
	ordered();
	STORE(e->inflight, 1);
}

static int packed_note(struct vu_inflight *f, const struct vu_chain *chain, const struct vu_desc *desc, uint16_t *entry,
	struct err *err)
{
	struct packed_area *a = f->area;
	uint16_t head = LOAD(a->free_head), at = head, last = head;

	for (unsigned i = 0; i < chain->n; i++) {
		struct packed_entry *e = &a->entry[at];

		if (at >= f->size)
			return err_set(err, -EPROTO, "its record of requests in flight has no entry %u", at);
		STORE(e->addr, desc[i].addr);
		STORE(e->len, desc[i].len);
		STORE(e->flags, desc[i].flags);
		STORE(e->id, desc[i].id);
		last = at;
		at = LOAD(e->next);
	}
	STORE(a->entry[head].num, (uint16_t)chain->n);
	STORE(a->entry[head].last, last);
	STORE(a->entry[head].counter, f->counter++);
	STORE(a->free_head, at);
	ordered();
	STORE(a->entry[head].inflight, 1);
	ordered();
	STORE(a->old_free_head, at);
	*entry = head;
	return 0;
}

int vu_inflight_take(struct vu_inflight *f, const struct vu_chain *chain, const struct vu_desc *desc, uint16_t *entry,
	struct err *err)
{
	*entry = chain->head;
	if (!f->area)
		return 0;
	if (f->packed)
		return packed_note(f, chain, desc, entry, err);
	split_note(f, chain->head);
	return 0;
}

/* ---- giving back ---- */

static void split_giving(struct vu_inflight *f, uint16_t head)
{
	struct split_area *a = f->area;

	STORE(a->entry[head].next, LOAD(a->last_batch_head));
	STORE(a->last_batch_head, head);
}

static void packed_giving(struct vu_inflight *f, const struct vu_ring *r, const struct vu_chain *chain, uint16_t head)
{
	struct packed_area *a = f->area;
	uint16_t used = r->used, last = LOAD(a->entry[head].last);
	bool wrap = r->used_wrap;

	vu_ring_advance(r, &used, &wrap, chain->slots);
	if (last < f->size)
		STORE(a->entry[last].next, LOAD(a->free_head));
	STORE(a->free_head, head);
	STORE(a->used, used);
	STORE(a->used_wrap, wrap);
}

void vu_inflight_giving(struct vu_inflight *f, const struct vu_ring *r, const struct vu_chain *chain, uint16_t entry)
{
	if (!f->area)
		return;
	if (f->packed)
		packed_giving(f, r, chain, entry);
	else
		split_giving(f, entry);
	ordered();
}

static void packed_settle(struct packed_area *a)
{
	STORE(a->old_free_head, LOAD(a->free_head));
	STORE(a->old_used, LOAD(a->used));
	STORE(a->old_used_wrap, LOAD(a->used_wrap));
}

void vu_inflight_given(struct vu_inflight *f, const struct vu_ring *r, uint16_t entry)
{
	if (!f->area)
		return;
	ordered();
	if (f->packed) {
		STORE(packed_entry(f, entry)->inflight, 0);
		ordered();
		packed_settle(f->area);
		return;
	}
	STORE(split_entry(f, entry)->inflight, 0);
	ordered();
	STORE(((struct split_area *)f->area)->used, r->used);
}

/* ---- after a restart ---- */

/* Those of the last batch reached the driver, and weren't taken out of the record any more. */
static void split_repair(struct vu_inflight *f, uint16_t used)
{
	struct split_area *a = f->area;
	uint16_t batch = used - LOAD(a->used), at = LOAD(a->last_batch_head);

	for (; batch > 0 && at < f->size; batch--) {
		STORE(a->entry[at].inflight, 0);
		at = LOAD(a->entry[at].next);
	}
	ordered();
	STORE(a->used, used);
}

/* Commits what had begun if the driver has got it, or takes it back. */
static int packed_repair(struct vu_inflight *f, const struct vu_ring *r, struct err *err)
{
	struct packed_area *a = f->area;
	uint16_t at = LOAD(a->old_used);

	if (at >= f->size || LOAD(a->used) >= f->size)
		return err_set(err, -EPROTO, "its record of requests in flight is at place %u of %u", at, f->size);
	if (LOAD(a->used) != at && vu_ring_is_given(r, at, LOAD(a->old_used_wrap)))
		packed_settle(a);
	STORE(a->free_head, LOAD(a->old_free_head));
	STORE(a->used, LOAD(a->old_used));
	STORE(a->used_wrap, LOAD(a->old_used_wrap));
	at = LOAD(a->free_head);
	for (unsigned n = 0; n < f->size && at < f->size; n++) {
		STORE(a->entry[at].inflight, 0);
		at = LOAD(a->entry[at].next);
	}
	return 0;
}

struct found {
	uint64_t counter;
	uint16_t entry;
};

static int in_order(const void *a, const void *b)
{
	uint64_t x = ((const struct found *)a)->counter, y = ((const struct found *)b)->counter;

	return x < y ? -1 : x > y;
}

/* All that are marked, in the order of their counters. */
static int collect(struct vu_inflight *f, uint16_t *entry)
{
	struct found *found = calloc(f->size, sizeof(*found));
	unsigned n = 0;

	if (!found)
		return -ENOMEM;
	for (uint16_t i = 0; i < f->size; i++) {
		bool marked = f->packed ? LOAD(packed_entry(f, i)->inflight) : LOAD(split_entry(f, i)->inflight);
		uint64_t counter = f->packed ? LOAD(packed_entry(f, i)->counter) : LOAD(split_entry(f, i)->counter);

		if (!marked)
			continue;
		f->counter = MAX(f->counter, counter + 1);
		found[n++] = (struct found){counter, i};
	}
	qsort(found, n, sizeof(*found), in_order);
	for (unsigned i = 0; i < n; i++)
		entry[i] = found[i].entry;
	free(found);
	return (int)n;
}

static int split_recover(struct vu_inflight *f, struct vu_ring *r, uint16_t *entry, struct err *err)
{
	int n;

	r->used = vu_ring_used_index(r);
	split_repair(f, r->used);
	n = collect(f, entry);
	if (n < 0)
		return err_set(err, n, "no memory");
	r->outstanding = (uint16_t)n;
	r->avail = (uint16_t)(r->used + n);
	return n;
}

static int packed_recover(struct vu_inflight *f, struct vu_ring *r, uint16_t *entry, struct err *err)
{
	const struct packed_area *a = f->area;
	int n = packed_repair(f, r, err);
	uint32_t slots = 0;

	if (n < 0)
		return n;
	n = collect(f, entry);
	if (n < 0)
		return err_set(err, n, "no memory");
	for (int i = 0; i < n; i++)
		slots += LOAD(packed_entry(f, entry[i])->num);
	if (slots > f->size)
		return err_set(
			err, -EPROTO, "its record of requests in flight has %u descriptors of %u", slots, f->size);
	r->used = r->avail = LOAD(a->used);
	r->used_wrap = r->avail_wrap = LOAD(a->used_wrap) != 0;
	r->outstanding = (uint16_t)slots;
	vu_ring_advance(r, &r->avail, &r->avail_wrap, (uint16_t)slots);
	return n;
}

int vu_inflight_recover(struct vu_inflight *f, struct vu_ring *r, uint16_t *entry, struct err *err)
{
	return f->packed ? packed_recover(f, r, entry, err) : split_recover(f, r, entry, err);
}

static int packed_again(
	const struct vu_inflight *f, uint16_t head, struct vu_desc *desc, struct vu_chain *out, struct err *err)
{
	uint16_t num = LOAD(packed_entry(f, head)->num), at = head;

	if (num == 0 || num > VU_CHAIN_MAX)
		return err_set(err, -EPROTO, "its record of requests in flight has a chain of %u", num);
	*out = (struct vu_chain){.slots = num};
	for (; out->n < num && at < f->size; out->n++) {
		const struct packed_entry *e = packed_entry(f, at);

		desc[out->n] = (struct vu_desc){LOAD(e->addr), LOAD(e->len), LOAD(e->flags), LOAD(e->id)};
		at = LOAD(e->next);
	}
	if (out->n < num)
		return err_set(err, -EPROTO, "its record of requests in flight has no entry %u", at);
	out->head = desc[num - 1].id;
	return 1;
}

int vu_inflight_again(const struct vu_inflight *f, const struct vu_ring *r, uint16_t entry, struct vu_desc *desc,
	struct vu_chain *out, struct err *err)
{
	return f->packed ? packed_again(f, entry, desc, out, err) : vu_ring_again(r, entry, desc, out, err);
}
