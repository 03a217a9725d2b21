/* SPDX-License-Identifier: MIT */
/* Explained failures. Text is composed aside and copied, so that an argument may be the text that is being replaced. */
#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *format, ...)
{
	char text[ERR_TEXT_BYTES];
	va_list args;

	assert(code < 0);
	if (!err)
		return code;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	err->code = code;
	memcpy(err->text, text, strlen(text) + 1);
	return code;
}

/* What doesn't fit is left out. */
static void text_append(char text[ERR_TEXT_BYTES], const char *more)
{
	size_t used = strlen(text);
	size_t bytes = strnlen(more, ERR_TEXT_BYTES - 1 - used);

	memcpy(text + used, more, bytes);
	text[used + bytes] = '\0';
}

int err_prefix(struct err *err, const char *format, ...)
{
	char text[ERR_TEXT_BYTES];
	va_list args;

	if (!err)
		return -EIO;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	text_append(text, ": ");
	text_append(text, err->text);
	memcpy(err->text, text, strlen(text) + 1);
	return err->code;
}

#define HINT "\n\t"

void err_hint(struct err *err, const char *format, ...)
{
	char text[ERR_TEXT_BYTES];
	va_list args;

	if (!err || strstr(err->text, HINT))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	text_append(err->text, HINT);
	text_append(err->text, text);
}

void err_hint_cut(struct err *err)
{
	char *hint = err ? strstr(err->text, HINT) : NULL;

	if (hint)
		*hint = '\0';
}
