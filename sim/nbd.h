/* SPDX-License-Identifier: MIT */
/*
 * Runs whose operations go through the NBD server: the real one, and clients of the simulator on one to four connections
 * over the simulated network.
 *
 * An operation begins for the model when its request is about to be sent and ends when its reply has been received; a
 * request whose connection ended before that may still be carried out: in the model it is in flight until the server has
 * stopped. A flush that was replied to covers what was replied to before it was sent, on whatever connection.
 */
#ifndef CORRAL_SIM_NBD_H
#define CORRAL_SIM_NBD_H

#include "run.h"

struct sim_nbd;

/* Whether a seed is such a run, if nobody says. */
bool sim_nbd_drawn(uint64_t seed);

struct sim_nbd *sim_nbd_new(struct sim_run *run);
void sim_nbd_free(struct sim_nbd *nbd);

/* The server of run->node; false: the power was cut, or it couldn't be had for want of memory. */
bool sim_nbd_start(struct co *co, struct sim_run *run);
/* Stops it: in the middle of what is going on, or when all is done. Nothing is in flight then. */
void sim_nbd_stop(struct co *co, struct sim_run *run);
/* False: not an operation that a client asks for. */
bool sim_nbd_op(struct co *co, struct sim_task *t);

#endif
