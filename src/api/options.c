/* SPDX-License-Identifier: MIT */
/* Trees of options from command lines and file names: see options.h. */
#include "api/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/driver.h"
#include "base/cleanup.h"

/* ---- sizes ---- */

/* The power of two that a suffix stands for; -1: it is none. */
static int suffix_shift(const char *suffix)
{
	static const char units[] = "kMGTPE";
	const char *unit;

	if (suffix[0] == '\0' || (suffix[1] == '\0' && (suffix[0] == 'b' || suffix[0] == 'B')))
		return 0;
	if (suffix[1] != '\0')
		return -1;
	unit = strchr(units,
		suffix[0] == 'K'                               ? 'k'
			: suffix[0] >= 'a' && suffix[0] != 'k' ? suffix[0] - 'a' + 'A'
							       : suffix[0]);
	return unit ? 10 * (int)(unit - units + 1) : -1;
}

/* Whole numbers are parsed as such: a double has too few bits for the large ones. */
static int whole_parse(const char *text, uint64_t *out)
{
	int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
	unsigned long long number;
	char *end;
	int shift;

	errno = 0;
	number = strtoull(text, &end, base);
	if (errno != 0)
		return -ERANGE;
	shift = base == 16 && *end ? -1 : suffix_shift(end);
	if (end == text || shift < 0)
		return -EINVAL;
	if (number > (unsigned long long)INT64_MAX >> shift)
		return -ERANGE;
	*out = (uint64_t)number << shift;
	return 0;
}

static int fraction_parse(const char *text, uint64_t *out)
{
	char *end;
	double number = strtod(text, &end);
	int shift = suffix_shift(end);

	if (end == text || shift <= 0)
		return -EINVAL;
	number = ldexp(number, shift);
	if (!(number < 0x1p63))
		return -ERANGE;
	*out = (uint64_t)number;
	return 0;
}

int options_size_parse(const char *text, uint64_t *out)
{
	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	return text[strspn(text, "0123456789")] == '.' ? fraction_parse(text, out) : whole_parse(text, out);
}

/* ---- lists ---- */

char *options_cut(char **rest)
{
	char *from = *rest, *to = *rest, *start = *rest;

	for (; *from != '\0'; *to++ = *from++) {
		if (*from != ',')
			continue;
		if (from[1] != ',')
			break;
		from++;
	}
	*rest = *from ? from + 1 : from;
	*to = '\0';
	return start;
}

int options_each(const char *list, options_fn *fn, void *arg)
{
	AUTO_FREE char *copy = strdup(list);

	return copy ? options_each_in_place(copy, fn, arg) : -ENOMEM;
}

int options_each_in_place(char *list, options_fn *fn, void *arg)
{
	char *rest = list;
	int ret = 0;

	while (ret == 0 && *rest != '\0') {
		char *name = options_cut(&rest);
		char *value = strchr(name, '=');

		if (value)
			*value++ = '\0';
		ret = fn(arg, name, value);
	}
	return ret;
}

/* ---- trees ---- */

const json_t *options_get(const json_t *options, const char *key)
{
	const char *dot;

	while (options && (dot = strchr(key, '.'))) {
		options = json_object_getn(options, key, (size_t)(dot - key));
		key = dot + 1;
	}
	return options ? json_object_get(options, key) : NULL;
}

/* The object that the key leads to the member of, made where it is missing; *member is the last part of the key. NULL: what
 * is on the way is a value, or no memory. */
static json_t *owner_reach(json_t *options, const char *key, const char **member)
{
	const char *dot;

	while (options && (dot = strchr(key, '.'))) {
		size_t len = (size_t)(dot - key);
		json_t *next = json_object_getn(options, key, len);

		if (!next && json_object_setn_new(options, key, len, json_object()) == 0)
			next = json_object_getn(options, key, len);
		options = json_is_object(next) ? next : NULL;
		key = dot + 1;
	}
	*member = key;
	return options;
}

int options_set(json_t *options, const char *key, json_t *value)
{
	const char *member;
	json_t *owner = owner_reach(options, key, &member);

	if (owner)
		return json_object_set_new(owner, member, value) == 0 ? 0 : -EINVAL;
	json_decref(value);
	return -EINVAL;
}

const char *options_text(const json_t *options, const char *key)
{
	return json_string_value(options_get(options, key));
}

int options_bool(const json_t *options, const char *key, bool *out, struct err *err)
{
	const json_t *value = options_get(options, key);
	const char *text = json_string_value(value);

	if (!value)
		return 0;
	*out = json_is_true(value) || (text && strcmp(text, "on") == 0);
	if (*out || json_is_false(value) || (text && strcmp(text, "off") == 0))
		return 0;
	return err_set(err, -EINVAL, "Parameter '%s' expects 'on' or 'off'", key);
}

int options_size(const json_t *options, const char *key, uint64_t *out, struct err *err)
{
	const json_t *value = options_get(options, key);
	const char *text = json_string_value(value);

	if (!value)
		return 0;
	if (text && options_size_parse(text, out) == 0)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return err_set(err, -EINVAL,
			"Parameter '%s' expects a non-negative number below 2^64\n"
			"Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
			"and exabytes, respectively.",
			key);
	*out = (uint64_t)json_integer_value(value);
	return 0;
}

/* ---- from a command line ---- */

struct parsing {
	json_t *tree;
	unsigned n;
	struct err *err;
};

static int option_take(void *arg, const char *name, const char *value)
{
	struct parsing *p = arg;
	bool bare = !value && p->n++ == 0; /* the name of a node */
	int ret = options_set(p->tree, bare ? "file" : name, json_string_nocheck(bare ? name : value ? value : "on"));

	p->n++;
	return ret < 0 ? err_set(p->err, ret, "Parameter '%s' is a value and has members", name) : 0;
}

int options_parse(const char *text, json_t **out, struct err *err)
{
	struct parsing p = {.tree = json_object(), .err = err};
	int ret = p.tree ? options_each(text, option_take, &p) : -ENOMEM;

	if (ret == -ENOMEM)
		err_set(err, ret, "no memory");
	if (ret < 0)
		json_decref(p.tree);
	else
		*out = p.tree;
	return ret;
}

/* ---- names ---- */

bool options_are_plain(const json_t *tree)
{
	static const char *const strong[] = {
		"offset", "size", "backing", "data-file", "encrypt", "image", "file.file", "file.image"};
	const char *driver = options_text(tree, "file.driver");

	for (unsigned i = 0; i < ARRAY_ENTRIES(strong); i++) {
		if (options_get(tree, strong[i]))
			return false;
	}
	return !driver || strcmp(driver, "file") == 0;
}
