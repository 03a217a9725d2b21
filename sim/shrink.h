/* SPDX-License-Identifier: MIT */
/*
 * From a failing run to a short test: fewer operations, a simpler image and host, and at last C code for test/crash/. Each
 * attempt runs in a process of its own, since a violation ends it.
 */
#ifndef CORRAL_SIM_SHRINK_H
#define CORRAL_SIM_SHRINK_H

#include "config.h"

/* Makes c as small as it gets and prints it as a test program; false: it doesn't fail. */
bool sim_shrink(struct sim_config *c, const char *name);

/* For such tests: runs the case under this many schedules; ends the program at a violation. */
void sim_case_run(const struct sim_config *c, unsigned schedules);

#endif
