/* SPDX-License-Identifier: MIT */
/*
 * The server of the runs over NBD changes hands while it is used: it is frozen, and another one goes on with its listener
 * and its connections, or it takes them back. The clients don't know.
 */
#ifndef CORRAL_SIM_NBD_MOVE_H
#define CORRAL_SIM_NBD_MOVE_H

#include "export/export.h"
#include "nbd_client.h"
#include "run.h"

struct sim_nbd_moves {
	struct sim_rng rng;
	uint64_t tenure_ns;         /* at most so long one server has the clients; 0: to the end */
	struct nbd_options options; /* of each of them */
	struct export *server;      /* the one that there is */
	struct sim_nbd_clients *clients;
	struct sim_run *run;
	struct co_group group; /* one coroutine */
};

void sim_nbd_moves_draw(struct sim_nbd_moves *m, uint64_t seed, uint64_t schedule);
/* There is a server, of these options. */
void sim_nbd_moves_begin(struct co *co, struct sim_nbd_moves *m);
void sim_nbd_moves_end(struct co *co, struct sim_nbd_moves *m); /* they know that it stops */

#endif
