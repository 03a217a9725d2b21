/* SPDX-License-Identifier: MIT */
/* Registers with records: see model.h. */
#include "model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "memory.h"
#include "stamp.h"

/* ---- records ---- */

static uint32_t record_new(struct sim_model *m)
{
	uint32_t r = m->free;

	if (r != 0) {
		m->free = m->records[r].next;
		return r;
	}
	if (m->used == m->room)
		m->records = sim_grow(m->records, &m->room, sizeof(*m->records));
	return m->used++;
}

static void record_add(struct sim_model *m, uint32_t reg, struct sim_record it)
{
	uint32_t r = record_new(m);

	it.next = m->head[reg];
	m->records[r] = it;
	m->head[reg] = r;
}

static uint64_t oldest_read(const struct sim_model *m)
{
	uint64_t oldest = SIM_NEVER;

	for (unsigned i = 0; i < SIM_READS; i++) {
		if (m->reads[i] != 0 && m->reads[i] < oldest)
			oldest = m->reads[i];
	}
	return oldest;
}

/* Lets go of records that neither a read nor a power cut may give any more. */
static void register_sweep(struct sim_model *m, uint32_t reg)
{
	uint64_t oldest = oldest_read(m);

	for (uint32_t *link = &m->head[reg]; *link != 0;) {
		uint32_t r = *link;
		struct sim_record *it = &m->records[r];

		if (it->gone && it->hidden < oldest) {
			*link = it->next;
			it->next = m->free;
			m->free = r;
		} else {
			link = &it->next;
		}
	}
}

static void register_sum(struct sim_model *m, uint32_t reg)
{
	uint64_t only = SIM_TAG_OTHER;
	bool any = false;

	for (uint32_t r = m->head[reg]; r != 0; r = m->records[r].next) {
		if (m->records[r].gone)
			continue;
		if (any && m->records[r].tag != only) {
			only = SIM_TAG_OTHER;
			break;
		}
		only = m->records[r].tag;
		any = true;
	}
	m->only[reg] = only;
}

static void register_clear(struct sim_model *m, uint32_t reg)
{
	while (m->head[reg] != 0) {
		uint32_t r = m->head[reg];

		m->head[reg] = m->records[r].next;
		m->records[r].next = m->free;
		m->free = r;
	}
}

/* ---- life ---- */

void sim_model_init(struct sim_model *m, uint32_t sectors)
{
	*m = (struct sim_model){.registers = sectors + 1, .used = 1, .time = 1, .room = 1024};
	m->head = sim_alloc(m->registers * sizeof(*m->head));
	m->only = sim_alloc(m->registers * sizeof(*m->only));
	m->records = sim_alloc(m->room * sizeof(*m->records));
	for (uint32_t i = 0; i < m->registers; i++)
		sim_model_set(m, i, SIM_TAG_ZERO);
}

void sim_model_fini(struct sim_model *m)
{
	sim_free(m->head);
	sim_free(m->only);
	sim_free(m->records);
}

void sim_model_set(struct sim_model *m, uint32_t reg, uint64_t tag)
{
	register_clear(m, reg);
	record_add(m, reg, (struct sim_record){.tag = tag, .hidden = SIM_NEVER});
	m->only[reg] = tag;
}

void sim_model_restart(struct sim_model *m)
{
	for (unsigned i = 0; i < SIM_READS; i++)
		m->reads[i] = 0;
	m->fallen = false;
}

/* ---- writes ---- */

static void register_begin(struct sim_model *m, uint32_t reg, uint64_t tag)
{
	register_sweep(m, reg);
	record_add(m, reg, (struct sim_record){.tag = tag, .start = m->time, .end = SIM_NEVER, .hidden = SIM_NEVER});
	register_sum(m, reg);
}

/* What had returned before this one was called is superseded. */
static void register_end(struct sim_model *m, uint32_t reg, uint64_t start, enum sim_outcome outcome)
{
	for (uint32_t r = m->head[reg]; r != 0; r = m->records[r].next) {
		struct sim_record *it = &m->records[r];

		if (it->start == start) {
			it->end = m->time;
		} else if (it->end < start && outcome != SIM_UNCERTAIN) {
			if (it->hidden == SIM_NEVER)
				it->hidden = m->time;
			it->gone |= outcome == SIM_DURABLE;
		}
	}
	register_sweep(m, reg);
	register_sum(m, reg);
}

uint64_t sim_model_write_begin(struct sim_model *m, uint32_t first, uint32_t n, uint32_t id, bool zero)
{
	m->time++;
	for (uint32_t s = first; s < first + n; s++)
		register_begin(m, s, zero ? SIM_TAG_ZERO : sim_tag(s, id));
	return m->time;
}

void sim_model_write_end(struct sim_model *m, uint32_t first, uint32_t n, uint64_t start, enum sim_outcome outcome)
{
	m->time++;
	for (uint32_t s = first; s < first + n; s++)
		register_end(m, s, start, outcome);
}

uint64_t sim_model_size_begin(struct sim_model *m, uint64_t bytes)
{
	m->time++;
	register_begin(m, sim_model_size_register(m), bytes);
	return m->time;
}

void sim_model_size_end(struct sim_model *m, uint64_t start, enum sim_outcome outcome)
{
	m->time++;
	register_end(m, sim_model_size_register(m), start, outcome);
}

/* ---- flush ---- */

uint64_t sim_model_flush_begin(struct sim_model *m) { return ++m->time; }

void sim_model_flush_end(struct sim_model *m, uint64_t start)
{
	m->time++;
	for (uint32_t reg = 0; reg < m->registers; reg++) {
		if (m->records[m->head[reg]].next == 0)
			continue;
		for (uint32_t r = m->head[reg]; r != 0; r = m->records[r].next)
			m->records[r].gone |= m->records[r].hidden < start;
		register_sweep(m, reg);
		register_sum(m, reg);
	}
}

/* ---- reads ---- */

uint64_t sim_model_read_begin(struct sim_model *m)
{
	unsigned i = 0;

	while (m->reads[i] != 0)
		i++;
	assert(i < SIM_READS);
	return m->reads[i] = ++m->time;
}

void sim_model_read_end(struct sim_model *m, uint64_t start)
{
	m->time++;
	for (unsigned i = 0; i < SIM_READS; i++) {
		if (m->reads[i] == start)
			m->reads[i] = 0;
	}
}

/* Nothing wrote it while the read ran: from now on every read gives this value. */
static void register_pin(struct sim_model *m, uint64_t start, uint32_t reg, uint64_t tag)
{
	for (uint32_t r = m->head[reg]; r != 0; r = m->records[r].next) {
		if (m->records[r].end >= start)
			return;
	}
	for (uint32_t r = m->head[reg]; r != 0; r = m->records[r].next) {
		if (m->records[r].tag != tag && m->records[r].hidden == SIM_NEVER)
			m->records[r].hidden = m->time + 1;
	}
}

bool sim_model_read_check(struct sim_model *m, uint64_t start, uint32_t reg, uint64_t tag)
{
	if (m->fallen && sim_model_may_find(m, reg, tag))
		return true;
	for (uint32_t r = m->head[reg]; r != 0; r = m->records[r].next) {
		if (m->records[r].tag == tag && m->records[r].hidden > start) {
			register_pin(m, start, reg, tag);
			return true;
		}
	}
	return false;
}

bool sim_model_was(const struct sim_model *m, uint64_t start, uint32_t reg, uint64_t tag, uint64_t *from, uint64_t *to)
{
	bool any = false;

	for (uint32_t r = m->head[reg]; r != 0; r = m->records[r].next) {
		const struct sim_record *it = &m->records[r];

		if (it->tag != tag || it->hidden <= start)
			continue;
		*from = any ? (it->start < *from ? it->start : *from) : it->start;
		*to = any ? (it->hidden > *to ? it->hidden : *to) : it->hidden;
		any = true;
	}
	return any;
}

/* ---- after a power cut ---- */

bool sim_model_may_find(const struct sim_model *m, uint32_t reg, uint64_t tag)
{
	for (uint32_t r = m->head[reg]; r != 0; r = m->records[r].next) {
		if (m->records[r].tag == tag && !m->records[r].gone)
			return true;
	}
	return false;
}

void sim_model_tell(const struct sim_model *m, uint32_t reg, char *out, unsigned bytes)
{
	unsigned at = 0;

	out[0] = '\0';
	for (uint32_t r = m->head[reg]; r != 0 && at < bytes; r = m->records[r].next) {
		const struct sim_record *it = &m->records[r];

		at += (unsigned)snprintf(out + at, bytes - at, "%s%#" PRIx64 "%s%s%s", at ? ", " : "", it->tag,
			it->end == SIM_NEVER ? " in flight" : "", it->hidden == SIM_NEVER ? "" : " superseded",
			it->gone ? " gone" : "");
	}
}
