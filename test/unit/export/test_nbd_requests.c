/* SPDX-License-Identifier: MIT */
/* NBD requests: what they do to the node, what is answered, and what is refused. */
#include "rig.h"

static void begin(struct co *co, struct rig *rig, struct client *c, int mode)
{
	rig_start(co, rig, (struct nbd_options){0});
	client_start(co, rig, c, mode);
}

static void end(struct co *co, struct rig *rig, struct client *c)
{
	client_close(co, c);
	rig_stop(co, rig);
}

static void *pattern(size_t len, unsigned seed)
{
	uint8_t *p = malloc(len);

	CHECK(p != NULL);
	for (size_t i = 0; i < len; i++)
		p[i] = (i * 31 + (i >> 8) + seed) | 1;
	return p;
}

static void expect_bytes(struct co *co, struct client *c, const void *want, size_t len)
{
	void *got = malloc(len);

	CHECK(got != NULL);
	client_recv(co, c, got, len);
	CHECK(memcmp(got, want, len) == 0);
	free(got);
}

static const uint32_t lengths[] = {1, 511, 512, 4096, 4097, 65536, 65536 + 13, 1 << 20, 5 << 20, 32 << 20};

static void writes_and_simple_reads(struct co *co)
{
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_SIMPLE);
	for (size_t i = 0; i < ARRAY_ENTRIES(lengths); i++) {
		uint64_t off = 1000003 + 777 * i;
		void *data = pattern(lengths[i], i);

		CHECK_INT(client_do_write(co, &c, 0, off, data, lengths[i]), 0);
		CHECK(memcmp(rig.mem->data + off, data, lengths[i]) == 0);
		CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0, off, lengths[i]), 0);
		expect_bytes(co, &c, data, lengths[i]);
		free(data);
	}
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0, 0, 0), 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE, 0, 0, 0), 0);
	end(co, &rig, &c);
}

static void expect_data_chunk(
	struct co *co, struct client *c, uint64_t cookie, uint64_t off, const void *want, uint32_t len)
{
	struct nbd_data_wire wire;
	struct chunk chunk;

	client_chunk(co, c, &chunk);
	CHECK_INT(chunk.cookie, cookie);
	CHECK_INT(chunk.type, NBD_REPLY_TYPE_OFFSET_DATA);
	CHECK_INT(chunk.flags, NBD_REPLY_FLAG_DONE);
	CHECK_INT(chunk.len, sizeof(wire) + len);
	client_recv(co, c, &wire, sizeof(wire));
	CHECK_INT(be64_get(wire.offset), off);
	expect_bytes(co, c, want, len);
}

static void structured_reads(struct co *co)
{
	struct chunk chunk;
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_STRUCTURED);
	for (size_t i = 0; i < ARRAY_ENTRIES(lengths); i++) {
		uint64_t off = 1000003 + 777 * i;
		void *data = pattern(lengths[i], i);

		CHECK_INT(client_do_write(co, &c, NBD_CMD_FLAG_FUA, off, data, lengths[i]), 0);
		for (unsigned flags = 0; flags <= NBD_CMD_FLAG_DF; flags += NBD_CMD_FLAG_DF) {
			uint64_t cookie = client_request(co, &c, NBD_CMD_READ, flags, off, lengths[i]);

			expect_data_chunk(co, &c, cookie, off, data, lengths[i]);
		}
		free(data);
	}
	client_request(co, &c, NBD_CMD_READ, 0, 0, 0);
	client_chunk(co, &c, &chunk);
	CHECK(chunk.type == NBD_REPLY_TYPE_NONE && chunk.flags == NBD_REPLY_FLAG_DONE && chunk.len == 0);
	end(co, &rig, &c);
}

/* A format's holes travel as such: with the cluster size set, the node in memory stands for one. */
static void holes_are_sent_as_holes(struct co *co)
{
	uint64_t cookie, off = 1 << 20;
	struct nbd_hole_wire hole;
	struct chunk chunk;
	struct rig rig;
	struct client c;
	void *data = pattern(65536, 3), *zeros = calloc(1, 131072);

	begin(co, &rig, &c, MODE_STRUCTURED);
	rig.mem->node.cluster = 65536;
	CHECK_INT(client_do_write(co, &c, 0, off + 65536, data, 65536), 0);

	cookie = client_request(co, &c, NBD_CMD_READ, 0, off, 131072);
	client_chunk(co, &c, &chunk);
	CHECK(chunk.type == NBD_REPLY_TYPE_OFFSET_HOLE && chunk.flags == 0 && chunk.cookie == cookie);
	client_recv(co, &c, &hole, sizeof(hole));
	CHECK(be64_get(hole.offset) == off && be32_get(hole.len) == 65536);
	expect_data_chunk(co, &c, cookie, off + 65536, data, 65536);

	cookie = client_request(co, &c, NBD_CMD_READ, 0, 8 << 20, 1 << 20);
	client_chunk(co, &c, &chunk);
	CHECK(chunk.type == NBD_REPLY_TYPE_OFFSET_HOLE && chunk.flags == NBD_REPLY_FLAG_DONE && chunk.cookie == cookie);
	client_recv(co, &c, &hole, sizeof(hole));
	CHECK(be64_get(hole.offset) == 8 << 20 && be32_get(hole.len) == 1 << 20);

	cookie = client_request(co, &c, NBD_CMD_READ, NBD_CMD_FLAG_DF, off - 65536, 131072);
	expect_data_chunk(co, &c, cookie, off - 65536, zeros, 131072);
	free(data);
	free(zeros);
	end(co, &rig, &c);
}

static void refusals(struct co *co)
{
	static char data[8192];
	uint64_t size = DISK_BYTES;
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_SIMPLE);
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0, size, 1), NBD_EINVAL);
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0, size - 100, 101), NBD_EINVAL);
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0, UINT64_MAX - 10, 4096), NBD_EINVAL);
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0, 0, (32 << 20) + 1), NBD_EINVAL);
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0, 0, UINT32_MAX), NBD_EINVAL);
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512), NBD_EINVAL);
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0x8000, 0, 512), NBD_EINVAL);
	CHECK_INT(client_do_write(co, &c, 0, size - 4096, data, 8192), NBD_ENOSPC);
	CHECK_INT(client_do_write(co, &c, NBD_CMD_FLAG_REQ_ONE, 0, data, 8192), NBD_EINVAL);
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE_ZEROES, 0, size - 4096, 8192), NBD_ENOSPC);
	CHECK_INT(client_do(co, &c, NBD_CMD_TRIM, 0, size - 4096, 8192), NBD_EINVAL);
	CHECK_INT(client_do(co, &c, NBD_CMD_CACHE, 0, size - 4096, 8192), NBD_EINVAL);
	CHECK_INT(client_do(co, &c, NBD_CMD_BLOCK_STATUS, 0, 0, 512), NBD_EINVAL);
	CHECK_INT(client_do(co, &c, 77, 0, 0, 512), NBD_EINVAL);
	CHECK_INT(rig.mem->reads + rig.mem->writes + rig.mem->zeroes + rig.mem->discards, 0);
	CHECK_INT(client_do_write(co, &c, 0, size - 8192, data, 8192), 0);
	end(co, &rig, &c);
}

static void structured_refusals(struct co *co)
{
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_STRUCTURED);
	CHECK_INT(client_error_chunk(co, &c, client_request(co, &c, NBD_CMD_READ, 0, DISK_BYTES, 1)), NBD_EINVAL);
	CHECK_INT(client_error_chunk(co, &c, client_request(co, &c, NBD_CMD_READ, 0x100, 0, 1)), NBD_EINVAL);
	CHECK_INT(client_error_chunk(co, &c, client_request(co, &c, NBD_CMD_BLOCK_STATUS, 0, 0, 1)), NBD_EINVAL);
	rig.mem->fail_reads = -EIO;
	CHECK_INT(client_error_chunk(co, &c, client_request(co, &c, NBD_CMD_READ, 0, 0, 4096)), NBD_EIO);
	end(co, &rig, &c);
}

static void wrong_magic_ends_it(struct co *co)
{
	static const char garbage[28] = {0x25, 0x60, 0x95, 0x14};
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_SIMPLE);
	client_send(co, &c, garbage, sizeof(garbage));
	client_expect_end(co, &c);
	end(co, &rig, &c);
}

static void too_large_write_is_told_and_ends_it(struct co *co)
{
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_SIMPLE);
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE, 0, 0, (32 << 20) + 1), NBD_EINVAL);
	client_expect_end(co, &c);
	CHECK_INT(rig.mem->writes, 0);
	end(co, &rig, &c);
}

static void read_only_is_enforced(struct co *co)
{
	static char data[100000];
	struct rig rig;
	struct client c;

	rig_start_disk(co, &rig, (struct nbd_options){0}, (struct export_disk){.read_only = true});
	client_start(co, &rig, &c, MODE_SIMPLE);
	CHECK_INT(client_do_write(co, &c, 0, 0, data, sizeof(data)), NBD_EPERM);
	CHECK_INT(client_do_write(co, &c, 0, DISK_BYTES, data, 10), NBD_EPERM);
	CHECK_INT(client_do(co, &c, NBD_CMD_TRIM, 0, 0, 4096), NBD_EPERM);
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE_ZEROES, 0, 0, 4096), NBD_EPERM);
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0, 0, 4096), 0);
	expect_bytes(co, &c, data, 4096);
	CHECK_INT(rig.mem->writes + rig.mem->zeroes + rig.mem->discards, 0);
	end(co, &rig, &c);
}

static void zeroes_and_trims(struct co *co)
{
	static char data[65536], zeros[65536];
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_SIMPLE);
	memset(data, 7, sizeof(data));
	CHECK_INT(client_do_write(co, &c, 0, 0, data, sizeof(data)), 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE_ZEROES, 0, 0, 4096), 0);
	CHECK(rig.mem->zeroes == 1 && (rig.mem->last_zero_flags & NODE_MAY_UNMAP));
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 4096, 4096), 0);
	CHECK(rig.mem->zeroes == 2 && !(rig.mem->last_zero_flags & NODE_MAY_UNMAP));
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 8192, 4096), 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 12288, 4096), 0);
	CHECK(rig.mem->discards == 1 && rig.mem->flushes == 1);
	CHECK(memcmp(rig.mem->data, zeros, 16384) == 0 && memcmp(rig.mem->data + 16384, data, 49152) == 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE_ZEROES, 0, 0, 0), 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_TRIM, 0, 0, 0), 0);

	rig.mem->no_fast_zero = true;
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 16384, 4096), NBD_ENOTSUP);
	CHECK(memcmp(rig.mem->data + 16384, data, 4096) == 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE_ZEROES, 0, 16384, 4096), 0);
	CHECK(memcmp(rig.mem->data + 16384, zeros, 4096) == 0);
	end(co, &rig, &c);
}

static void without_discard_nothing_is_given_back(struct co *co)
{
	struct rig rig;
	struct client c;

	rig_start_disk(co, &rig, (struct nbd_options){0}, (struct export_disk){.no_discard = true});
	client_start(co, &rig, &c, MODE_SIMPLE);
	CHECK_INT(client_do(co, &c, NBD_CMD_TRIM, 0, 0, 4096), 0);
	CHECK_INT(rig.mem->discards, 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_WRITE_ZEROES, 0, 0, 4096), 0);
	CHECK(!(rig.mem->last_zero_flags & NODE_MAY_UNMAP));
	end(co, &rig, &c);
}

static void fua_reaches_the_node(struct co *co)
{
	static char data[4096];
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_SIMPLE);
	CHECK_INT(client_do_write(co, &c, 0, 0, data, sizeof(data)), 0);
	CHECK_INT(rig.mem->fua_writes, 0);
	CHECK_INT(client_do_write(co, &c, NBD_CMD_FLAG_FUA, 0, data, sizeof(data)), 0);
	CHECK_INT(rig.mem->fua_writes, 1);
	/* It must be tolerated where it means nothing. */
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, NBD_CMD_FLAG_FUA, 0, 0), 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_CACHE, NBD_CMD_FLAG_FUA, 0, 4096), 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, NBD_CMD_FLAG_FUA, 0, sizeof(data)), 0);
	expect_bytes(co, &c, data, sizeof(data));
	end(co, &rig, &c);

	rig_start_disk(co, &rig, (struct nbd_options){0}, (struct export_disk){.writethrough = true});
	client_start(co, &rig, &c, MODE_SIMPLE);
	CHECK_INT(client_do_write(co, &c, 0, 0, data, sizeof(data)), 0);
	CHECK_INT(rig.mem->fua_writes, 1);
	end(co, &rig, &c);
}

static void errors_are_told(struct co *co)
{
	static char data[4096];
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_SIMPLE);
	rig.mem->fail_reads = -EIO;
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0, 0, 4096), NBD_EIO);
	CHECK_INT(client_do(co, &c, NBD_CMD_CACHE, 0, 0, 4096), NBD_EIO);
	rig.mem->fail_reads = 0;
	rig.mem->fail_writes = -ENOSPC;
	CHECK_INT(client_do_write(co, &c, 0, 0, data, sizeof(data)), NBD_ENOSPC);
	rig.mem->fail_writes = 0;
	rig.mem->fail_flushes = -EIO;
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), NBD_EIO);
	CHECK_INT(client_do(co, &c, NBD_CMD_READ, 0, 0, 4096), NBD_EIO);
	client_close(co, &c);
	rig.server->ops->stop(co, rig.server);
	CHECK_INT(node_close(co, &rig.mem->node), -EIO);
}

static void cache_reads_the_range(struct co *co)
{
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_SIMPLE);
	CHECK_INT(client_do(co, &c, NBD_CMD_CACHE, 0, 4096, 10 << 20), 0);
	CHECK_INT(rig.mem->reads, 10);
	end(co, &rig, &c);
}

/* ---- block status ---- */

struct extent {
	uint32_t len, status;
};

static unsigned status(
	struct co *co, struct client *c, unsigned flags, uint64_t off, uint32_t len, struct extent *out, unsigned most)
{
	uint64_t cookie = client_request(co, c, NBD_CMD_BLOCK_STATUS, flags, off, len);
	struct nbd_descriptor_wire wire;
	struct chunk chunk;
	be32 context;

	client_chunk(co, c, &chunk);
	CHECK_INT(chunk.type, NBD_REPLY_TYPE_BLOCK_STATUS);
	CHECK_INT(chunk.flags, NBD_REPLY_FLAG_DONE);
	CHECK_INT(chunk.cookie, cookie);
	client_recv(co, c, &context, sizeof(context));
	CHECK_INT(be32_get(context), 1);

	unsigned n = (chunk.len - sizeof(context)) / sizeof(wire);

	CHECK(n > 0 && n <= most && chunk.len == sizeof(context) + n * sizeof(wire));
	for (unsigned i = 0; i < n; i++) {
		client_recv(co, c, &wire, sizeof(wire));
		out[i] = (struct extent){be32_get(wire.len), be32_get(wire.status)};
	}
	return n;
}

static void block_status(struct co *co)
{
	enum { HOLE = NBD_STATE_HOLE | NBD_STATE_ZERO };
	static char data[8192];
	struct extent e[8];
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_CONTEXTS);
	memset(data, 1, sizeof(data));
	CHECK_INT(client_do_write(co, &c, 0, 16384, data, sizeof(data)), 0);
	CHECK_INT(status(co, &c, 0, 0, 65536, e, 8), 3);
	CHECK(e[0].len == 16384 && e[0].status == HOLE);
	CHECK(e[1].len == 8192 && e[1].status == 0);
	CHECK(e[2].len == 40960 && e[2].status == HOLE);
	CHECK_INT(status(co, &c, NBD_CMD_FLAG_REQ_ONE, 0, 65536, e, 8), 1);
	CHECK(e[0].len == 16384 && e[0].status == HOLE);
	CHECK_INT(status(co, &c, NBD_CMD_FLAG_REQ_ONE, 20000, 65536, e, 8), 1);
	CHECK(e[0].len == 24576 - 20000 && e[0].status == 0);
	CHECK_INT(status(co, &c, 0, DISK_BYTES - 1, 1, e, 8), 1);
	CHECK(e[0].len == 1 && e[0].status == HOLE);
	CHECK_INT(client_error_chunk(co, &c, client_request(co, &c, NBD_CMD_BLOCK_STATUS, 0, 0, DISK_BYTES + 1)),
		NBD_EINVAL);
	CHECK_INT(client_error_chunk(co, &c, client_request(co, &c, NBD_CMD_BLOCK_STATUS, 0, 0, 0)), NBD_EINVAL);
	end(co, &rig, &c);
}

/* More extents than one reply holds: the client goes on where the reply ended. */
static void block_status_in_several_replies(struct co *co)
{
	static struct extent e[1024];
	uint64_t off = 0;
	struct rig rig;
	struct client c;

	begin(co, &rig, &c, MODE_CONTEXTS);
	for (uint64_t page = 0; page < DISK_BYTES; page += 8192)
		rig.mem->data[page] = 1;
	while (off < DISK_BYTES) {
		unsigned n = status(co, &c, 0, off, DISK_BYTES - off, e, 1024);

		for (unsigned i = 0; i < n; i++) {
			CHECK_INT(e[i].len, 4096);
			CHECK_INT(e[i].status, off % 8192 == 0 ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO);
			off += e[i].len;
		}
	}
	CHECK_INT(off, DISK_BYTES);
	end(co, &rig, &c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writes_and_simple_reads),
		TEST(structured_reads),
		TEST(holes_are_sent_as_holes),
		TEST(refusals),
		TEST(structured_refusals),
		TEST(wrong_magic_ends_it),
		TEST(too_large_write_is_told_and_ends_it),
		TEST(read_only_is_enforced),
		TEST(zeroes_and_trims),
		TEST(without_discard_nothing_is_given_back),
		TEST(fua_reaches_the_node),
		TEST(errors_are_told),
		TEST(cache_reads_the_range),
		TEST(block_status),
		TEST(block_status_in_several_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
