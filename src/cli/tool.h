/* SPDX-License-Identifier: MIT */
/*
 * Which program this is: called by the name of one of QEMU's tools it is that tool. Messages then begin with its name and
 * are in its words alone, names in headers are followed as it follows them, and its defaults hold. Called anything else it
 * is corral.
 */
#ifndef CORRAL_CLI_TOOL_H
#define CORRAL_CLI_TOOL_H

#include <stdbool.h>

/* The version whose words and habits these are: scripts look at the number. */
#define QEMU_VERSION "7.2.22"

enum cli_tool { TOOL_CORRAL, TOOL_QEMU_IMG, TOOL_QEMU_IO, TOOL_QEMU_NBD };

enum cli_tool cli_tool(void);
/* A command's help; where the program is that command by the name of one of QEMU's tools, it calls itself so. */
void cli_tool_help(const char *help, const char *command);
const char *cli_tool_name(void); /* "corral", "qemu-img", ... */
static inline bool cli_is_qemu(void) { return cli_tool() != TOOL_CORRAL; }

#endif
