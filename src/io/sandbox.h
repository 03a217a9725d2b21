/* SPDX-License-Identifier: MIT */
/*
 * A sandbox for a process whose files are open: what it can't do any more, a hostile image, client or guest that has taken
 * it over can't do either. There is no way out of it. sandbox.c says what it consists of.
 */
#ifndef CORRAL_IO_SANDBOX_H
#define CORRAL_IO_SANDBOX_H

#include "io/backend.h"

enum io_sandbox_part {
	IO_SANDBOX_USER = 1 << 0,
	IO_SANDBOX_PRIVILEGES = 1 << 1,
	IO_SANDBOX_LANDLOCK = 1 << 2,
	IO_SANDBOX_SECCOMP = 1 << 3,
	IO_SANDBOX_ALL = (1 << 4) - 1,
};

struct io_sandbox {
	/* Directories in which files may still be removed: sockets and the pid file go at the end. NULL-terminated, or NULL. */
	const char *const *removal_dirs;
	bool lookup;  /* where names lead to may still be looked up: files are opened again (io_files_keep) */
	bool connect; /* sockets may still be made and connected: storage that is reached over a network */
	bool change_user;
	unsigned uid, gid;
};

struct io_sandbox_result {
	unsigned missing; /* those of the parts that aren't in force */
	int error;        /* of the first of them */
};

/* parts: IO_SANDBOX_*. Called once, by the thread of the engine. Waits, without yielding, until the helper threads have finished what they have
 * in hand. A part that can't be had doesn't keep the others from being put into force: the caller decides whether what there is suffices. */
void io_sandbox_enter(struct co *co, const struct io_sandbox *how, unsigned parts, struct io_sandbox_result *out);

const char *io_sandbox_part_name(enum io_sandbox_part part);

/* sandbox_calls.c, or sandbox_calls_none.c: -ENOTSUP. */
int io_sandbox_calls(const struct io_sandbox *how) ATTR_MUST_USE;

#endif
