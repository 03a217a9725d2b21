/* SPDX-License-Identifier: MIT */
/* What nbd_move.h says. */
#include "nbd_move.h"

#include "base/math.h"

#define MOVES 20 /* in one life */

/* From numbers of its own, so that what else is drawn of a seed stays what it was. */
void sim_nbd_moves_draw(struct sim_nbd_moves *m, uint64_t seed, uint64_t schedule)
{
	static const uint64_t tenures[] = {300000, 3000000, 50000000, 0};
	struct sim_rng r;

	sim_rng_init(&r, seed, 11);
	m->tenure_ns = tenures[sim_below(&r, 4)];
	sim_rng_init(&m->rng, schedule, 12);
}

/* A successor is made of the state, which may fail for want of memory. */
static struct export *successor_make(struct co *co, struct sim_nbd_moves *m, struct export_state *state)
{
	struct nbd_options o = m->options;
	struct export *server = NULL;
	struct err err = {0};

	o.state = state;
	for (unsigned i = 0; i < state->fds; i++)
		sim_net_share(&m->run->world, state->fd[i]);
	return nbd_export_start(co, &o, &server, &err) == 0 ? server : NULL;
}

/* One in three times it is taken back, from a successor that was made or from none. */
static void server_move(struct co *co, struct sim_nbd_moves *m)
{
	struct export *old = m->server, *new = NULL;
	struct export_state state = {0};
	struct err err = {0};
	bool stays = sim_one_in(&m->rng, 3);

	if (old->ops->freeze(co, old, &state, &err) < 0)
		return;
	if (!stays || sim_below(&m->rng, 2))
		new = successor_make(co, m, &state);
	if (new)
		m->clients->least = MIN(m->clients->least, m->run->node->size);
	export_state_fini(&state);
	if (new && !stays) {
		m->server = new;
		old->ops->release(co, old);
	} else if (new) {
		new->ops->release(co, new);
	}
	m->run->tally->handovers += m->server == new;
	m->server->ops->thaw(co, m->server);
}

static void moves_entry(struct co *co, void *arg)
{
	struct sim_nbd_moves *m = arg;

	for (unsigned n = 0; n < MOVES && !m->clients->stopping && !m->run->world.dead; n++) {
		co_sleep(co, sim_between(&m->rng, 1, m->tenure_ns));
		if (!m->clients->stopping && !m->run->world.dead)
			server_move(co, m);
	}
}

void sim_nbd_moves_begin(struct co *co, struct sim_nbd_moves *m)
{
	co_group_init(&m->group, co_sched_of(co));
	if (m->tenure_ns > 0)
		(void)!co_group_spawn(&m->group, "nbd-moves", moves_entry, m);
}

void sim_nbd_moves_end(struct co *co, struct sim_nbd_moves *m) { co_group_wait(co, &m->group); }
