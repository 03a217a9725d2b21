/* SPDX-License-Identifier: MIT */
/* Inside of image_open: one layer of a backing chain, from its tree of options to its nodes. */
#ifndef CORRAL_API_LAYER_H
#define CORRAL_API_LAYER_H

#include "api/driver.h"
#include "api/policy.h"

#define LAYER_LEVELS 8 /* nodes of one layer, one over the other */

struct layer {
	json_t *options;       /* owned; without a driver: to be probed */
	char *path;            /* what names in its header are relative to; owned; NULL: to be found in the options */
	char *beneath, *shown; /* of its file, where the policy found it; owned; or NULL (struct file_open) */
	bool probed;
	json_t *backing;     /* what they say of the layer below, in `options`; NULL: nothing */
	struct node *format; /* its format's node, NULL until it is open; owned by the chain from then on */
};

struct identity {
	uint64_t device, inode;
};

struct chain {
	const struct image_open *how;
	struct node *top, *bottom;                /* bottom: the format's node of the last layer */
	struct identity seen[2 * NODE_MAX_DEPTH]; /* of each file: an image may have its data in another one */
	unsigned files, layers, encrypted;
	bool storage_only;  /* leave qcow2 and what is above it unopened */
	const char *driver; /* the name of the topmost level's then */
};

/* Opens it and hangs it below the chain, which owns it then. */
int layer_open(struct co *co, struct chain *chain, struct layer *layer, struct err *err) ATTR_MUST_USE;
void layer_fini(struct layer *layer);

const char *layer_shown(const struct layer *layer); /* what to call its file */

/* The name of the layer below; "": there is none. */
const char *layer_backing_name(const struct layer *layer);

/* What a file that was found to be qcow2 by looking at it may not do below the top: whoever could write to a raw disk that
 * lies there could name any file. */
int layer_naming_permitted(const struct chain *chain, const struct layer *layer, const char *what, const char *name,
	struct err *err) ATTR_MUST_USE;

#endif
