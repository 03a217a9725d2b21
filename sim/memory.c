/* SPDX-License-Identifier: MIT */
/*
 * The simulator is linked with --wrap for the allocation functions: what the rooms allocate comes here as __wrap_*, what
 * the simulator allocates goes to __real_* directly.
 */
#include "memory.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__real_aligned_alloc(size_t, size_t);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);
void *__wrap_aligned_alloc(size_t, size_t);

static uint64_t allocations, failing;

static void *enough(void *p)
{
	if (p == NULL) {
		fputs("corral-sim: out of memory\n", stderr);
		exit(2);
	}
	return p;
}

void *sim_alloc(size_t bytes) { return enough(__real_calloc(1, MAX(bytes, (size_t)1))); }
void sim_free(void *p) { free(p); }

void *sim_grow(void *array, uint32_t *room, size_t element)
{
	uint32_t old = *room;

	*room = MAX(old * 2, 16u);
	array = enough(__real_realloc(array, *room * element));
	memset((char *)array + old * element, 0, (*room - old) * element);
	return array;
}

void sim_alloc_fail_nth(uint64_t n)
{
	allocations = 0;
	failing = n;
}

uint64_t sim_alloc_count(void) { return allocations; }

static bool fails(void)
{
	if (++allocations != failing)
		return false;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t bytes) { return fails() ? NULL : __real_malloc(bytes); }
void *__wrap_calloc(size_t n, size_t bytes) { return fails() ? NULL : __real_calloc(n, bytes); }
void *__wrap_realloc(void *p, size_t bytes) { return fails() ? NULL : __real_realloc(p, bytes); }
void *__wrap_aligned_alloc(size_t align, size_t bytes) { return fails() ? NULL : __real_aligned_alloc(align, bytes); }
