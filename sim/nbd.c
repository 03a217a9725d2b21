/* SPDX-License-Identifier: MIT */
/* The server's clients and what they ask for: see nbd.h. */
#include "nbd.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/math.h"
#include "export/export.h"
#include "memory.h"
#include "nbd_client.h"
#include "nbd_move.h"

#define CLIENTS 4
#define ADDRESS "sim"
#define TRIES 30
#define TRY_WAIT_NS 1000000

struct client {
	struct co_mutex connecting;
	struct sim_nbd_conn *conn; /* for new requests; NULL: none */
};

struct lost { /* a change that was asked for, and nobody told how it went */
	uint32_t first, sectors;
	uint64_t start;
};

struct sim_nbd {
	struct sim_rng rng;
	struct sim_net_faults faults;
	uint64_t spread, tail; /* of the network's latencies */
	bool writethrough, no_discard;
	unsigned most_conns;
	uint64_t handshake_ns, grace_ns;
	unsigned clients_count;
	uint32_t stall_in, hang_up_in, goodbye_in; /* one connection or one request in so many */
	uint32_t idle_stop_in;                     /* one stop in so many waits until all is done */

	struct export_disk disk;
	const struct export_disk *disks[1];
	struct sim_nbd_moves moves; /* and the server */
	struct sim_nbd_clients shared;
	struct client client[CLIENTS];
	bool calm; /* no more faults: whoever wants to connect must succeed */
	struct lost *lost;
	uint32_t lost_count, lost_room;
	uint64_t judged_changes, judged_time;
};

static bool dead(const struct sim_run *run) { return run->world.dead; }

/* ---- what is drawn ---- */

bool sim_nbd_drawn(uint64_t seed)
{
	struct sim_rng r;

	sim_rng_init(&r, seed, 7);
	return sim_one_in(&r, 4);
}

static uint32_t rarely(struct sim_rng *r, uint32_t most) { return sim_below(r, 2) ? 0 : 2 + sim_below(r, most); }

static void draw_network(struct sim_net *net, struct sim_rng *r)
{
	static const uint64_t spreads[] = {0, 20000, 500000, 5000000};
	static const uint32_t rooms[] = {61, 1024, 4096, 200000};

	net->spread = spreads[sim_below(r, 4)];
	net->tail_in = rarely(r, 30);
	net->tail = (1 + net->spread) * (1 + sim_below(r, 20));
	net->room = rooms[sim_below(r, 4)];
}

static void draw_faults(struct sim_net_faults *f, struct sim_rng *r)
{
	f->short_in = rarely(r, 8);
	f->again_in = sim_one_in(r, 4) ? 4 + sim_below(r, 30) : 0;
	f->interrupt_in = sim_one_in(r, 4) ? 4 + sim_below(r, 30) : 0;
	f->refuse_in = rarely(r, 8);
	f->want_in = rarely(r, 8);
	f->break_in = rarely(r, 4);
	f->break_after = sim_one_in(r, 4) ? 400 : 100000;
}

static void draw_server(struct sim_nbd *nbd, struct sim_rng *r)
{
	static const uint64_t handshakes[] = {1000000, 20000000, 0, 0};
	static const uint64_t graces[] = {1, 500000, 50000000, 0};

	nbd->writethrough = sim_one_in(r, 8);
	nbd->no_discard = sim_one_in(r, 8);
	nbd->most_conns = sim_one_in(r, 6) ? CLIENTS : 0;
	nbd->handshake_ns = handshakes[sim_below(r, 4)];
	nbd->grace_ns = graces[sim_below(r, 4)];
}

static void draw_clients(struct sim_nbd *nbd, struct sim_rng *r)
{
	nbd->clients_count = 1 + sim_below(r, CLIENTS);
	nbd->stall_in = rarely(r, 6);
	nbd->hang_up_in = sim_below(r, 3) ? 0 : 4 + sim_below(r, 60);
	nbd->goodbye_in = sim_below(r, 3) ? 0 : 4 + sim_below(r, 60);
	nbd->idle_stop_in = 1 + sim_below(r, 3);
}

struct sim_nbd *sim_nbd_new(struct sim_run *run)
{
	struct sim_nbd *nbd = sim_alloc(sizeof(*nbd));
	struct sim_rng r;

	sim_rng_init(&r, run->config->seed, 8);
	draw_network(&run->world.net, &r);
	nbd->spread = run->world.net.spread;
	nbd->tail = run->world.net.tail;
	draw_faults(&nbd->faults, &r);
	draw_server(nbd, &r);
	draw_clients(nbd, &r);
	sim_rng_init(&nbd->rng, run->config->schedule, 10);
	sim_nbd_moves_draw(&nbd->moves, run->config->seed, run->config->schedule);
	nbd->shared.stopping = true; /* there is no server yet */
	return nbd;
}

void sim_nbd_free(struct sim_nbd *nbd)
{
	if (nbd)
		sim_free(nbd->lost);
	sim_free(nbd);
}

static void draw_wishes(struct sim_nbd *nbd, struct sim_nbd_wishes *w)
{
	struct sim_rng *r = &nbd->rng;

	*w = (struct sim_nbd_wishes){0};
	w->go = sim_below(r, 2);
	w->structured = sim_below(r, 3) != 0;
	w->extended = sim_below(r, 3) == 0;
	w->allocation = sim_below(r, 4) != 0;
	w->no_zeroes = sim_below(r, 2);
	w->look_around = sim_one_in(r, 4);
	if (nbd->calm || !sim_one_in(r, nbd->stall_in))
		return;
	w->stall_after = 1 + sim_below(r, 4000);
	w->stall_ns = UINT64_C(1) << sim_below(r, 34);
}

/* ---- connections ---- */

/* Room for more requests after what the client was told of the disk's size. */
static bool conn_fits(const struct sim_nbd_conn *c, const struct sim_op *op)
{
	return !c->finished && (op->first + (uint64_t)op->sectors) * SIM_SECTOR <= c->size;
}

static void conn_check(const struct sim_run *run, const struct sim_nbd_conn *c)
{
	bool trim = c->flags & SIM_NBD_FLAG_TRIM;

	if (c->size != run->guest_bytes)
		sim_violation(
			"NBD: the server says %" PRIu64 " bytes, the disk has %" PRIu64, c->size, run->guest_bytes);
	if (!(c->flags & SIM_NBD_FLAG_ZEROES) || trim == run->nbd->no_discard)
		sim_violation("NBD: transmission flags %#x", c->flags);
}

static void client_connect(struct co *co, struct sim_run *run, struct client *client)
{
	struct sim_nbd *nbd = run->nbd;
	struct sim_nbd_wishes wishes;

	draw_wishes(nbd, &wishes);
	client->conn = sim_nbd_connect(co, &nbd->shared, ADDRESS, &wishes);
	if (!client->conn)
		return;
	run->tally->connections++;
	conn_check(run, client->conn);
}

/* Takes leave of a connection that is of no use any more; the client is one of its users. */
static void client_drop(struct co *co, struct client *client)
{
	struct sim_nbd_conn *c = take(client->conn);

	if (sim_nbd_lock(co, c))
		sim_nbd_say_goodbye(co, c);
	sim_nbd_leave(co, c);
}

/* A connection with the caller as one of its users; NULL: not this time. */
static struct sim_nbd_conn *client_conn(
	struct co *co, struct sim_run *run, struct client *client, const struct sim_op *op)
{
	struct sim_nbd_conn *c;

	co_mutex_lock(co, &client->connecting);
	if (client->conn && !conn_fits(client->conn, op))
		client_drop(co, client);
	if (!client->conn && !run->nbd->shared.stopping)
		client_connect(co, run, client);
	c = client->conn;
	if (c)
		c->users++;
	co_mutex_unlock(&client->connecting);
	return c;
}

/* One that the caller alone may send on; NULL: the server is gone. */
static struct sim_nbd_conn *conn_get(struct co *co, struct sim_run *run, const struct sim_op *op)
{
	struct sim_nbd *nbd = run->nbd;
	struct client *client = &nbd->client[sim_below(&nbd->rng, nbd->clients_count)];

	for (unsigned tries = 0; tries < TRIES && !dead(run) && !nbd->shared.stopping; tries++) {
		struct sim_nbd_conn *c = client_conn(co, run, client, op);

		if (c && sim_nbd_lock(co, c))
			return c;
		if (c)
			sim_nbd_leave(co, c);
		else
			co_sleep(co, TRY_WAIT_NS << MIN(tries, 10u));
	}
	if (nbd->calm && !dead(run) && !nbd->shared.stopping)
		sim_violation("NBD: a client can't connect any more");
	return NULL;
}

/* Sends the request, and ends the connection behind it if the seed says so; then waits for what comes of it. */
static void conn_ask(struct co *co, struct sim_run *run, struct sim_nbd_conn *c, struct sim_nbd_request *r)
{
	struct sim_nbd *nbd = run->nbd;

	sim_nbd_send(co, c, r);
	if (!nbd->calm && sim_one_in(&nbd->rng, nbd->hang_up_in))
		sim_nbd_hang_up(c);
	else if (!nbd->calm && sim_one_in(&nbd->rng, nbd->goodbye_in) && sim_nbd_lock(co, c))
		sim_nbd_say_goodbye(co, c);
	sim_nbd_wait(co, c, r);
	run->tally->answered += r->error != SIM_NBD_LOST;
	run->tally->lost += r->error == SIM_NBD_LOST;
}

/* ---- operations ---- */

static struct sim_nbd_request request_of(const struct sim_task *t, enum sim_nbd_type type, uint16_t flags)
{
	return (struct sim_nbd_request){
		.type = type,
		.flags = flags,
		.offset = t->op.first * UINT64_C(512),
		.len = t->op.sectors * 512,
		.data = t->buffer,
	};
}

static int rc_of(uint32_t error)
{
	switch (error) {
	case 0: return 0;
	case 1: return -EROFS;
	case 5: return -EIO;
	case 12: return -ENOMEM;
	case 28: return -ENOSPC;
	case SIM_NBD_NOTSUP: return -EOPNOTSUPP;
	default: return -EINVAL;
	}
}

static void status_judge(struct sim_run *run, const struct sim_nbd_request *r, uint64_t start)
{
	const struct sim_nbd_extent *e = (const struct sim_nbd_extent *)(const void *)r->data;
	uint64_t at = r->offset;

	for (uint32_t i = 0; i < r->got; i++) {
		bool zero = e[i].flags & SIM_NBD_ZERO;

		if (e[i].len == 0 || e[i].len > r->offset + r->len - at || (e[i].flags & SIM_NBD_HOLE && !zero))
			sim_violation(
				"NBD: an extent of %#x bytes at %#" PRIx64 ", flags %#x", e[i].len, at, e[i].flags);
		for (uint64_t s = div_round_up(at, 512); zero && s < (at + e[i].len) / 512; s++) {
			if (!sim_model_read_check(&run->model, start, (uint32_t)s, SIM_TAG_ZERO))
				sim_violation("NBD: sector %" PRIu64 " is said to be zero", s);
		}
		at += e[i].len;
	}
	if (r->got == 0 || ((r->flags & SIM_NBD_ONE) && r->got > 1))
		sim_violation("NBD: %u extents", r->got);
}

static void read_request(struct sim_nbd *nbd, struct sim_nbd_conn *c, struct sim_nbd_request *r)
{
	if (c->allocation && sim_one_in(&nbd->rng, 4)) {
		r->type = SIM_NBD_STATUS;
		r->flags = sim_one_in(&nbd->rng, 4) ? SIM_NBD_ONE : 0;
	} else if (sim_one_in(&nbd->rng, 20)) {
		r->type = SIM_NBD_CACHE;
	} else if ((c->flags & SIM_NBD_FLAG_DF) && sim_one_in(&nbd->rng, 4)) {
		r->flags = SIM_NBD_DF;
	}
}

static void op_read(struct co *co, struct sim_task *t, struct sim_nbd_conn *c)
{
	struct sim_run *run = t->run;
	struct sim_nbd_request r = request_of(t, SIM_NBD_READ, 0);
	uint64_t start = sim_model_read_begin(&run->model);

	read_request(run->nbd, c, &r);
	memset(t->buffer, 0xee, r.len);
	conn_ask(co, run, c, &r);
	if (dead(run))
		return;
	if (r.error != SIM_NBD_LOST && sim_life_outcome(run, "read", rc_of(r.error))) {
		if (r.type == SIM_NBD_STATUS)
			status_judge(run, &r, start);
		else if (r.type == SIM_NBD_READ)
			sim_life_read_judge(run, t, start);
	}
	sim_model_read_end(&run->model, start);
}

static void change_request(struct sim_nbd *nbd, struct sim_task *t, struct sim_nbd_request *r)
{
	uint16_t fast = sim_one_in(&nbd->rng, 6) ? SIM_NBD_FAST : 0;

	if (sim_one_in(&nbd->rng, 6))
		r->flags = SIM_NBD_FUA;
	switch (t->op.kind) {
	case SIM_WRITE: r->flags = 0; break;
	case SIM_WRITE_FUA: r->flags = SIM_NBD_FUA; break;
	case SIM_DISCARD: r->type = nbd->no_discard ? SIM_NBD_ZEROES : SIM_NBD_TRIM; break;
	default:
		r->type = SIM_NBD_ZEROES;
		r->flags |= fast | (t->op.kind == SIM_ZERO ? SIM_NBD_NO_HOLE : 0);
		break;
	}
}

static void lost_add(struct sim_nbd *nbd, const struct sim_task *t, uint64_t start)
{
	if (nbd->lost_count == nbd->lost_room)
		nbd->lost = sim_grow(nbd->lost, &nbd->lost_room, sizeof(*nbd->lost));
	nbd->lost[nbd->lost_count++] = (struct lost){t->op.first, t->op.sectors, start};
}

/* A fast zero that can't be fast is refused, a trim that the format can't express does nothing. */
static enum sim_outcome change_outcome(struct sim_run *run, const struct sim_nbd_request *r, const struct sim_task *t)
{
	bool durable = (r->flags & SIM_NBD_FUA) || run->nbd->writethrough;

	if (r->error == SIM_NBD_NOTSUP && (r->flags & SIM_NBD_FAST))
		return SIM_UNCERTAIN;
	if (!sim_life_outcome(run, sim_op_name(t->op.kind), rc_of(r->error)))
		return SIM_UNCERTAIN;
	if (r->type == SIM_NBD_TRIM && run->version == 2 && run->config->below != SIM_BELOW_NONE)
		return SIM_UNCERTAIN;
	return durable ? SIM_DURABLE : SIM_DONE;
}

static void op_change(struct co *co, struct sim_task *t, struct sim_nbd_conn *c)
{
	struct sim_run *run = t->run;
	struct sim_nbd_request r = request_of(t, SIM_NBD_WRITE, 0);
	bool failed_before = run->failed_flush;
	enum sim_outcome outcome;
	uint64_t start;

	change_request(run->nbd, t, &r);
	if (r.type == SIM_NBD_WRITE)
		sim_life_fill(t);
	start = sim_model_write_begin(&run->model, t->op.first, t->op.sectors, t->id, r.type != SIM_NBD_WRITE);
	sim_bitmaps_change_begin(run, &t->op);
	conn_ask(co, run, c, &r);
	if (dead(run))
		return;
	if (r.error == SIM_NBD_LOST) {
		lost_add(run->nbd, t, start);
		return;
	}
	outcome = change_outcome(run, &r, t);
	if (failed_before && outcome == SIM_DURABLE)
		sim_violation("G7: a FUA %s succeeded after a failed flush", sim_op_name(t->op.kind));
	sim_model_write_end(&run->model, t->op.first, t->op.sectors, start, outcome);
	sim_bitmaps_change_end(run, &t->op, outcome);
}

static void op_flush(struct co *co, struct sim_task *t, struct sim_nbd_conn *c)
{
	struct sim_run *run = t->run;
	struct sim_nbd_request r = {.type = SIM_NBD_FLUSH};
	bool failed_before = run->failed_flush;
	uint64_t start = sim_model_flush_begin(&run->model);

	conn_ask(co, run, c, &r);
	if (dead(run) || r.error == SIM_NBD_LOST)
		return;
	run->tally->flushes++;
	if (!sim_life_outcome(run, "flush", rc_of(r.error)))
		sim_life_flush_failed(run);
	else if (failed_before)
		sim_violation("G7: a flush succeeded after one had failed");
	else
		sim_model_flush_end(&run->model, start);
}

bool sim_nbd_op(struct co *co, struct sim_task *t)
{
	struct sim_nbd_conn *c;

	if (t->op.kind == SIM_RESIZE || t->op.kind == SIM_DRAIN || t->op.kind == SIM_WRITE_COMPRESSED ||
		sim_op_is_bitmap(t->op.kind))
		return false;
	c = conn_get(co, t->run, &t->op);
	if (!c)
		return true;
	switch (t->op.kind) {
	case SIM_READ: op_read(co, t, c); break;
	case SIM_FLUSH: op_flush(co, t, c); break;
	default: op_change(co, t, c); break;
	}
	sim_nbd_leave(co, c);
	return true;
}

/* ---- the server ---- */

/* What happens on the network alone adds nothing to what a power cut may leave. */
static void settled(struct sim_world *w, void *arg)
{
	struct sim_run *run = arg;
	struct sim_nbd *nbd = run->nbd;

	if (run->disk->changes == nbd->judged_changes && run->model.time == nbd->judged_time && run->cut_in == 0)
		return;
	nbd->judged_changes = run->disk->changes;
	nbd->judged_time = run->model.time;
	sim_judge_settled(w, run);
}

bool sim_nbd_start(struct co *co, struct sim_run *run)
{
	struct sim_nbd *nbd = run->nbd;
	struct nbd_options *o = &nbd->moves.options;
	struct err err = {0};
	int rc = -EIO;

	nbd->disk = (struct export_disk){.name = "disk",
		.description = "of the simulator",
		.node = run->node,
		.writethrough = nbd->writethrough,
		.no_discard = nbd->no_discard};
	nbd->disks[0] = &nbd->disk;
	*o = (struct nbd_options){.address = ADDRESS,
		.disks = nbd->disks,
		.disks_n = 1,
		.connections = nbd->most_conns,
		.handshake_ns = nbd->handshake_ns,
		.grace_ns = nbd->grace_ns};
	nbd->shared = (struct sim_nbd_clients){.least = UINT64_MAX};
	nbd->moves.run = run;
	nbd->moves.clients = &nbd->shared;
	nbd->calm = false;
	nbd->lost_count = 0;
	co_queue_init(&nbd->shared.closed);
	for (unsigned i = 0; i < CLIENTS; i++) {
		nbd->client[i].conn = NULL;
		co_mutex_init(&nbd->client[i].connecting);
	}
	run->world.net.faults = nbd->faults;
	run->world.net.spread = nbd->spread;
	run->world.net.tail = nbd->tail;
	run->world.settled = settled;
	for (unsigned tries = 0; rc && tries < 3 && !dead(run); tries++)
		rc = nbd_export_start(co, o, &nbd->moves.server, &err);
	if (rc && !dead(run))
		sim_violation("the server can't be started: %s", err.text);
	if (rc == 0)
		sim_nbd_moves_begin(co, &nbd->moves);
	return rc == 0;
}

static void wait_tasks(struct co *co, struct sim_run *run)
{
	while (run->in_flight > 0)
		co_queue_wait(co, &run->freed);
}

/* The network behaves from now on: what is asked must be answered, as well as the disk permits. */
static void calm_down(struct co *co, struct sim_run *run)
{
	struct sim_op flush = {.kind = SIM_FLUSH}, read = {.kind = SIM_READ};

	run->world.net.faults = (struct sim_net_faults){0};
	run->world.net.spread = run->world.net.tail = 0;
	wait_tasks(co, run);
	run->nbd->calm = true;
	read.sectors = (uint32_t)(run->guest_bytes / SIM_SECTOR);
	sim_life_start(run, &flush);
	sim_life_start(run, &read);
	wait_tasks(co, run);
}

static void clients_end(struct co *co, struct sim_nbd *nbd)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (nbd->client[i].conn)
			sim_nbd_leave(co, take(nbd->client[i].conn));
	}
	while (nbd->shared.connections > 0)
		co_queue_wait(co, &nbd->shared.closed);
}

/* What was lost has been carried out or never will. */
static void lost_end(struct sim_run *run)
{
	struct sim_nbd *nbd = run->nbd;

	for (uint32_t i = 0; i < nbd->lost_count && !dead(run); i++)
		sim_model_write_end(
			&run->model, nbd->lost[i].first, nbd->lost[i].sectors, nbd->lost[i].start, SIM_UNCERTAIN);
	nbd->lost_count = 0;
}

void sim_nbd_stop(struct co *co, struct sim_run *run)
{
	struct sim_nbd *nbd = run->nbd;

	if (!dead(run) && sim_one_in(&nbd->rng, nbd->idle_stop_in))
		calm_down(co, run);
	nbd->shared.stopping = true;
	sim_nbd_moves_end(co, &nbd->moves);
	struct export *server = take(nbd->moves.server);

	server->ops->stop(co, server);
	wait_tasks(co, run);
	clients_end(co, nbd);
	lost_end(run);
	run->world.settled = sim_judge_settled;
}
