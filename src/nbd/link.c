/* SPDX-License-Identifier: MIT */
/* A connection: see the header. */
#include "nbd/link.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "io/io.h"
#include "io/share.h"

#define ALLOCATION "base:allocation"
#define PAYLOAD_BYTES (UINT64_C(32) << 20) /* what every server takes */
#define CLOSE_NS UINT64_C(1000000000)      /* for a server to say goodbye */

static bool wants(const struct nbd_link *c, unsigned direction)
{
	return (nbd_aio_get_direction(c->handle) & direction) != 0;
}

/* ---- the two that wait for the socket ---- */

static void connection_ended(struct co *co, struct nbd_link *c)
{
	if (!c->dead)
		io_ready_end(co, c->fd);
	c->dead = true;
	co_queue_wake_all(&c->turned);
}

static bool has_ended(const struct nbd_link *c)
{
	return nbd_aio_is_dead(c->handle) == 1 || nbd_aio_is_closed(c->handle) == 1;
}

/* Waits until the socket is ready for a direction that libnbd waits for, and lets libnbd go on. */
static void poll_loop(struct co *co, struct nbd_link *c, bool write)
{
	unsigned direction = write ? LIBNBD_AIO_DIRECTION_WRITE : LIBNBD_AIO_DIRECTION_READ;

	while (!c->dead) {
		int err;

		if (!wants(c, direction)) {
			co_queue_wait(co, &c->turned);
			continue;
		}
		err = io_ready_wait(co, c->fd, write);
		if (err == 0 && !c->dead && wants(c, direction))
			err = write ? nbd_aio_notify_write(c->handle) : nbd_aio_notify_read(c->handle);
		if (err != 0 || has_ended(c))
			connection_ended(co, c);
		co_queue_wake_all(&c->turned);
	}
}

static void reader(struct co *co, void *arg) { poll_loop(co, arg, false); }
static void writer(struct co *co, void *arg) { poll_loop(co, arg, true); }

/* ---- requests ---- */

static int completed(void *arg, int *error)
{
	struct nbd_command *cmd = arg;

	cmd->error = *error;
	cmd->done = true;
	co_queue_wake_all(&cmd->wake);
	return 1;
}

/* Pairs of length and flags; what is alike at the start is one run. */
static int extents(
	void *arg, const char *context, uint64_t off ATTR_UNUSED, uint32_t *entries, size_t n, int *error ATTR_UNUSED)
{
	struct nbd_command *cmd = arg;

	if (strcmp(context, ALLOCATION) != 0 || n < 2)
		return 0;
	cmd->run = 0;
	cmd->run_flags = entries[1];
	for (size_t i = 0; i + 1 < n && entries[i + 1] == cmd->run_flags; i += 2)
		cmd->run += entries[i];
	return 0;
}

/* Negative: libnbd refused it. */
static int64_t submit(struct nbd_handle *h, struct nbd_command *cmd)
{
	nbd_completion_callback done = {.callback = completed, .user_data = cmd};
	nbd_extent_callback extent = {.callback = extents, .user_data = cmd};

	switch (cmd->kind) {
	case NBD_READ: return nbd_aio_pread(h, cmd->buffer, cmd->len, cmd->off, done, 0);
	case NBD_WRITE: return nbd_aio_pwrite(h, cmd->buffer, cmd->len, cmd->off, done, cmd->flags);
	case NBD_ZERO: return nbd_aio_zero(h, cmd->len, cmd->off, done, cmd->flags);
	case NBD_TRIM: return nbd_aio_trim(h, cmd->len, cmd->off, done, cmd->flags);
	case NBD_FLUSH: return nbd_aio_flush(h, done, 0);
	case NBD_STATUS: return nbd_aio_block_status(h, cmd->len, cmd->off, extent, done, 0);
	}
	return -1;
}

int nbd_link_do(struct co *co, struct nbd_link *c, struct nbd_command *cmd)
{
	cmd->done = false;
	cmd->error = 0;
	cmd->run = 0;
	co_queue_init(&cmd->wake);
	if (c->dead)
		return -ENOTCONN;
	c->in_flight++;
	if (submit(c->handle, cmd) < 0) {
		cmd->error = nbd_get_errno() != 0 ? nbd_get_errno() : EIO;
		cmd->done = true;
	}
	if (has_ended(c))
		connection_ended(co, c);
	co_queue_wake_all(&c->turned);
	while (!cmd->done)
		co_queue_wait(co, &cmd->wake);
	c->in_flight--;
	return -cmd->error;
}

/* ---- opening and closing ---- */

static int prepare(struct nbd_handle *h, const struct nbd_address *a)
{
	if (nbd_add_meta_context(h, ALLOCATION) < 0 || nbd_set_pread_initialize(h, false) < 0)
		return -1;
	if (a->uri)
		return nbd_set_uri_allow_local_file(h, true);
	return nbd_set_export_name(h, a->export ? a->export : "");
}

struct connecting {
	struct nbd_handle *handle;
	const struct nbd_address *address;
	int result, error; /* errno */
	char *text;        /* on the heap, or NULL */
};

static void error_take(struct connecting *c, const char *otherwise)
{
	const char *text = nbd_get_error();

	c->error = nbd_get_errno();
	c->text = strdup(text ? text : otherwise);
}

/* Looks names up, which may take long: on a helper thread. What libnbd says of an error it says to this thread. */
static void connect_begin(void *arg)
{
	struct connecting *c = arg;
	const struct nbd_address *a = c->address;

	if (a->uri)
		c->result = nbd_aio_connect_uri(c->handle, a->uri);
	else if (a->path)
		c->result = nbd_aio_connect_unix(c->handle, a->path);
	else
		c->result = nbd_aio_connect_tcp(c->handle, a->host, a->port);
	if (c->result < 0)
		error_take(c, "the connection can't be made");
}

static bool is_connecting(struct nbd_handle *h)
{
	return nbd_aio_is_connecting(h) == 1 || nbd_aio_is_negotiating(h) == 1;
}

/* One direction at a time: during the handshake nothing is sent while something is waited for. */
static void handshake(struct co *co, struct connecting *c)
{
	struct nbd_handle *h = c->handle;

	while (c->result == 0 && is_connecting(h)) {
		bool write = (nbd_aio_get_direction(h) & LIBNBD_AIO_DIRECTION_WRITE) != 0;

		c->result = io_ready_wait(co, nbd_aio_get_fd(h), write);
		if (c->result == 0)
			c->result = write ? nbd_aio_notify_write(h) : nbd_aio_notify_read(h);
	}
	if (c->text == NULL && (c->result != 0 || nbd_aio_is_ready(h) != 1)) {
		error_take(c, "the server has ended the connection");
		c->result = -1;
	}
}

static void stop(struct co *co, struct nbd_link *c)
{
	connection_ended(co, c);
	co_group_wait(co, &c->pollers);
	io_fd_close(co, c->fd);
}

static int start(struct co *co, struct nbd_link *c)
{
	int err;

	co_queue_init(&c->turned);
	co_group_init(&c->pollers, co_sched_of(co));
	c->fd = io_fd_dup(nbd_aio_get_fd(c->handle));
	if (c->fd < 0)
		return c->fd;
	err = co_group_spawn(&c->pollers, "nbd-reader", reader, c);
	if (err == 0)
		err = co_group_spawn(&c->pollers, "nbd-writer", writer, c);
	if (err != 0)
		stop(co, c);
	return err;
}

/* "nbd_aio_connect_unix: connect: Connection refused" less the names of functions: what the system says is enough. */
static int explain(const struct connecting *c, struct err *err)
{
	int code = c->error != 0 ? -c->error : -EIO;
	const char *text = c->text ? c->text : strerror(-code), *colon;
	char where[256];

	while (strncmp(text, "nbd_", 4) == 0 && (colon = strstr(text, ": ")) != NULL)
		text = colon + 2;
	if (c->error != 0 && strncmp(text, "connect: ", 9) == 0)
		text = strerror(c->error);
	nbd_address_text(c->address, where, sizeof(where));
	return err_set(err, code, "Failed to connect to '%s': %s", where, text);
}

int nbd_link_open(struct co *co, struct nbd_link *c, const struct nbd_address *address, struct err *err)
{
	struct connecting connecting = {.handle = nbd_create(), .address = address};
	int ret = 0;

	c->handle = connecting.handle;
	if (c->handle == NULL || prepare(c->handle, address) < 0)
		error_take(&connecting, "no memory");
	else
		co_offload(co, connect_begin, &connecting);
	if (connecting.text == NULL)
		handshake(co, &connecting);
	if (connecting.text != NULL)
		ret = explain(&connecting, err);
	else if (start(co, c) != 0)
		ret = err_set(err, -ENOMEM, "no memory for a connection");
	free(connecting.text);
	if (ret != 0) {
		nbd_close(c->handle);
		c->handle = NULL;
	}
	return ret;
}

/* The server closes the connection when it is told to; one that doesn't is not waited for. */
static void say_goodbye(struct co *co, struct nbd_link *c)
{
	uint64_t until = co_now(co) + CLOSE_NS;

	if (nbd_aio_disconnect(c->handle, 0) < 0)
		return;
	co_queue_wake_all(&c->turned);
	while (!c->dead && co_now(co) < until)
		(void)!co_queue_wait_until(co, &c->turned, until);
}

void nbd_link_close(struct co *co, struct nbd_link *c)
{
	if (c->handle == NULL)
		return;
	assert(c->in_flight == 0);
	if (!c->dead)
		say_goodbye(co, c);
	stop(co, c);
	nbd_close(c->handle);
	c->handle = NULL;
}

static uint64_t block_size(struct nbd_handle *h, int which)
{
	int64_t bytes = nbd_get_block_size(h, which);

	return bytes > 0 ? (uint64_t)bytes : 0;
}

void nbd_link_info(const struct nbd_link *c, struct nbd_info *out)
{
	struct nbd_handle *h = c->handle;
	uint64_t least = block_size(h, LIBNBD_SIZE_MINIMUM), most = block_size(h, LIBNBD_SIZE_MAXIMUM);

	*out = (struct nbd_info){
		.size = (uint64_t)MAX(nbd_get_size(h), INT64_C(0)),
		.align = is_power_of_two(least) && least <= 65536 ? (uint32_t)least : 1,
		.max_payload = most != 0 ? MIN(most, PAYLOAD_BYTES) : PAYLOAD_BYTES,
		.read_only = nbd_is_read_only(h) == 1,
		.can_flush = nbd_can_flush(h) == 1,
		.can_fua = nbd_can_fua(h) == 1,
		.can_trim = nbd_can_trim(h) == 1,
		.can_zero = nbd_can_zero(h) == 1,
		.can_fast_zero = nbd_can_fast_zero(h) == 1,
		.can_status = nbd_can_meta_context(h, ALLOCATION) == 1,
		.multi = nbd_can_multi_conn(h) == 1,
	};
}
