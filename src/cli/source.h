/* SPDX-License-Identifier: MIT */
/* An image that is read, as it is or as it was in one of its snapshots: -l SNAPSHOT, snapshot.id=ID,snapshot.name=NAME. */
#ifndef CORRAL_CLI_SOURCE_H
#define CORRAL_CLI_SOURCE_H

#include "cli/open.h"

struct cli_source {
	const char *snapshot; /* an ID or a name; NULL: the disk as it is */
	char *id, *name;      /* the same, as both must be; owned */
};

/* -l; -EINVAL, told. */
int cli_source_snapshot(struct cli_source *s, const char *value) ATTR_MUST_USE;
/* cli_image_open, of that snapshot. */
int cli_source_open(struct co *co, struct cli_common *common, struct cli_source *s, struct cli_image *image,
	struct node **out) ATTR_MUST_USE;
void cli_source_fini(struct cli_source *s);

#endif
