/* SPDX-License-Identifier: MIT */
/* What the tests of the NBD server share; see rig.h. */
#include "rig.h"

#include <unistd.h>

static enum io_engine engine_wanted(void)
{
	const char *name = getenv("CORRAL_AIO");

	return name != NULL && strcmp(name, "threads") == 0 ? IO_THREADS : IO_URING;
}

static void body_entry(struct co *co, void *arg) { ((test_body *)arg)(co); }

void rig_run(void **state)
{
	struct err err = {0};
	struct io *io;

	if (io_new(&io, engine_wanted(), NULL, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(co_main(io_sched(io), "test", body_entry, *state), 0);
	io_free(io);
}

void rig_start(struct co *co, struct rig *rig, struct nbd_options options)
{
	rig_start_disk(co, rig, options, (struct export_disk){0});
}

void rig_start_disk(struct co *co, struct rig *rig, struct nbd_options options, struct export_disk disk)
{
	char address[64];
	struct err err = {0};

	snprintf(address, sizeof(address), "unix:nbd-test-%ld.sock", (long)getpid());
	if (!options.address)
		options.address = address;
	rig->mem = mem_new(co, DISK_BYTES);
	CHECK(rig->mem != NULL);
	rig->disk = disk;
	rig->disk.node = &rig->mem->node;
	if (!disk.name)
		rig->disk.name = "";
	rig->disks[0] = &rig->disk;
	options.disks = rig->disks;
	options.disks_n = 1;
	if (nbd_export_start(co, &options, &rig->server, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

void rig_stop(struct co *co, struct rig *rig)
{
	rig->server->ops->stop(co, rig->server);
	CHECK_INT(node_close(co, &rig->mem->node), 0);
}

/* ---- the stream ---- */

void client_connect(struct co *co, struct rig *rig, struct client *c)
{
	struct err err = {0};

	*c = (struct client){.next_cookie = 0x1122334455667788};
	if (io_connect(co, nbd_export_address(rig->server), &c->sock, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

void client_close(struct co *co, struct client *c) { io_sock_close(co, take(c->sock)); }

void client_send(struct co *co, struct client *c, const void *data, size_t len)
{
	CHECK_INT(io_send(co, c->sock, IOV_BUF(data, len)), 0);
}

void client_recv(struct co *co, struct client *c, void *to, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t r = io_recv(co, c->sock, (char *)to + got, len - got);

		CHECK(r > 0);
		got += r;
	}
}

void client_expect_end(struct co *co, struct client *c)
{
	char byte;

	CHECK(io_recv(co, c->sock, &byte, 1) <= 0);
}

/* ---- the handshake ---- */

void client_greet(struct co *co, struct client *c, uint32_t flags)
{
	struct nbd_greeting_wire greeting;
	be32 wire = be32_of(flags);

	client_recv(co, c, &greeting, sizeof(greeting));
	CHECK(be64_get(greeting.magic) == NBD_MAGIC);
	CHECK(be64_get(greeting.option_magic) == NBD_OPTION_MAGIC);
	CHECK_INT(be16_get(greeting.flags), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	client_send(co, c, &wire, sizeof(wire));
}

void client_option(struct co *co, struct client *c, uint32_t option, const void *data, size_t len)
{
	struct nbd_option_wire wire = {
		.magic = be64_of(NBD_OPTION_MAGIC),
		.option = be32_of(option),
		.len = be32_of(len),
	};

	client_send(co, c, &wire, sizeof(wire));
	if (len > 0)
		client_send(co, c, data, len);
}

void client_option_reply(struct co *co, struct client *c, struct option_reply *out)
{
	struct nbd_option_reply_wire wire;

	client_recv(co, c, &wire, sizeof(wire));
	CHECK(be64_get(wire.magic) == NBD_REP_MAGIC);
	out->option = be32_get(wire.option);
	out->type = be32_get(wire.type);
	out->len = be32_get(wire.len);
	CHECK(out->len <= sizeof(out->data));
	client_recv(co, c, out->data, out->len);
}

void client_expect(struct co *co, struct client *c, uint32_t option, uint32_t type)
{
	struct option_reply reply;

	client_option_reply(co, c, &reply);
	CHECK_INT(reply.option, option);
	CHECK_INT(reply.type, type);
}

static size_t put_u32(uint8_t *buf, uint32_t v)
{
	be32 wire = be32_of(v);

	memcpy(buf, &wire, sizeof(wire));
	return sizeof(wire);
}

static size_t put_u16(uint8_t *buf, uint16_t v)
{
	be16 wire = be16_of(v);

	memcpy(buf, &wire, sizeof(wire));
	return sizeof(wire);
}

static size_t put_string(uint8_t *buf, const char *text)
{
	size_t at = put_u32(buf, strlen(text));

	memcpy(buf + at, text, strlen(text));
	return at + strlen(text);
}

size_t make_go(uint8_t *buf, const char *name, unsigned infos, const uint16_t *info)
{
	size_t at = put_string(buf, name);

	at += put_u16(buf + at, infos);
	for (unsigned i = 0; i < infos; i++)
		at += put_u16(buf + at, info[i]);
	return at;
}

size_t make_meta(uint8_t *buf, const char *name, unsigned queries, const char *const *query)
{
	size_t at = put_string(buf, name);

	at += put_u32(buf + at, queries);
	for (unsigned i = 0; i < queries; i++)
		at += put_string(buf + at, query[i]);
	return at;
}

static void client_select(struct co *co, struct client *c)
{
	uint8_t data[64];
	size_t len = make_meta(data, "", 1, (const char *[]){"base:allocation"});

	client_option(co, c, NBD_OPT_SET_META_CONTEXT, data, len);
	client_expect(co, c, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT);
	client_expect(co, c, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
}

uint16_t client_go(struct co *co, struct client *c, int mode)
{
	struct nbd_info_export_wire info;
	struct option_reply reply;
	uint8_t data[64];
	size_t len = make_go(data, "", 0, NULL);

	if (mode != MODE_SIMPLE) {
		client_option(co, c, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
		client_expect(co, c, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
	}
	if (mode == MODE_CONTEXTS)
		client_select(co, c);
	client_option(co, c, NBD_OPT_GO, data, len);
	client_option_reply(co, c, &reply);
	CHECK_INT(reply.type, NBD_REP_INFO);
	CHECK_INT(reply.len, sizeof(info));
	memcpy(&info, reply.data, sizeof(info));
	CHECK_INT(be16_get(info.type), NBD_INFO_EXPORT);
	CHECK_INT(be64_get(info.size), DISK_BYTES);
	client_expect(co, c, NBD_OPT_GO, NBD_REP_ACK);
	return be16_get(info.flags);
}

uint16_t client_start(struct co *co, struct rig *rig, struct client *c, int mode)
{
	client_connect(co, rig, c);
	client_greet(co, c, CLIENT_FLAGS);
	return client_go(co, c, mode);
}

/* ---- transmission ---- */

uint64_t client_request(struct co *co, struct client *c, unsigned type, unsigned flags, uint64_t offset, uint32_t len)
{
	uint64_t cookie = c->next_cookie++;
	struct nbd_request_wire wire = {
		.magic = be32_of(NBD_REQUEST_MAGIC),
		.flags = be16_of(flags),
		.type = be16_of(type),
		.cookie = be64_of(cookie),
		.offset = be64_of(offset),
		.len = be32_of(len),
	};

	client_send(co, c, &wire, sizeof(wire));
	return cookie;
}

uint64_t client_write(struct co *co, struct client *c, unsigned flags, uint64_t offset, const void *data, uint32_t len)
{
	uint64_t cookie = client_request(co, c, NBD_CMD_WRITE, flags, offset, len);

	client_send(co, c, data, len);
	return cookie;
}

uint32_t client_simple(struct co *co, struct client *c, uint64_t cookie)
{
	struct nbd_simple_reply_wire wire;

	client_recv(co, c, &wire, sizeof(wire));
	CHECK_INT(be32_get(wire.magic), NBD_SIMPLE_REPLY_MAGIC);
	CHECK_INT(be64_get(wire.cookie), cookie);
	return be32_get(wire.error);
}

void client_chunk(struct co *co, struct client *c, struct chunk *out)
{
	struct nbd_chunk_wire wire;

	client_recv(co, c, &wire, sizeof(wire));
	CHECK_INT(be32_get(wire.magic), NBD_STRUCTURED_REPLY_MAGIC);
	*out = (struct chunk){
		.flags = be16_get(wire.flags),
		.type = be16_get(wire.type),
		.cookie = be64_get(wire.cookie),
		.len = be32_get(wire.len),
	};
}

uint32_t client_error_chunk(struct co *co, struct client *c, uint64_t cookie)
{
	struct nbd_error_wire wire;
	struct chunk chunk;

	client_chunk(co, c, &chunk);
	CHECK_INT(chunk.type, NBD_REPLY_TYPE_ERROR);
	CHECK_INT(chunk.flags, NBD_REPLY_FLAG_DONE);
	CHECK_INT(chunk.cookie, cookie);
	CHECK_INT(chunk.len, sizeof(wire));
	client_recv(co, c, &wire, sizeof(wire));
	CHECK_INT(be16_get(wire.message_len), 0);
	return be32_get(wire.error);
}

uint32_t client_do(struct co *co, struct client *c, unsigned type, unsigned flags, uint64_t offset, uint32_t len)
{
	return client_simple(co, c, client_request(co, c, type, flags, offset, len));
}

uint32_t client_do_write(
	struct co *co, struct client *c, unsigned flags, uint64_t offset, const void *data, uint32_t len)
{
	return client_simple(co, c, client_write(co, c, flags, offset, data, len));
}
