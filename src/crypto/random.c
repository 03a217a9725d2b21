/* SPDX-License-Identifier: MIT */
/*
 * Random numbers, straight from the kernel: it has one generator for the whole machine, well seeded, and another one in a
 * library would only be another one to trust.
 */
#include <errno.h>
#include <sys/random.h>

#include "crypto/crypto.h"

int crypto_random(void *to, size_t bytes)
{
	char *at = to;

	while (bytes > 0) {
		ssize_t n = getrandom(at, bytes, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		bytes -= (size_t)n;
	}
	return 0;
}
