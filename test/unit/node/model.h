/* SPDX-License-Identifier: MIT */
/*
 * What a disk may read as while requests overlap. The disk is cut into units; of each unit the model keeps every change
 * there ever was, with the time it began and ended. A read may return a change unless it was over, and something that
 * began after it was over too, before the read began.
 *
 * A unit is filled with the number of its change, mixed with its place; number 0 is all zeros.
 */
#ifndef CORRAL_TEST_NODE_MODEL_H
#define CORRAL_TEST_NODE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define MODEL_RAW (UINT64_C(1) << 32) /* a unit full of one byte: MODEL_RAW + byte */

struct model_change {
	uint64_t value, begun, ended;
};

struct model_unit {
	struct model_change *v;
	unsigned n, room;
};

struct model {
	uint64_t unit_bytes, units;
	uint64_t time, values;
	struct model_unit *unit;
};

void model_init(struct model *m, uint64_t bytes, uint64_t unit_bytes);
void model_fini(struct model *m);
void model_set(struct model *m, uint64_t unit, uint64_t value); /* before anything runs */

/* A change of whole units. Returns when it began, to be given to model_end. failed: it may come into effect at any time. */
uint64_t model_begin(struct model *m, uint64_t off, uint64_t len, uint64_t value);
void model_end(struct model *m, uint64_t off, uint64_t len, uint64_t begun, bool failed);
uint64_t model_value(struct model *m); /* one that was never used */
void model_fill(const struct model *m, uint64_t off, uint64_t len, uint64_t value, uint8_t *out);

static inline uint64_t model_now(struct model *m) { return ++m->time; }
/* Whether a read of [off, off + len) that began then may have returned this; says what is wrong, if not. */
bool model_allows(const struct model *m, uint64_t off, uint64_t len, uint64_t read_begun, const uint8_t *data);

#endif
