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

static void record_push(struct sim_model *m, uint32_t *list, uint32_t r)
{
	m->records[r].next = *list;
	*list = r;
}

static void record_add(struct sim_model *m, uint32_t reg, struct sim_record it)
{
	uint32_t r = record_new(m);

	m->records[r] = it;
	record_push(m, &m->of[reg].live, r);
}

static void record_hide(struct sim_model *m, uint32_t reg, uint32_t *link, uint64_t when)
{
	uint32_t r = *link;

	*link = m->records[r].next;
	m->records[r].hidden = when;
	record_push(m, &m->of[reg].hidden, r);
}

static void list_free(struct sim_model *m, uint32_t *list)
{
	while (*list != 0) {
		uint32_t r = *list;

		*list = m->records[r].next;
		record_push(m, &m->free, r);
	}
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

/* What ended, or was hidden, before so and so is gone for good. Lets go of what neither a read nor a power cut may give. */
static void hidden_gone(struct sim_model *m, uint32_t reg, uint64_t ended_before, uint64_t hidden_before)
{
	uint64_t oldest = oldest_read(m);

	for (uint32_t *link = &m->of[reg].hidden; *link != 0;) {
		uint32_t r = *link;
		struct sim_record *it = &m->records[r];

		it->gone |= it->end < ended_before || it->hidden < hidden_before;
		if (it->gone && it->hidden < oldest) {
			*link = it->next;
			record_push(m, &m->free, r);
		} else {
			link = &it->next;
		}
	}
}

/* All records of a register: the live ones, then the hidden ones. 0: that was all. */
static uint32_t record_first(const struct sim_model *m, uint32_t reg)
{
	return m->of[reg].live ? m->of[reg].live : m->of[reg].hidden;
}

static uint32_t record_next(const struct sim_model *m, uint32_t reg, uint32_t r)
{
	const struct sim_record *it = &m->records[r];

	return it->next == 0 && it->hidden == SIM_NEVER ? m->of[reg].hidden : it->next;
}

static void register_sum(struct sim_model *m, uint32_t reg)
{
	uint64_t only = SIM_TAG_OTHER;
	bool any = false;

	for (uint32_t r = record_first(m, reg); r != 0; r = record_next(m, reg, r)) {
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

/* ---- life ---- */

void sim_model_init(struct sim_model *m, uint32_t sectors)
{
	*m = (struct sim_model){.registers = sectors + 1, .used = 1, .time = 1, .room = 1024};
	m->of = sim_alloc(m->registers * sizeof(*m->of));
	m->only = sim_alloc(m->registers * sizeof(*m->only));
	m->records = sim_alloc(m->room * sizeof(*m->records));
	for (uint32_t i = 0; i < m->registers; i++)
		sim_model_set(m, i, SIM_TAG_ZERO);
}

void sim_model_fini(struct sim_model *m)
{
	sim_free(m->of);
	sim_free(m->only);
	sim_free(m->records);
}

void sim_model_set(struct sim_model *m, uint32_t reg, uint64_t tag)
{
	list_free(m, &m->of[reg].live);
	list_free(m, &m->of[reg].hidden);
	m->of[reg].ended = 0;
	record_add(m, reg, (struct sim_record){.tag = tag, .hidden = SIM_NEVER});
	m->only[reg] = tag;
}

void sim_model_restart(struct sim_model *m)
{
	for (unsigned i = 0; i < SIM_READS; i++)
		m->reads[i] = 0;
	m->fallen = false;
}

/* A hidden one that isn't gone is live again. */
static bool record_revive(struct sim_model *m, uint32_t reg, uint64_t tag)
{
	for (uint32_t *link = &m->of[reg].hidden; *link != 0; link = &m->records[*link].next) {
		uint32_t r = *link;

		if (m->records[r].tag != tag || m->records[r].gone)
			continue;
		*link = m->records[r].next;
		m->records[r].hidden = SIM_NEVER;
		m->records[r].behind = false;
		record_push(m, &m->of[reg].live, r);
		return true;
	}
	return false;
}

bool sim_model_may_see(const struct sim_model *m, uint32_t reg, uint64_t tag)
{
	for (uint32_t r = record_first(m, reg); r != 0; r = record_next(m, reg, r)) {
		if (m->records[r].tag == tag && !m->records[r].gone && !m->records[r].behind)
			return true;
	}
	return false;
}

void sim_model_seen(struct sim_model *m, uint32_t reg, uint64_t tag)
{
	bool found = false;

	m->of[reg].ended = ++m->time;
	for (uint32_t *link = &m->of[reg].live; *link != 0;) {
		struct sim_record *it = &m->records[*link];

		it->end = it->end == SIM_NEVER ? m->time : it->end;
		found |= it->tag == tag;
		if (it->tag != tag)
			record_hide(m, reg, link, m->time);
		else
			link = &it->next;
	}
	if (!found && !record_revive(m, reg, tag))
		record_add(
			m, reg, (struct sim_record){.tag = tag, .start = m->time, .end = m->time, .hidden = SIM_NEVER});
	register_sum(m, reg);
}

/* ---- writes ---- */

static void register_begin(struct sim_model *m, uint32_t reg, uint64_t tag)
{
	record_add(m, reg, (struct sim_record){.tag = tag, .start = m->time, .end = SIM_NEVER, .hidden = SIM_NEVER});
	register_sum(m, reg);
}

/* What had returned before this one was called is superseded. */
static void register_supersede(struct sim_model *m, uint32_t reg, uint64_t start)
{
	for (uint32_t *link = &m->of[reg].live; *link != 0;) {
		if (m->records[*link].end < start)
			record_hide(m, reg, link, m->time);
		else
			link = &m->records[*link].next;
	}
}

static void hidden_behind(struct sim_model *m, uint32_t reg, uint64_t start)
{
	for (uint32_t r = m->of[reg].hidden; r != 0; r = m->records[r].next)
		m->records[r].behind |= m->records[r].end < start;
}

static void register_end(struct sim_model *m, uint32_t reg, uint64_t start, enum sim_outcome outcome)
{
	uint32_t r = m->of[reg].live;

	while (r != 0 && m->records[r].start != start)
		r = m->records[r].next;
	assert(r != 0);
	m->records[r].end = m->of[reg].ended = m->time;
	if (outcome == SIM_UNCERTAIN)
		return;
	register_supersede(m, reg, start);
	if (outcome == SIM_DURABLE)
		hidden_gone(m, reg, start, 0);
	if (outcome == SIM_LASTING)
		hidden_behind(m, reg, start);
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
		if (m->of[reg].hidden == 0)
			continue;
		hidden_gone(m, reg, 0, start);
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
	if (m->of[reg].ended >= start)
		return;
	for (uint32_t r = m->of[reg].live; r != 0; r = m->records[r].next) {
		if (m->records[r].end == SIM_NEVER)
			return;
	}
	for (uint32_t *link = &m->of[reg].live; *link != 0;) {
		if (m->records[*link].tag != tag)
			record_hide(m, reg, link, m->time + 1);
		else
			link = &m->records[*link].next;
	}
}

static bool may_read(const struct sim_model *m, uint64_t start, uint32_t reg, uint64_t tag)
{
	uint32_t r = m->of[reg].live;

	while (r != 0 && m->records[r].tag != tag)
		r = m->records[r].next;
	if (r != 0)
		return true;
	for (r = m->of[reg].hidden; r != 0 && m->records[r].hidden > start; r = m->records[r].next) {
		if (m->records[r].tag == tag)
			return true;
	}
	return false;
}

bool sim_model_read_check(struct sim_model *m, uint64_t start, uint32_t reg, uint64_t tag)
{
	if (m->fallen && sim_model_may_find(m, reg, tag))
		return true;
	if (!may_read(m, start, reg, tag))
		return false;
	register_pin(m, start, reg, tag);
	return true;
}

bool sim_model_was(const struct sim_model *m, uint64_t start, uint32_t reg, uint64_t tag, uint64_t *from, uint64_t *to)
{
	bool any = false;

	for (uint32_t r = record_first(m, reg); r != 0; r = record_next(m, reg, r)) {
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
	for (uint32_t r = record_first(m, reg); r != 0; r = record_next(m, reg, r)) {
		if (m->records[r].tag == tag && !m->records[r].gone)
			return true;
	}
	return false;
}

void sim_model_tell(const struct sim_model *m, uint32_t reg, char *out, unsigned bytes)
{
	unsigned at = 0;

	out[0] = '\0';
	for (uint32_t r = record_first(m, reg); r != 0 && at < bytes; r = record_next(m, reg, r)) {
		const struct sim_record *it = &m->records[r];

		at += (unsigned)snprintf(out + at, bytes - at, "%s%#" PRIx64 "%s%s%s", at ? ", " : "", it->tag,
			it->end == SIM_NEVER ? " in flight" : "", it->hidden == SIM_NEVER ? "" : " superseded",
			it->gone ? " gone" : "");
	}
}
