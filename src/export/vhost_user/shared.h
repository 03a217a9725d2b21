/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing memory that somebody else changes meanwhile. What is read is read once, into memory of our own, and
 * only that is looked at; the compiler is kept from reading again.
 */
#ifndef CORRAL_EXPORT_VHOST_USER_SHARED_H
#define CORRAL_EXPORT_VHOST_USER_SHARED_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Little-endian numbers, aligned. What was written before a put, whoever sees the put sees; and the other way round. */
static inline uint16_t shared_get16(const void *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static inline void shared_put16(void *p, uint16_t v) { __atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELEASE); }

/* What we wrote before is seen before what we read after is read. */
static inline void shared_fence(void) { __sync_synchronize(); } /* the thread sanitizer takes no other */

/* After a copy: what it copied isn't looked for in its source again. */
static inline void shared_settle(void) { __asm__ volatile("" ::: "memory"); }

static inline void shared_copy(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
	shared_settle();
}

#endif
