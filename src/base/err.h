/* SPDX-License-Identifier: MIT */
/*
 * An explained failure: a negative errno and the sentence that goes with it.
 *
 * The caller owns the struct, nothing in it is on the heap. It is set only by
 *
 *     return err_set(err, -EINVAL, "L2 table %u at %#" PRIx64 " overlaps the header", i, off);
 *
 * so that code and text can't disagree. err may be NULL: then only the code is returned.
 */
#ifndef CORRAL_BASE_ERR_H
#define CORRAL_BASE_ERR_H

#include "base/attr.h"

#define ERR_TEXT_BYTES 1024

struct err {
	int code; /* 0 or a negative errno */
	char text[ERR_TEXT_BYTES];
};

/* Stores code and text, cutting a text that is too long; returns code. */
int err_set(struct err *err, int code, const char *format, ...) ATTR_PRINTF(3, 4);

/* Puts "prefix: " before the text that is there; returns the code that is there. Without an err there is no code to be
 * had, and -EIO is returned: where the code matters, return the one that the failed call gave. */
int err_prefix(struct err *err, const char *format, ...) ATTR_PRINTF(2, 3);

/*
 * A hint, what to do about it, is a last line of its own, which begins with a tab. A text without one gets it; then it may be
 * printed with the rest, or cut off for those who expect the words of another program alone.
 */
void err_hint(struct err *err, const char *format, ...) ATTR_PRINTF(2, 3);
void err_hint_cut(struct err *err);

#endif
