/* SPDX-License-Identifier: MIT */
/* nbd --list: what another server offers, as qemu-nbd prints it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nbd.h"
#include "nbd/nbd.h"

static void flags_print(uint16_t flags)
{
	static const char *const names[] = {NULL, "readonly", "flush", "fua", "rotational", "trim", "zeroes", "df",
		"multi", "resize", "cache", "fast-zero"};

	printf("  flags: %#x (", flags);
	for (unsigned bit = 1; bit < ARRAY_ENTRIES(names); bit++) {
		if (flags & 1u << bit)
			printf(" %s", names[bit]);
	}
	puts(" )");
}

static void export_print(void *arg, const struct nbd_listed *e, unsigned n)
{
	bool *begun = arg;

	if (!*begun)
		printf("exports available: %u\n", n);
	*begun = true;
	if (!e)
		return;
	printf(" export: '%s'\n", e->name);
	if (e->description)
		printf("  description: %s\n", e->description);
	if (!e->known)
		return;
	printf("  size:  %" PRIu64 "\n", e->size);
	flags_print(e->flags);
	if (e->block_min) {
		printf("  min block: %" PRIu64 "\n", e->block_min);
		printf("  opt block: %" PRIu64 "\n", e->block_opt);
		printf("  max block: %" PRIu64 "\n", e->block_max);
	}
	if (e->contexts_n)
		printf("  available meta contexts: %u\n", e->contexts_n);
	for (unsigned i = 0; i < e->contexts_n; i++)
		printf("   %s\n", e->contexts[i]);
}

int cli_nbd_list(const struct cli_nbd *n)
{
	struct nbd_address address = {
		.path = (char *)n->socket,
		.host = (char *)(n->bind ? n->bind : NBD_DEFAULT_ADDRESS),
		.port = (char *)(n->port ? n->port : NBD_PORT),
	};
	struct err err = {0};
	bool begun = false;

	return nbd_list(&address, &n->list_tls, export_print, &begun, &err) < 0 ? cli_complain("%s", err.text) : 0;
}
