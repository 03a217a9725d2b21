/* SPDX-License-Identifier: MIT */
/* The NBD client against our own server, over a node in memory that tells what reaches it. */
#include "../export/rig.h"

#include "nbd/nbd.h"

#define SOCKET "nbd-test.sock"

struct bench {
	struct rig rig;
	struct node *n;
	unsigned done;
	int result;
};

static void connect_to(struct co *co, struct bench *b, struct nbd_open open)
{
	struct nbd_address address = {.path = (char *)SOCKET};
	struct err err = {0};

	open.address = &address;
	open.write = true;
	if (nbd_client_open(co, &open, &b->n, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

static void begin(struct co *co, struct bench *b, struct nbd_open open)
{
	rig_start(co, &b->rig, (struct nbd_options){.address = "unix:" SOCKET});
	connect_to(co, b, open);
}

static void end(struct co *co, struct bench *b)
{
	CHECK_INT(node_close(co, b->n), 0);
	rig_stop(co, &b->rig);
}

static void transfers(struct co *co)
{
	struct bench b = {0};
	static char data[100000], back[100000];
	struct iovec v[3] = {{data, 1}, {data + 1, 4095}, {data + 4096, sizeof(data) - 4096}};

	begin(co, &b, (struct nbd_open){0});
	CHECK(b.n->size == DISK_BYTES && !b.n->read_only && b.n->align == 1);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 + i / 251);
	CHECK_INT(node_write(co, b.n, 12345, iov_of(v, 3), 0), 0);
	CHECK(memcmp(b.rig.mem->data + 12345, data, sizeof(data)) == 0);
	CHECK_INT(node_read(co, b.n, 12345, IOV_BUF(back, sizeof(back))), 0);
	CHECK(memcmp(back, data, sizeof(data)) == 0);
	v[0].iov_base = back, v[1].iov_base = back + 1, v[2].iov_base = back + 4096;
	memset(back, 0, sizeof(back));
	CHECK_INT(node_read(co, b.n, 12345, iov_of(v, 3)), 0);
	CHECK(memcmp(back, data, sizeof(data)) == 0);
	CHECK_INT(node_read(co, b.n, DISK_BYTES, IOV_BUF(back, 1)), -EINVAL);
	end(co, &b);
}

static void one_read(struct co *co, void *arg)
{
	struct bench *b = arg;
	char data[512];

	CHECK_INT(node_read(co, b->n, 0, IOV_BUF(data, sizeof(data))), 0);
	b->done++;
}

/* As many as there are, at once. */
static void many_in_flight(struct co *co)
{
	struct bench b = {0};

	begin(co, &b, (struct nbd_open){.connections = 1});
	b.rig.mem->hold = true;
	for (unsigned i = 0; i < 48; i++)
		CHECK_INT(co_spawn(co_sched_of(co), "read", one_read, &b), 0);
	while (b.rig.mem->in_flight < 48)
		co_sleep(co, MS);
	CHECK_INT(b.done, 0);
	mem_release(b.rig.mem);
	while (b.done < 48)
		co_sleep(co, MS);
	end(co, &b);
}

static void flags_reach_the_server(struct co *co)
{
	struct bench b = {0};
	struct mem *m;
	char data[512] = "datum";

	begin(co, &b, (struct nbd_open){0});
	m = b.rig.mem;
	CHECK_INT(node_write(co, b.n, 0, IOV_BUF(data, sizeof(data)), 0), 0);
	CHECK_INT(m->fua_writes, 0);
	CHECK_INT(node_write(co, b.n, 0, IOV_BUF(data, sizeof(data)), NODE_FUA), 0);
	CHECK_INT(m->fua_writes, 1);
	CHECK_INT(node_flush(co, b.n), 0);
	CHECK_INT(m->flushes, 1);
	CHECK_INT(node_zero(co, b.n, 0, 4096, NODE_MAY_UNMAP), 0);
	CHECK(m->zeroes == 1 && (m->last_zero_flags & NODE_MAY_UNMAP) != 0 && m->data[0] == 0);
	CHECK_INT(node_zero(co, b.n, 0, 4096, 0), 0);
	CHECK(m->zeroes == 2 && (m->last_zero_flags & NODE_MAY_UNMAP) == 0);
	CHECK_INT(node_discard(co, b.n, 0, 4096), 0);
	CHECK_INT(m->discards, 1);
	m->no_fast_zero = true;
	memset(m->data, 7, 4096);
	CHECK_INT(node_zero(co, b.n, 0, 4096, NODE_NO_FALLBACK), -ENOTSUP);
	CHECK_INT(m->data[0], 7);
	CHECK_INT(node_zero(co, b.n, 0, 4096, 0), 0); /* the server writes them */
	CHECK_INT(m->data[0], 0);
	CHECK_INT(node_resize(co, b.n, DISK_BYTES + 1), -ENOSPC);
	end(co, &b);
}

static void errors_are_told(struct co *co)
{
	struct bench b = {0};
	char data[512];

	begin(co, &b, (struct nbd_open){0});
	b.rig.mem->fail_reads = -EIO;
	CHECK_INT(node_read(co, b.n, 0, IOV_BUF(data, sizeof(data))), -EIO);
	b.rig.mem->fail_reads = 0;
	CHECK_INT(node_read(co, b.n, 0, IOV_BUF(data, sizeof(data))), 0);
	b.rig.mem->fail_writes = -ENOSPC;
	CHECK_INT(node_write(co, b.n, 0, IOV_BUF(data, sizeof(data)), 0), -ENOSPC);
	end(co, &b);
}

static void status_is_asked(struct co *co)
{
	struct bench b = {0};
	struct node_status st;

	begin(co, &b, (struct nbd_open){0});
	CHECK_INT(node_status(co, b.n, 4096, DISK_BYTES - 4096, true, &st), 0);
	CHECK(st.len >= 1 && st.len <= DISK_BYTES - 4096 && st.has_host && st.host.off == 4096);
	end(co, &b);
}

/* ---- when the server goes away ---- */

static void server_gone(struct co *co)
{
	struct bench b = {0};
	char data[512] = "datum";

	begin(co, &b, (struct nbd_open){0});
	CHECK_INT(node_write(co, b.n, 0, IOV_BUF(data, sizeof(data)), 0), 0);
	rig_stop(co, &b.rig);
	CHECK_INT(node_read(co, b.n, 0, IOV_BUF(data, sizeof(data))), -EIO);
	CHECK_INT(node_flush(co, b.n), -EIO);
	CHECK_INT(node_close(co, b.n), -EIO);
}

static void write_main(struct co *co, void *arg)
{
	struct bench *b = arg;
	char data[512] = "datum";

	b->result = node_write(co, b->n, 512, IOV_BUF(data, sizeof(data)), 0);
	b->done++;
}

/* A request waits for the server to come back; what was acknowledged before was durable. */
static void server_comes_back(struct co *co)
{
	struct bench b = {0};
	char data[512] = "datum";

	begin(co, &b, (struct nbd_open){.reconnect_ns = UINT64_C(60000) * MS});
	CHECK_INT(node_write(co, b.n, 0, IOV_BUF(data, sizeof(data)), 0), 0);
	CHECK_INT(b.rig.mem->fua_writes, 1);
	rig_stop(co, &b.rig);
	CHECK_INT(co_spawn(co_sched_of(co), "write", write_main, &b), 0);
	co_sleep(co, 20 * MS);
	CHECK_INT(b.done, 0);
	rig_start(co, &b.rig, (struct nbd_options){.address = "unix:" SOCKET});
	while (b.done == 0)
		co_sleep(co, MS);
	CHECK_INT(b.result, 0);
	CHECK(memcmp(b.rig.mem->data + 512, data, sizeof(data)) == 0);
	CHECK_INT(node_flush(co, b.n), 0);
	end(co, &b);
}

static void server_stays_away(struct co *co)
{
	struct bench b = {0};
	char data[512];

	begin(co, &b, (struct nbd_open){.reconnect_ns = 30 * MS});
	rig_stop(co, &b.rig);
	CHECK_INT(node_read(co, b.n, 0, IOV_BUF(data, sizeof(data))), -EIO);
	CHECK_INT(node_close(co, b.n), 0); /* nothing was written, so nothing is lost */
}

static void open_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	connect_to(co, b, (struct nbd_open){.open_ns = UINT64_C(60000) * MS});
	b->done++;
}

static void server_comes_late(struct co *co)
{
	struct bench b = {0};

	CHECK_INT(co_spawn(co_sched_of(co), "open", open_main, &b), 0);
	co_sleep(co, 20 * MS);
	CHECK_INT(b.done, 0);
	rig_start(co, &b.rig, (struct nbd_options){.address = "unix:" SOCKET});
	while (b.done == 0)
		co_sleep(co, MS);
	end(co, &b);
}

static void refused(struct co *co)
{
	struct nbd_address nobody = {.path = (char *)"nobody.sock"},
			   wrong = {.path = (char *)SOCKET, .export = (char *)"x"};
	struct bench b = {0};
	struct node *n;
	struct err err;

	CHECK_INT(nbd_client_open(co, &(struct nbd_open){.address = &nobody}, &n, &err), -ENOENT);
	CHECK(strcmp(err.text, "Failed to connect to 'nobody.sock': No such file or directory") == 0);
	rig_start_disk(
		co, &b.rig, (struct nbd_options){.address = "unix:" SOCKET}, (struct export_disk){.read_only = true});
	CHECK(nbd_client_open(co, &(struct nbd_open){.address = &wrong}, &n, &err) < 0);
	CHECK(strstr(err.text, "Failed to connect to '" SOCKET "'") == err.text);
	wrong.export = NULL;
	CHECK_INT(nbd_client_open(co, &(struct nbd_open){.address = &wrong, .write = true}, &n, &err), -EACCES);
	CHECK_INT(nbd_client_open(co, &(struct nbd_open){.address = &wrong}, &n, &err), 0);
	CHECK(n->read_only);
	CHECK_INT(node_close(co, n), 0);
	rig_stop(co, &b.rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(transfers),
		TEST(many_in_flight),
		TEST(flags_reach_the_server),
		TEST(errors_are_told),
		TEST(status_is_asked),
		TEST(server_gone),
		TEST(server_comes_back),
		TEST(server_stays_away),
		TEST(server_comes_late),
		TEST(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
