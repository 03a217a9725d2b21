/* SPDX-License-Identifier: MIT */
/* Clock, queue, and the host of the scheduler: see world.h. */
#include "world.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "memory.h"

#define LOOK_NS 1000 /* what a look at the clock costs: whoever spins makes time pass */

static struct sim_world *world_of(struct co_host *host)
{
	return container_of(container_of(host, struct io, host), struct sim_world, io);
}

void sim_world_digest(struct sim_world *w, uint64_t what)
{
	w->digest = (w->digest ^ what) * UINT64_C(0x100000001b3);
	w->digest ^= w->digest >> 29;
}

/* ---- the queue ---- */

static uint64_t latency_of(struct sim_world *w, const struct io_op *op)
{
	const struct sim_latency *l = &w->latency;
	uint64_t ns;

	if (sim_net_takes(op))
		return sim_net_latency(&w->net);
	ns = l->least + sim_between(&w->schedule, 0, l->spread);
	if (op->code == IO_OP_SYNC)
		ns += sim_between(&w->schedule, 0, l->flush);
	if ((op->code == IO_OP_READ || op->code == IO_OP_WRITE) && sim_one_in(&w->schedule, l->slow_in))
		ns += sim_between(&w->schedule, 0, l->slow);
	if (sim_one_in(&w->schedule, l->tail_in))
		ns += sim_between(&w->schedule, 0, l->tail);
	if (sim_one_in(&w->schedule, l->hang_in))
		ns += SIM_HANG_NS;
	return ns;
}

static void world_submit(struct io *io, struct io_op *op)
{
	struct sim_world *w = container_of(io, struct sim_world, io);
	struct sim_event *e;

	if (w->in_flight == SIM_EVENTS)
		sim_violation("%u operations in flight", w->in_flight);
	e = &w->events[w->in_flight++];
	*e = (struct sim_event){.op = op, .number = w->submitted++, .due = w->now + latency_of(w, op)};
	if (w->dead)
		e->result = op->code == IO_OP_CLOSE || op->code == IO_OP_LOCK ? 0 : -EIO;
	else if (!sim_net_takes(op))
		sim_file_begin(w, e);
}

static struct sim_event *next_event(struct sim_world *w)
{
	struct sim_event *next = NULL;

	for (unsigned i = 0; i < w->in_flight; i++) {
		struct sim_event *e = &w->events[i];

		if (e->due == SIM_NO_TIME)
			continue;
		if (!next || e->due < next->due || (e->due == next->due && e->number < next->number))
			next = e;
	}
	return next;
}

static void event_complete(struct sim_world *w, struct sim_event *at)
{
	bool net = sim_net_takes(at->op);
	struct sim_event e;

	w->now = MAX(w->now, at->due);
	if (!w->dead && net && !sim_net_finish(w, at))
		return;
	e = *at;
	*at = w->events[--w->in_flight];
	if (!w->dead && !net)
		sim_file_finish(w, &e);
	w->counts.events++;
	sim_world_digest(w, e.number << 8 | e.op->code);
	sim_world_digest(w, (uint64_t)e.result);
	io_complete(e.op, e.result);
}

/* ---- the scheduler's host ---- */

static uint64_t world_now(struct co_host *host) { return world_of(host)->now; }

static void world_look(struct sim_world *w)
{
	struct sim_event *e = next_event(w);

	w->now += LOOK_NS;
	if (e && e->due <= w->now)
		event_complete(w, e);
}

static void world_wait(struct co_host *host, uint64_t deadline_ns)
{
	struct sim_world *w = world_of(host);
	struct sim_event *e;

	if (deadline_ns == 0) {
		world_look(w);
		return;
	}
	if (w->settled)
		w->settled(w, w->settled_arg);
	e = next_event(w);
	if (!e && deadline_ns == CO_NEVER)
		sim_violation("deadlock: %u coroutines wait, and nothing is in flight", co_sched_alive(w->io.sched));
	if (e && e->due <= deadline_ns) {
		w->timers_only = 0;
		event_complete(w, e);
		return;
	}
	w->now = MAX(w->now, deadline_ns);
	if (++w->timers_only > SIM_TIMERS_ONLY)
		sim_violation("nothing but timers for %u turns: %u coroutines wait for each other", SIM_TIMERS_ONLY,
			co_sched_alive(w->io.sched));
}

static void world_offload(struct co_host *host, struct co_work *work)
{
	(void)host;
	work->fn(work->arg);
	co_work_done(work);
}

static size_t world_pick(struct co_host *host, size_t ready)
{
	struct sim_world *w = world_of(host);

	return w->fifo ? 0 : sim_below(&w->schedule, (uint32_t)ready);
}

static const struct co_host_ops host_ops = {
	.now = world_now,
	.wait = world_wait,
	.offload = world_offload,
	.pick = world_pick,
};

/* ---- life ---- */

static void world_shutdown(struct io *io, int fd) { sim_net_shutdown(container_of(io, struct sim_world, io), fd); }

static void world_cancel(struct io *io, struct io_op *op)
{
	struct sim_world *w = container_of(io, struct sim_world, io);

	for (unsigned i = 0; i < w->in_flight; i++) {
		struct sim_event *e = &w->events[i];

		if (e->op != op)
			continue;
		e->cancelled = true;
		if (e->due == SIM_NO_TIME)
			e->due = w->now + sim_net_latency(&w->net);
	}
}

static void world_free(struct io *io) { (void)io; }

static const struct io_ops io_ops = {
	.name = "sim",
	.submit = world_submit,
	.shutdown = world_shutdown,
	.cancel = world_cancel,
	.free = world_free,
};

static void tables_clear(struct sim_world *w)
{
	memset(w->fds, 0, sizeof(w->fds));
	for (unsigned i = 0; i < SIM_LOCKS; i++)
		w->locks[i].fd = -1;
}

void sim_world_init(struct sim_world *w, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	w->io = (struct io){.host.ops = &host_ops, .ops = &io_ops, .signal_fd = -1};
	w->io.sched = co_sched_new(&w->io.host, NULL);
	assert(w->io.sched);
	sim_rng_init(&w->schedule, seed, 1);
	sim_rng_init(&w->fault, seed, 2);
	sim_net_init(&w->net, seed);
	w->latency = (struct sim_latency){.least = 1000, .spread = 100000};
	tables_clear(w);
}

void sim_world_fini(struct sim_world *w)
{
	assert(w->in_flight == 0);
	co_sched_free(w->io.sched);
	sim_net_clear(&w->net);
	for (unsigned i = 0; i < SIM_FILES; i++) {
		if (w->files[i].used)
			sim_disk_fini(&w->files[i].disk);
	}
}

struct sim_disk *sim_world_file(struct sim_world *w, const char *name, uint64_t bytes, uint32_t unit_bytes, bool device)
{
	for (unsigned i = 0; i < SIM_FILES; i++) {
		struct sim_file *f = &w->files[i];

		if (f->used)
			continue;
		f->used = true;
		f->align = unit_bytes == SIM_SECTOR ? 1 : unit_bytes;
		snprintf(f->name, sizeof(f->name), "%s", name);
		sim_disk_init(&f->disk, bytes, unit_bytes, device);
		return &f->disk;
	}
	sim_violation("more than %u files", SIM_FILES);
}

struct sim_file *sim_world_find(struct sim_world *w, const char *name)
{
	for (unsigned i = 0; i < SIM_FILES; i++) {
		if (w->files[i].used && strcmp(w->files[i].name, name) == 0)
			return &w->files[i];
	}
	return NULL;
}

void sim_world_cut(struct sim_world *w)
{
	w->dead = true;
	for (unsigned i = 0; i < w->in_flight; i++) {
		struct sim_event *e = &w->events[i];

		e->result = e->op->code == IO_OP_CLOSE ? 0 : -EIO;
		if (e->due == SIM_NO_TIME)
			e->due = w->now;
	}
}

void sim_world_kill(struct sim_world *w)
{
	for (unsigned i = 0; i < w->in_flight; i++)
		if (!sim_net_takes(w->events[i].op))
			sim_file_kill(w, &w->events[i]);
	sim_world_cut(w);
}

void sim_world_calm(struct sim_world *w)
{
	w->faults = (struct sim_faults){.no_zero = w->faults.no_zero, .no_punch = w->faults.no_punch};
}

void sim_world_restart(struct sim_world *w)
{
	assert(w->in_flight == 0 && co_sched_alive(w->io.sched) == 0);
	w->dead = false;
	tables_clear(w);
	sim_net_clear(&w->net);
}
