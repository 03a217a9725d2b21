/* SPDX-License-Identifier: MIT */
/* The storage node that is a host file or block device. */
#ifndef CORRAL_FILE_FILE_H
#define CORRAL_FILE_FILE_H

#include "io/io.h"
#include "node/node.h"

struct file_open {
	const char *path;
	const char *beneath; /* as in struct io_open */
	const char *shown;   /* what to call it; NULL: its path */
	bool write;
	bool direct;   /* O_DIRECT */
	bool no_flush; /* cache=unsafe: flush does nothing */
	bool no_lock;  /* take no lock at all (-U) */
};

/*
 * Locks the file as QEMU does (file/lock.c), so that neither corrupts the other's image: -EAGAIN with an explanation where
 * somebody else has it in a way that conflicts.
 */
int file_open(struct co *co, const struct file_open *how, struct node **out, struct err *err) ATTR_MUST_USE;

const struct io_file_info *file_info(const struct node *n); /* identity, for cycle checks */
const char *file_path(const struct node *n);                /* what it is called */
bool node_is_file(const struct node *n);

#endif
