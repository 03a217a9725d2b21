/* SPDX-License-Identifier: MIT */
/* vhost-user-blk: what a front end may say and what not, and guests that break the rules of a ring. */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

#include "front.h"

/* ---- messages ---- */

/* Sends something after which the connection ends, and what the log says of it. */
static void is_fatal(struct co *co, unsigned request, unsigned flags, const void *payload, size_t len, unsigned fds,
	const char *line)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	int fd[IO_FDS];

	front_begin(co, &rig, &f);
	for (unsigned i = 0; i < fds; i++)
		fd[i] = f.memory_fd;
	front_send(co, &f, request, flags, payload, len, fd, fds);
	front_expect_end(co, &f);
	vu_rig_said(&rig, line);
	CHECK_INT(rig.lines, 1);
	front_hang_up(co, &f);
	front_start(co, &rig, &f);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	front_end(co, &rig, &f);
}

static void messages_that_are_none(struct co *co)
{
	static const uint8_t bytes[300];

	is_fatal(co, VU_GET_FEATURES, 2, NULL, 0, 0, "what came is no request of vhost-user version 1 (flags 0x3)");
	is_fatal(co, VU_GET_FEATURES, VU_REPLY, NULL, 0, 0, "is no request of vhost-user");
	is_fatal(co, 99, 0, NULL, 0, 0, "request 99 isn't known here");
	is_fatal(co, 19, 0, bytes, 8, 0, "request 19 isn't known here");
	is_fatal(co, VU_SET_FEATURES, 0, bytes, 4, 0, "SET_FEATURES has 4 bytes of payload, and not 8 to 8");
	is_fatal(co, VU_SET_MEM_TABLE, 0, bytes, 300, 0, "SET_MEM_TABLE has 300 bytes of payload, and not 8 to 264");
	is_fatal(co, VU_GET_FEATURES, 0, NULL, 0, 1, "GET_FEATURES came with 1 descriptors, and not 0 to 0");
	is_fatal(co, VU_SET_LOG_BASE, 0, bytes, 16, 0, "SET_LOG_BASE came with 0 descriptors, and not 1 to 1");
	is_fatal(co, VU_ADD_MEM_REG, 0, bytes, 40, 3, "ADD_MEM_REG came with 3 descriptors, and not 1 to 1");
	is_fatal(co, VU_SET_VRING_KICK, 0, bytes, 8, 0, "SET_VRING_KICK 0 came with 0 descriptors");
}

static void numbers_that_are_too_large(struct co *co)
{
	struct vu_table_wire table = {.n = 9};
	struct vu_config_wire config = {.offset = 250, .size = 7};
	uint64_t features = UINT64_C(1) << 33, queue = 1u << 9;

	is_fatal(co, VU_SET_MEM_TABLE, 0, &table, sizeof(table), 0, "SET_MEM_TABLE speaks of 9 regions");
	table.n = 2;
	is_fatal(co, VU_SET_MEM_TABLE, 0, &table, sizeof(table), 1, "SET_MEM_TABLE has 2 regions and 1 descriptors");
	is_fatal(co, VU_GET_CONFIG, 0, &config, 12 + 7, 0, "GET_CONFIG of 7 bytes at 250, with room for 7");
	is_fatal(co, VU_SET_FEATURES, 0, &features, 8, 0, "SET_FEATURES fails: features 0x200000000 weren't offered");
	is_fatal(co, VU_SET_PROTOCOL_FEATURES, 0, &features, 8, 0, "protocol features 0x200000000 weren't offered");
	is_fatal(co, VU_SET_VRING_KICK, 0, &queue, 8, 1, "SET_VRING_KICK 0x200 came with 1 descriptors");
}

/* What fails is told in the reply, and the session goes on. */
static void orders_that_fail(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	struct vu_vring_addr addr = {.index = 1, .descriptor = 1, .used = 1, .available = 1};
	struct vu_table_wire table = {.n = 2, .region = {{0, 8192, 0, 0}, {4096, 4096, 8192, 0}}};
	uint64_t one = 1, file = 1;
	int fds[2], null = open("/dev/null", O_RDWR | O_CLOEXEC), page = memory_of(4096);

	front_begin(co, &rig, &f);
	fds[0] = fds[1] = f.memory_fd;
	CHECK(!front_order_state(co, &f, VU_SET_VRING_NUM, 1, 100));
	vu_rig_said(&rig, "SET_VRING_NUM fails: queue 1: its size is 100: no power of two, or more than 1024");
	CHECK(!front_order_state(co, &f, VU_SET_VRING_NUM, 1, 2048));
	CHECK(!front_order_state(co, &f, VU_SET_VRING_NUM, 1, 0));
	CHECK(!front_order_state(co, &f, VU_SET_VRING_NUM, 4, 64));
	vu_rig_said(&rig, "there is no queue 4, only 4 of them");
	CHECK(!front_order_state(co, &f, VU_SET_VRING_NUM, 0, 32));
	vu_rig_said(&rig, "queue 0: it is at work, and can't change its size");
	CHECK(!front_order(co, &f, VU_SET_VRING_KICK, &one, 8, fds, 1));
	vu_rig_said(&rig, "SET_VRING_KICK fails: queue 1: its descriptor is no eventfd and no pipe");
	front_send(co, &f, VU_SET_VRING_NUM, 0, &(struct vu_vring_state){1, 64}, 8, NULL, 0);
	CHECK(front_order(co, &f, VU_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0));
	file |= VU_VRING_NO_FD;
	CHECK(!front_order_u64(co, &f, VU_SET_VRING_KICK, file));
	vu_rig_said(&rig, "its descriptor table, 1024 bytes at 0x1, doesn't lie in a region of memory");
	CHECK(!front_order(co, &f, VU_SET_MEM_TABLE, &table, 72, fds, 2));
	vu_rig_said(&rig, "the regions of 0x1000 bytes at 0x1000 and of 0x2000 at 0 overlap");
	CHECK(!front_region(co, &f, VU_ADD_MEM_REG, (struct vu_region_wire){0, 8192, 0, 0}, page));
	vu_rig_said(&rig, "8192 bytes at offset 0 aren't in its 4096 bytes");
	CHECK(!front_region(co, &f, VU_ADD_MEM_REG, (struct vu_region_wire){0, 4096, 0, 0}, null));
	vu_rig_said(&rig, "it is neither memory nor a file of a local file system");
	CHECK(!front_region(co, &f, VU_REM_MEM_REG, (struct vu_region_wire){0, 4096, 0, 0}, -1));
	vu_rig_said(&rig, "there is no region of 0x1000 bytes at 0");
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	io_fd_close(co, null);
	io_fd_close(co, page);
	front_end(co, &rig, &f);
}

static void questions_have_answers(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};

	front_begin(co, &rig, &f);
	CHECK_INT(front_ask(co, &f, VU_GET_QUEUE_NUM), FRONT_QUEUES);
	CHECK_INT(front_ask(co, &f, VU_GET_MAX_MEM_SLOTS), 509);
	CHECK_INT(front_ask(co, &f, VU_GET_STATUS), 0);
	CHECK(front_order_u64(co, &f, VU_SET_STATUS, 15));
	CHECK_INT(front_ask(co, &f, VU_GET_STATUS), 15);
	CHECK(front_order(co, &f, VU_RESET_DEVICE, NULL, 0, NULL, 0));
	CHECK_INT(front_ask(co, &f, VU_GET_STATUS), 0);
	front_end(co, &rig, &f);
	CHECK_INT(rig.lines, 0);
}

static void one_front_end_at_a_time(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0}, other = {0};

	front_begin(co, &rig, &f);
	front_connect(co, &rig, &other);
	front_expect_end(co, &other);
	vu_rig_said(&rig, "a second front end is sent away: there is one already");
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	front_close(co, &other);
	front_end(co, &rig, &f);
}

/* ---- rings that break the rules ---- */

struct crime {
	const char *line;
	struct driver_part part[4];
	unsigned n;
	bool indirect;
};

static void corrupt_chain(struct co *co, const struct crime *crime)
{
	struct vu_rig rig = {0};
	struct front f = {0};

	front_begin(co, &rig, &f);
	front_queue_start(co, &f, 1, 0);
	f.queue[0].driver.indirect = crime->indirect;
	CHECK(driver_offer(&f.queue[0].driver, crime->part, crime->n) >= 0);
	front_kick(co, &f, 0);
	while (rig.lines == 0)
		co_sleep(co, MS);
	vu_rig_said(&rig, crime->line);
	CHECK_INT(front_ask(co, &f, VU_GET_STATUS), 0x40);
	/* The other queue works on, and this one again when it has been stopped and started. */
	CHECK(front_offer(&f, 1, VIRTIO_BLK_T_IN, 0, DATA_BASE, 512, 1) >= 0);
	front_kick(co, &f, 1);
	CHECK_INT(*front_status(&f, 1, front_collect(co, &f, 1, NULL)), VIRTIO_BLK_S_OK);
	front_queue_stop(co, &f, 0);
	driver_init(&f.queue[0].driver, GUEST_BASE);
	front_queue_start(co, &f, 0, 0);
	f.queue[0].driver.indirect = false;
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.lines, 1);
	front_end(co, &rig, &f);
}

static void chains_that_break_the_rules(struct co *co)
{
	static const struct crime crimes[] = {
		{"queue 0 stands still: 16 bytes at 0x1000 aren't in the guest's memory", {{4096, 16, false}}, 1,
			false},
		{"1000 bytes at 0x10ffe0c aren't in the guest's memory",
			{{GUEST_BASE + GUEST_BYTES - 500, 1000, false}}, 1, false},
		{"at 0xfffffffffffffff8 aren't in the guest's memory", {{UINT64_MAX - 7, 16, false}}, 1, false},
		{"a descriptor of no bytes", {{DATA_BASE, 0, false}}, 1, false},
		{"a descriptor to be read follows one to be written",
			{{DATA_BASE, 16, false}, {DATA_BASE, 1, true}, {DATA_BASE, 512, false}}, 3, false},
		{"a chain of more than 34603007 bytes", {{DATA_BASE, 16, false}, {DATA_BASE, UINT32_MAX, true}}, 2,
			false},
		{"a request of 15 bytes to be read and 1 to be written", {{DATA_BASE, 15, false}, {DATA_BASE, 1, true}},
			2, false},
		{"a request of 512 bytes to be read and 0 to be written", {{DATA_BASE, 512, false}}, 1, false},
		{"aren't in the guest's memory", {{DATA_BASE, 16, false}, {0, 1, true}}, 2, true},
	};

	for (unsigned i = 0; i < ARRAY_ENTRIES(crimes); i++)
		corrupt_chain(co, &crimes[i]);
}

static void expect_break(struct co *co, void (*crime)(struct front *f), const char *line)
{
	struct vu_rig rig = {0};
	struct front f = {.size = 16};

	front_begin(co, &rig, &f);
	CHECK(front_offer(&f, 0, VIRTIO_BLK_T_IN, 0, DATA_BASE, 512, 1) >= 0);
	crime(&f);
	io_event_signal(co, f.queue[0].kick);
	while (rig.lines == 0)
		co_sleep(co, MS);
	vu_rig_said(&rig, line);
	front_end(co, &rig, &f);
}

static struct vring_desc *desc_of(struct front *f, unsigned i)
{
	return (struct vring_desc *)front_at(f, f->queue[0].driver.desc) + i;
}

static uint16_t *avail_of(struct front *f) { return front_at(f, f->queue[0].driver.avail); }

static void head_outside(struct front *f) { avail_of(f)[2] = 16; }
static void next_outside(struct front *f) { desc_of(f, 0)->next = 999; }
static void loop(struct front *f) { desc_of(f, 1)->next = 0; }
static void index_jump(struct front *f) { avail_of(f)[1] = 18; }

static void indirect_table(struct front *f, uint64_t addr, uint32_t len, uint16_t flags)
{
	*desc_of(f, 0) = (struct vring_desc){addr, len, VRING_DESC_F_INDIRECT | flags, 1};
}

static void table_outside(struct front *f) { indirect_table(f, 16, 32, 0); }
static void table_odd(struct front *f) { indirect_table(f, DATA_BASE, 33, 0); }
static void table_huge(struct front *f) { indirect_table(f, DATA_BASE, 257 * 16, 0); }
static void table_not_last(struct front *f) { indirect_table(f, DATA_BASE, 32, VRING_DESC_F_NEXT); }

static void table_loop(struct front *f)
{
	struct vring_desc *d = front_at(f, DATA_BASE);

	d[0] = (struct vring_desc){DATA_BASE, 16, VRING_DESC_F_NEXT, 1};
	d[1] = (struct vring_desc){DATA_BASE, 16, VRING_DESC_F_NEXT, 0};
	indirect_table(f, DATA_BASE, 32, 0);
}

static void table_in_table(struct front *f)
{
	*(struct vring_desc *)front_at(f, DATA_BASE) = (struct vring_desc){DATA_BASE, 16, VRING_DESC_F_INDIRECT, 0};
	indirect_table(f, DATA_BASE, 16, 0);
}

static void rings_that_break_the_rules(struct co *co)
{
	expect_break(co, head_outside, "descriptor 16 is named, of 16");
	expect_break(co, next_outside, "descriptor 999 is named, of 16");
	expect_break(co, loop, "a chain from descriptor 0 has more than 16, or is a loop");
	expect_break(co, index_jump, "18 chains are offered while 0 are in use, in a ring of 16");
	expect_break(co, table_outside, "an indirect table at 0x10, not in the guest's memory");
	expect_break(co, table_odd, "an indirect table of 33 bytes, of at most 4096");
	expect_break(co, table_huge, "an indirect table of 4112 bytes, of at most 4096");
	expect_break(co, table_not_last, "an indirect descriptor that isn't the last");
	expect_break(co, table_loop, "an indirect table of 2 is left at 0, or is a loop");
	expect_break(co, table_in_table, "an indirect descriptor in an indirect table");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(messages_that_are_none),
		TEST(numbers_that_are_too_large),
		TEST(orders_that_fail),
		TEST(questions_have_answers),
		TEST(one_front_end_at_a_time),
		TEST(chains_that_break_the_rules),
		TEST(rings_that_break_the_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
