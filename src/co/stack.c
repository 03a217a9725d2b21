/* SPDX-License-Identifier: MIT */
/* The pool of stacks: see stack.h for its layout. */
#include "co/stack.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/math.h"
#include "co/fiber.h"

#ifdef HAVE_VALGRIND_H
#include <valgrind/memcheck.h>
#endif

/* The largest step that compilers take between two probes of a growing stack (64 KiB on 64-bit ARM): it can't be jumped
 * over. It costs addresses, no memory. */
#define GUARD_BYTES (64 << 10)

/* Kernel structures are two mappings for each accessible stack: a batch keeps them near what is used. */
#define BATCH 16

/* Tops of stacks lie a multiple of the page size apart, all in the same few sets of the first-level cache. Moving them
 * by a colour spreads them. */
#define COLOURS 8
#define COLOUR_BYTES 512

/* Instrumented frames are a few times as big. */
#define SANITIZED_SCALE 4
#define SANITIZED_BYTES (256 << 10)

static size_t stack_bytes_wanted(size_t bytes)
{
	return CO_ASAN || CO_TSAN ? MAX(bytes * SANITIZED_SCALE, (size_t)SANITIZED_BYTES) : bytes;
}

static char *slot_low(const struct co_stack_pool *p, unsigned i)
{
	return p->base + i * p->slot_bytes + p->guard_bytes;
}

static struct co_stack *slot_head(const struct co_stack_pool *p, unsigned i)
{
	char *high = p->base + (i + 1) * p->slot_bytes - i % COLOURS * COLOUR_BYTES;

	return (struct co_stack *)align_down((uintptr_t)high - p->head_bytes, 64);
}

static int slot_open(struct co_stack_pool *p, unsigned i)
{
	size_t bytes = p->slot_bytes - p->guard_bytes;

	return mprotect(slot_low(p, i), bytes, PROT_READ | PROT_WRITE) ? -ENOMEM : 0;
}

int co_stack_pool_init(struct co_stack_pool *p, size_t stack_bytes, unsigned limit, size_t head_bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t top_bytes = head_bytes + 64 + COLOURS * COLOUR_BYTES;
	void *base;

	*p = (struct co_stack_pool){
		.guard_bytes = align_up(GUARD_BYTES, page), .head_bytes = head_bytes, .limit = limit};
	p->slot_bytes = p->guard_bytes + align_up(stack_bytes_wanted(stack_bytes) + top_bytes, page);
	/* An odd number of pages, so that the tops are spread over the sets of the translation caches, too. */
	if (p->slot_bytes / page % 2 == 0)
		p->slot_bytes += page;
	base = mmap(NULL, (limit + (size_t)1) * p->slot_bytes, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (base == MAP_FAILED)
		return -ENOMEM;
	p->base = base;
	if (slot_open(p, limit) != 0) {
		munmap(base, (limit + (size_t)1) * p->slot_bytes);
		return -ENOMEM;
	}
#if CO_ASAN
	__lsan_register_root_region(base, limit * p->slot_bytes);
#endif
	return 0;
}

void co_stack_pool_fini(struct co_stack_pool *p)
{
#ifdef HAVE_VALGRIND_H
	for (unsigned i = 0; i < p->ready; i++)
		VALGRIND_STACK_DEREGISTER(slot_head(p, i)->valgrind_id);
#endif
#if CO_ASAN
	__lsan_unregister_root_region(p->base, p->limit * p->slot_bytes);
	/* Other mappings will come to lie here. */
	for (unsigned i = 0; i < p->ready; i++)
		ASAN_UNPOISON_MEMORY_REGION(slot_low(p, i), p->slot_bytes - p->guard_bytes);
#endif
	munmap(p->base, (p->limit + (size_t)1) * p->slot_bytes);
}

int co_stack_pool_grow(struct co_stack_pool *p)
{
	unsigned first = p->ready;

	if (first == p->limit)
		return -EAGAIN;
	while (p->ready < p->limit && p->ready < first + BATCH && slot_open(p, p->ready) == 0)
		p->ready++;
	for (unsigned i = p->ready; i-- > first;) {
		struct co_stack *s = slot_head(p, i);

		s->low = slot_low(p, i);
#ifdef HAVE_VALGRIND_H
		s->valgrind_id = VALGRIND_STACK_REGISTER(s->low, s);
#endif
		co_stack_give(p, s);
	}
	return p->free ? 0 : -ENOMEM;
}

/* Reads what the sanitizers and Valgrind know to be nobody's memory. Both ends are aligned to words. */
__attribute__((no_sanitize("address", "thread"))) static size_t touched_bytes(const char *low, const char *high)
{
	size_t bytes;

#ifdef HAVE_VALGRIND_H
	VALGRIND_DISABLE_ERROR_REPORTING;
#endif
	while (low < high && *(const volatile uint64_t *)low == 0)
		low += sizeof(uint64_t);
	bytes = (size_t)(high - low);
#ifdef HAVE_VALGRIND_H
	VALGRIND_ENABLE_ERROR_REPORTING;
	VALGRIND_MAKE_MEM_DEFINED(&bytes, sizeof(bytes));
#endif
	return bytes;
}

/* Pages come from the kernel as zeros: what isn't zero was written. Reading the others allocates nothing. */
size_t co_stack_pool_peak(const struct co_stack_pool *p)
{
	size_t peak = 0;

	for (unsigned i = 0; i < p->ready; i++) {
		const struct co_stack *s = slot_head(p, i);

		peak = MAX(peak, touched_bytes(s->low, (const char *)s));
	}
	return peak;
}

const struct co_stack *co_stack_of_guard(const struct co_stack_pool *p, const void *address)
{
	size_t offset = (uintptr_t)address - (uintptr_t)p->base;
	size_t i = offset / p->slot_bytes;

	if (i >= p->ready || offset % p->slot_bytes >= p->guard_bytes)
		return NULL;
	return slot_head(p, (unsigned)i);
}

void *co_stack_for_signals(const struct co_stack_pool *p, size_t *bytes)
{
	*bytes = p->slot_bytes - p->guard_bytes;
	return slot_low(p, p->limit);
}
