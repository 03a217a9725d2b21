/* SPDX-License-Identifier: MIT */
/* Who may have one file open beside whom. */
#ifndef CORRAL_FILE_LOCK_H
#define CORRAL_FILE_LOCK_H

#include "io/io.h"

/* Takes the locks of a reader or a writer; closing the file releases them. path: for messages. -EAGAIN: somebody conflicts. */
int file_lock(struct co *co, struct io_file *f, bool write, const char *path, struct err *err) ATTR_MUST_USE;

#endif
