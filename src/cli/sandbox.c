/* SPDX-License-Identifier: MIT */
/* What sandbox.h says. */
#include "cli/sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "cli/options.h"

int cli_sandbox_parse(const char *command, const char *text, enum cli_sandbox *out)
{
	static const char *const modes[] = {
		[CLI_SANDBOX_OFF] = "off", [CLI_SANDBOX_AUTO] = "auto", [CLI_SANDBOX_REQUIRE] = "require"};

	*out = CLI_SANDBOX_REQUIRE;
	for (unsigned i = 0; text && i < ARRAY_ENTRIES(modes); i++) {
		*out = (enum cli_sandbox)i;
		if (strcmp(text, modes[i]) == 0)
			return 0;
	}
	return text ? cli_usage(command, "--sandbox is off, auto or require, not '%s'", text) : 0;
}

static void names_print(char *to, size_t room, unsigned parts)
{
	size_t len = 0;

	to[0] = '\0';
	for (unsigned part = 1; part < IO_SANDBOX_ALL && len < room; part <<= 1) {
		if (parts & part)
			len += (size_t)snprintf(to + len, room - len, "%s%s", len ? ", " : "",
				io_sandbox_part_name((enum io_sandbox_part)part));
	}
}

int cli_sandbox_enter(struct co *co, enum cli_sandbox mode, const struct io_sandbox *how, struct err *err)
{
	unsigned needed = mode == CLI_SANDBOX_REQUIRE ? IO_SANDBOX_ALL : IO_SANDBOX_USER;
	struct io_sandbox_result in;
	char missing[128];

	if (mode == CLI_SANDBOX_OFF && !how->change_user)
		return 0;
	io_sandbox_enter(co, how, mode == CLI_SANDBOX_OFF ? IO_SANDBOX_USER : IO_SANDBOX_ALL, &in);
	names_print(missing, sizeof(missing), in.missing);
	if (in.missing & needed)
		return err_set(err, -EPERM, "the sandbox lacks %s: %s", missing, strerror(-in.error));
	if (in.missing)
		cli_complain("going on, but the sandbox lacks %s: %s", missing, strerror(-in.error));
	return 0;
}
