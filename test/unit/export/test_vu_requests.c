/* SPDX-License-Identifier: MIT */
/* vhost-user-blk: requests through every kind of ring, and what they do to the disk. */
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>

#include "front.h"

#define SECTOR 512u

static void pattern(void *to, size_t len, unsigned seed)
{
	uint8_t *p = to;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

/* ---- each kind of ring ---- */

struct kind {
	bool packed, indirect, event_index;
};

static void wrap_around(struct co *co, struct vu_rig *rig, struct front *f)
{
	for (unsigned i = 0; i < 3u * f->size; i++) {
		pattern(front_at(f, DATA_BASE), 4096, i);
		CHECK_INT(front_do(co, f, VIRTIO_BLK_T_OUT, i * 8, DATA_BASE, 4096), VIRTIO_BLK_S_OK);
		CHECK_INT(memcmp(rig->mem->data + i * 4096, front_at(f, DATA_BASE), 4096), 0);
		CHECK_INT(front_do(co, f, VIRTIO_BLK_T_IN, i * 8, DATA_BASE + 4096, 4096), VIRTIO_BLK_S_OK);
		CHECK_INT(memcmp(front_at(f, DATA_BASE), front_at(f, DATA_BASE + 4096), 4096), 0);
	}
}

/* As many at once as there is room for, in parts, and across the border of two regions. */
static void many_at_once(struct co *co, struct vu_rig *rig, struct front *f)
{
	unsigned offered = 0, sizes[64] = {0};

	pattern(front_at(f, DATA_BASE), 256 << 10, 99);
	for (int head; offered < 64; offered++) {
		head = front_offer(f, 0, VIRTIO_BLK_T_OUT, 1000 + offered * 8, DATA_BASE + offered * 4096, 4096, 3);
		if (head < 0)
			break;
		sizes[offered] = 1;
	}
	CHECK(offered >= f->size / (f->indirect ? 1 : 5));
	front_kick(co, f, 0);
	for (unsigned i = 0; i < offered; i++) {
		uint32_t len;
		int head = front_collect(co, f, 0, &len);

		CHECK_INT(len, 1);
		CHECK_INT(*front_status(f, 0, head), VIRTIO_BLK_S_OK);
	}
	CHECK_INT(memcmp(rig->mem->data + 1000 * SECTOR, front_at(f, DATA_BASE), offered * 4096), 0);
	(void)sizes;
}

static void ring_works(struct co *co, struct kind kind)
{
	struct vu_rig rig = {0};
	struct front f = {
		.packed = kind.packed, .indirect = kind.indirect, .event_index = kind.event_index, .size = 16};
	uint32_t base;

	vu_rig_start(co, &rig, (struct vhost_user_options){0});
	front_start(co, &rig, &f);
	wrap_around(co, &rig, &f);
	many_at_once(co, &rig, &f);
	base = front_queue_stop(co, &f, 0);
	if (!f.packed)
		CHECK_INT(base, f.queue[0].driver.avail_at);
	front_queue_start(co, &f, 0, base);
	wrap_around(co, &rig, &f);
	front_close(co, &f);
	vu_rig_stop(co, &rig);
	CHECK_INT(rig.lines, 0);
}

static void split(struct co *co) { ring_works(co, (struct kind){0}); }
static void split_indirect(struct co *co) { ring_works(co, (struct kind){.indirect = true}); }
static void split_event_index(struct co *co) { ring_works(co, (struct kind){.event_index = true}); }
static void split_all(struct co *co) { ring_works(co, (struct kind){.indirect = true, .event_index = true}); }
static void packed(struct co *co) { ring_works(co, (struct kind){.packed = true}); }
static void packed_indirect(struct co *co) { ring_works(co, (struct kind){.packed = true, .indirect = true}); }
static void packed_event_index(struct co *co) { ring_works(co, (struct kind){.packed = true, .event_index = true}); }
static void packed_all(struct co *co)
{
	ring_works(co, (struct kind){.packed = true, .indirect = true, .event_index = true});
}

/* ---- what requests do ---- */

static void start(struct co *co, struct vu_rig *rig, struct front *f)
{
	vu_rig_start(co, rig, (struct vhost_user_options){.serial = "serial-12345"});
	front_start(co, rig, f);
}

static void stop(struct co *co, struct vu_rig *rig, struct front *f)
{
	front_close(co, f);
	vu_rig_stop(co, rig);
}

static uint8_t ranges(struct co *co, struct front *f, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = {.sector = sector, .num_sectors = sectors, .flags = flags};

	memcpy(front_at(f, DATA_BASE), &range, sizeof(range));
	return front_do(co, f, type, 0, DATA_BASE, sizeof(range));
}

static void zeroes_and_discards(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};

	start(co, &rig, &f);
	memset(rig.mem->data, 1, 1 << 20);
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, 0), VIRTIO_BLK_S_OK);
	CHECK(mem_is_zero(rig.mem->data + 4096, 4096));
	CHECK_INT(rig.mem->last_zero_flags, 0);
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_WRITE_ZEROES, 16, 8, 1), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.mem->last_zero_flags, NODE_MAY_UNMAP);
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_DISCARD, 24, 8, 0), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.mem->discards, 1);
	CHECK(mem_is_zero(rig.mem->data + 24 * SECTOR, 4096));
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_DISCARD, 32, 8, 1), VIRTIO_BLK_S_UNSUPP);
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_WRITE_ZEROES, 32, 8, 2), VIRTIO_BLK_S_UNSUPP);
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_DISCARD, DISK_BYTES / SECTOR, 1, 0), VIRTIO_BLK_S_IOERR);
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_DISCARD, UINT64_MAX / SECTOR + 1, 1, 0), VIRTIO_BLK_S_IOERR);
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_DISCARD, 0, 5 << 20, 0), VIRTIO_BLK_S_IOERR);
	CHECK_INT(rig.mem->data[32 * SECTOR], 1);
	stop(co, &rig, &f);
}

static void identity_and_unknown(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};

	start(co, &rig, &f);
	memset(front_at(&f, DATA_BASE), 0xee, 32);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_GET_ID, 0, DATA_BASE, 20), VIRTIO_BLK_S_OK);
	CHECK_INT(memcmp(front_at(&f, DATA_BASE), "serial-12345\0\0\0\0\0\0\0\0\xee", 21), 0);
	CHECK_INT(front_do(co, &f, 99, 0, DATA_BASE, 512), VIRTIO_BLK_S_UNSUPP);
	CHECK_INT(front_do(co, &f, 0x80000000, 0, DATA_BASE, 512), VIRTIO_BLK_S_UNSUPP);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, DISK_BYTES / SECTOR, DATA_BASE, 512), VIRTIO_BLK_S_IOERR);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, UINT64_MAX, DATA_BASE, 512), VIRTIO_BLK_S_IOERR);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 511), VIRTIO_BLK_S_IOERR);
	stop(co, &rig, &f);
}

static void failures_are_told_to_both(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};

	start(co, &rig, &f);
	rig.mem->fail_reads = -EIO;
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 40, DATA_BASE, 512), VIRTIO_BLK_S_IOERR);
	CHECK(strstr(rig.said, "a request to read at sector 40 fails: Input/output error"));
	rig.mem->fail_reads = 0;
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 40, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.export->stats.op[EXPORT_READ].errors, 1);
	CHECK_INT(rig.export->stats.op[EXPORT_READ].requests, 2);
	stop(co, &rig, &f);
}

/* ---- the write cache ---- */

static bool set_wce(struct co *co, struct front *f, uint8_t value)
{
	struct vu_config_wire w = {.offset = offsetof(struct virtio_blk_config, wce), .size = 1, .data = {value}};

	return front_order(co, f, VU_SET_CONFIG, &w, 13, NULL, 0);
}

static void get_config(struct co *co, struct front *f, struct virtio_blk_config *config)
{
	struct vu_config_wire w = {.size = sizeof(*config)};

	front_send(co, f, VU_GET_CONFIG, 0, &w, 12 + sizeof(*config), NULL, 0);
	CHECK_INT(front_reply(co, f, VU_GET_CONFIG, &w, sizeof(w)), 12 + sizeof(*config));
	memcpy(config, w.data, sizeof(*config));
}

static void a_guest_without_cache_writes_durably(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	struct virtio_blk_config config;

	start(co, &rig, &f);
	get_config(co, &f, &config);
	CHECK_INT(config.wce, 1);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.mem->fua_writes, 0);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_FLUSH, 0, DATA_BASE, 0), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.mem->flushes, 1);
	CHECK(set_wce(co, &f, 0));
	get_config(co, &f, &config);
	CHECK_INT(config.wce, 0);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.mem->fua_writes, 1);
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_DISCARD, 24, 8, 0), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.mem->flushes, 2);
	CHECK(set_wce(co, &f, 1));
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.mem->fua_writes, 1);
	stop(co, &rig, &f);
}

static void a_guest_without_flush_writes_durably(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {.features = VU_F_PROTOCOL_FEATURES | UINT64_C(1) << VIRTIO_F_VERSION_1};

	start(co, &rig, &f);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	CHECK_INT(rig.mem->fua_writes, 1);
	stop(co, &rig, &f);
}

static void a_read_only_disk_is_not_written(struct co *co)
{
	struct vu_rig rig = {.disk = {.name = "", .read_only = true}};
	struct front f = {0};

	start(co, &rig, &f);
	CHECK(front_ask(co, &f, VU_GET_FEATURES) & 1u << VIRTIO_BLK_F_RO);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_OUT, 0, DATA_BASE, 512), VIRTIO_BLK_S_IOERR);
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	CHECK_INT(ranges(co, &f, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	CHECK_INT(rig.mem->writes + rig.mem->zeroes + rig.mem->discards, 0);
	CHECK_INT(front_do(co, &f, VIRTIO_BLK_T_IN, 0, DATA_BASE, 512), VIRTIO_BLK_S_OK);
	stop(co, &rig, &f);
}

static void the_configuration_tells_the_disk(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	struct virtio_blk_config config;
	struct vu_config_wire w = {.offset = 0, .size = 8};

	start(co, &rig, &f);
	get_config(co, &f, &config);
	CHECK_INT(config.capacity, DISK_BYTES / SECTOR);
	CHECK_INT(config.seg_max, 126);
	CHECK_INT(config.blk_size, 512);
	CHECK_INT(config.num_queues, 64);
	CHECK(config.max_discard_seg > 0 && config.max_discard_sectors > 0 && config.write_zeroes_may_unmap == 1);
	CHECK(!front_order(co, &f, VU_SET_CONFIG, &w, 20, NULL, 0));
	CHECK(strstr(rig.said, "SET_CONFIG fails: bytes 0 to 8 of the configuration can't be written"));
	stop(co, &rig, &f);
}

/* ---- several queues, and none that polls ---- */

static void queues_are_served_side_by_side(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};

	start(co, &rig, &f);
	for (unsigned i = 1; i < FRONT_QUEUES; i++)
		front_queue_start(co, &f, i, 0);
	rig.mem->hold = true;
	for (unsigned i = 0; i < FRONT_QUEUES; i++) {
		CHECK(front_offer(&f, i, VIRTIO_BLK_T_OUT, i, DATA_BASE + i * 512, 512, 1) >= 0);
		front_kick(co, &f, i);
	}
	while (rig.mem->in_flight < FRONT_QUEUES)
		co_sleep(co, MS);
	mem_release(rig.mem);
	for (unsigned i = 0; i < FRONT_QUEUES; i++)
		CHECK_INT(*front_status(&f, i, front_collect(co, &f, i, NULL)), VIRTIO_BLK_S_OK);
	stop(co, &rig, &f);
}

/* Without a descriptor for kicks the ring is looked at, and without one for calls nobody is told. */
static void a_queue_without_descriptors_is_polled(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {0};
	uint64_t none = VU_VRING_NO_FD;
	uint16_t head;
	uint32_t len;

	start(co, &rig, &f);
	CHECK(front_order_u64(co, &f, VU_SET_VRING_KICK, none));
	CHECK(front_order_u64(co, &f, VU_SET_VRING_CALL, none));
	for (unsigned i = 0; i < 20; i++) {
		CHECK(front_offer(&f, 0, VIRTIO_BLK_T_IN, 0, DATA_BASE, 512, 1) >= 0);
		while (!driver_collect(&f.queue[0].driver, &head, &len))
			co_sleep(co, MS / 10);
		CHECK_INT(*front_status(&f, 0, head), VIRTIO_BLK_S_OK);
	}
	stop(co, &rig, &f);
}

static void a_queue_that_is_watched_works_the_same(struct co *co)
{
	struct vu_rig rig = {0};
	struct front f = {.event_index = true, .size = 16};

	vu_rig_start(co, &rig, (struct vhost_user_options){.poll_ns = MS / 20});
	front_start(co, &rig, &f);
	wrap_around(co, &rig, &f);
	many_at_once(co, &rig, &f);
	co_sleep(co, MS);
	wrap_around(co, &rig, &f);
	stop(co, &rig, &f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(split),
		TEST(split_indirect),
		TEST(split_event_index),
		TEST(split_all),
		TEST(packed),
		TEST(packed_indirect),
		TEST(packed_event_index),
		TEST(packed_all),
		TEST(zeroes_and_discards),
		TEST(identity_and_unknown),
		TEST(failures_are_told_to_both),
		TEST(a_guest_without_cache_writes_durably),
		TEST(a_guest_without_flush_writes_durably),
		TEST(a_read_only_disk_is_not_written),
		TEST(the_configuration_tells_the_disk),
		TEST(queues_are_served_side_by_side),
		TEST(a_queue_without_descriptors_is_polled),
		TEST(a_queue_that_is_watched_works_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
