/* SPDX-License-Identifier: MIT */
/* What json_line.h says. */
#include "cli/json_line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define DEPTH 16 /* the parser calls itself for each level, on a small stack */

/* Brackets in strings count too: then it is refused too early, which hurts nobody. */
static bool is_deep(const char *text, size_t len)
{
	unsigned depth = 0;

	for (size_t i = 0; i < len; i++) {
		depth += text[i] == '{' || text[i] == '[';
		if (depth > DEPTH)
			return true;
		depth -= (text[i] == '}' || text[i] == ']') && depth > 0;
	}
	return false;
}

static int parse(const char *text, size_t len, json_t **out, struct err *err)
{
	json_error_t why;

	if (is_deep(text, len))
		return err_set(err, -EPROTO, "JSON of more than %d levels", DEPTH);
	*out = json_loadb(text, len, 0, &why);
	return *out ? 0 : err_set(err, -EPROTO, "not JSON: %s", why.text);
}

static int fill(struct co *co, struct json_line *l, struct err *err)
{
	ssize_t n;

	if (l->len == sizeof(l->buf))
		return err_set(err, -EPROTO, "a line of more than %u bytes", JSON_LINE_BYTES);
	n = io_recv(co, l->sock, l->buf + l->len, sizeof(l->buf) - l->len);
	if (n == 0)
		return err_set(err, -ENODATA, "the other end is gone");
	if (n < 0)
		return err_set(err, (int)n, "%s", strerror((int)-n));
	l->len += (size_t)n;
	return 0;
}

int json_line_read(struct co *co, struct json_line *l, json_t **out, struct err *err)
{
	char *end;
	int r;

	while (!(end = memchr(l->buf, '\n', l->len))) {
		r = fill(co, l, err);
		if (r < 0)
			return r;
	}
	r = parse(l->buf, (size_t)(end - l->buf), out, err);
	l->len -= (size_t)(end + 1 - l->buf);
	memmove(l->buf, end + 1, l->len);
	return r;
}

int json_line_write(struct co *co, struct json_line *l, json_t *value)
{
	AUTO_FREE char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
	struct iovec v[] = {{text, text ? strlen(text) : 0}, {(void *)"\n", 1}};

	json_decref(value);
	return text ? io_send(co, l->sock, iov_of(v, 2)) : -ENOMEM;
}
