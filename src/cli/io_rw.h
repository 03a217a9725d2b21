/* SPDX-License-Identifier: MIT */
/* What the commands of corral io that read and write share: their options, and what is printed of a request. */
#ifndef CORRAL_CLI_IO_RW_H
#define CORRAL_CLI_IO_RW_H

#include "cli/io.h"

struct cli_io_rw {
	struct cli_io_request request;
	bool parsable, quiet, dump, vm_state, compressed, zero, fua, no_fallback, unmap;
	bool checked; /* read: its content must be the pattern; write: a pattern was given */
	int pattern;
	const char *file;                /* write: its content is the pattern */
	uint64_t check_off, check_bytes; /* read: what of it the pattern must be */
	bool check_all;                  /* up to its end */
};

/* An option as getopt gives it; what isn't known is told by the usage of the command. */
int cli_io_rw_read_option(struct cli_io_rw *rw, int option, const char *name) ATTR_MUST_USE;
int cli_io_rw_write_option(struct cli_io_rw *rw, int option, const char *name) ATTR_MUST_USE;
/* "off len [len...]", from optind on: one request for all of them. */
int cli_io_rw_lengths_parse(struct cli_io_rw *rw, const char *name, int argc, char **argv) ATTR_MUST_USE;

int cli_io_refuse(const char *text); /* prints it; -EINVAL */
/* Whether the pattern was read where it was asked for. -EINVAL: told. */
int cli_io_rw_verify(const struct cli_io_rw *rw) ATTR_MUST_USE;
void cli_io_rw_report(struct co *co, const struct cli_io_rw *rw, const char *op, uint64_t began_ns);

#endif
