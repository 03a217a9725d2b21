/* SPDX-License-Identifier: MIT */
/*
 * Memory of the simulator itself: it can't be exhausted by a simulated failure, and running out of it for good ends the
 * program.
 */
#ifndef CORRAL_SIM_MEMORY_H
#define CORRAL_SIM_MEMORY_H

#include <stddef.h>
#include <stdint.h>

void *sim_alloc(size_t bytes); /* zeroed */
void sim_free(void *p);
/* An array with twice the room, at least 16 elements; what is new is zeroed. */
void *sim_grow(void *array, uint32_t *room, size_t element);

/* Allocations of the engine from now on: the n-th fails, 1 being the next; 0: none does. */
void sim_alloc_fail_nth(uint64_t n);
/* How many the engine has made. */
uint64_t sim_alloc_count(void);

#endif
