/* SPDX-License-Identifier: MIT */
/* The NBD server as a whole: limits, many at once, clients that misbehave, and its end. */
#include "rig.h"

static void end(struct co *co, struct rig *rig, struct client *c)
{
	client_close(co, c);
	rig_stop(co, rig);
}

/* Until it is so, or for five seconds. */
#define WAIT_FOR(co, condition)                                                                                        \
	do {                                                                                                           \
		for (unsigned tries_ = 0; !(condition) && tries_ < 500; tries_++)                                      \
			co_sleep(co, 10 * MS);                                                                         \
		CHECK(condition);                                                                                      \
	} while (0)

static void too_many_connections_are_closed(struct co *co)
{
	struct client c[3], late;
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){.connections = 3});
	for (unsigned i = 0; i < 3; i++)
		client_start(co, &rig, &c[i], MODE_SIMPLE);
	client_connect(co, &rig, &late);
	client_expect_end(co, &late);
	client_close(co, &late);
	client_close(co, &c[1]);
	/* The place becomes free when the server has noticed. */
	for (unsigned tries = 0;; tries++) {
		uint8_t byte;

		CHECK(tries < 100);
		client_connect(co, &rig, &late);
		if (io_recv(co, late.sock, &byte, 1) == 1)
			break;
		client_close(co, &late);
		co_sleep(co, 10 * MS);
	}
	client_close(co, &late);
	for (unsigned i = 0; i < 3; i += 2) {
		CHECK_INT(client_do(co, &c[i], NBD_CMD_FLUSH, 0, 0, 0), 0);
		client_close(co, &c[i]);
	}
	rig_stop(co, &rig);
}

/* However it dawdles: it says nothing at all, or a byte now and then. */
static void slow_handshake_is_ended(struct co *co)
{
	struct client silent, dripping, quick;
	struct nbd_greeting_wire greeting;
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){.handshake_ns = 300 * MS});
	client_start(co, &rig, &quick, MODE_SIMPLE);
	client_connect(co, &rig, &silent);
	client_connect(co, &rig, &dripping);

	uint64_t start = co_now(co);
	bool ended = false;

	client_greet(co, &dripping, CLIENT_FLAGS);
	for (unsigned i = 0; i < 16 && !ended; i++) {
		co_sleep(co, 50 * MS);
		ended = io_send(co, dripping.sock, IOV_BUF(&"IHAVEOPT\0\0\0\3\0\0\0\0"[i], 1)) < 0;
	}
	if (!ended)
		client_expect_end(co, &dripping);
	client_recv(co, &silent, &greeting, sizeof(greeting));
	client_expect_end(co, &silent);
	CHECK(co_now(co) - start < 3000 * MS);
	client_close(co, &dripping);
	client_close(co, &silent);
	co_sleep(co, 400 * MS);
	CHECK_INT(client_do(co, &quick, NBD_CMD_FLUSH, 0, 0, 0), 0);
	end(co, &rig, &quick);
}

/* Cut off at every byte of a write, header and payload. */
static void clients_that_vanish(struct co *co)
{
	static char data[100000];
	struct rig rig;
	struct client c;

	rig_start(co, &rig, (struct nbd_options){0});
	for (uint32_t sent = 0; sent < 28; sent++) {
		static const char header[28] = {0x25, 0x60, (char)0x95, 0x13, 0, 0, 0, 1};

		client_start(co, &rig, &c, MODE_SIMPLE);
		client_send(co, &c, header, sent);
		client_close(co, &c);
	}
	for (uint32_t sent = 0; sent < sizeof(data); sent += 14285) {
		client_start(co, &rig, &c, MODE_SIMPLE);
		client_request(co, &c, NBD_CMD_WRITE, 0, 0, sizeof(data));
		client_send(co, &c, data, sent);
		client_close(co, &c);
	}
	client_start(co, &rig, &c, MODE_SIMPLE);
	CHECK_INT(rig.mem->writes, 0);
	CHECK_INT(client_do_write(co, &c, 0, 0, data, sizeof(data)), 0);
	end(co, &rig, &c);
}

/* A client that is gone before its replies: what it wrote is written all the same. */
static void vanish_with_requests_in_flight(struct co *co)
{
	static char data[4096];
	struct rig rig;
	struct client c;

	rig_start(co, &rig, (struct nbd_options){0});
	memset(data, 5, sizeof(data));
	rig.mem->hold = true;
	client_start(co, &rig, &c, MODE_STRUCTURED);
	for (unsigned i = 0; i < 40; i++) {
		client_write(co, &c, 0, i * sizeof(data), data, sizeof(data));
		client_request(co, &c, NBD_CMD_READ, 0, 1 << 20, 1 << 20);
	}
	WAIT_FOR(co, rig.mem->in_flight == 80);
	client_close(co, &c);
	co_sleep(co, 50 * MS);
	mem_release(rig.mem);
	WAIT_FOR(co, rig.mem->in_flight == 0);
	for (unsigned i = 0; i < 40; i++)
		CHECK(memcmp(rig.mem->data + i * sizeof(data), data, sizeof(data)) == 0);
	rig_stop(co, &rig);
}

/* No more than 128 requests are taken at once; the others wait in the socket. */
static void requests_in_flight_are_bounded(struct co *co)
{
	enum { N = 300 };
	bool seen[N] = {0};
	struct rig rig;
	struct client c;

	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &c, MODE_SIMPLE);
	rig.mem->hold = true;
	for (unsigned i = 0; i < N; i++)
		client_request(co, &c, NBD_CMD_READ, 0, 512 * i, 512);
	WAIT_FOR(co, rig.mem->in_flight == 128);
	co_sleep(co, 50 * MS);
	CHECK_INT(rig.mem->reads, 128);
	mem_release(rig.mem);
	for (unsigned i = 0; i < N; i++) {
		struct nbd_simple_reply_wire wire;
		char data[512];

		client_recv(co, &c, &wire, sizeof(wire));
		client_recv(co, &c, data, sizeof(data));

		uint64_t index = N + be64_get(wire.cookie) - c.next_cookie;

		CHECK(be32_get(wire.error) == 0 && index < N && !seen[index]);
		seen[index] = true;
	}
	CHECK_INT(rig.mem->most_in_flight, 128);
	end(co, &rig, &c);
}

/* No more than 64 MiB are held for one client, who gets everything in the end. */
static void payload_in_flight_is_bounded(struct co *co)
{
	enum { N = 12, BYTES = 16 << 20 };
	char *data = malloc(BYTES);
	struct rig rig;
	struct client c;

	CHECK(data != NULL);
	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &c, MODE_SIMPLE);
	rig.mem->hold = true;
	for (unsigned i = 0; i < N; i++)
		client_request(co, &c, NBD_CMD_READ, 0, i << 20, BYTES);
	WAIT_FOR(co, rig.mem->in_flight == 4);
	co_sleep(co, 50 * MS);
	CHECK_INT(rig.mem->reads, 4);
	mem_release(rig.mem);
	for (unsigned i = 0; i < N; i++) {
		struct nbd_simple_reply_wire wire;

		client_recv(co, &c, &wire, sizeof(wire));
		CHECK_INT(be32_get(wire.error), 0);
		client_recv(co, &c, data, BYTES);
	}
	CHECK_INT(rig.mem->most_in_flight, 4);
	free(data);
	end(co, &rig, &c);
}

/* MULTI_CONN: a flush on one connection is the flush of what completed on the other. */
static void flush_across_connections(struct co *co)
{
	static char data[4096];
	struct client a, b;
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){0});
	CHECK(client_start(co, &rig, &a, MODE_SIMPLE) & NBD_FLAG_CAN_MULTI_CONN);
	CHECK(client_start(co, &rig, &b, MODE_SIMPLE) & NBD_FLAG_CAN_MULTI_CONN);
	memset(data, 9, sizeof(data));
	CHECK_INT(client_do_write(co, &a, 0, 0, data, sizeof(data)), 0);
	CHECK_INT(rig.mem->flushes, 0);
	CHECK_INT(client_do(co, &b, NBD_CMD_FLUSH, 0, 0, 0), 0);
	CHECK_INT(rig.mem->flushes, 1);
	CHECK_INT(client_do(co, &b, NBD_CMD_READ, 0, 0, sizeof(data)), 0);
	char got[4096];

	client_recv(co, &b, got, sizeof(got));
	CHECK(memcmp(got, data, sizeof(got)) == 0);
	client_close(co, &a);
	end(co, &rig, &b);
}

/* A disconnect is obeyed after what came before it. */
static void disconnect_answers_what_came_before(struct co *co)
{
	struct rig rig;
	struct client c;
	uint64_t cookie;
	char data[512];

	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &c, MODE_SIMPLE);
	rig.mem->hold = true;
	cookie = client_request(co, &c, NBD_CMD_READ, 0, 0, sizeof(data));
	client_request(co, &c, NBD_CMD_DISC, 0, 0, 0);
	co_sleep(co, 30 * MS);
	mem_release(rig.mem);
	CHECK_INT(client_simple(co, &c, cookie), 0);
	client_recv(co, &c, data, sizeof(data));
	client_expect_end(co, &c);
	end(co, &rig, &c);
}

static void over_tcp(struct co *co)
{
	struct rig rig;
	struct client c;

	rig_start(co, &rig, (struct nbd_options){.address = "127.0.0.1:0"});
	client_start(co, &rig, &c, MODE_STRUCTURED);
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	end(co, &rig, &c);
}

/* Many of them, so that together they hold the whole budget: who keeps his own is served meanwhile, and who waits for
 * more is served when they have been shown out. */
static void who_takes_nothing_is_shown_out(struct co *co)
{
	enum { GREEDY = 6, BYTES = 16 << 20 };
	struct client greedy[GREEDY], honest;
	struct rig rig;
	char *data = malloc(BYTES);

	CHECK(data != NULL);
	rig_start(co, &rig, (struct nbd_options){.patience_ns = 2000 * MS});
	for (unsigned i = 0; i < GREEDY; i++) {
		client_start(co, &rig, &greedy[i], MODE_SIMPLE);
		for (unsigned n = 0; n < 8; n++)
			client_request(co, &greedy[i], NBD_CMD_READ, 0, 0, BYTES);
	}
	client_start(co, &rig, &honest, MODE_SIMPLE);
	CHECK_INT(client_do(co, &honest, NBD_CMD_READ, 0, 0, 4096), 0);
	client_recv(co, &honest, data, 4096);
	CHECK_INT(rig.server->stats.refused, 0);
	CHECK_INT(client_do(co, &honest, NBD_CMD_READ, 0, 0, BYTES), 0);
	client_recv(co, &honest, data, BYTES);
	CHECK_INT(client_do(co, &honest, NBD_CMD_FLUSH, 0, 0, 0), 0);
	CHECK(rig.server->stats.refused >= 1);
	while (rig.server->stats.refused < 4) /* all of those who held it all, each when his patience is over */
		co_sleep(co, 10 * MS);
	for (unsigned i = 0; i < GREEDY; i++)
		client_close(co, &greedy[i]);
	free(data);
	end(co, &rig, &honest);
}

static void address_in_use_is_explained(struct co *co)
{
	struct export *second;
	struct err err = {0};
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){0});
	struct nbd_options again = {
		.address = nbd_export_address(rig.server), .disks = rig.disks, .disks_n = ARRAY_ENTRIES(rig.disks)};

	CHECK(nbd_export_start(co, &again, &second, &err) < 0);
	CHECK(strlen(err.text) > 0);
	rig_stop(co, &rig);
}

/* ---- the end ---- */

struct stopping {
	struct rig *rig;
	bool done;
};

static void stop_entry(struct co *co, void *arg)
{
	struct stopping *s = arg;

	s->rig->server->ops->stop(co, s->rig->server);
	s->done = true;
}

static void stop_answers_what_was_received(struct co *co)
{
	static char data[4096];
	struct client c, idle, new;
	struct rig rig;
	struct stopping s = {.rig = &rig};

	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &idle, MODE_SIMPLE);
	client_start(co, &rig, &c, MODE_SIMPLE);
	client_connect(co, &rig, &new);
	rig.mem->hold = true;

	uint64_t cookie = client_write(co, &c, 0, 0, data, sizeof(data));
	uint64_t start = co_now(co);

	WAIT_FOR(co, rig.mem->in_flight == 1);
	CHECK_INT(co_spawn(co_sched_of(co), "stop", stop_entry, &s), 0);
	client_expect_end(co, &idle);
	CHECK(!s.done);
	mem_release(rig.mem);
	CHECK_INT(client_simple(co, &c, cookie), 0);
	client_expect_end(co, &c);
	WAIT_FOR(co, s.done);
	CHECK(co_now(co) - start < 2000 * MS);
	client_close(co, &idle);
	client_close(co, &new);
	client_close(co, &c);
	CHECK_INT(node_close(co, &rig.mem->node), 0);
}

/* One has asked for more than the sockets hold and reads nothing, one is in the middle of a payload. */
static void stop_does_not_wait_for_ever(struct co *co)
{
	struct client reader, writer;
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){.grace_ns = 300 * MS});
	client_start(co, &rig, &reader, MODE_SIMPLE);
	for (unsigned i = 0; i < 8; i++)
		client_request(co, &reader, NBD_CMD_READ, 0, 0, 16 << 20);
	client_start(co, &rig, &writer, MODE_SIMPLE);
	client_request(co, &writer, NBD_CMD_WRITE, 0, 0, 1 << 20);
	co_sleep(co, 50 * MS);

	uint64_t start = co_now(co);

	rig.server->ops->stop(co, rig.server);
	CHECK(co_now(co) - start >= 300 * MS);
	CHECK(co_now(co) - start < 3000 * MS);
	CHECK_INT(rig.mem->writes, 0);
	client_close(co, &reader);
	client_close(co, &writer);
	CHECK_INT(node_close(co, &rig.mem->node), 0);
}

/* A client that never pauses can't keep the server from ending. */
static void busy_client(struct co *co, void *arg)
{
	struct client *c = arg;
	struct nbd_request_wire wire = {.magic = be32_of(NBD_REQUEST_MAGIC), .type = be16_of(NBD_CMD_FLUSH)};
	char sink[4096];

	while (io_send(co, c->sock, IOV_BUF(&wire, sizeof(wire))) == 0 && io_recv(co, c->sock, sink, sizeof(sink)) > 0)
		;
}

static void stop_under_load(struct co *co)
{
	struct client c[4];
	struct co_group group;
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){0});
	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 0; i < 4; i++) {
		client_start(co, &rig, &c[i], MODE_SIMPLE);
		CHECK_INT(co_group_spawn(&group, "busy", busy_client, &c[i]), 0);
	}
	co_sleep(co, 100 * MS);
	CHECK(rig.mem->flushes > 0);

	uint64_t start = co_now(co);

	rig.server->ops->stop(co, rig.server);
	CHECK(co_now(co) - start < 2000 * MS);
	co_group_wait(co, &group);
	for (unsigned i = 0; i < 4; i++)
		client_close(co, &c[i]);
	CHECK_INT(node_close(co, &rig.mem->node), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(too_many_connections_are_closed),
		TEST(slow_handshake_is_ended),
		TEST(clients_that_vanish),
		TEST(vanish_with_requests_in_flight),
		TEST(requests_in_flight_are_bounded),
		TEST(payload_in_flight_is_bounded),
		TEST(flush_across_connections),
		TEST(disconnect_answers_what_came_before),
		TEST(over_tcp),
		TEST(who_takes_nothing_is_shown_out),
		TEST(address_in_use_is_explained),
		TEST(stop_answers_what_was_received),
		TEST(stop_does_not_wait_for_ever),
		TEST(stop_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
