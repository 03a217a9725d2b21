/* SPDX-License-Identifier: MIT */
/* The program when it is called qemu-img. */
#ifndef CORRAL_CLI_QEMU_IMG_H
#define CORRAL_CLI_QEMU_IMG_H

#include <stdio.h>

int qemu_img_main(int argc, char **argv);
void qemu_img_help(FILE *to);

#endif
