/* SPDX-License-Identifier: MIT */
/* URIs; see uri.h. A path in one is written with its slashes, everything else that isn't plain is escaped. */
#include "export/nbd/uri.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		(c != '\0' && strchr("-._~/", c));
}

/* NULL: no memory. */
static char *escaped(const char *text)
{
	char *out = malloc(3 * strlen(text) + 1), *at = out;

	if (!out)
		return NULL;
	for (; *text; text++)
		at += is_plain(*text) ? snprintf(at, 2, "%c", *text) : snprintf(at, 4, "%%%02X", (unsigned char)*text);
	*at = '\0';
	return out;
}

char *nbd_uri(const char *address, const char *name, bool tls)
{
	const char *scheme = tls ? "nbds" : "nbd";
	bool local = strncmp(address, "unix:", 5) == 0;
	AUTO_FREE char *path = escaped(local ? address + 5 : "");
	AUTO_FREE char *export = escaped(name);
	char *uri;
	int r;

	if (!path || !export)
		return NULL;
	if (local)
		r = asprintf(&uri, "%s+unix:///%s?socket=%s", scheme, export, path);
	else
		r = asprintf(&uri, "%s://%s%s/%s", scheme, address[0] == ':' ? "localhost" : "", address, export);
	return r < 0 ? NULL : uri;
}
