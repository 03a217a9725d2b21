/* SPDX-License-Identifier: MIT */
/* The image on the disk of the world, opened by the engine. */
#ifndef CORRAL_TEST_FUZZ_ENGINE_H
#define CORRAL_TEST_FUZZ_ENGINE_H

#include "image.h"
#include "qcow2/qcow2.h"

/* Without its backing file, and with a data file that reads zeros. how->write, how->snapshot and the like are the
 * caller's. NULL: it was refused. */
struct node *engine_open(struct co *co, struct qcow2_options how);

/* A check, with fix or without; its result. */
int engine_check(struct co *co, unsigned fix, struct qcow2_check *found);

/* Reads n pieces of the disk where the script says. */
void engine_read(struct co *co, struct node *n, struct script *script, unsigned pieces);

#endif
