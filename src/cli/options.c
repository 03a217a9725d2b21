/* SPDX-License-Identifier: MIT */
/* Sizes, lists of options, and complaints: the same for every command. */
#include "cli/options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/options.h"
#include "cli/tool.h"

int cli_complain(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", cli_tool_name());
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return 1;
}

int cli_usage(const char *command, const char *format, ...)
{
	va_list args;

	if (cli_is_qemu())
		fprintf(stderr, "%s: ", cli_tool_name());
	else
		fprintf(stderr, "corral: %s: ", command);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	if (cli_is_qemu())
		fprintf(stderr, "\nTry '%s --help' for more information\n", cli_tool_name());
	else
		fprintf(stderr, "\nTry 'corral %s --help'.\n", command);
	return -EINVAL;
}

static void log_write(struct log *log, enum log_level level, const char *line)
{
	(void)log, (void)level;
	cli_complain("%s", line);
}

void cli_log_init(struct log *log) { *log = (struct log){.level = LOG_LEVEL_WARNING, .write = log_write}; }

/* ---- sizes ---- */

int cli_size_parse(const char *text, uint64_t *out) { return options_size_parse(text, out); }

int cli_number_within(const char *what, const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
	int ret = cli_size_parse(text, out);

	if (ret == 0 && *out >= least && *out <= most)
		return 0;
	if (ret == -EINVAL) {
		cli_complain("Invalid %s specified. You may use k, M, G, T, P or E suffixes for", what);
		cli_complain("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
	} else {
		cli_complain("Invalid %s specified. Must be between %" PRIu64 " and %" PRIu64 ".", what, least, most);
	}
	return -EINVAL;
}

int cli_number_parse(const char *what, const char *text, uint64_t *out)
{
	return cli_number_within(what, text, 0, INT64_MAX, out);
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

struct list_reader {
	cli_option_fn *fn;
	void *arg;
};

static int list_option(void *arg, const char *name, const char *value)
{
	const struct list_reader *reader = arg;

	return reader->fn(reader->arg, name, value ? value : "on");
}

int cli_options_parse(const char *list, cli_option_fn *fn, void *arg)
{
	return options_each(list, list_option, &(struct list_reader){fn, arg});
}

int cli_options_parse_in_place(char *list, cli_option_fn *fn, void *arg)
{
	return options_each_in_place(list, list_option, &(struct list_reader){fn, arg});
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
	how->qemu = cli_is_qemu();
}

int cli_output_parse(const char *command, const char *text, bool *json)
{
	*json = strcmp(text, "json") == 0;
	if (*json || strcmp(text, "human") == 0)
		return 0;
	if (!cli_is_qemu())
		return cli_usage(command, "--output must be used with human or json as argument.");
	cli_complain("--output must be used with human or json as argument.");
	return -EINVAL;
}
