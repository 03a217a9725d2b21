/* SPDX-License-Identifier: MIT */
/* A front end of vhost-user; see front.h. */
#include "front.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the server ---- */

static void note(struct log *log, enum log_level level, const char *line)
{
	struct vu_rig *rig = container_of(log, struct vu_rig, log);
	size_t used = strlen(rig->said);

	(void)level;
	snprintf(rig->said + used, sizeof(rig->said) - used, "%s\n", line);
	rig->lines++;
}

void vu_rig_start(struct co *co, struct vu_rig *rig, struct vhost_user_options options)
{
	char address[64];
	struct err err = {0};

	snprintf(address, sizeof(address), "unix:vu-test-%ld.sock", (long)getpid());
	options.address = address;
	options.disk = &rig->disk;
	options.log = &rig->log;
	rig->log = (struct log){.level = LOG_LEVEL_WARNING, .write = note};
	rig->said[0] = '\0';
	rig->lines = 0;
	if (!rig->mem)
		rig->mem = mem_new(co, DISK_BYTES);
	CHECK(rig->mem != NULL);
	rig->disk.node = &rig->mem->node;
	if (!rig->disk.name)
		rig->disk.name = "";
	if (vhost_user_export_start(co, &options, &rig->export, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

void vu_rig_stop(struct co *co, struct vu_rig *rig)
{
	rig->export->ops->stop(co, rig->export);
	CHECK_INT(node_close(co, &take(rig->mem)->node), 0);
}

void vu_rig_said(const struct vu_rig *rig, const char *text)
{
	if (!strstr(rig->said, text)) {
		fprintf(stderr, "nowhere \"%s\" in:\n%s", text, rig->said);
		abort();
	}
}

int memory_of(size_t bytes)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	return fd;
}

/* ---- connection ---- */

void *front_at(const struct front *f, uint64_t guest) { return io_map_bytes(f->memory) + (guest - GUEST_BASE); }

void front_connect(struct co *co, struct vu_rig *rig, struct front *f)
{
	struct err err = {0};

	if (!f->memory) {
		CHECK_INT(io_map_new(co, GUEST_BYTES, &f->memory, &f->memory_fd, &err), 0);
		f->record_fd = -1;
	}
	CHECK_INT(io_connect(co, vhost_user_export_address(rig->export), &f->sock, &err), 0);
}

void front_hang_up(struct co *co, struct front *f)
{
	for (unsigned i = 0; i < FRONT_QUEUES; i++) {
		io_event_close(co, take(f->queue[i].kick));
		io_event_close(co, take(f->queue[i].call));
	}
	if (f->sock)
		io_sock_shutdown(f->sock);
	io_sock_close(co, take(f->sock));
}

void front_close(struct co *co, struct front *f)
{
	front_hang_up(co, f);
	io_unmap(co, f->memory);
	io_fd_close(co, f->memory_fd);
	if (f->record_fd >= 0)
		io_fd_close(co, f->record_fd);
}

/* ---- messages ---- */

void front_send(struct co *co, struct front *f, unsigned request, unsigned flags, const void *payload, size_t len,
	const int *fd, unsigned fds)
{
	struct vu_header header = {.request = request, .flags = VU_VERSION | flags, .size = (uint32_t)len};
	struct iovec v[] = {{&header, sizeof(header)}, {(void *)payload, len}};

	CHECK_INT(io_send_fds(co, f->sock, iov_of(v, 2), fd, fds), 0);
}

static void receive(struct co *co, struct front *f, void *to, size_t len, int *fd)
{
	for (size_t done = 0; done < len;) {
		struct io_fds fds;
		ssize_t n = io_recv_fds(co, f->sock, (char *)to + done, len - done, &fds);

		CHECK(n > 0);
		done += (size_t)n;
		CHECK(fds.n <= 1);
		if (fds.n == 1) {
			CHECK(fd != NULL);
			*fd = fds.fd[0];
		}
	}
}

static size_t reply(struct co *co, struct front *f, unsigned request, void *payload, size_t max, int *fd)
{
	struct vu_header header;

	receive(co, f, &header, sizeof(header), fd);
	CHECK_INT(header.request, request);
	CHECK_INT(header.flags, VU_VERSION | VU_REPLY);
	CHECK(header.size <= max);
	if (header.size > 0)
		receive(co, f, payload, header.size, fd);
	return header.size;
}

size_t front_reply(struct co *co, struct front *f, unsigned request, void *payload, size_t max)
{
	return reply(co, f, request, payload, max, NULL);
}

uint64_t front_ask(struct co *co, struct front *f, unsigned request)
{
	uint64_t value;

	front_send(co, f, request, 0, NULL, 0, NULL, 0);
	CHECK_INT(front_reply(co, f, request, &value, sizeof(value)), sizeof(value));
	return value;
}

bool front_order(
	struct co *co, struct front *f, unsigned request, const void *payload, size_t len, const int *fd, unsigned fds)
{
	uint64_t value;

	front_send(co, f, request, VU_NEED_REPLY, payload, len, fd, fds);
	CHECK_INT(front_reply(co, f, request, &value, sizeof(value)), sizeof(value));
	return value == 0;
}

bool front_order_u64(struct co *co, struct front *f, unsigned request, uint64_t value)
{
	return front_order(co, f, request, &value, sizeof(value), NULL, 0);
}

bool front_order_state(struct co *co, struct front *f, unsigned request, uint32_t index, uint32_t num)
{
	struct vu_vring_state state = {index, num};

	return front_order(co, f, request, &state, sizeof(state), NULL, 0);
}

void front_expect_end(struct co *co, struct front *f)
{
	char byte;

	CHECK(io_recv(co, f->sock, &byte, 1) <= 0);
}

/* ---- beginning ---- */

void front_negotiate(struct co *co, struct front *f)
{
	uint64_t offered = front_ask(co, f, VU_GET_FEATURES), protocol = front_ask(co, f, VU_GET_PROTOCOL_FEATURES);
	uint64_t features = f->features;

	if (features == 0)
		features = offered &
			~(VU_F_LOG_ALL | UINT64_C(1) << VIRTIO_F_RING_PACKED | UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX);
	features |= f->packed ? UINT64_C(1) << VIRTIO_F_RING_PACKED : 0;
	features |= f->event_index ? UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX : 0;
	front_send(co, f, VU_SET_PROTOCOL_FEATURES, 0, &protocol, sizeof(protocol), NULL, 0);
	CHECK(front_order_u64(co, f, VU_SET_FEATURES, features));
	CHECK(front_order(co, f, VU_SET_OWNER, NULL, 0, NULL, 0));
}

/* In two regions, so that what lies across their border is in two pieces. */
bool front_table(struct co *co, struct front *f)
{
	uint64_t half = GUEST_BYTES / 2 + 65536 + 512;
	struct vu_table_wire table = {.n = 2,
		.region = {{GUEST_BASE, half, USER_BASE, 0},
			{GUEST_BASE + half, GUEST_BYTES - half, USER_BASE + half + (1 << 20), half}}};
	int fds[] = {f->memory_fd, f->memory_fd};

	return front_order(co, f, VU_SET_MEM_TABLE, &table, 8 + 2 * sizeof(struct vu_region_wire), fds, 2);
}

void front_record(struct co *co, struct front *f, unsigned queues)
{
	if (f->record_fd < 0) {
		f->record_wire = (struct vu_inflight_wire){.queues = (uint16_t)queues, .queue_size = f->size};
		front_send(co, f, VU_GET_INFLIGHT_FD, 0, &f->record_wire, sizeof(f->record_wire), NULL, 0);
		CHECK_INT(reply(co, f, VU_GET_INFLIGHT_FD, &f->record_wire, sizeof(f->record_wire), &f->record_fd),
			sizeof(f->record_wire));
	}
	CHECK(front_order(co, f, VU_SET_INFLIGHT_FD, &f->record_wire, sizeof(f->record_wire), &f->record_fd, 1));
}

static void event_make(struct co *co, bool waits, struct io_event **mine, int *theirs)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	*theirs = dup(fd);
	CHECK(fd >= 0 && *theirs >= 0);
	CHECK_INT(io_event_adopt(co, fd, waits, mine), 0);
}

static void ring_make(struct front *f, unsigned i)
{
	struct driver *d = &f->queue[i].driver;

	*d = (struct driver){
		.memory = front_at(f, GUEST_BASE),
		.guest_base = GUEST_BASE,
		.packed = f->packed,
		.indirect = f->indirect,
		.event_index = f->event_index,
		.size = f->size,
	};
	CHECK(driver_init(d, GUEST_BASE + i * (UINT64_C(1) << 20)) < UINT64_C(1) << 20);
}

bool front_queue_addr(struct co *co, struct front *f, unsigned i, unsigned flags)
{
	const struct driver *d = &f->queue[i].driver;
	struct vu_vring_addr addr = {
		.index = i,
		.flags = flags,
		.descriptor = d->desc - GUEST_BASE + USER_BASE,
		.used = d->used - GUEST_BASE + USER_BASE,
		.available = d->avail - GUEST_BASE + USER_BASE,
		.log = d->used,
	};

	return front_order(co, f, VU_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
}

void front_queue_start(struct co *co, struct front *f, unsigned i, uint32_t base)
{
	struct front_queue *q = &f->queue[i];
	uint64_t index = i;

	event_make(co, false, &q->kick, &q->kick_fd);
	event_make(co, true, &q->call, &q->call_fd);
	CHECK(front_order_state(co, f, VU_SET_VRING_NUM, i, f->size));
	CHECK(front_order_state(co, f, VU_SET_VRING_BASE, i, base));
	CHECK(front_queue_addr(co, f, i, 0));
	CHECK(front_order(co, f, VU_SET_VRING_CALL, &index, 8, &q->call_fd, 1));
	CHECK(front_order(co, f, VU_SET_VRING_KICK, &index, 8, &q->kick_fd, 1));
	CHECK(front_order_state(co, f, VU_SET_VRING_ENABLE, i, 1));
	io_fd_close(co, q->kick_fd);
	io_fd_close(co, q->call_fd);
}

uint32_t front_queue_stop(struct co *co, struct front *f, unsigned i)
{
	struct vu_vring_state state = {i, 0};

	front_send(co, f, VU_GET_VRING_BASE, 0, &state, sizeof(state), NULL, 0);
	CHECK_INT(front_reply(co, f, VU_GET_VRING_BASE, &state, sizeof(state)), sizeof(state));
	CHECK_INT(state.index, i);
	io_event_close(co, take(f->queue[i].kick));
	io_event_close(co, take(f->queue[i].call));
	return state.num;
}

void front_start(struct co *co, struct vu_rig *rig, struct front *f)
{
	if (f->size == 0)
		f->size = 64;
	front_connect(co, rig, f);
	front_negotiate(co, f);
	CHECK(front_table(co, f));
	for (unsigned i = 0; i < FRONT_QUEUES; i++)
		ring_make(f, i);
	front_queue_start(co, f, 0, f->packed ? 0x80008000 : 0);
}

void front_begin(struct co *co, struct vu_rig *rig, struct front *f)
{
	vu_rig_start(co, rig, (struct vhost_user_options){.queues = FRONT_QUEUES});
	front_start(co, rig, f);
}

void front_end(struct co *co, struct vu_rig *rig, struct front *f)
{
	front_close(co, f);
	vu_rig_stop(co, rig);
}

bool front_region(struct co *co, struct front *f, unsigned request, struct vu_region_wire region, int fd)
{
	struct vu_single_region_wire w = {.region = region};

	return front_order(co, f, request, &w, sizeof(w), &fd, fd >= 0);
}

/* ---- requests ---- */

/* Header and status of each chain lie behind the data, 64 bytes for each. */
static uint64_t head_at(const struct front *f, unsigned i, unsigned slot)
{
	return GUEST_BASE + GUEST_BYTES - (UINT64_C(1) << 20) + (i * f->size + slot) * UINT64_C(64);
}

uint8_t *front_status(struct front *f, unsigned i, int head) { return front_at(f, head_at(f, i, (unsigned)head) + 32); }

int front_offer(
	struct front *f, unsigned i, uint32_t type, uint64_t sector, uint64_t data, uint32_t len, unsigned parts)
{
	struct driver *d = &f->queue[i].driver;
	unsigned slot = driver_next(d), n = 0;
	uint64_t head = head_at(f, i, slot);
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	struct driver_part part[DRIVER_TABLE];
	bool reads = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;

	if (d->n_free == 0)
		return -1;
	memcpy(front_at(f, head), &header, sizeof(header));
	*(uint8_t *)front_at(f, head + 32) = 0xff;
	part[n++] = (struct driver_part){head, sizeof(header), false};
	for (unsigned k = 0; k < parts && len > 0; k++) {
		uint32_t piece = k + 1 < parts ? len / (parts - k) : len;

		part[n++] = (struct driver_part){data, piece, reads};
		data += piece;
		len -= piece;
	}
	part[n++] = (struct driver_part){head + 32, 1, true};
	return driver_offer(d, part, n);
}

void front_kick(struct co *co, struct front *f, unsigned i)
{
	if (driver_should_kick(&f->queue[i].driver))
		io_event_signal(co, f->queue[i].kick);
}

int front_collect(struct co *co, struct front *f, unsigned i, uint32_t *len)
{
	struct front_queue *q = &f->queue[i];
	uint32_t written;
	uint16_t head;

	while (!driver_collect(&q->driver, &head, &written)) {
		driver_want_calls(&q->driver, true);
		if (driver_collect(&q->driver, &head, &written))
			break;
		CHECK_INT(io_event_wait(co, q->call), 0);
	}
	driver_want_calls(&q->driver, false);
	if (len)
		*len = written;
	return head;
}

uint8_t front_do(struct co *co, struct front *f, uint32_t type, uint64_t sector, uint64_t data, uint32_t len)
{
	int head = front_offer(f, 0, type, sector, data, len, 1);

	CHECK(head >= 0);
	front_kick(co, f, 0);
	CHECK_INT(front_collect(co, f, 0, NULL), head);
	return *front_status(f, 0, head);
}
