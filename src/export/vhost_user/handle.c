/* SPDX-License-Identifier: MIT */
/* What each message of the front end does, but for memory and rings, which have files of their own; see device.h. */
#include "export/vhost_user/device.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "base/math.h"

#define VU_PROTOCOL                                                                                                    \
	(VU_P_MQ | VU_P_LOG_SHMFD | VU_P_REPLY_ACK | VU_P_BACKEND_REQ | VU_P_CONFIG | VU_P_INFLIGHT_SHMFD |            \
		VU_P_RESET_DEVICE | VU_P_CONFIGURE_MEM_SLOTS | VU_P_STATUS)

int vu_fd_take(struct vu_session *s, unsigned i)
{
	int fd = i < s->fds.n ? s->fds.fd[i] : -1;

	if (fd >= 0)
		s->fds.fd[i] = -1;
	return fd;
}

static struct vu_disk disk_of(const struct vu_session *s)
{
	const struct vu_server *server = s->server;
	const struct export_disk *disk = server->disk;
	const struct node *n = disk->node;

	return (struct vu_disk){
		.bytes = n->size,
		.block = server->block,
		.granularity = n->cluster > 1 ? n->subcluster : n->align,
		.queues = (uint16_t)server->queues,
		.read_only = !export_disk_writable(disk),
		.discards = !disk->no_discard,
		.writeback = s->writeback,
	};
}

static uint64_t features_of(const struct vu_session *s)
{
	struct vu_disk disk = disk_of(s);

	return vu_disk_features(&disk);
}

void vu_session_reset(struct co *co, struct vu_session *s)
{
	for (unsigned i = 0; i < s->server->queues; i++) {
		struct vu_queue *q = &s->queue[i];

		vu_queue_stop(co, q);
		q->enabled = q->has_addr = false;
		q->size = 0;
		q->base = 0;
	}
	s->features = 0;
	s->status = 0;
	s->writeback = !s->server->disk->writethrough;
}

/* ---- features and status ---- */

static int set_features(struct vu_session *s)
{
	uint64_t features = s->message.payload.u64;
	uint64_t unknown = features & ~features_of(s);

	if (unknown)
		return err_set(&s->err, -EPROTO, "features %#" PRIx64 " weren't offered", unknown);
	s->features = features;
	return 0;
}

static int set_protocol_features(struct vu_session *s)
{
	uint64_t features = s->message.payload.u64;

	if (features & ~VU_PROTOCOL)
		return err_set(
			&s->err, -EPROTO, "protocol features %#" PRIx64 " weren't offered", features & ~VU_PROTOCOL);
	s->protocol = features;
	return 0;
}

static int set_status(struct co *co, struct vu_session *s)
{
	uint64_t status = s->message.payload.u64;

	if (status == 0)
		vu_session_reset(co, s);
	s->status = status & 0xff;
	return 0;
}

/* ---- configuration space ---- */

static uint32_t get_config(struct vu_session *s)
{
	struct vu_config_wire *w = &s->message.payload.config;
	struct vu_disk disk = disk_of(s);
	union {
		struct virtio_blk_config config;
		uint8_t bytes[VU_CONFIG_BYTES];
	} space = {.bytes = {0}};

	vu_disk_config(&disk, &space.config);
	memcpy(w->data, space.bytes + w->offset, w->size);
	return (uint32_t)offsetof(struct vu_config_wire, data) + w->size;
}

/* The guest may write the mode of the cache, nothing else; a migration brings all of it, where again that is what counts. */
static int set_config(struct vu_session *s)
{
	const struct vu_config_wire *w = &s->message.payload.config;
	uint32_t at = offsetof(struct virtio_blk_config, wce);
	bool has = w->offset <= at && at < w->offset + w->size;

	if (!has || (w->flags == 0 && w->size != 1))
		return err_set(&s->err, -EPERM, "bytes %u to %u of the configuration can't be written", w->offset,
			w->offset + w->size);
	s->writeback = w->data[at - w->offset] & 1;
	return 0;
}

/* ---- descriptors of memory that are kept ---- */

/* That of the message that is being handled. */
static void kept_set(struct co *co, struct vu_session *s, struct vu_kept *k)
{
	if (k->fd >= 0)
		io_fd_close(co, k->fd);
	k->fd = s->server->hands_over ? io_fd_dup(s->fds.fd[0]) : -1;
	k->payload = s->message.payload;
}

/* ---- the record of what is in flight ---- */

/* A record for so many queues, of the largest rings that a guest may choose; we keep nothing of it until the front end hands
 * it back. */
static int get_inflight(struct co *co, struct vu_session *s, int *fd)
{
	struct vu_inflight_wire *w = &s->message.payload.inflight;
	bool packed = s->features & VU_F(VIRTIO_F_RING_PACKED);
	struct io_map *map;
	int r;

	if (w->queues == 0 || w->queues > s->server->queues || w->queue_size == 0 || w->queue_size > VU_RING_MAX)
		return err_set(&s->err, -EINVAL, "a record of requests in flight for %u queues of %u", w->queues,
			w->queue_size);
	w->size = w->queues * vu_inflight_bytes(packed, (uint16_t)s->server->queue_size);
	w->offset = 0;
	r = io_map_new(co, w->size, &map, fd, &s->err);
	if (r == 0)
		io_unmap(co, map);
	return r;
}

static int set_inflight(struct co *co, struct vu_session *s)
{
	const struct vu_inflight_wire *w = &s->message.payload.inflight;
	struct io_map *map, *old = s->inflight_map;
	int r;

	for (unsigned i = 0; i < s->server->queues; i++)
		if (s->queue[i].started)
			return err_set(&s->err, -EBUSY,
				"queue %u is at work, and can't change where it notes its requests", i);
	if (w->queues == 0)
		return err_set(&s->err, -EINVAL, "a record of requests in flight for no queue");
	r = io_map(co, s->fds.fd[0], w->offset, w->size, &map, &s->err);
	if (r < 0)
		return r;
	s->inflight_map = map;
	s->inflight_queues = w->queues;
	kept_set(co, s, &s->inflight_kept);
	io_unmap(co, old);
	return 0;
}

/* ---- the log, and the channel back ---- */

static int set_log_base(struct co *co, struct vu_session *s)
{
	const struct vu_log_wire *w = &s->message.payload.log;
	struct io_map *map, *old = s->log_map;
	int r = io_map(co, s->fds.fd[0], w->offset, w->size, &map, &s->err);

	if (r < 0)
		return r;
	s->log_map = map;
	kept_set(co, s, &s->log_kept);
	s->log = (struct vu_log){.bits = io_map_bytes(map), .bytes = io_map_len(map)};
	s->message.payload.u64 = 0;
	io_unmap(co, old);
	return 0;
}

static int set_backend_channel(struct co *co, struct vu_session *s)
{
	struct io_sock *sock, *old = s->backend;

	if (io_sock_adopt(co, vu_fd_take(s, 0), &sock) < 0)
		return err_set(&s->err, -ENOMEM, "no memory");
	s->backend = sock;
	if (old)
		io_sock_shutdown(old);
	while (s->telling > 0)
		co_queue_wait(co, &s->rested);
	io_sock_close(co, old);
	return 0;
}

/* ---- all of them ---- */

static uint32_t number(struct vu_session *s, uint64_t value)
{
	s->message.payload.u64 = value;
	return sizeof(value);
}

/* Requests that have a reply of their own. */
static int handle_question(struct co *co, struct vu_session *s, uint32_t *reply, int *fd)
{
	switch (s->message.request) {
	case VU_GET_FEATURES: *reply = number(s, features_of(s)); return 0;
	case VU_GET_PROTOCOL_FEATURES: *reply = number(s, VU_PROTOCOL); return 0;
	case VU_GET_QUEUE_NUM: *reply = number(s, s->server->queues); return 0;
	case VU_GET_MAX_MEM_SLOTS: *reply = number(s, VU_REGIONS); return 0;
	case VU_GET_STATUS: *reply = number(s, s->status); return 0;
	case VU_GET_CONFIG: *reply = get_config(s); return 0;
	case VU_SET_LOG_BASE: *reply = sizeof(uint64_t); return set_log_base(co, s);
	case VU_GET_INFLIGHT_FD: *reply = s->message.size; return get_inflight(co, s, fd);
	default: *reply = sizeof(struct vu_vring_state); return vu_handle_vring(co, s);
	}
}

static int handle_order(struct co *co, struct vu_session *s)
{
	switch (s->message.request) {
	case VU_SET_OWNER:
	case VU_RESET_OWNER:          /* "It is recommended that back-ends ignore this message" */
	case VU_SET_LOG_FD: return 0; /* who wants to know when the log has changed looks */
	case VU_SET_FEATURES: return set_features(s);
	case VU_SET_PROTOCOL_FEATURES: return set_protocol_features(s);
	case VU_SET_STATUS: return set_status(co, s);
	case VU_RESET_DEVICE: vu_session_reset(co, s); return 0;
	case VU_SET_CONFIG: return set_config(s);
	case VU_SET_INFLIGHT_FD: return set_inflight(co, s);
	case VU_SET_BACKEND_REQ_FD: return set_backend_channel(co, s);
	case VU_SET_MEM_TABLE:
	case VU_ADD_MEM_REG:
	case VU_REM_MEM_REG: return vu_handle_memory(co, s);
	default: return vu_handle_vring(co, s);
	}
}

int vu_handle(struct co *co, struct vu_session *s, uint32_t *reply, int *fd)
{
	*reply = 0;
	*fd = -1;
	return vu_request_has_reply(s->message.request) ? handle_question(co, s, reply, fd) : handle_order(co, s);
}
