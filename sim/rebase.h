/* SPDX-License-Identifier: MIT */
/* Another backing file, in the simulated world: rebase.c. */
#ifndef CORRAL_SIM_REBASE_H
#define CORRAL_SIM_REBASE_H

#include "run.h"

/* The second backing file. */
void sim_rebase_make(struct sim_run *run);

/* Of an open image, which is closed. */
int sim_rebase(struct co *co, struct sim_run *run, struct node *top, struct err *err);

#endif
