/* SPDX-License-Identifier: MIT */
/* A picture of where in its file the clusters of a disk lie. */
#ifndef CORRAL_CLI_MAP_SVG_H
#define CORRAL_CLI_MAP_SVG_H

#include "base/err.h"
#include "node/node.h"

/*
 * What the node's own layer holds, drawn in its file: each cell is a part of the file, its colour the place on the disk of
 * what lies there. name: what to call the image. *out is the picture, SVG, malloc'd.
 */
int map_svg(struct co *co, struct node *n, const char *name, char **out, struct err *err) ATTR_MUST_USE;

#endif
