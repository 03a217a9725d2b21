/* SPDX-License-Identifier: MIT */
/* File names that say more than a path: json: descriptions, and names with a protocol. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/driver.h"
#include "base/cleanup.h"

/* ---- json: ---- */

/* Copies one character of a string that is in `quote`s, or an escape, as it is between double ones. */
static void quoted_copy(const char **from, char **to, char quote)
{
	const char *at = *from;

	if (at[0] == '\\' && at[1] == '\'')
		*(*to)++ = *++at;
	else if (at[0] == '\\' && at[1]) {
		*(*to)++ = *at++;
		*(*to)++ = *at;
	} else {
		if (at[0] == '"' && quote == '\'')
			*(*to)++ = '\\';
		*(*to)++ = *at;
	}
	*from = at + 1;
}

/* QEMU takes strings in single quotes as well: a copy of the text with double ones. NULL: no memory. */
static char *quotes_double(const char *text)
{
	char *copy = malloc(2 * strlen(text) + 1), *to = copy;
	char quote = '\0';

	while (copy && *text) {
		if (quote && *text != quote) {
			quoted_copy(&text, &to, quote);
		} else if (quote || *text == '"' || *text == '\'') {
			quote = quote ? '\0' : *text;
			*to++ = '"';
			text++;
		} else {
			*to++ = *text++;
		}
	}
	if (copy)
		*to = '\0';
	return copy;
}

static int json_explain(const json_error_t *error, const char *text, struct err *err)
{
	enum json_error_code code = json_error_code(error);
	static const char could_not[] = "Could not parse the JSON options";

	if (text[strspn(text, " \t\r\n")] == '\0')
		return err_set(err, -EINVAL, "%s: Expecting a JSON value", could_not);
	if (code == json_error_premature_end_of_input)
		return err_set(err, -EINVAL, "%s: JSON parse error, premature EOI", could_not);
	return err_set(err, -EINVAL, "%s: JSON parse error, %s", could_not, error->text);
}

/* One level of what was parsed, and the tree that it becomes. */
struct pending {
	const json_t *from; /* an object or an array */
	json_t *to;
};

struct worklist {
	struct pending *v;
	size_t n;
};

static int pending_push(struct worklist *w, const json_t *from, json_t *to)
{
	struct pending *more = reallocarray(w->v, w->n + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	w->v = more;
	w->v[w->n++] = (struct pending){from, to};
	return 0;
}

/* A value of any kind, at the dotted key of the tree. What has members is an empty object at first. */
static int value_take(struct worklist *w, json_t *to, const char *key, json_t *value)
{
	bool has_members = json_is_object(value) || json_is_array(value);
	const json_t *there = options_get(to, key);
	int ret = has_members && json_is_object(there)
		? 0
		: options_set(to, key, has_members ? json_object() : json_incref(value));

	return ret == 0 && has_members ? pending_push(w, value, (json_t *)options_get(to, key)) : ret;
}

static int members_take(struct worklist *w, struct pending p)
{
	json_t *value;
	const char *key;
	size_t i;
	int ret = 0;

	json_object_foreach((json_t *)p.from, key, value) { ret = ret < 0 ? ret : value_take(w, p.to, key, value); }
	json_array_foreach(p.from, i, value)
	{
		char index[24];

		snprintf(index, sizeof(index), "%zu", i);
		ret = ret < 0 ? ret : value_take(w, p.to, index, value);
	}
	return ret;
}

/* Dotted keys become members of members, and lists objects. */
static int normalize(const json_t *parsed, json_t **out)
{
	struct worklist w = {0};
	json_t *tree = json_object();
	int ret = tree ? pending_push(&w, parsed, tree) : -ENOMEM;

	while (ret == 0 && w.n > 0)
		ret = members_take(&w, w.v[--w.n]);
	free(w.v);
	if (ret < 0)
		json_decref(tree);
	else
		*out = tree;
	return ret;
}

static int json_parse(const char *text, json_t **out, struct err *err)
{
	AUTO_FREE char *quoted = quotes_double(text);
	json_error_t error;
	json_t *parsed = quoted ? json_loads(quoted, JSON_DECODE_ANY, &error) : NULL;
	int ret;

	if (!quoted)
		return err_set(err, -ENOMEM, "no memory");
	if (!parsed)
		return json_explain(&error, text, err);
	if (json_is_object(parsed))
		ret = normalize(parsed, out);
	else
		ret = err_set(err, -EINVAL, "Invalid JSON object given");
	if (json_is_object(parsed) && ret < 0)
		err_set(err, ret, "an option of the JSON object is a value and has members");
	json_decref(parsed);
	return ret;
}

/* ---- protocols ---- */

static int protocol_parse(const char *name, size_t len, json_t *tree, struct err *err)
{
	const struct driver *driver = driver_of_protocol(name, len);

	if (!driver)
		return err_set(err, -EINVAL, "Unknown protocol '%.*s'", (int)len, name);
	if (options_set(tree, "driver", json_string_nocheck(driver->name)) < 0)
		return err_set(err, -ENOMEM, "no memory");
	if (driver->parse)
		return driver->parse(name, tree, err);
	return options_set(tree, "filename", json_string_nocheck(name));
}

/* A colon before the first slash. */
static int storage_parse(const char *name, json_t *tree, struct err *err)
{
	size_t len = strcspn(name, ":/");

	if (name[len] == ':')
		return protocol_parse(name, len, tree, err);
	if (options_set(tree, "driver", json_string_nocheck("file")) < 0 ||
		options_set(tree, "filename", json_string_nocheck(name)) < 0)
		return err_set(err, -ENOMEM, "no memory");
	return 0;
}

int options_of_name(const char *name, json_t **out, struct err *err)
{
	json_t *tree;
	int ret;

	if (strncmp(name, "json:", 5) == 0)
		return json_parse(name + 5, out, err);
	tree = json_object();
	ret = tree ? storage_parse(name, tree, err) : err_set(err, -ENOMEM, "no memory");
	if (ret < 0)
		json_decref(tree);
	else
		*out = tree;
	return ret;
}
