/* SPDX-License-Identifier: MIT */
/* The load over NBD: one connection, simple replies; all requests that have room go out in one send. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "export/nbd/proto.h"
#include "load.h"

#define IN_BYTES (1u << 20)

struct client {
	struct load *load;
	int fd;
	struct load_slot slot[LOAD_DEPTH];
	unsigned idle[LOAD_DEPTH], idle_n;
	char *out, *data;
	size_t out_len;
};

static void handshake(int fd)
{
	struct nbd_greeting_wire greeting;
	struct nbd_option_wire option = {be64_of(NBD_OPTION_MAGIC), be32_of(NBD_OPT_EXPORT_NAME), be32_of(0)};
	be32 flags = be32_of(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	char export[NBD_EXPORT_SHORT_BYTES];

	load_receive(fd, &greeting, sizeof(greeting));
	load_send(fd, &flags, sizeof(flags));
	load_send(fd, &option, sizeof(option));
	load_receive(fd, export, sizeof(export));
}

static void put(struct client *c, const void *data, size_t len)
{
	memcpy(c->out + c->out_len, data, len);
	c->out_len += len;
}

static void request_put(struct client *c, unsigned i)
{
	const struct load_slot *s = &c->slot[i];
	unsigned type = s->op == EXPORT_READ ? NBD_CMD_READ : s->op == EXPORT_WRITE ? NBD_CMD_WRITE : NBD_CMD_FLUSH;
	struct nbd_request_wire wire = {
		.magic = be32_of(NBD_REQUEST_MAGIC),
		.type = be16_of((uint16_t)type),
		.cookie = be64_of(i),
		.offset = be64_of(s->offset),
		.len = be32_of(s->op == EXPORT_FLUSH ? 0 : c->load->bytes),
	};

	put(c, &wire, sizeof(wire));
	if (s->op == EXPORT_WRITE)
		put(c, c->data, c->load->bytes);
}

static void fill(struct client *c)
{
	while (c->idle_n > 0) {
		unsigned i = c->idle[c->idle_n - 1];

		if (!load_next(c->load, &c->slot[i]))
			break;
		c->idle_n--;
		request_put(c, i);
	}
	load_send(c->fd, c->out, c->out_len);
	c->out_len = 0;
}

/* Bytes of the first reply in the buffer; 0: it isn't whole. */
static size_t reply_take(struct client *c, const char *in, size_t len)
{
	struct nbd_simple_reply_wire reply;
	size_t whole = sizeof(reply);
	unsigned i;

	if (len < whole)
		return 0;
	memcpy(&reply, in, sizeof(reply));
	i = (unsigned)be64_get(reply.cookie);
	if (be32_get(reply.magic) != NBD_SIMPLE_REPLY_MAGIC || i >= c->load->depth)
		load_die("what should be a reply");
	whole += c->slot[i].op == EXPORT_READ ? c->load->bytes : 0;
	if (len < whole)
		return 0;
	load_done(c->load, &c->slot[i], be32_get(reply.error) == 0);
	c->idle[c->idle_n++] = i;
	return whole;
}

static void run(struct client *c, char *in)
{
	size_t len = 0;

	for (fill(c); c->idle_n < c->load->depth; fill(c)) {
		ssize_t n = recv(c->fd, in + len, IN_BYTES + 2 * c->load->bytes - len, 0);
		size_t from = 0, taken;

		if (n <= 0)
			load_die("the server closed the connection");
		len += (size_t)n;
		while ((taken = reply_take(c, in + from, len - from)) > 0)
			from += taken;
		memmove(in, in + from, len - from);
		len -= from;
	}
}

void load_nbd(struct load *l)
{
	static struct client c;
	char *in = malloc(IN_BYTES + 2 * (size_t)l->bytes);

	c.load = l;
	c.fd = load_connect(l->socket);
	c.out = malloc(l->depth * (sizeof(struct nbd_request_wire) + l->bytes));
	c.data = malloc(l->bytes);
	if (!in || !c.out || !c.data)
		load_die("memory");
	memset(c.data, 0x5a, l->bytes);
	for (unsigned i = 0; i < l->depth; i++)
		c.idle[c.idle_n++] = i;
	handshake(c.fd);
	load_begin(l);
	run(&c, in);
	close(c.fd);
	free(c.out);
	free(c.data);
	free(in);
}
