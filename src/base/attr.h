/* SPDX-License-Identifier: MIT */
/* Compiler attributes and the few macros that every room uses. */
#ifndef CORRAL_BASE_ATTR_H
#define CORRAL_BASE_ATTR_H

#include <stddef.h>

#define ATTR_PRINTF(at, first) __attribute__((format(printf, at, first)))
#define ATTR_MUST_USE __attribute__((warn_unused_result))
#define ATTR_CLEANUP(fn) __attribute__((cleanup(fn)))
#define ATTR_NORETURN __attribute__((noreturn))
#define ATTR_UNUSED __attribute__((unused))

#define ARRAY_ENTRIES(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Hands a pointer over: yields its value and leaves NULL behind, so that its cleanup does nothing. */
#define take(ptr)                                                                                                      \
	({                                                                                                             \
		__typeof__(ptr) take_value_ = (ptr);                                                                   \
		(ptr) = NULL;                                                                                          \
		take_value_;                                                                                           \
	})

#endif
