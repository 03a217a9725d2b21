/* SPDX-License-Identifier: MIT */
/* What several commands parse and print alike. */
#ifndef CORRAL_CLI_OPTIONS_H
#define CORRAL_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "api/image.h"
#include "base/attr.h"
#include "base/err.h"
#include "base/log.h"

/* "corral: ..." on stderr; returns 1, the exit status that goes with it. */
int cli_complain(const char *format, ...) ATTR_PRINTF(1, 2);
/* The same, and which help to ask for; -EINVAL. */
int cli_usage(const char *command, const char *format, ...) ATTR_PRINTF(2, 3);

/* A log whose lines are told like complaints. */
void cli_log_init(struct log *log);

/* A number of bytes, with a suffix k, M, G, T, P or E (powers of 1024), a fraction allowed before one. -EINVAL, or -ERANGE
 * above the largest signed 64-bit number. */
int cli_size_parse(const char *text, uint64_t *out) ATTR_MUST_USE;

/* The same for an argument that is called `what`, and must lie between least and most; -EINVAL, told. */
int cli_number_within(const char *what, const char *text, uint64_t least, uint64_t most, uint64_t *out) ATTR_MUST_USE;
/* Whatever it is. */
int cli_number_parse(const char *what, const char *text, uint64_t *out) ATTR_MUST_USE;

/*
 * Options of -o: "name=value,name=value"; ",," is a comma in a value; a name alone means name=on. fn is told each; its
 * first negative result ends it. -EINVAL is told by fn itself.
 */
typedef int cli_option_fn(void *arg, const char *name, const char *value);
int cli_options_parse(const char *list, cli_option_fn *fn, void *arg) ATTR_MUST_USE;
int cli_options_parse_in_place(char *list, cli_option_fn *fn, void *arg) ATTR_MUST_USE; /* what fn is told stays */

/* What --allow and --output say. */
#define CLI_ALLOWS 64
struct cli_allow {
	const char *dirs[CLI_ALLOWS + 1];
	unsigned n;
	bool none, all;
};
int cli_allow_add(struct cli_allow *allow, const char *command, const char *dir) ATTR_MUST_USE;
/* Called as one of QEMU's tools, names from headers are followed as it does. */
void cli_allow_use(const struct cli_allow *allow, struct image_open *how);
int cli_output_parse(const char *command, const char *text, bool *json) ATTR_MUST_USE;

/* "1.5 GiB", as qemu-img shows sizes. */
#define CLI_SIZE_TEXT 32
const char *cli_size_text(uint64_t bytes, char text[CLI_SIZE_TEXT]);

#endif
