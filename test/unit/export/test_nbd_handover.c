/* SPDX-License-Identifier: MIT */
/* The NBD server changes hands, and its clients don't notice. */
#include <unistd.h>

#include "move.h"
#include "rig.h"

static struct export *restore(struct co *co, struct rig *rig, struct export_state *state)
{
	struct nbd_options o = {.state = state, .disks = rig->disks, .disks_n = 1};
	struct export *e = NULL;
	struct err err = {0};

	CHECK_INT(nbd_export_start(co, &o, &e, &err), 0);
	return e;
}

static void hand_over(struct co *co, struct rig *rig)
{
	struct export *old = rig->server;
	struct export_state state;

	move_out(co, old, &state);
	rig->server = restore(co, rig, &state);
	move_in(co, old, rig->server, &state);
}

static void take_back(struct co *co, struct rig *rig) { move_back(co, rig->server); }

typedef void change(struct co *co, struct rig *rig);
static change *const changes[] = {hand_over, take_back};

static void read_is(struct co *co, struct client *c, uint64_t off, const uint8_t *want, uint32_t len, int mode)
{
	uint8_t *got = malloc(len);
	uint64_t cookie = client_request(co, c, NBD_CMD_READ, 0, off, len);
	struct chunk chunk;
	be64 at;

	if (mode == MODE_SIMPLE) {
		CHECK_INT(client_simple(co, c, cookie), 0);
	} else {
		client_chunk(co, c, &chunk);
		CHECK_INT(chunk.type, NBD_REPLY_TYPE_OFFSET_DATA);
		CHECK_INT(chunk.cookie, cookie);
		client_recv(co, c, &at, sizeof(at));
	}
	client_recv(co, c, got, len);
	CHECK(memcmp(got, want, len) == 0);
	free(got);
}

static void a_connection_stays(struct co *co)
{
	static const int modes[] = {MODE_SIMPLE, MODE_STRUCTURED, MODE_CONTEXTS};
	uint8_t data[4096];
	struct client c[3], late;
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){0});
	for (unsigned i = 0; i < 3; i++)
		client_start(co, &rig, &c[i], modes[i]);
	for (unsigned round = 0; round < 6; round++) {
		memset(data, 1 + (int)round, sizeof(data));
		CHECK_INT(client_do_write(co, &c[0], 0, round * 4096, data, sizeof(data)), 0);
		changes[round % 2](co, &rig);
		for (unsigned i = 0; i < 3; i++)
			read_is(co, &c[i], round * 4096, data, sizeof(data), modes[i]);
	}
	CHECK_INT(rig.server->ops->clients(rig.server, &rig.disk), 3);
	client_start(co, &rig, &late, MODE_SIMPLE);
	client_close(co, &late);
	for (unsigned i = 0; i < 3; i++)
		client_close(co, &c[i]);
	rig_stop(co, &rig);
}

/* The selection, and its numbers. */
static void contexts_stay(struct co *co)
{
	struct client c;
	struct chunk chunk;
	struct rig rig;
	be32 payload[3];
	uint64_t cookie;

	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &c, MODE_CONTEXTS);
	hand_over(co, &rig);
	cookie = client_request(co, &c, NBD_CMD_BLOCK_STATUS, 0, 0, 4096);
	client_chunk(co, &c, &chunk);
	CHECK_INT(chunk.type, NBD_REPLY_TYPE_BLOCK_STATUS);
	CHECK_INT(chunk.cookie, cookie);
	CHECK_INT(chunk.len, sizeof(payload));
	client_recv(co, &c, payload, sizeof(payload));
	CHECK_INT(be32_get(payload[0]), 1);
	CHECK_INT(be32_get(payload[1]), 4096);
	client_close(co, &c);
	rig_stop(co, &rig);
}

/* However much of it had come: it is carried out once, whole. */
static void a_request_in_part_goes_on(struct co *co)
{
	static const uint32_t lens[] = {512, 8192, 300000};
	struct nbd_request_wire wire = {.magic = be32_of(NBD_REQUEST_MAGIC), .type = be16_of(NBD_CMD_WRITE)};
	uint8_t *bytes = malloc(sizeof(wire) + 300000);
	unsigned rounds = 0;
	struct client c;
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &c, MODE_SIMPLE);
	for (unsigned l = 0; l < ARRAY_ENTRIES(lens); l++) {
		size_t total = sizeof(wire) + lens[l];
		const size_t cuts[] = {1, sizeof(wire) - 1, sizeof(wire), sizeof(wire) + 100, total - 70000, total - 1};

		for (unsigned i = 0; i < ARRAY_ENTRIES(cuts); i++) {
			if (cuts[i] >= total)
				continue;
			wire.cookie = be64_of(++rounds);
			wire.len = be32_of(lens[l]);
			memcpy(bytes, &wire, sizeof(wire));
			for (uint32_t k = 0; k < lens[l]; k++)
				bytes[sizeof(wire) + k] = (uint8_t)(k * 7 + rounds);
			client_send(co, &c, bytes, cuts[i]);
			co_sleep(co, MS);
			changes[rounds % 2](co, &rig);
			co_sleep(co, MS);
			changes[rounds / 2 % 2](co, &rig);
			CHECK_INT(rig.mem->writes, rounds - 1);
			client_send(co, &c, bytes + cuts[i], total - cuts[i]);
			CHECK_INT(client_simple(co, &c, rounds), 0);
			CHECK(memcmp(rig.mem->data, bytes + sizeof(wire), lens[l]) == 0);
			CHECK_INT(rig.mem->writes, rounds);
		}
	}
	free(bytes);
	client_close(co, &c);
	rig_stop(co, &rig);
}

/* One that is refused is answered, and the rest of its data is nobody's request. */
static void what_is_skipped_stays_skipped(struct co *co)
{
	uint8_t *data = calloc(1, 100000);
	struct client c;
	struct rig rig;
	uint64_t cookie;

	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &c, MODE_SIMPLE);
	for (unsigned i = 0; i < ARRAY_ENTRIES(changes); i++) {
		cookie = client_request(co, &c, NBD_CMD_WRITE, 0, DISK_BYTES, 100000);
		client_send(co, &c, data, 40000);
		co_sleep(co, MS);
		changes[i](co, &rig);
		CHECK_INT(client_simple(co, &c, cookie), NBD_ENOSPC);
		client_send(co, &c, data, 60000);
		CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	}
	free(data);
	client_close(co, &c);
	rig_stop(co, &rig);
}

struct release {
	struct mem *mem;
};

static void release_entry(struct co *co, void *arg)
{
	struct release *r = arg;

	co_sleep(co, 30 * MS);
	mem_release(r->mem);
}

static void what_was_received_is_answered(struct co *co)
{
	uint8_t data[512] = {5};
	struct co_group group;
	struct client c;
	struct rig rig;
	struct release r;
	uint64_t cookie;

	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &c, MODE_SIMPLE);
	rig.mem->hold = true;
	cookie = client_write(co, &c, 0, 0, data, sizeof(data));
	while (rig.mem->in_flight == 0)
		co_sleep(co, MS);
	r.mem = rig.mem;
	co_group_init(&group, co_sched_of(co));
	CHECK_INT(co_group_spawn(&group, "release", release_entry, &r), 0);
	hand_over(co, &rig);
	CHECK_INT(rig.mem->writes, 1);
	CHECK_INT(client_simple(co, &c, cookie), 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	co_group_wait(co, &group);
	client_close(co, &c);
	rig_stop(co, &rig);
}

static void who_takes_no_replies_is_shown_out(struct co *co)
{
	struct client greedy, patient;
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &greedy, MODE_SIMPLE);
	client_start(co, &rig, &patient, MODE_SIMPLE);
	client_request(co, &greedy, NBD_CMD_READ, 0, 0, 16 << 20);
	co_sleep(co, 50 * MS);
	hand_over(co, &rig);
	CHECK_INT(rig.server->ops->clients(rig.server, &rig.disk), 1);
	CHECK_INT(client_do(co, &patient, NBD_CMD_FLUSH, 0, 0, 0), 0);
	client_close(co, &greedy);
	client_close(co, &patient);
	rig_stop(co, &rig);
}

static void handshake_entry(struct co *co, void *arg)
{
	struct client *c = arg;

	client_greet(co, c, CLIENT_FLAGS);
	co_sleep(co, 20 * MS);
	client_go(co, c, MODE_STRUCTURED);
}

static void a_handshake_is_waited_for(struct co *co)
{
	struct co_group group;
	struct nbd_greeting_wire greeting;
	struct client c, silent;
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){0});
	client_connect(co, &rig, &c);
	co_group_init(&group, co_sched_of(co));
	CHECK_INT(co_group_spawn(&group, "handshake", handshake_entry, &c), 0);
	co_sleep(co, 5 * MS);
	hand_over(co, &rig);
	co_group_wait(co, &group);
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	client_connect(co, &rig, &silent);
	co_sleep(co, 5 * MS);
	hand_over(co, &rig);
	client_recv(co, &silent, &greeting, sizeof(greeting));
	client_expect_end(co, &silent);
	client_close(co, &silent);
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	client_close(co, &c);
	rig_stop(co, &rig);
}

/* What was promised to a client must hold, or it is told to come again. */
static void a_disk_that_has_changed_ends_connections(struct co *co)
{
	struct client c, again;
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &c, MODE_SIMPLE);
	rig.disk.read_only = true;
	hand_over(co, &rig);
	client_expect_end(co, &c);
	client_close(co, &c);
	CHECK(client_start(co, &rig, &again, MODE_SIMPLE) & NBD_FLAG_READ_ONLY);
	rig.mem->node.size -= 4096;
	hand_over(co, &rig);
	client_expect_end(co, &again);
	rig.mem->node.size += 4096;
	client_close(co, &again);
	rig_stop(co, &rig);
}

static void the_path_goes_with_the_listener(struct co *co)
{
	char path[64];
	struct rig rig;

	rig_start(co, &rig, (struct nbd_options){0});
	snprintf(path, sizeof(path), "%s", nbd_export_address(rig.server) + 5);
	hand_over(co, &rig);
	CHECK_INT(access(path, F_OK), 0);
	CHECK(strcmp(nbd_export_address(rig.server) + 5, path) == 0);
	rig_stop(co, &rig);
	CHECK_INT(access(path, F_OK), -1);
}

/* Nothing of a state that isn't whole leads anywhere, and every descriptor is closed. */
static void half_a_state_is_refused(struct co *co)
{
	struct export_state state, part;
	struct nbd_options o = {.state = &part};
	struct client c;
	struct rig rig;
	struct export *e;
	struct err err;

	rig_start(co, &rig, (struct nbd_options){0});
	client_start(co, &rig, &c, MODE_CONTEXTS);
	o.disks = rig.disks;
	o.disks_n = 1;
	move_out(co, rig.server, &state);
	for (size_t len = 0; len < state.len; len++) {
		int fds[2] = {io_fd_dup(state.fd[0]), io_fd_dup(state.fd[1])};

		part = (struct export_state){.bytes = state.bytes, .len = len, .fd = fds, .fds = 2};
		CHECK_INT(nbd_export_start(co, &o, &e, &err), -EPROTO);
		CHECK(close(fds[0]) < 0 && close(fds[1]) < 0);
	}
	move_abandon(co, &state);
	rig.server->ops->thaw(co, rig.server);
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	client_close(co, &c);
	rig_stop(co, &rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_connection_stays),
		TEST(contexts_stay),
		TEST(a_request_in_part_goes_on),
		TEST(what_is_skipped_stays_skipped),
		TEST(what_was_received_is_answered),
		TEST(who_takes_no_replies_is_shown_out),
		TEST(a_handshake_is_waited_for),
		TEST(a_disk_that_has_changed_ends_connections),
		TEST(the_path_goes_with_the_listener),
		TEST(half_a_state_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
