/* SPDX-License-Identifier: MIT */
/* Sizes, lists of options, and complaints: the same for every command. */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int cli_complain(const char *format, ...)
{
	va_list args;

	fputs("corral: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return 1;
}

int cli_usage(const char *command, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "corral: %s: ", command);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nTry 'corral %s --help'.\n", command);
	return -EINVAL;
}

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

int cli_size_parse(const char *text, uint64_t *out)
{
	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	return text[strspn(text, "0123456789")] == '.' ? fraction_parse(text, out) : whole_parse(text, out);
}

const char *cli_size_text(uint64_t bytes, char text[CLI_SIZE_TEXT])
{
	static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
	int exponent;

	/* The unit changes at 1000 of the smaller one, so that no number has four digits before its point. */
	frexp((double)bytes / (1000.0 / 1024.0), &exponent);
	exponent = bytes == 0 ? 0 : (exponent - 1) / 10;
	snprintf(text, CLI_SIZE_TEXT, "%0.3g %sB", ldexp((double)bytes, -10 * exponent), units[exponent]);
	return text;
}

/* ---- lists ---- */

/* Cuts the first option off *rest, in place; ",," becomes ",". */
static char *option_cut(char **rest)
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

int cli_options_parse(const char *list, cli_option_fn *fn, void *arg)
{
	AUTO_FREE char *copy = strdup(list);
	char *rest = copy;
	int ret = copy ? 0 : -ENOMEM;

	while (ret == 0 && *rest != '\0') {
		char *name = option_cut(&rest);
		char *value = strchr(name, '=');

		if (value)
			*value++ = '\0';
		ret = fn(arg, name, value ? value : "on");
	}
	return ret;
}

/* ---- options of several commands ---- */

int cli_allow_add(struct cli_allow *allow, const char *command, const char *dir)
{
	if (strcmp(dir, "none") == 0)
		allow->none = true;
	else if (strcmp(dir, "all") == 0)
		allow->all = true;
	else if (allow->n == CLI_ALLOWS)
		return cli_usage(command, "more than %d times --allow", CLI_ALLOWS);
	else
		allow->dirs[allow->n++] = dir;
	if (allow->none && (allow->all || allow->n > 0))
		return cli_usage(command, "--allow none and another --allow contradict each other");
	return 0;
}

void cli_allow_use(const struct cli_allow *allow, struct image_open *how)
{
	how->allow = allow->dirs;
	how->allow_none = allow->none;
	how->allow_all = allow->all;
}

int cli_output_parse(const char *command, const char *text, bool *json)
{
	*json = strcmp(text, "json") == 0;
	if (!*json && strcmp(text, "human") != 0)
		return cli_usage(command, "--output is human or json, not '%s'", text);
	return 0;
}
