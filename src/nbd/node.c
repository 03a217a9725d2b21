/* SPDX-License-Identifier: MIT */
/*
 * The node over its connections. A request goes to the connection with the least in flight; one whose connection ends
 * meanwhile is repeated on another one, which does no harm, since until it is answered nobody relies on either outcome.
 *
 * What a server has acknowledged and not flushed may be gone with it. As long as one connection is left it is the same
 * server; when none is, and there was such a change, no flush succeeds any more, and no read: it might be older.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "nbd/link.h"

#define CHUNK_BYTES GiB                   /* of one zero, trim or status request */
#define RETRY_LEAST_NS UINT64_C(50000000) /* between two attempts to connect, doubled up to */
#define RETRY_MOST_NS UINT64_C(1000000000)

struct client {
	struct node node; /* first */
	struct nbd_address address;
	struct nbd_info info;
	uint64_t reconnect_ns;
	bool no_flush;
	unsigned connections;
	struct nbd_link conn[NBD_CONNECTIONS];
	uint64_t changes, durable; /* counts of what isn't durable by itself; the first of them are flushed */
	bool lost;                 /* some that weren't are gone */
	bool closing, reconnecting;
	uint64_t down_since;
	struct co_queue up;   /* for requests, until there is a connection */
	struct co_queue wake; /* for who reconnects, when the node is closed */
	struct co_group helpers;
};

static struct client *client_of(const struct node *n) { return container_of(n, struct client, node); }

/* ---- connections ---- */

static struct nbd_link *least_busy(struct client *b)
{
	struct nbd_link *best = NULL;

	for (unsigned i = 0; i < b->connections; i++) {
		struct nbd_link *c = &b->conn[i];

		if (c->handle != NULL && !c->dead && (best == NULL || c->in_flight < best->in_flight))
			best = c;
	}
	return best;
}

/* Whether the server, as it is now, can stand in for the one that we knew. */
static bool is_same_export(const struct nbd_info *was, const struct nbd_info *is)
{
	return is->size == was->size && is->align <= was->align && is->max_payload >= was->max_payload &&
		is->read_only <= was->read_only && is->can_flush >= was->can_flush && is->can_fua >= was->can_fua &&
		is->can_trim >= was->can_trim && is->can_zero >= was->can_zero && is->can_status >= was->can_status;
}

static bool try_again(struct co *co, struct client *b)
{
	struct nbd_link *c = &b->conn[0];
	struct nbd_info info;

	nbd_link_close(co, c);
	*c = (struct nbd_link){0};
	if (nbd_link_open(co, c, &b->address, NULL) != 0)
		return false;
	nbd_link_info(c, &info);
	if (is_same_export(&b->info, &info) && !b->closing)
		return true;
	nbd_link_close(co, c);
	return false;
}

static void reconnect_main(struct co *co, void *arg)
{
	struct client *b = arg;
	uint64_t pause = RETRY_LEAST_NS;

	while (b->conn[0].in_flight > 0) /* they are being told */
		co_yield(co);
	while (!b->closing && !try_again(co, b)) {
		(void)!co_queue_wait_until(co, &b->wake, co_now(co) + pause);
		pause = MIN(2 * pause, RETRY_MOST_NS);
	}
	b->reconnecting = false;
	co_queue_wake_all(&b->up);
}

/* There is no connection any more. */
static void went_down(struct co *co, struct client *b)
{
	if (b->reconnecting)
		return;
	if (b->changes != b->durable)
		b->lost = true;
	b->down_since = co_now(co);
	if (b->reconnect_ns != 0 && !b->closing)
		b->reconnecting = co_group_spawn(&b->helpers, "nbd-reconnect", reconnect_main, b) == 0;
}

/* A connection; NULL: there is none, and none came within the time. */
static struct nbd_link *conn_get(struct co *co, struct client *b)
{
	struct nbd_link *c = least_busy(b);

	if (c != NULL)
		return c;
	went_down(co, b);
	while (b->reconnecting && co_now(co) < b->down_since + b->reconnect_ns && (c = least_busy(b)) == NULL)
		(void)!co_queue_wait_until(co, &b->up, b->down_since + b->reconnect_ns);
	return c != NULL ? c : least_busy(b);
}

static int command(struct co *co, struct client *b, struct nbd_command *cmd)
{
	for (;;) {
		struct nbd_link *c = conn_get(co, b);
		int err;

		if (c == NULL)
			return -EIO;
		err = nbd_link_do(co, c, cmd);
		if (err == 0 || !c->dead)
			return err;
	}
}

/* ---- requests ---- */

/* A change that isn't durable by itself counts until a flush that began later has succeeded. */
static int change(struct co *co, struct client *b, struct nbd_command *cmd, bool durable)
{
	if (b->info.can_fua && (durable || b->reconnect_ns != 0))
		cmd->flags |= LIBNBD_CMD_FLAG_FUA;
	else if (b->info.can_flush) /* a server without flush has nothing to forget */
		b->changes++;
	return command(co, b, cmd);
}

/* Without a server, and without anything that isn't durable already, there is nothing to do. */
static int client_flush(struct co *co, struct node *n)
{
	struct client *b = client_of(n);
	struct nbd_command cmd = {.kind = NBD_FLUSH};
	uint64_t covered = b->changes;
	int err;

	if (b->lost)
		return -EIO;
	if (!b->info.can_flush || b->no_flush)
		return 0;
	err = command(co, b, &cmd);
	if (b->lost)
		return -EIO;
	if (err == 0)
		b->durable = MAX(b->durable, covered);
	return least_busy(b) == NULL && b->changes == b->durable ? 0 : err;
}

/* One piece, in one stretch of memory. */
static int transfer(
	struct co *co, struct client *b, enum nbd_kind kind, uint64_t off, void *buffer, uint64_t len, unsigned flags)
{
	struct nbd_command cmd = {.kind = kind, .off = off, .len = len, .buffer = buffer};

	return kind == NBD_READ ? command(co, b, &cmd) : change(co, b, &cmd, flags & NODE_FUA);
}

static int through_buffer(
	struct co *co, struct client *b, enum nbd_kind kind, uint64_t off, struct iov it, unsigned flags)
{
	void *buffer;
	int err = node_buffer_get(co, &b->node, it.len, &buffer);

	if (err != 0)
		return err;
	if (kind == NBD_WRITE)
		iov_copy_out(it, buffer, it.len);
	err = transfer(co, b, kind, off, buffer, it.len, flags);
	if (err == 0 && kind == NBD_READ)
		iov_copy_in(it, buffer, it.len);
	node_buffer_put(&b->node, buffer, it.len);
	return err;
}

/* Where durability was asked for and the server has no FUA, a flush follows. */
static int pieces(struct co *co, struct client *b, enum nbd_kind kind, uint64_t off, struct iov it, unsigned flags)
{
	int err = 0;

	while (err == 0 && it.len > 0) {
		size_t now = MIN(it.len, b->info.max_payload), bytes;
		struct iovec v;

		if (iov_export(iov_slice(it, 0, now), &v, 1, &bytes) == 1 && bytes == now)
			err = transfer(co, b, kind, off, v.iov_base, now, flags);
		else
			err = through_buffer(co, b, kind, off, iov_slice(it, 0, now), flags);
		off += now;
		it = iov_slice(it, now, it.len - now);
	}
	if (err == 0 && (flags & NODE_FUA) && !b->info.can_fua)
		err = client_flush(co, &b->node);
	return err;
}

static int client_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	struct client *b = client_of(n);
	int err = pieces(co, b, NBD_READ, off, to, 0);

	return b->lost ? -EIO : err;
}

static int client_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	return pieces(co, client_of(n), NBD_WRITE, off, from, flags);
}

static int chunks(struct co *co, struct client *b, enum nbd_kind kind, uint64_t off, uint64_t len, uint32_t flags)
{
	int err = 0;

	while (err == 0 && len > 0) {
		struct nbd_command cmd = {.kind = kind, .off = off, .len = MIN(len, CHUNK_BYTES), .flags = flags};

		off += cmd.len;
		len -= cmd.len;
		err = change(co, b, &cmd, false);
	}
	return err;
}

static int client_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct client *b = client_of(n);
	uint32_t how = flags & NODE_MAY_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE;
	int err;

	if (!b->info.can_zero || ((flags & NODE_NO_FALLBACK) && !b->info.can_fast_zero))
		return -ENOTSUP;
	if (flags & NODE_NO_FALLBACK)
		how |= LIBNBD_CMD_FLAG_FAST_ZERO;
	err = chunks(co, b, NBD_ZERO, off, len, how);
	return err == -EOPNOTSUPP ? -ENOTSUP : err;
}

/* What a server makes of a trim is its own business. */
static int client_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	return client_of(n)->info.can_trim ? chunks(co, client_of(n), NBD_TRIM, off, len, 0) : -ENOTSUP;
}

static int client_resize(struct co *co ATTR_UNUSED, struct node *n, uint64_t size)
{
	return size > n->size ? -ENOSPC : 0;
}

/* What the server doesn't tell is data. */
static int client_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	struct client *b = client_of(n);
	struct nbd_command cmd = {.kind = NBD_STATUS, .off = at.off, .len = MIN(len, CHUNK_BYTES)};
	int err = b->info.can_status ? command(co, b, &cmd) : 0;
	bool zero = cmd.run != 0 && (cmd.run_flags & LIBNBD_STATE_ZERO);

	if (err != 0)
		return err;
	*out = (struct node_extent){
		.kind = zero ? NODE_ZERO : NODE_DATA,
		.in_place = !zero,
		.has_host = true,
		.host = {at.off},
		.len = cmd.run != 0 ? MIN(cmd.run, len) : len,
	};
	return 0;
}

static void client_free(struct client *b)
{
	nbd_address_fini(&b->address);
	free(b);
}

static void conns_close(struct co *co, struct client *b)
{
	for (unsigned i = 0; i < b->connections; i++)
		nbd_link_close(co, &b->conn[i]);
}

static int client_close(struct co *co, struct node *n)
{
	struct client *b = client_of(n);

	b->closing = true;
	co_queue_wake_all(&b->wake);
	co_group_wait(co, &b->helpers);
	conns_close(co, b);
	node_fini(n);
	client_free(b);
	return 0;
}

static const struct node_ops client_ops = {
	.name = "nbd",
	.close = client_close,
	.flush = client_flush,
	.resize = client_resize,
	.read = client_read,
	.write = client_write,
	.zero = client_zero,
	.discard = client_discard,
	.map = client_map,
};

bool node_is_nbd(const struct node *n) { return n->ops == &client_ops; }

/* ---- opening ---- */

static char *copy_of(const char *text, bool *failed)
{
	char *copy = text != NULL ? strdup(text) : NULL;

	*failed |= text != NULL && copy == NULL;
	return copy;
}

static bool address_copy(const struct nbd_address *from, struct nbd_address *to)
{
	bool failed = false;

	*to = (struct nbd_address){
		.uri = copy_of(from->uri, &failed),
		.path = copy_of(from->path, &failed),
		.host = copy_of(from->host, &failed),
		.port = copy_of(from->port, &failed),
		.export = copy_of(from->export, &failed),
	};
	return !failed;
}

/* A server that isn't there yet may come. */
static int first_open(struct co *co, struct client *b, uint64_t patience_ns, struct err *err)
{
	uint64_t until = co_now(co) + patience_ns, pause = RETRY_LEAST_NS;
	int ret;

	while ((ret = nbd_link_open(co, &b->conn[0], &b->address, err)) != 0 && co_now(co) < until) {
		co_sleep(co, MIN(pause, until - co_now(co)));
		pause = MIN(2 * pause, RETRY_MOST_NS);
	}
	return ret;
}

/* The first connection tells whether there may be more; those that can't be had are done without. */
static int conns_open(struct co *co, struct client *b, const struct nbd_open *how, struct err *err)
{
	unsigned most = how->connections != 0 ? MIN(how->connections, (unsigned)NBD_CONNECTIONS) : NBD_CONNECTIONS;
	int ret = first_open(co, b, how->open_ns, err);

	if (ret != 0)
		return ret;
	b->connections = 1;
	nbd_link_info(&b->conn[0], &b->info);
	if (how->write && b->info.read_only)
		return err_set(err, -EACCES, "request on write denied: the NBD export is read only");
	while (b->info.multi && b->connections < most) {
		if (nbd_link_open(co, &b->conn[b->connections], &b->address, NULL) != 0)
			break;
		b->connections++;
	}
	return 0;
}

static int client_setup(struct co *co, struct client *b, const struct nbd_open *how, struct err *err)
{
	int ret = conns_open(co, b, how, err);

	if (ret != 0)
		return ret;
	b->node = (struct node){
		.ops = &client_ops,
		.size = align_down(b->info.size, b->info.align),
		.align = b->info.align,
		.mem_align = 1,
		.cluster = 1,
		.read_only = !how->write,
	};
	nbd_address_text(&b->address, b->node.name, sizeof(b->node.name));
	b->reconnect_ns = how->reconnect_ns;
	b->no_flush = how->no_flush;
	co_queue_init(&b->up);
	co_queue_init(&b->wake);
	co_group_init(&b->helpers, co_sched_of(co));
	ret = node_init(&b->node, co_sched_of(co));
	return ret != 0 ? err_set(err, ret, "no memory for an NBD client") : 0;
}

int nbd_client_open(struct co *co, const struct nbd_open *how, struct node **out, struct err *err)
{
	struct client *b = calloc(1, sizeof(*b));
	int ret;

	if (b == NULL || !address_copy(how->address, &b->address)) {
		if (b != NULL)
			client_free(b);
		return err_set(err, -ENOMEM, "no memory for an NBD client");
	}
	ret = client_setup(co, b, how, err);
	if (ret != 0) {
		conns_close(co, b);
		client_free(b);
		return ret;
	}
	*out = &b->node;
	return 0;
}
