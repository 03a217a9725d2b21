/* SPDX-License-Identifier: MIT */
/* The name that the program was called by, which the C library keeps. */
#include "cli/tool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"

static const char *const names[] = {
	[TOOL_CORRAL] = "corral",
	[TOOL_QEMU_IMG] = "qemu-img",
	[TOOL_QEMU_IO] = "qemu-io",
	[TOOL_QEMU_NBD] = "qemu-nbd",
};

enum cli_tool cli_tool(void)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(names); i++) {
		if (strcmp(program_invocation_short_name, names[i]) == 0)
			return (enum cli_tool)i;
	}
	return TOOL_CORRAL;
}

const char *cli_tool_name(void) { return names[cli_tool()]; }

void cli_tool_help(const char *help, const char *command)
{
	char own[32];
	int len = snprintf(own, sizeof(own), "corral %s", command);
	const char *at;

	for (; cli_is_qemu() && (at = strstr(help, own)) != NULL; help = at + len)
		printf("%.*s%s", (int)(at - help), help, cli_tool_name());
	fputs(help, stdout);
}
