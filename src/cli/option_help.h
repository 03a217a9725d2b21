/* SPDX-License-Identifier: MIT */
/* The options that an image can be created with, listed as -o help lists them. */
#ifndef CORRAL_CLI_OPTION_HELP_H
#define CORRAL_CLI_OPTION_HELP_H

#include <stdbool.h>
#include <stdio.h>

/* format: "qcow2" or "raw". with_file: those of the file that it lies in, too. */
void option_help_print(FILE *to, const char *format, bool with_file);

#endif
