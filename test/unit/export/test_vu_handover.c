/* SPDX-License-Identifier: MIT */
/* The vhost-user device changes hands, and its guest doesn't notice. */
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <sys/socket.h>
#include <unistd.h>

#include "front.h"
#include "move.h"

static struct export *restore(struct co *co, struct vu_rig *rig, struct export_state *state)
{
	struct vhost_user_options o = {
		.state = state, .disk = &rig->disk, .log = &rig->log, .queues = FRONT_QUEUES, .hands_over = true};
	struct export *e = NULL;
	struct err err = {0};

	CHECK_INT(vhost_user_export_start(co, &o, &e, &err), 0);
	return e;
}

static void hand_over(struct co *co, struct vu_rig *rig)
{
	struct export *old = rig->export;
	struct export_state state;

	move_out(co, old, &state);
	rig->export = restore(co, rig, &state);
	move_in(co, old, rig->export, &state);
}

static void take_back(struct co *co, struct vu_rig *rig) { move_back(co, rig->export); }

typedef void change(struct co *co, struct vu_rig *rig);
static change *const changes[] = {hand_over, take_back};

static void begin(struct co *co, struct vu_rig *rig, struct front *f, bool record)
{
	vu_rig_start(co, rig, (struct vhost_user_options){.queues = FRONT_QUEUES, .hands_over = true});
	front_start(co, rig, f);
	if (!record)
		return;
	front_queue_stop(co, f, 0);
	front_record(co, f, 1);
	driver_init(&f->queue[0].driver, GUEST_BASE);
	front_queue_start(co, f, 0, f->packed ? 0x80008000 : 0);
}

struct release {
	struct mem *mem;
};

static void release_entry(struct co *co, void *arg)
{
	struct release *r = arg;

	co_sleep(co, 20 * MS);
	mem_release(r->mem);
}

/* With requests that were taken, and some that were offered when nobody took any. */
static void change_under_load(struct co *co, struct vu_rig *rig, struct front *f, change *how, unsigned round)
{
	struct release r = {rig->mem};
	struct co_group group;
	unsigned before = rig->mem->writes;

	memset(front_at(f, DATA_BASE), (int)(round + 1), 10 * 512);
	rig->mem->hold = true;
	for (unsigned i = 0; i < 5; i++)
		CHECK(front_offer(f, 0, VIRTIO_BLK_T_OUT, round * 10 + i, DATA_BASE + i * 512, 512, 1) >= 0);
	front_kick(co, f, 0);
	while (rig->mem->in_flight < 5)
		co_sleep(co, MS);
	co_group_init(&group, co_sched_of(co));
	CHECK_INT(co_group_spawn(&group, "release", release_entry, &r), 0);
	how(co, rig);
	co_group_wait(co, &group);
	for (unsigned i = 5; i < 10; i++)
		CHECK(front_offer(f, 0, VIRTIO_BLK_T_OUT, round * 10 + i, DATA_BASE + i * 512, 512, 1) >= 0);
	front_kick(co, f, 0);
	for (unsigned i = 0; i < 10; i++)
		CHECK_INT(*front_status(f, 0, front_collect(co, f, 0, NULL)), VIRTIO_BLK_S_OK);
	CHECK_INT(rig->mem->writes - before, 10);
	for (unsigned i = 0; i < 10; i++)
		CHECK_INT(rig->mem->data[(round * 10 + i) * 512], round + 1);
}

static void with_rings(struct co *co, struct front f, bool record)
{
	struct vu_rig rig = {0};

	begin(co, &rig, &f, record);
	for (unsigned round = 0; round < 20; round++)
		change_under_load(co, &rig, &f, changes[round % 3 == 2], round);
	/* The front end can still stop the queue, and start it again where it was. */
	front_queue_start(co, &f, 0, front_queue_stop(co, &f, 0));
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	front_end(co, &rig, &f);
	CHECK_INT(rig.lines, 0);
}

static void a_guest_stays(struct co *co)
{
	for (unsigned i = 0; i < 16; i++)
		with_rings(co, (struct front){.packed = i & 1, .indirect = i & 2, .event_index = i & 4, .size = 32},
			i & 8);
}

/* What the guest offers and kicks while nobody serves is found. */
static void a_kick_is_not_lost(struct co *co)
{
	for (unsigned back = 0; back < 2; back++) {
		struct vu_rig rig = {0};
		struct front f = {0};
		struct export_state state;
		struct export *old;

		begin(co, &rig, &f, false);
		old = rig.export;
		move_out(co, old, &state);
		CHECK(front_offer(&f, 0, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512, 1) >= 0);
		front_kick(co, &f, 0);
		co_sleep(co, 10 * MS);
		CHECK_INT(rig.mem->writes, 0);
		if (back) {
			move_abandon(co, &state);
			old->ops->thaw(co, old);
		} else {
			rig.export = restore(co, &rig, &state);
			co_sleep(co, 10 * MS);
			CHECK_INT(rig.mem->writes, 0);
			move_in(co, old, rig.export, &state);
		}
		CHECK_INT(*front_status(&f, 0, front_collect(co, &f, 0, NULL)), VIRTIO_BLK_S_OK);
		front_end(co, &rig, &f);
	}
}

/* A message that has begun is received to its end. */
static void messages_are_whole(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	struct vu_header header = {.request = VU_GET_FEATURES, .flags = VU_VERSION};
	uint64_t features;

	begin(co, &rig, &f, false);
	for (unsigned i = 0; i < 4; i++) {
		front_send(co, &f, VU_GET_FEATURES, 0, NULL, 0, NULL, 0);
		changes[i % 2](co, &rig);
		CHECK_INT(front_reply(co, &f, VU_GET_FEATURES, &features, sizeof(features)), sizeof(features));
	}
	CHECK_INT(io_send(co, f.sock, IOV_BUF(&header, 5)), 0);
	co_sleep(co, 5 * MS);
	hand_over(co, &rig);
	vu_rig_said(&rig, "doesn't end a message that it has begun");
	front_expect_end(co, &f);
	front_end(co, &rig, &f);
}

/* What the guest has set, and what it has been shown. */
static void settings_stay(struct co *co)
{
	struct vu_config_wire w = {.offset = 32, .size = 1};
	struct vu_rig rig = {0};
	struct front f = {0};

	begin(co, &rig, &f, false);
	front_order(co, &f, VU_SET_CONFIG, &w, 12 + 1, NULL, 0);
	CHECK(front_order_u64(co, &f, VU_SET_STATUS, 15));
	hand_over(co, &rig);
	CHECK_INT(front_ask(co, &f, VU_GET_STATUS), 15);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.mem->fua_writes, 1);
	front_end(co, &rig, &f);
}

static void the_channel_back_stays(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	struct vu_header h;
	struct io_sock *channel;
	uint64_t zero = 0;
	int pair[2];

	begin(co, &rig, &f, false);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_INT(io_sock_adopt(co, pair[0], &channel), 0);
	CHECK(front_order(co, &f, VU_SET_BACKEND_REQ_FD, &zero, 8, &pair[1], 1));
	io_fd_close(co, pair[1]);
	hand_over(co, &rig);
	rig.export->ops->resized(rig.export, &rig.disk);
	CHECK_INT(io_recv(co, channel, &h, sizeof(h)), sizeof(h));
	CHECK_INT(h.request, VU_BACKEND_CONFIG_CHANGE);
	front_end(co, &rig, &f);
	io_sock_close(co, channel);
}

/* A queue that the guest has broken stands still here, too, and the others go on. */
static void a_broken_queue_stays_broken(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	struct driver_part nowhere = {.addr = 0, .len = 16};

	begin(co, &rig, &f, false);
	front_queue_start(co, &f, 1, 0);
	CHECK(driver_offer(&f.queue[1].driver, &nowhere, 1) >= 0);
	front_kick(co, &f, 1);
	while (rig.lines == 0)
		co_sleep(co, MS);
	hand_over(co, &rig);
	CHECK(front_ask(co, &f, VU_GET_STATUS) & 0x40);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	front_queue_stop(co, &f, 1);
	CHECK_INT(rig.lines, 1);
	front_end(co, &rig, &f);
}

static void as_many_regions_as_there_may_be(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	int fd = memory_of(4096);
	struct vu_region_wire r = {.size = 4096};

	begin(co, &rig, &f, false);
	for (unsigned i = 2; i < 509; i++) {
		r.guest = GUEST_BASE + GUEST_BYTES + i * 8192;
		r.user = USER_BASE + 2 * GUEST_BYTES + i * 8192;
		CHECK(front_region(co, &f, VU_ADD_MEM_REG, r, fd));
	}
	take_back(co, &rig);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, r.guest, 512), VIRTIO_BLK_S_OK);
	io_fd_close(co, fd);
	front_end(co, &rig, &f);
}

/* Nobody is connected, or somebody is who has said nothing yet. */
static void what_has_not_begun_moves_too(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};

	vu_rig_start(co, &rig, (struct vhost_user_options){.queues = FRONT_QUEUES, .hands_over = true});
	hand_over(co, &rig);
	front_connect(co, &rig, &f);
	co_sleep(co, 5 * MS);
	hand_over(co, &rig);
	front_negotiate(co, &f);
	front_end(co, &rig, &f);
	CHECK_INT(rig.lines, 0);
}

/* A server that wasn't told to keep descriptors can't hand its front end over, but it can be asked to come again. */
static void without_descriptors_it_connects_again(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};

	front_begin(co, &rig, &f);
	hand_over(co, &rig);
	vu_rig_said(&rig, "the front end has to connect again");
	front_hang_up(co, &f);
	front_start(co, &rig, &f);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	front_end(co, &rig, &f);
}

static void half_a_state_leads_nowhere(struct co *co)
{
	struct export_state state, part;
	struct vhost_user_options o = {.state = &part, .queues = FRONT_QUEUES, .hands_over = true};
	struct vu_rig rig = {0};
	struct front f = {0};
	struct export *e;
	struct err err;

	begin(co, &rig, &f, false);
	o.disk = &rig.disk;
	move_out(co, rig.export, &state);
	for (size_t len = 0; len < state.len; len += 3) {
		int fds[16];

		for (unsigned i = 0; i < state.fds; i++)
			fds[i] = io_fd_dup(state.fd[i]);
		part = (struct export_state){.bytes = state.bytes, .len = len, .fd = fds, .fds = state.fds};
		if (vhost_user_export_start(co, &o, &e, &err) == 0) {
			CHECK_INT(e->ops->clients(e, &rig.disk), 0);
			e->ops->release(co, e);
		}
		for (unsigned i = 0; i < state.fds; i++)
			CHECK(close(fds[i]) < 0);
	}
	move_abandon(co, &state);
	rig.export->ops->thaw(co, rig.export);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	front_end(co, &rig, &f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_guest_stays),
		TEST(a_kick_is_not_lost),
		TEST(messages_are_whole),
		TEST(settings_stay),
		TEST(the_channel_back_stays),
		TEST(a_broken_queue_stays_broken),
		TEST(as_many_regions_as_there_may_be),
		TEST(what_has_not_begun_moves_too),
		TEST(without_descriptors_it_connects_again),
		TEST(half_a_state_leads_nowhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
