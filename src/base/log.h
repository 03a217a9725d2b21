/* SPDX-License-Identifier: MIT */
/*
 * Messages of a program that runs for long. Who has something to say gets a log and says it in one line, without a
 * newline; where the line goes is the business of whoever made the log. A log may be NULL: then nobody listens.
 */
#ifndef CORRAL_BASE_LOG_H
#define CORRAL_BASE_LOG_H

#include "base/attr.h"

enum log_level {
	LOG_LEVEL_ERROR,   /* something that was asked for can't be had, or data may be lost */
	LOG_LEVEL_WARNING, /* a client broke the rules, or a limit was met: the rest goes on */
	LOG_LEVEL_INFO,    /* what begins and ends */
	LOG_LEVEL_DEBUG,   /* each client, each negotiation */
	LOG_LEVELS,
};

#define LOG_LINE_BYTES 512 /* a longer line is cut */

struct log {
	enum log_level level; /* what is above isn't written; may change at any time */
	void (*write)(struct log *log, enum log_level level, const char *line);
};

void log_line(struct log *log, enum log_level level, const char *format, ...) ATTR_PRINTF(3, 4);

const char *log_level_name(enum log_level level);
int log_level_parse(const char *name, enum log_level *out) ATTR_MUST_USE; /* -EINVAL */

#endif
