/* SPDX-License-Identifier: MIT */
/* A build without libseccomp. */
#include <errno.h>

#include "io/sandbox.h"

int io_sandbox_calls(const struct io_sandbox *how)
{
	(void)how;
	return -ENOTSUP;
}
