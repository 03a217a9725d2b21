/* SPDX-License-Identifier: MIT */
/* The load over vhost-user-blk: a front end with one queue, a split ring with indirect tables if they are offered. */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"
#include "export/vhost_user/proto.h"
#include "load.h"

#define RING_BYTES (UINT64_C(2) << 20)  /* ring, tables */
#define HEADS_BYTES (UINT64_C(1) << 20) /* a header and a status for each slot */
#define HEAD_BYTES 64u
#define RING_SIZE 256

struct front {
	struct load *load;
	int fd, memory_fd, kick, call;
	uint8_t *memory; /* the guest's, from 0 on; the front end's addresses are where we have it */
	uint64_t bytes;
	struct driver driver;
	struct load_slot slot[LOAD_DEPTH];
	unsigned idle[LOAD_DEPTH], idle_n, slot_of[RING_SIZE];
};

/* ---- messages ---- */

static void message(struct front *f, unsigned request, const void *payload, size_t len, int fd)
{
	struct vu_header header = {.request = request, .flags = VU_VERSION, .size = (uint32_t)len};
	struct iovec v[] = {{&header, sizeof(header)}, {(void *)payload, len}};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};

	if (fd >= 0) {
		struct cmsghdr *c = &control.align;

		m.msg_control = &control;
		m.msg_controllen = sizeof(control.bytes);
		*c = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	if (sendmsg(f->fd, &m, MSG_NOSIGNAL) != (ssize_t)(sizeof(header) + len))
		load_die("send");
}

static uint64_t ask(struct front *f, unsigned request)
{
	struct vu_header header;
	uint64_t value = 0;

	message(f, request, NULL, 0, -1);
	load_receive(f->fd, &header, sizeof(header));
	load_receive(f->fd, &value, header.size);
	return value;
}

static void tell_state(struct front *f, unsigned request, uint32_t value)
{
	struct vu_vring_state state = {0, value};

	message(f, request, &state, sizeof(state), -1);
}

static void negotiate(struct front *f)
{
	const uint64_t wanted = VU_F_PROTOCOL_FEATURES | UINT64_C(1) << VIRTIO_F_VERSION_1 |
		UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC | UINT64_C(1) << VIRTIO_BLK_F_FLUSH;
	uint64_t features = ask(f, VU_GET_FEATURES) & wanted;
	uint64_t protocol = ask(f, VU_GET_PROTOCOL_FEATURES) & (VU_P_MQ | VU_P_CONFIG);

	message(f, VU_SET_PROTOCOL_FEATURES, &protocol, sizeof(protocol), -1);
	message(f, VU_SET_OWNER, NULL, 0, -1);
	message(f, VU_SET_FEATURES, &features, sizeof(features), -1);
	f->driver.indirect = features & UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC;
}

static void memory_share(struct front *f)
{
	struct vu_table_wire table = {.n = 1};

	f->bytes = RING_BYTES + HEADS_BYTES + (uint64_t)f->load->depth * f->load->bytes;
	f->bytes = (f->bytes + (2 << 20) - 1) & ~UINT64_C(0x1fffff);
	f->memory_fd = memfd_create("bench-load", MFD_CLOEXEC);
	if (f->memory_fd < 0 || ftruncate(f->memory_fd, (off_t)f->bytes) < 0)
		load_die("memory");
	f->memory = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory_fd, 0);
	if (f->memory == MAP_FAILED)
		load_die("memory");
	memset(f->memory + RING_BYTES, 0x5a, f->bytes - RING_BYTES);
	table.region[0] = (struct vu_region_wire){0, f->bytes, (uintptr_t)f->memory, 0};
	message(f, VU_SET_MEM_TABLE, &table, 8 + sizeof(table.region[0]), f->memory_fd);
}

static void queue_start(struct front *f)
{
	struct driver *d = &f->driver;
	struct vu_vring_addr addr;
	uint64_t index = 0;

	*d = (struct driver){.memory = f->memory, .indirect = d->indirect, .size = RING_SIZE};
	if (driver_init(d, 0) > RING_BYTES)
		load_die("ring");
	addr = (struct vu_vring_addr){.descriptor = (uintptr_t)f->memory + d->desc,
		.available = (uintptr_t)f->memory + d->avail,
		.used = (uintptr_t)f->memory + d->used};
	f->kick = eventfd(0, EFD_CLOEXEC);
	f->call = eventfd(0, EFD_CLOEXEC);
	tell_state(f, VU_SET_VRING_NUM, RING_SIZE);
	tell_state(f, VU_SET_VRING_BASE, 0);
	message(f, VU_SET_VRING_ADDR, &addr, sizeof(addr), -1);
	message(f, VU_SET_VRING_CALL, &index, sizeof(index), f->call);
	message(f, VU_SET_VRING_KICK, &index, sizeof(index), f->kick);
	tell_state(f, VU_SET_VRING_ENABLE, 1);
}

/* ---- requests ---- */

static void request_put(struct front *f, unsigned i)
{
	const struct load_slot *s = &f->slot[i];
	uint64_t head = RING_BYTES + i * HEAD_BYTES, data = RING_BYTES + HEADS_BYTES + (uint64_t)i * f->load->bytes;
	struct virtio_blk_outhdr header = {.sector = s->offset / 512};
	struct driver_part part[3] = {{head, sizeof(header), false}};
	unsigned n = 1;
	int chain;

	header.type = s->op == EXPORT_READ ? VIRTIO_BLK_T_IN
		: s->op == EXPORT_WRITE    ? VIRTIO_BLK_T_OUT
					   : VIRTIO_BLK_T_FLUSH;
	memcpy(f->memory + head, &header, sizeof(header));
	f->memory[head + 32] = 0xff;
	if (s->op != EXPORT_FLUSH)
		part[n++] = (struct driver_part){data, f->load->bytes, s->op == EXPORT_READ};
	part[n++] = (struct driver_part){head + 32, 1, true};
	chain = driver_offer(&f->driver, part, n);
	if (chain < 0)
		load_die("the ring is full");
	f->slot_of[chain] = i;
}

static void fill(struct front *f)
{
	const uint64_t one = 1;

	while (f->idle_n > 0 && load_next(f->load, &f->slot[f->idle[f->idle_n - 1]]))
		request_put(f, f->idle[--f->idle_n]);
	if (driver_should_kick(&f->driver) && write(f->kick, &one, sizeof(one)) < 0)
		load_die("kick");
}

static bool collect(struct front *f)
{
	uint32_t len;
	uint16_t chain;
	bool some = false;

	while (driver_collect(&f->driver, &chain, &len)) {
		unsigned i = f->slot_of[chain];

		load_done(f->load, &f->slot[i], f->memory[RING_BYTES + i * HEAD_BYTES + 32] == VIRTIO_BLK_S_OK);
		f->idle[f->idle_n++] = i;
		some = true;
	}
	return some;
}

static void wait_for_some(struct front *f)
{
	struct pollfd call = {.fd = f->call, .events = POLLIN}; /* the server may have made it one that doesn't block */
	uint64_t count;

	if (collect(f))
		return;
	driver_want_calls(&f->driver, true);
	while (!collect(f)) {
		if (poll(&call, 1, -1) < 0 || (read(f->call, &count, sizeof(count)) < 0 && errno != EAGAIN))
			load_die("call");
	}
	driver_want_calls(&f->driver, false);
}

void load_vhost(struct load *l)
{
	static struct front f;

	f.load = l;
	f.fd = load_connect(l->socket);
	negotiate(&f);
	memory_share(&f);
	queue_start(&f);
	for (unsigned i = 0; i < l->depth; i++)
		f.idle[f.idle_n++] = i;
	load_begin(l);
	for (fill(&f); f.idle_n < l->depth; fill(&f))
		wait_for_some(&f);
	close(f.fd);
	munmap(f.memory, f.bytes);
}
