/* SPDX-License-Identifier: MIT */
/* Handing an export over, to another one in the same process: descriptors get other numbers, as if they had been sent. */
#ifndef CORRAL_TEST_EXPORT_MOVE_H
#define CORRAL_TEST_EXPORT_MOVE_H

#include "../check.h"
#include "export/export.h"
#include "io/share.h"

/* Freezes it; the state is as the other process receives it. */
static inline void move_out(struct co *co, struct export *e, struct export_state *state)
{
	struct err err = {0};

	*state = (struct export_state){0};
	CHECK_INT(e->ops->freeze(co, e, state, &err), 0);
	for (unsigned i = 0; i < state->fds; i++)
		CHECK((state->fd[i] = io_fd_dup(state->fd[i])) >= 0);
}

/* What was started from the state goes on, and the old one goes. */
static inline void move_in(struct co *co, struct export *old, struct export *new, struct export_state *state)
{
	export_state_fini(state);
	old->ops->release(co, old);
	new->ops->thaw(co, new);
}

static inline void move_abandon(struct co *co, struct export_state *state)
{
	for (unsigned i = 0; i < state->fds; i++)
		io_fd_close(co, state->fd[i]);
	export_state_fini(state);
}

/* Frozen and thawed again. */
static inline void move_back(struct co *co, struct export *e)
{
	struct export_state state;

	move_out(co, e, &state);
	move_abandon(co, &state);
	e->ops->thaw(co, e);
}

#endif
