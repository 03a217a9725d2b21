/* SPDX-License-Identifier: MIT */
/* See model.h. */
#include "model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void model_init(struct model *m, uint64_t bytes, uint64_t unit_bytes)
{
	*m = (struct model){.unit_bytes = unit_bytes, .units = bytes / unit_bytes};
	assert(bytes % unit_bytes == 0 && unit_bytes % 16 == 0);
	m->unit = calloc(m->units, sizeof(*m->unit));
	assert(m->unit != NULL);
	for (uint64_t i = 0; i < m->units; i++)
		model_set(m, i, 0);
}

void model_fini(struct model *m)
{
	for (uint64_t i = 0; i < m->units; i++)
		free(m->unit[i].v);
	free(m->unit);
}

static void add(struct model_unit *u, struct model_change c)
{
	if (u->n == u->room) {
		u->room = u->room != 0 ? u->room * 2 : 4;
		u->v = realloc(u->v, u->room * sizeof(*u->v));
		assert(u->v != NULL);
	}
	u->v[u->n++] = c;
}

void model_set(struct model *m, uint64_t unit, uint64_t value)
{
	m->unit[unit].n = 0;
	add(&m->unit[unit], (struct model_change){.value = value});
}

uint64_t model_value(struct model *m) { return ++m->values; }

uint64_t model_begin(struct model *m, uint64_t off, uint64_t len, uint64_t value)
{
	uint64_t begun = model_now(m);

	assert(off % m->unit_bytes == 0 && len % m->unit_bytes == 0);
	for (uint64_t i = off / m->unit_bytes; i < (off + len) / m->unit_bytes; i++)
		add(&m->unit[i], (struct model_change){.value = value, .begun = begun, .ended = UINT64_MAX});
	return begun;
}

void model_end(struct model *m, uint64_t off, uint64_t len, uint64_t begun, bool failed)
{
	uint64_t ended = model_now(m);

	for (uint64_t i = off / m->unit_bytes; !failed && i < (off + len) / m->unit_bytes; i++)
		for (unsigned k = 0; k < m->unit[i].n; k++)
			if (m->unit[i].v[k].begun == begun)
				m->unit[i].v[k].ended = ended;
}

static void fill_unit(const struct model *m, uint64_t unit, uint64_t value, uint8_t *out)
{
	uint64_t pair[2] = {value, unit};

	if (value == 0 || (value & MODEL_RAW)) {
		memset(out, (int)(value & 0xff), m->unit_bytes);
		return;
	}
	for (uint64_t at = 0; at < m->unit_bytes; at += sizeof(pair))
		memcpy(out + at, pair, sizeof(pair));
}

void model_fill(const struct model *m, uint64_t off, uint64_t len, uint64_t value, uint8_t *out)
{
	for (uint64_t at = 0; at < len; at += m->unit_bytes)
		fill_unit(m, (off + at) / m->unit_bytes, value, out + at);
}

static bool is_overwritten(const struct model_unit *u, const struct model_change *c, uint64_t read_begun)
{
	for (unsigned i = 0; i < u->n; i++)
		if (u->v[i].begun > c->ended && u->v[i].ended < read_begun)
			return true;
	return false;
}

static bool unit_allows(const struct model *m, uint64_t unit, uint64_t read_begun, const uint8_t *data)
{
	const struct model_unit *u = &m->unit[unit];
	uint8_t want[4096];

	assert(m->unit_bytes <= sizeof(want));
	for (unsigned i = u->n; i-- > 0;) {
		fill_unit(m, unit, u->v[i].value, want);
		if (memcmp(want, data, m->unit_bytes) == 0 && !is_overwritten(u, &u->v[i], read_begun))
			return true;
	}
	return false;
}

bool model_allows(const struct model *m, uint64_t off, uint64_t len, uint64_t read_begun, const uint8_t *data)
{
	for (uint64_t at = 0; at < len; at += m->unit_bytes) {
		uint64_t unit = (off + at) / m->unit_bytes, got;

		if (unit_allows(m, unit, read_begun, data + at))
			continue;
		memcpy(&got, data + at, sizeof(got));
		fprintf(stderr, "unit %" PRIu64 ": read %#" PRIx64 ", which it may not be; its changes:\n", unit, got);
		for (unsigned i = 0; i < m->unit[unit].n; i++)
			fprintf(stderr, "  %#" PRIx64 " from %" PRIu64 " to %" PRIu64 "\n", m->unit[unit].v[i].value,
				m->unit[unit].v[i].begun, m->unit[unit].v[i].ended);
		return false;
	}
	return true;
}
