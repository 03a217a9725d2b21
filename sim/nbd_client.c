/* SPDX-License-Identifier: MIT */
/* The bytes of the protocol, as a client sees them: see nbd_client.h. */
#include "nbd_client.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/math.h"
#include "memory.h"
#include "world.h"

#define OPT_EXPORT_NAME 1
#define OPT_LIST 3
#define OPT_INFO 6
#define OPT_GO 7
#define OPT_STRUCTURED 8
#define OPT_SET_META 10
#define OPT_EXTENDED 11
#define REP_ACK 1
#define REP_SERVER 2
#define REP_INFO 3
#define REP_META 4
#define REP_ERROR UINT32_C(0x80000000)
#define REP_UNSUP (REP_ERROR + 1)
#define OPT_UNHEARD_OF 4711
#define STATUS_CONTEXT "base:allocation"
#define REPLY_BYTES 4096 /* of an option */
#define EXTENTS 1024

/* ---- numbers ---- */

static uint64_t number_get(const uint8_t *p, unsigned bytes)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < bytes; i++)
		n = n << 8 | p[i];
	return n;
}

static uint8_t *number_put(uint8_t *p, uint64_t n, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		p[i] = (uint8_t)(n >> 8 * (bytes - 1 - i));
	return p + bytes;
}

/* ---- the stream ---- */

/* The client is busy with other things, and the server's replies have to wait. */
static void stall(struct co *co, struct sim_nbd_conn *c)
{
	uint32_t after = c->wishes.stall_after;

	if (after == 0 || c->received < after)
		return;
	c->wishes.stall_after = 0;
	co_sleep(co, c->wishes.stall_ns);
}

/* 0; 1 at the end of the stream, where it may end; or -errno. */
static int stream_read(struct co *co, struct sim_nbd_conn *c, void *to, size_t bytes, bool may_end)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n;

		stall(co, c);
		n = io_recv(co, c->sock, (uint8_t *)to + done, bytes - done);
		if (n == 0 && done == 0 && may_end)
			return 1;
		if (n <= 0)
			return n < 0 ? (int)n : -ECONNRESET;
		done += (size_t)n;
		c->received += (uint64_t)n;
	}
	return 0;
}

static int stream_write(struct co *co, struct sim_nbd_conn *c, const void *from, size_t bytes)
{
	return io_send(co, c->sock, IOV_BUF(from, bytes));
}

/* ---- handshake ---- */

struct option_reply {
	uint32_t type, len;
	uint8_t data[REPLY_BYTES];
};

static int option_send(struct co *co, struct sim_nbd_conn *c, uint32_t option, const void *data, uint32_t len)
{
	uint8_t head[16];
	int rc;

	number_put(number_put(number_put(head, UINT64_C(0x49484156454f5054), 8), option, 4), len, 4);
	rc = stream_write(co, c, head, sizeof(head));
	return rc == 0 && len > 0 ? stream_write(co, c, data, len) : rc;
}

static int option_receive(struct co *co, struct sim_nbd_conn *c, uint32_t option, struct option_reply *reply)
{
	uint8_t head[20];
	int rc = stream_read(co, c, head, sizeof(head), false);

	if (rc < 0)
		return rc;
	reply->type = (uint32_t)number_get(head + 12, 4);
	reply->len = (uint32_t)number_get(head + 16, 4);
	if (number_get(head, 8) != UINT64_C(0x0003e889045565a9) || number_get(head + 8, 4) != option ||
		reply->len > REPLY_BYTES)
		sim_violation("NBD: a reply to option %" PRIu64 " of type %#x, %u bytes; expected one to %u",
			number_get(head + 8, 4), reply->type, reply->len, option);
	return reply->len ? stream_read(co, c, reply->data, reply->len, false) : 0;
}

static void info_take(struct sim_nbd_conn *c, const struct option_reply *reply)
{
	if (reply->len < 2 || number_get(reply->data, 2) != 0)
		return;
	if (reply->len != 12)
		sim_violation("NBD: NBD_INFO_EXPORT of %u bytes", reply->len);
	c->size = number_get(reply->data + 2, 8);
	c->flags = (uint16_t)number_get(reply->data + 10, 2);
}

static void context_take(struct sim_nbd_conn *c, uint32_t option, const struct option_reply *reply)
{
	if (option != OPT_SET_META || reply->len != 4 + strlen(STATUS_CONTEXT) ||
		memcmp(reply->data + 4, STATUS_CONTEXT, strlen(STATUS_CONTEXT)) != 0)
		sim_violation("NBD: an unexpected metadata context in reply to option %u", option);
	c->allocation = true;
}

/* One option from its request to its last reply: 0, or 1 where the server said no. */
static int option_do(struct co *co, struct sim_nbd_conn *c, uint32_t option, const void *data, uint32_t len)
{
	struct option_reply *reply = sim_alloc(sizeof(*reply));
	int rc = option_send(co, c, option, data, len);

	while (rc == 0) {
		rc = option_receive(co, c, option, reply);
		if (rc < 0 || reply->type == REP_ACK)
			break;
		if (reply->type & REP_ERROR)
			rc = 1;
		else if (reply->type == REP_INFO)
			info_take(c, reply);
		else if (reply->type == REP_META)
			context_take(c, option, reply);
		else if (reply->type != REP_SERVER || option != OPT_LIST)
			sim_violation("NBD: a reply of type %#x to option %u", reply->type, option);
	}
	sim_free(reply);
	return rc;
}

/* An option that the server must know. */
static int option_expect(struct co *co, struct sim_nbd_conn *c, uint32_t option, const void *data, uint32_t len)
{
	int rc = option_do(co, c, option, data, len);

	if (rc == 1)
		sim_violation("NBD: option %u was refused", option);
	return rc;
}

static int look_around(struct co *co, struct sim_nbd_conn *c)
{
	static const uint8_t info[] = {0, 0, 0, 0, 0, 3, 0, 1, 0, 2, 0, 3};
	int rc = option_do(co, c, OPT_UNHEARD_OF, "whatever", 8);

	if (rc == 0)
		sim_violation("NBD: an option that nobody knows was accepted");
	if (rc == 1)
		rc = option_expect(co, c, OPT_LIST, NULL, 0);
	return rc == 0 ? option_expect(co, c, OPT_INFO, info, sizeof(info)) : rc;
}

static int context_choose(struct co *co, struct sim_nbd_conn *c)
{
	uint8_t data[64];
	uint8_t *p = number_put(data, 0, 4);

	p = number_put(p, 1, 4);
	p = number_put(p, strlen(STATUS_CONTEXT), 4);
	memcpy(p, STATUS_CONTEXT, strlen(STATUS_CONTEXT));
	return option_expect(co, c, OPT_SET_META, data, (uint32_t)(p - data + strlen(STATUS_CONTEXT)));
}

static int haggle(struct co *co, struct sim_nbd_conn *c)
{
	int rc = c->wishes.look_around ? look_around(co, c) : 0;

	if (rc == 0 && c->wishes.extended) {
		rc = option_expect(co, c, OPT_EXTENDED, NULL, 0);
		c->structured = c->extended = rc == 0;
	} else if (rc == 0 && c->wishes.structured) {
		rc = option_expect(co, c, OPT_STRUCTURED, NULL, 0);
		c->structured = rc == 0;
	}
	if (rc == 0 && c->structured && c->wishes.allocation)
		rc = context_choose(co, c);
	return rc;
}

static int export_name(struct co *co, struct sim_nbd_conn *c)
{
	uint8_t export[10 + 124];
	int rc = option_send(co, c, OPT_EXPORT_NAME, NULL, 0);

	if (rc == 0)
		rc = stream_read(co, c, export, c->wishes.no_zeroes ? 10 : sizeof(export), false);
	if (rc < 0)
		return rc;
	c->size = number_get(export, 8);
	c->flags = (uint16_t)number_get(export + 8, 2);
	return 0;
}

static int greet(struct co *co, struct sim_nbd_conn *c)
{
	uint8_t greeting[18], flags[4];
	int rc = stream_read(co, c, greeting, sizeof(greeting), false);

	if (rc < 0)
		return rc;
	if (memcmp(greeting, "NBDMAGICIHAVEOPT", 16) != 0 || number_get(greeting + 16, 2) != 3)
		sim_violation("NBD: the greeting is wrong");
	number_put(flags, c->wishes.no_zeroes ? 3 : 1, 4);
	return stream_write(co, c, flags, sizeof(flags));
}

static int handshake(struct co *co, struct sim_nbd_conn *c)
{
	static const uint8_t go[6];
	int rc = greet(co, c);

	if (rc == 0)
		rc = haggle(co, c);
	if (rc < 0)
		return rc;
	c->size = c->flags = 0;
	rc = c->wishes.go ? option_expect(co, c, OPT_GO, go, sizeof(go)) : export_name(co, c);
	if (rc == 0 && (c->flags & 0x10d) != 0x10d)
		sim_violation("NBD: transmission flags %#x", c->flags);
	return rc;
}

/* ---- replies ---- */

static struct sim_nbd_request *request_find(struct sim_nbd_conn *c, uint64_t cookie)
{
	list_for_each(it, &c->pending) {
		struct sim_nbd_request *r = list_entry(it, struct sim_nbd_request, link);

		if (r->cookie == cookie)
			return r;
	}
	sim_violation("NBD: a reply to request %" PRIu64 ", which was not asked or is answered already", cookie);
}

static void request_over(struct sim_nbd_conn *c, struct sim_nbd_request *r)
{
	list_remove(&r->link);
	r->over = true;
	co_queue_wake_all(&c->progress);
}

static int reply_simple(struct co *co, struct sim_nbd_conn *c)
{
	uint8_t rest[12];
	struct sim_nbd_request *r;
	int rc = stream_read(co, c, rest, sizeof(rest), false);

	if (rc < 0)
		return rc;
	r = request_find(c, number_get(rest + 4, 8));
	if (c->structured && (r->type == SIM_NBD_READ || r->type == SIM_NBD_STATUS))
		sim_violation("NBD: a simple reply to a request that must have a structured one");
	r->error = (uint32_t)number_get(rest, 4);
	if (r->type == SIM_NBD_READ && r->error == 0)
		rc = stream_read(co, c, r->data, r->len, false);
	r->got = r->len;
	if (rc == 0)
		request_over(c, r);
	return rc;
}

struct chunk {
	uint16_t flags, type;
	uint32_t len;
	uint64_t cookie;
};

static void range_expect(const struct sim_nbd_request *r, uint64_t offset, uint32_t len)
{
	if (r->type != SIM_NBD_READ || offset < r->offset || len == 0 || offset + len > r->offset + r->len)
		sim_violation("NBD: a chunk of %#" PRIx64 "+%#x in reply to a request of type %d, %#" PRIx64 "+%#x",
			offset, len, r->type, r->offset, r->len);
}

static int chunk_data(struct co *co, struct sim_nbd_conn *c, struct sim_nbd_request *r, const struct chunk *k)
{
	uint8_t wire[8];
	uint64_t offset;
	uint32_t len = k->len - 8;
	int rc = stream_read(co, c, wire, sizeof(wire), false);

	if (rc < 0)
		return rc;
	offset = number_get(wire, 8);
	range_expect(r, offset, len);
	r->got += len;
	return stream_read(co, c, r->data + (offset - r->offset), len, false);
}

static int chunk_hole(struct co *co, struct sim_nbd_conn *c, struct sim_nbd_request *r)
{
	uint8_t wire[12];
	uint64_t offset;
	uint32_t len;
	int rc = stream_read(co, c, wire, sizeof(wire), false);

	if (rc < 0)
		return rc;
	offset = number_get(wire, 8);
	len = (uint32_t)number_get(wire + 8, 4);
	range_expect(r, offset, len);
	if (r->flags & SIM_NBD_DF)
		sim_violation("NBD: a hole in reply to a read that forbids fragments");
	memset(r->data + (offset - r->offset), 0, len);
	r->got += len;
	return 0;
}

/* The lengths and flags of the extents have 32 bits, or 64 where headers are extended. */
static int chunk_extents(struct co *co, struct sim_nbd_conn *c, struct sim_nbd_request *r, uint32_t n)
{
	struct sim_nbd_extent *out = (struct sim_nbd_extent *)(void *)r->data;
	unsigned bytes = c->extended ? 8 : 4;
	uint8_t wire[16];
	int rc = 0;

	if (r->type != SIM_NBD_STATUS || n > EXTENTS)
		sim_violation("NBD: %u extents in reply to a request of type %d", n, r->type);
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		rc = stream_read(co, c, wire, 2 * bytes, false);
		out[i].len = (uint32_t)number_get(wire, bytes);
		out[i].flags = (uint32_t)number_get(wire + bytes, bytes);
		r->got++;
	}
	return rc;
}

static int chunk_status(struct co *co, struct sim_nbd_conn *c, struct sim_nbd_request *r, const struct chunk *k)
{
	uint8_t context[4];
	int rc = stream_read(co, c, context, sizeof(context), false);

	return rc == 0 ? chunk_extents(co, c, r, (k->len - 4) / 8) : rc;
}

static int chunk_status_extended(
	struct co *co, struct sim_nbd_conn *c, struct sim_nbd_request *r, const struct chunk *k)
{
	uint8_t head[8];
	int rc = stream_read(co, c, head, sizeof(head), false);

	if (rc == 0 && number_get(head + 4, 4) != (k->len - 8) / 16)
		sim_violation("NBD: %" PRIu64 " extents in %u bytes", number_get(head + 4, 4), k->len);
	return rc == 0 ? chunk_extents(co, c, r, (k->len - 8) / 16) : rc;
}

static int chunk_error(struct co *co, struct sim_nbd_conn *c, struct sim_nbd_request *r, const struct chunk *k)
{
	uint8_t wire[6], byte;
	int rc = stream_read(co, c, wire, sizeof(wire), false);

	if (rc < 0)
		return rc;
	r->error = (uint32_t)number_get(wire, 4);
	if (r->error == 0 || k->len != 6 + number_get(wire + 4, 2))
		sim_violation("NBD: an error chunk of %u bytes with error %u", k->len, r->error);
	for (uint32_t i = 6; rc == 0 && i < k->len; i++)
		rc = stream_read(co, c, &byte, 1, false);
	return rc;
}

static int chunk_content(struct co *co, struct sim_nbd_conn *c, struct sim_nbd_request *r, const struct chunk *k)
{
	if (k->type == 0 && k->len == 0 && (k->flags & 1))
		return 0;
	if (k->type == 1 && k->len > 8)
		return chunk_data(co, c, r, k);
	if (k->type == 2 && k->len == 12)
		return chunk_hole(co, c, r);
	if (k->type == 5 && !c->extended && k->len >= 12 && k->len % 8 == 4)
		return chunk_status(co, c, r, k);
	if (k->type == 6 && c->extended && k->len >= 24 && k->len % 16 == 8)
		return chunk_status_extended(co, c, r, k);
	if (k->type == 0x8001 && k->len >= 6)
		return chunk_error(co, c, r, k);
	sim_violation("NBD: a chunk of type %#x with %u bytes, flags %#x", k->type, k->len, k->flags);
}

static int chunk_head(struct co *co, struct sim_nbd_conn *c, struct chunk *k)
{
	uint8_t rest[28];
	const uint8_t *len = rest + (c->extended ? 20 : 12);
	unsigned bytes = c->extended ? 8 : 4;
	int rc = stream_read(co, c, rest, c->extended ? 28 : 16, false);

	if (rc < 0)
		return rc;
	if (number_get(len, bytes) > UINT32_MAX)
		sim_violation("NBD: a chunk of %#" PRIx64 " bytes", number_get(len, bytes));
	*k = (struct chunk){.flags = (uint16_t)number_get(rest, 2),
		.type = (uint16_t)number_get(rest + 2, 2),
		.cookie = number_get(rest + 4, 8),
		.len = (uint32_t)number_get(len, bytes)};
	if (c->extended && number_get(rest + 12, 8) != request_find(c, k->cookie)->offset)
		sim_violation("NBD: a chunk of another offset, %#" PRIx64, number_get(rest + 12, 8));
	return 0;
}

static int reply_chunk(struct co *co, struct sim_nbd_conn *c)
{
	struct sim_nbd_request *r;
	struct chunk k;
	int rc;

	if (!c->structured)
		sim_violation("NBD: a structured reply that was not agreed on");
	rc = chunk_head(co, c, &k);
	if (rc < 0)
		return rc;
	r = request_find(c, k.cookie);
	rc = chunk_content(co, c, r, &k);
	if (rc < 0 || !(k.flags & 1))
		return rc;
	if (r->type == SIM_NBD_READ && r->error == 0 && r->got != r->len)
		sim_violation("NBD: %u bytes in reply to a read of %u", r->got, r->len);
	request_over(c, r);
	return 0;
}

/* 0; 1: the stream ended between two replies. */
static int reply(struct co *co, struct sim_nbd_conn *c)
{
	uint8_t magic[4];
	int rc = stream_read(co, c, magic, sizeof(magic), true);

	if (rc != 0)
		return rc;
	if (number_get(magic, 4) == (c->extended ? 0x6e8a278c : 0x668e33ef))
		return reply_chunk(co, c);
	if (number_get(magic, 4) == 0x67446698 && !c->extended)
		return reply_simple(co, c);
	sim_violation("NBD: a reply begins with %#" PRIx64, number_get(magic, 4));
}

static void receive(struct co *co, void *arg)
{
	struct sim_nbd_conn *c = arg;
	int rc;

	do
		rc = reply(co, c);
	while (rc == 0);
	if (rc == 1 && c->polite && !c->clients->stopping && c->size <= c->clients->least && !list_empty(&c->pending))
		sim_violation("NBD: requests were not answered before the connection ended on request");
	c->finished = true;
	list_for_each_safe(it, &c->pending) {
		struct sim_nbd_request *r = list_entry(it, struct sim_nbd_request, link);

		r->error = SIM_NBD_LOST;
		request_over(c, r);
	}
	io_sock_shutdown(c->sock);
	sim_nbd_leave(co, c);
}

/* ---- requests ---- */

enum { PAYLOAD_LEN = 1 << 5 };

static int request_send(struct co *co, struct sim_nbd_conn *c, const struct sim_nbd_request *r)
{
	uint8_t wire[32];
	uint8_t *p = number_put(wire, c->extended ? 0x21e41c71 : 0x25609513, 4);
	unsigned payload = c->extended && r->type == SIM_NBD_WRITE ? PAYLOAD_LEN : 0;
	int rc;

	p = number_put(number_put(p, r->flags | payload, 2), r->type, 2);
	p = number_put(number_put(p, r->cookie, 8), r->offset, 8);
	p = number_put(p, r->len, c->extended ? 8 : 4);
	rc = stream_write(co, c, wire, (uint32_t)(p - wire));
	return rc == 0 && r->type == SIM_NBD_WRITE ? stream_write(co, c, r->data, r->len) : rc;
}

bool sim_nbd_lock(struct co *co, struct sim_nbd_conn *c)
{
	co_mutex_lock(co, &c->sending);
	if (!c->finished)
		return true;
	co_mutex_unlock(&c->sending);
	return false;
}

void sim_nbd_send(struct co *co, struct sim_nbd_conn *c, struct sim_nbd_request *r)
{
	r->cookie = c->cookie;
	c->cookie += UINT64_C(0x100000001);
	r->over = false;
	r->error = r->got = 0;
	list_push(&c->pending, &r->link);
	if (request_send(co, c, r) < 0)
		sim_nbd_hang_up(c);
	co_mutex_unlock(&c->sending);
}

void sim_nbd_wait(struct co *co, struct sim_nbd_conn *c, const struct sim_nbd_request *r)
{
	while (!r->over)
		co_queue_wait(co, &c->progress);
}

/* ---- life ---- */

void sim_nbd_hang_up(struct sim_nbd_conn *c)
{
	c->finished = true;
	io_sock_shutdown(c->sock);
}

void sim_nbd_say_goodbye(struct co *co, struct sim_nbd_conn *c)
{
	struct sim_nbd_request disc = {.type = SIM_NBD_DISC};

	c->finished = true;
	if (request_send(co, c, &disc) == 0)
		c->polite = true;
	else
		io_sock_shutdown(c->sock);
	co_mutex_unlock(&c->sending);
}

struct sim_nbd_conn *sim_nbd_connect(
	struct co *co, struct sim_nbd_clients *clients, const char *address, const struct sim_nbd_wishes *wishes)
{
	struct io_sock *sock;
	struct sim_nbd_conn *c;

	if (io_connect(co, address, &sock, NULL) < 0)
		return NULL;
	c = sim_alloc(sizeof(*c));
	*c = (struct sim_nbd_conn){
		.clients = clients,
		.sock = sock,
		.wishes = *wishes,
		.users = 1,
		.cookie = UINT64_C(0x8000000000000001),
	};
	clients->connections++;
	co_mutex_init(&c->sending);
	co_queue_init(&c->progress);
	list_init(&c->pending);
	if (handshake(co, c) < 0 || co_spawn(co_sched_of(co), "sim-nbd-client", receive, c) < 0) {
		sim_nbd_leave(co, c);
		return NULL;
	}
	c->users++;
	return c;
}

void sim_nbd_leave(struct co *co, struct sim_nbd_conn *c)
{
	if (--c->users > 0)
		return;
	io_sock_close(co, c->sock);
	c->clients->connections--;
	co_queue_wake_all(&c->clients->closed);
	sim_free(c);
}
