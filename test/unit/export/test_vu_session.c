/* SPDX-License-Identifier: MIT */
/* vhost-user-blk: memory that comes and goes, stopping, restarts, migrations. */
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "export/vhost_user/inflight.h"
#include "front.h"

/* ---- memory that is taken away ---- */

static void memory_that_is_cut_short_ends_the_session_alone(struct co *co)
{
	uint64_t more = GUEST_BASE + GUEST_BYTES;
	struct vu_region_wire extra = {more, 1 << 20, USER_BASE + 4 * GUEST_BYTES, 0};
	struct vu_rig rig = {0};
	struct front f = {0};
	int fd = memory_of(1 << 20);

	front_begin(co, &rig, &f);
	CHECK(front_region(co, &f, VU_ADD_MEM_REG, extra, fd));
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 0, more, 4096), VIRTIO_BLK_S_OK);
	CHECK_INT(ftruncate(fd, 0), 0);
	CHECK(front_offer(&f, 0, VIRTIO_BLK_T_IN, 0, more, 4096, 1) >= 0);
	front_kick(co, &f, 0);
	front_expect_end(co, &f);
	vu_rig_said(&rig, "memory that the front end shares was cut short while it was in use; the session ends");
	front_hang_up(co, &f);
	front_start(co, &rig, &f);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 4096), VIRTIO_BLK_S_OK);
	io_fd_close(co, fd);
	front_end(co, &rig, &f);
}

/* ---- memory that comes and goes ---- */

static void requests_keep_their_memory(struct co *co)
{
	uint64_t more = GUEST_BASE + GUEST_BYTES;
	struct vu_region_wire extra = {more, 1 << 20, USER_BASE + 4 * GUEST_BYTES, 0};
	struct vu_rig rig = {0};
	struct front f = {0};
	int fd = memory_of(1 << 20), head;
	uint8_t *seen = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	front_begin(co, &rig, &f);
	memset(rig.mem->data, 0x5a, 4096);
	CHECK(front_region(co, &f, VU_ADD_MEM_REG, extra, fd));
	rig.mem->hold = true;
	head = front_offer(&f, 0, VIRTIO_BLK_T_IN, 0, more, 4096, 1);
	front_kick(co, &f, 0);
	while (rig.mem->in_flight == 0)
		co_sleep(co, MS);
	CHECK(front_region(co, &f, VU_REM_MEM_REG, extra, -1));
	CHECK_INT(seen[0], 0);
	mem_release(rig.mem);
	CHECK_INT(front_collect(co, &f, 0, NULL), head);
	CHECK_INT(*front_status(&f, 0, head), VIRTIO_BLK_S_OK);
	CHECK_INT(seen[4095], 0x5a);
	munmap(seen, 1 << 20);
	io_fd_close(co, fd);
	/* It is gone for new ones. */
	CHECK(front_offer(&f, 0, VIRTIO_BLK_T_IN, 0, more, 4096, 1) >= 0);
	front_kick(co, &f, 0);
	while (rig.lines == 0)
		co_sleep(co, MS);
	vu_rig_said(&rig, "aren't in the guest's memory");
	front_end(co, &rig, &f);
}

static void as_many_regions_as_there_may_be(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	int fd = memory_of(4096);
	struct vu_region_wire r = {.size = 4096};
	unsigned n = 2; /* those of the table */

	front_begin(co, &rig, &f);
	for (;; n++) {
		r.guest = UINT64_C(1) << 40 | n * UINT64_C(8192);
		r.user = UINT64_C(1) << 50 | n * UINT64_C(8192);
		if (!front_region(co, &f, VU_ADD_MEM_REG, r, fd))
			break;
	}
	CHECK_INT(n, 509);
	vu_rig_said(&rig, "ADD_MEM_REG fails: no more than 509 regions of memory");
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 0, r.guest - 8192, 4096), VIRTIO_BLK_S_OK);
	io_fd_close(co, fd);
	front_end(co, &rig, &f);
}

/* The ring may come to lie elsewhere in our memory, in the midst of work. */
static void memory_that_is_mapped_anew(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {.size = 16};
	int head;

	front_begin(co, &rig, &f);
	rig.mem->hold = true;
	head = front_offer(&f, 0, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 4096, 1);
	front_kick(co, &f, 0);
	while (rig.mem->in_flight == 0)
		co_sleep(co, MS);
	CHECK(front_table(co, &f));
	mem_release(rig.mem);
	CHECK_INT(front_collect(co, &f, 0, NULL), head);
	for (unsigned i = 0; i < 40; i++)
		CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 4096), VIRTIO_BLK_S_OK);
	front_end(co, &rig, &f);
	CHECK_INT(rig.lines, 0);
}

/* ---- stopping ---- */

struct stopper {
	struct front *f;
	bool stopped;
};

static void stopper_entry(struct co *co, void *arg)
{
	struct stopper *s = arg;

	CHECK_INT(front_queue_stop(co, s->f, 0), 3);
	s->stopped = true;
}

static void a_queue_stops_when_all_has_been_given_back(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	struct stopper s = {.f = &f};
	struct co_group group;
	uint16_t head;
	uint32_t len;

	co_group_init(&group, co_sched_of(co));
	front_begin(co, &rig, &f);
	rig.mem->hold = true;
	for (unsigned i = 0; i < 3; i++)
		CHECK(front_offer(&f, 0, VIRTIO_BLK_T_OUT, i, DATA_BASE, 512, 1) >= 0);
	front_kick(co, &f, 0);
	while (rig.mem->in_flight < 3)
		co_sleep(co, MS);
	CHECK_INT(co_group_spawn(&group, "stopper", stopper_entry, &s), 0);
	co_sleep(co, 20 * MS);
	CHECK(!s.stopped);
	mem_release(rig.mem);
	co_group_wait(co, &group);
	for (unsigned i = 0; i < 3; i++)
		CHECK(driver_collect(&f.queue[0].driver, &head, &len));
	front_end(co, &rig, &f);
}

static void a_disabled_queue_rests(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};

	front_begin(co, &rig, &f);
	CHECK(front_order_state(co, &f, VU_SET_VRING_ENABLE, 0, 0));
	CHECK(front_offer(&f, 0, VIRTIO_BLK_T_IN, 0, DATA_BASE, 512, 1) >= 0);
	io_event_signal(co, f.queue[0].kick);
	co_sleep(co, 20 * MS);
	CHECK_INT(rig.mem->reads, 0);
	CHECK(front_order_state(co, &f, VU_SET_VRING_ENABLE, 0, 1));
	CHECK(front_collect(co, &f, 0, NULL) >= 0);
	front_end(co, &rig, &f);
}

/* ---- the server dies ---- */

/* All that outlives a server that is killed, as it is at this moment. */
struct remains {
	int memory_fd, record_fd;
	struct io_map *memory;
};

static int copy_of(struct co *co, int fd, uint64_t bytes, struct io_map **out)
{
	struct io_map *from, *to;
	struct err err;
	int copy;

	CHECK_INT(io_map(co, fd, 0, bytes, &from, &err), 0);
	CHECK_INT(io_map_new(co, bytes, &to, &copy, &err), 0);
	memcpy(io_map_bytes(to), io_map_bytes(from), bytes);
	io_unmap(co, from);
	if (out)
		*out = to;
	else
		io_unmap(co, to);
	return copy;
}

/* The same guest as at that moment goes on with a server that knows nothing but the record. */
static void front_resurrect(struct co *co, struct front *f, const struct remains *r)
{
	front_hang_up(co, f);
	io_unmap(co, f->memory);
	io_fd_close(co, f->memory_fd);
	io_fd_close(co, f->record_fd);
	f->memory = r->memory;
	f->memory_fd = r->memory_fd;
	f->record_fd = r->record_fd;
	for (unsigned i = 0; i < FRONT_QUEUES; i++)
		f->queue[i].driver.memory = front_at(f, GUEST_BASE);
}

static void killed_and_restarted(struct co *co, bool packed, bool indirect)
{
	struct vu_rig rig = {0};
	struct front f = {.packed = packed, .indirect = indirect, .size = 64};
	struct remains r;
	unsigned done = 0;

	front_begin(co, &rig, &f);
	front_queue_stop(co, &f, 0);
	front_record(co, &f, 1);
	driver_init(&f.queue[0].driver, GUEST_BASE);
	front_queue_start(co, &f, 0, packed ? 0x80008000 : 0);
	for (unsigned i = 0; i < 100; i++)
		CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, i, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	memset(front_at(&f, DATA_BASE), 0x77, 5 * 512);
	rig.mem->hold = true;
	for (unsigned i = 0; i < 5; i++)
		CHECK(front_offer(&f, 0, VIRTIO_BLK_T_OUT, 1000 + i, DATA_BASE + i * 512, 512, 2) >= 0);
	front_kick(co, &f, 0);
	while (rig.mem->in_flight < 5)
		co_sleep(co, MS);
	r.memory_fd = copy_of(co, f.memory_fd, GUEST_BYTES, &r.memory);
	r.record_fd = copy_of(co, f.record_fd, f.record_wire.size, NULL);
	/* The old server ends, having forgotten what it was about. */
	mem_release(rig.mem);
	front_resurrect(co, &f, &r);
	while (rig.export->ops->clients(rig.export, &rig.disk) > 0)
		co_sleep(co, MS);
	memset(rig.mem->data + 1000 * 512, 0, 5 * 512);
	front_connect(co, &rig, &f);
	front_negotiate(co, &f);
	CHECK(front_table(co, &f));
	front_record(co, &f, 1);
	front_queue_start(co, &f, 0, packed ? 0x80008000 : 100); /* what a front end believes after a crash */
	for (; done < 5; done++)
		CHECK_INT(*front_status(&f, 0, front_collect(co, &f, 0, NULL)), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.mem->data[1000 * 512], 0x77);
	CHECK_INT(rig.mem->data[1005 * 512 - 1], 0x77);
	for (unsigned i = 0; i < 100; i++)
		CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, i, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	front_end(co, &rig, &f);
	CHECK_INT(rig.lines, 0);
}

static void a_killed_server_has_a_successor(struct co *co)
{
	killed_and_restarted(co, false, false);
	killed_and_restarted(co, false, true);
	killed_and_restarted(co, true, false);
	killed_and_restarted(co, true, true);
}

/* SeaBIOS takes rings of 256 entries, whatever QEMU was told. */
static void a_record_that_does_not_fit(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {.size = 64};
	struct vu_inflight_wire small = {.size = 100, .queues = 1, .queue_size = 64};

	front_begin(co, &rig, &f);
	CHECK(!front_order(co, &f, VU_SET_INFLIGHT_FD, &small, sizeof(small), &f.memory_fd, 1));
	vu_rig_said(&rig, "queue 0 is at work, and can't change where it notes its requests");
	front_queue_stop(co, &f, 0);
	CHECK(front_order(co, &f, VU_SET_INFLIGHT_FD, &small, sizeof(small), &f.memory_fd, 1));
	driver_init(&f.queue[0].driver, GUEST_BASE);
	front_queue_start(co, &f, 0, 0);
	vu_rig_said(
		&rig, "queue 0 won't outlive this server: its 64 entries don't fit into its 64 bytes of the record");
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 4096), VIRTIO_BLK_S_OK);
	front_end(co, &rig, &f);
}

/* ---- migration ---- */

static void what_is_written_is_logged(struct co *co)
{
	uint64_t bits = (GUEST_BASE + GUEST_BYTES) / 4096 / 8;
	struct vu_rig rig = {0};
	struct front f = {0};
	int fd = memory_of(bits);
	uint8_t *log = mmap(NULL, bits, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct vu_log_wire w = {.size = bits};
	uint64_t page = DATA_BASE / 4096, ignored;

	front_begin(co, &rig, &f);
	front_send(co, &f, VU_SET_LOG_BASE, 0, &w, sizeof(w), &fd, 1);
	CHECK_INT(front_reply(co, &f, VU_SET_LOG_BASE, &ignored, 8), 8);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 0, DATA_BASE, 8192), VIRTIO_BLK_S_OK);
	CHECK(mem_is_zero(log, bits));
	f.features = (front_ask(co, &f, VU_GET_FEATURES) & ~(UINT64_C(1) << VIRTIO_F_RING_PACKED)) | VU_F_LOG_ALL;
	CHECK(front_order_u64(co, &f, VU_SET_FEATURES, f.features));
	CHECK(front_queue_addr(co, &f, 0, VU_VRING_LOG));
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 0, DATA_BASE + 100, 8192), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 3; i++)
		CHECK(log[(page + i) / 8] >> ((page + i) % 8) & 1);
	CHECK(!(log[(page + 3) / 8] >> ((page + 3) % 8) & 1));
	page = f.queue[0].driver.used / 4096;
	CHECK(log[page / 8] >> (page % 8) & 1);
	memset(log, 0, bits);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 8192), VIRTIO_BLK_S_OK);
	page = DATA_BASE / 4096;
	CHECK(!(log[page / 8] >> (page % 8) & 1));
	munmap(log, bits);
	io_fd_close(co, fd);
	front_end(co, &rig, &f);
}

/* ---- a new size ---- */

static void the_guest_is_told_of_a_new_size(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	struct io_sock *channel;
	struct vu_header h;
	int pair[2];

	front_begin(co, &rig, &f);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_INT(io_sock_adopt(co, pair[0], &channel), 0);
	CHECK(front_order(co, &f, VU_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1));
	rig.export->ops->resized(rig.export, &rig.disk);
	CHECK_INT(io_recv(co, channel, &h, sizeof(h)), sizeof(h));
	CHECK_INT(h.request, VU_BACKEND_CONFIG_CHANGE);
	CHECK_INT(h.flags, 1);
	CHECK_INT(h.size, 0);
	io_sock_close(co, channel);
	io_fd_close(co, pair[1]);
	front_end(co, &rig, &f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_that_is_cut_short_ends_the_session_alone), /* first: cmocka's handler comes before each */
		TEST(requests_keep_their_memory),
		TEST(as_many_regions_as_there_may_be),
		TEST(memory_that_is_mapped_anew),
		TEST(a_queue_stops_when_all_has_been_given_back),
		TEST(a_disabled_queue_rests),
		TEST(a_killed_server_has_a_successor),
		TEST(a_record_that_does_not_fit),
		TEST(what_is_written_is_logged),
		TEST(the_guest_is_told_of_a_new_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
