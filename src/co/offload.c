/* SPDX-License-Identifier: MIT */
/* Long computations leave the thread. The host may call co_work_done before offload returns, if it computes at once. */
#include "co/sched.h"

void co_offload(struct co *co, void (*fn)(void *arg), void *arg)
{
	struct co_work work = {.fn = fn, .arg = arg, .co = co};

	list_init(&work.link);
	co->sched->host->ops->offload(co->sched->host, &work);
	co_park(co);
}

void co_work_done(struct co_work *work) { co_ready(work->co); }
