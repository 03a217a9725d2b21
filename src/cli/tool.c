/* SPDX-License-Identifier: MIT */
/* The name that the program was called by, which the C library keeps. */
#include "cli/tool.h"

#include <errno.h>
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
