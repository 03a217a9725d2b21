/* SPDX-License-Identifier: MIT */
/* --sandbox: what is given up once all files are open (io/sandbox.h), and what is said of parts that can't be had. */
#ifndef CORRAL_CLI_SANDBOX_H
#define CORRAL_CLI_SANDBOX_H

#include "base/attr.h"
#include "base/err.h"
#include "co/co.h"
#include "io/sandbox.h"

enum cli_sandbox {
	CLI_SANDBOX_OFF,
	CLI_SANDBOX_AUTO,    /* what there is; what there isn't is told */
	CLI_SANDBOX_REQUIRE, /* all of it, or nothing goes on */
};

/* For image commands: without an argument it is required. */
#define CLI_SANDBOX_HELP                                                                                                    \
	"      --sandbox[=MODE]     once the files are open, give up everything else: require (MODE's default), auto: as\n" \
	"                           much as this system can, off\n"

/* text: the option's argument; NULL: require. -EINVAL, told. */
int cli_sandbox_parse(const char *command, const char *text, enum cli_sandbox *out) ATTR_MUST_USE;

/* -EPERM, explained: a part that is required can't be had; the process may be half inside. What is missing and isn't required
 * is told. A change of user is always required. */
int cli_sandbox_enter(struct co *co, enum cli_sandbox mode, const struct io_sandbox *how, struct err *err)
	ATTR_MUST_USE;

#endif
