/* SPDX-License-Identifier: MIT */
/*
 * Deliberate bugs and deliberate nuisances, for the simulator's build alone (-DCORRAL_SIM); elsewhere they are constants
 * and cost nothing. A mutant shows that the simulator finds a bug of its kind; a buggify point makes rare things frequent.
 */
#ifndef CORRAL_BASE_MUTANT_H
#define CORRAL_BASE_MUTANT_H

#include <stdbool.h>

#ifdef CORRAL_SIM
extern int mutant_selected; /* 0: none */
#define MUTANT(number) (mutant_selected == (number))
bool buggify(const char *point);
#else
#define MUTANT(number) 0
#define buggify(point) false
#endif

#endif
