/* SPDX-License-Identifier: MIT */
/* The NBD handshake, option by option, as it should be and as it shouldn't. */
#include "rig.h"

static const struct export_disk named = {.name = "disk", .description = "the disk"};

static void begin(struct co *co, struct rig *rig, struct client *c)
{
	rig_start_disk(co, rig, (struct nbd_options){0}, named);
	client_connect(co, rig, c);
	client_greet(co, c, CLIENT_FLAGS);
}

static void end(struct co *co, struct rig *rig, struct client *c)
{
	client_close(co, c);
	rig_stop(co, rig);
}

static void refused(struct co *co, struct client *c, uint32_t option, const void *data, size_t len, uint32_t type)
{
	client_option(co, c, option, data, len);
	client_expect(co, c, option, type);
}

/* The haggling goes on as if nothing had been. */
static void still_there(struct co *co, struct client *c)
{
	client_option(co, c, NBD_OPT_LIST, NULL, 0);
	client_expect(co, c, NBD_OPT_LIST, NBD_REP_SERVER);
	client_expect(co, c, NBD_OPT_LIST, NBD_REP_ACK);
}

static void unknown_client_flags_end_it(struct co *co)
{
	struct rig rig;
	struct client c;

	rig_start_disk(co, &rig, (struct nbd_options){0}, named);
	client_connect(co, &rig, &c);
	client_greet(co, &c, CLIENT_FLAGS | 4);
	client_expect_end(co, &c);
	end(co, &rig, &c);
}

static void wrong_option_magic_ends_it(struct co *co)
{
	struct rig rig;
	struct client c;

	begin(co, &rig, &c);
	client_send(co, &c, "HAVEOPTIHAVEOPTX", 16);
	client_expect_end(co, &c);
	end(co, &rig, &c);
}

static void export_name_with_zeroes(struct co *co)
{
	struct nbd_export_wire wire, zeros = {0};
	struct rig rig;
	struct client c;

	rig_start_disk(co, &rig, (struct nbd_options){0}, named);
	client_connect(co, &rig, &c);
	client_greet(co, &c, NBD_FLAG_FIXED_NEWSTYLE);
	client_option(co, &c, NBD_OPT_EXPORT_NAME, "disk", 4);
	client_recv(co, &c, &wire, sizeof(wire));
	CHECK_INT(sizeof(wire), 134);
	CHECK_INT(be64_get(wire.size), DISK_BYTES);
	CHECK(be16_get(wire.flags) & NBD_FLAG_HAS_FLAGS);
	CHECK(!(be16_get(wire.flags) & NBD_FLAG_SEND_DF));
	CHECK(memcmp(wire.zeros, zeros.zeros, sizeof(wire.zeros)) == 0);
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	end(co, &rig, &c);
}

/* As the NBD client of blktap does it: no zeroes, and the NUL is sent with the name. */
static void export_name_with_nul(struct co *co)
{
	struct nbd_export_wire wire;
	struct rig rig;
	struct client c;

	begin(co, &rig, &c);
	client_option(co, &c, NBD_OPT_EXPORT_NAME, "disk", 5);
	client_recv(co, &c, &wire, NBD_EXPORT_SHORT_BYTES);
	CHECK_INT(be64_get(wire.size), DISK_BYTES);
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	end(co, &rig, &c);
}

static void export_name_that_is_not_there_ends_it(struct co *co)
{
	static const char *const wrong[] = {"other", "disk2", "dis", "DISK"};
	struct rig rig;
	struct client c;

	rig_start_disk(co, &rig, (struct nbd_options){0}, named);
	for (size_t i = 0; i < ARRAY_ENTRIES(wrong); i++) {
		client_connect(co, &rig, &c);
		client_greet(co, &c, CLIENT_FLAGS);
		client_option(co, &c, NBD_OPT_EXPORT_NAME, wrong[i], strlen(wrong[i]));
		client_expect_end(co, &c);
		client_close(co, &c);
	}
	rig_stop(co, &rig);
}

static void giant_export_name_ends_it(struct co *co)
{
	static char big[10000];
	struct rig rig;
	struct client c;

	memset(big, 'x', sizeof(big));
	begin(co, &rig, &c);
	client_option(co, &c, NBD_OPT_EXPORT_NAME, big, sizeof(big));
	client_expect_end(co, &c);
	end(co, &rig, &c);
}

static void abort_is_acknowledged(struct co *co)
{
	struct rig rig;
	struct client c;

	begin(co, &rig, &c);
	client_option(co, &c, NBD_OPT_ABORT, "ignored", 7);
	client_expect(co, &c, NBD_OPT_ABORT, NBD_REP_ACK);
	client_expect_end(co, &c);
	end(co, &rig, &c);
}

static void list_shows_the_export(struct co *co)
{
	struct option_reply reply;
	struct rig rig;
	struct client c;

	begin(co, &rig, &c);
	client_option(co, &c, NBD_OPT_LIST, NULL, 0);
	client_option_reply(co, &c, &reply);
	CHECK_INT(reply.type, NBD_REP_SERVER);
	CHECK_INT(reply.len, 4 + 4 + 8);
	CHECK(memcmp(reply.data, "\0\0\0\4diskthe disk", reply.len) == 0);
	client_expect(co, &c, NBD_OPT_LIST, NBD_REP_ACK);
	refused(co, &c, NBD_OPT_LIST, "x", 1, NBD_REP_ERR_INVALID);
	still_there(co, &c);
	end(co, &rig, &c);
}

static void what_is_unknown_is_refused(struct co *co)
{
	static const uint32_t unknown[] = {0, 4, 12, 13, 99, UINT32_MAX};
	static char big[300000];
	struct rig rig;
	struct client c;

	begin(co, &rig, &c);
	for (size_t i = 0; i < ARRAY_ENTRIES(unknown); i++) {
		refused(co, &c, unknown[i], NULL, 0, NBD_REP_ERR_UNSUP);
		refused(co, &c, unknown[i], big, 100, NBD_REP_ERR_UNSUP);
		refused(co, &c, unknown[i], big, sizeof(big), NBD_REP_ERR_UNSUP);
	}
	refused(co, &c, NBD_OPT_STARTTLS, NULL, 0, NBD_REP_ERR_UNSUP);
	refused(co, &c, NBD_OPT_STARTTLS, "x", 1, NBD_REP_ERR_INVALID);
	still_there(co, &c);
	end(co, &rig, &c);
}

static void too_large_is_skipped(struct co *co)
{
	static const uint32_t known[] = {NBD_OPT_LIST, NBD_OPT_STARTTLS, NBD_OPT_INFO, NBD_OPT_GO,
		NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS, NBD_OPT_LIST_META_CONTEXT,
		NBD_OPT_SET_META_CONTEXT};
	static char big[200000];
	struct rig rig;
	struct client c;

	begin(co, &rig, &c);
	for (size_t i = 0; i < ARRAY_ENTRIES(known); i++)
		refused(co, &c, known[i], big, sizeof(big), NBD_REP_ERR_TOO_BIG);
	still_there(co, &c);
	end(co, &rig, &c);
}

/* Every option that has a form, cut short at every length. */
static void malformed_is_refused(struct co *co)
{
	uint8_t data[64];
	struct rig rig;
	struct client c;

	begin(co, &rig, &c);
	refused(co, &c, NBD_OPT_STRUCTURED_REPLY, "x", 1, NBD_REP_ERR_INVALID);
	client_option(co, &c, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	client_expect(co, &c, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);

	size_t len = make_go(data, "disk", 2, (const uint16_t[]){NBD_INFO_NAME, NBD_INFO_BLOCK_SIZE});

	for (size_t cut = 0; cut < len; cut++) {
		refused(co, &c, NBD_OPT_INFO, data, cut, NBD_REP_ERR_INVALID);
		refused(co, &c, NBD_OPT_GO, data, cut, NBD_REP_ERR_INVALID);
	}
	refused(co, &c, NBD_OPT_GO, data, len + 2, NBD_REP_ERR_INVALID);

	len = make_meta(data, "disk", 2, (const char *[]){"base:allocation", "x-y:z"});
	for (size_t cut = 0; cut < len; cut++) {
		refused(co, &c, NBD_OPT_LIST_META_CONTEXT, data, cut, NBD_REP_ERR_INVALID);
		refused(co, &c, NBD_OPT_SET_META_CONTEXT, data, cut, NBD_REP_ERR_INVALID);
	}
	refused(co, &c, NBD_OPT_SET_META_CONTEXT, data, len + 1, NBD_REP_ERR_INVALID);
	still_there(co, &c);
	end(co, &rig, &c);
}

static void info_tells_what_is_asked(struct co *co)
{
	static const uint16_t all[] = {NBD_INFO_BLOCK_SIZE, NBD_INFO_NAME, NBD_INFO_DESCRIPTION, 4711};
	static const uint8_t sizes[] = {0, 3, 0, 0, 0, 1, 0, 0, 16, 0, 2, 0, 0, 0};
	struct option_reply reply;
	uint8_t data[64];
	struct rig rig;
	struct client c;

	begin(co, &rig, &c);
	client_option(co, &c, NBD_OPT_INFO, data, make_go(data, "", 4, all));
	client_option_reply(co, &c, &reply);
	CHECK(reply.type == NBD_REP_INFO && reply.len == 12 && memcmp(reply.data, "\0\0", 2) == 0);
	client_option_reply(co, &c, &reply);
	CHECK(reply.type == NBD_REP_INFO && reply.len == 6 && memcmp(reply.data, "\0\1disk", 6) == 0);
	client_option_reply(co, &c, &reply);
	CHECK(reply.type == NBD_REP_INFO && reply.len == 10 && memcmp(reply.data, "\0\2the disk", 10) == 0);
	client_option_reply(co, &c, &reply);
	CHECK(reply.type == NBD_REP_INFO && reply.len == 14 && memcmp(reply.data, sizes, 14) == 0);
	client_expect(co, &c, NBD_OPT_INFO, NBD_REP_ACK);
	client_go(co, &c, MODE_SIMPLE);
	CHECK_INT(client_do(co, &c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	end(co, &rig, &c);
}

static void go_to_nowhere_is_refused(struct co *co)
{
	uint8_t data[64];
	struct rig rig;
	struct client c;

	begin(co, &rig, &c);
	refused(co, &c, NBD_OPT_GO, data, make_go(data, "other", 0, NULL), NBD_REP_ERR_UNKNOWN);
	refused(co, &c, NBD_OPT_INFO, data, make_go(data, "disk2", 0, NULL), NBD_REP_ERR_UNKNOWN);
	client_go(co, &c, MODE_SIMPLE);
	end(co, &rig, &c);
}

static void flags_say_what_is_there(struct co *co)
{
	uint16_t always = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN |
		NBD_FLAG_SEND_CACHE;
	uint16_t writing = always | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	struct rig rig;
	struct client c;

	rig_start_disk(co, &rig, (struct nbd_options){0}, named);
	CHECK_INT(client_start(co, &rig, &c, MODE_SIMPLE), writing | NBD_FLAG_SEND_TRIM);
	client_close(co, &c);
	CHECK_INT(client_start(co, &rig, &c, MODE_STRUCTURED), writing | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_DF);
	end(co, &rig, &c);

	rig_start_disk(co, &rig, (struct nbd_options){0}, (struct export_disk){.read_only = true});
	CHECK_INT(client_start(co, &rig, &c, MODE_SIMPLE), always | NBD_FLAG_READ_ONLY);
	end(co, &rig, &c);

	rig_start_disk(co, &rig, (struct nbd_options){0}, (struct export_disk){.no_discard = true});
	CHECK_INT(client_start(co, &rig, &c, MODE_SIMPLE), writing);
	end(co, &rig, &c);
}

/* Sends the queries and returns how many contexts came; the last one's id is stored. */
static const char *const all_contexts[] = {"base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b"};

static unsigned contexts_from(struct co *co, struct client *c, uint32_t option, unsigned n, const char *const *query,
	uint32_t *id, unsigned skipped)
{
	struct option_reply reply;
	uint8_t data[256];
	unsigned found = 0;

	client_option(co, c, option, data, make_meta(data, "disk", n, query));
	for (;; found++) {
		client_option_reply(co, c, &reply);
		CHECK_INT(reply.option, option);
		if (reply.type == NBD_REP_ACK)
			return found;
		CHECK_INT(reply.type, NBD_REP_META_CONTEXT);
		CHECK(reply.len == 4 + strlen(all_contexts[found + skipped]));
		CHECK(memcmp(reply.data + 4, all_contexts[found + skipped], reply.len - 4) == 0);
		*id = be32_get(*(be32 *)reply.data);
	}
}

static unsigned contexts(
	struct co *co, struct client *c, uint32_t option, unsigned n, const char *const *query, uint32_t *id)
{
	return contexts_from(co, c, option, n, query, id, 0);
}

static void contexts_are_listed_and_selected(struct co *co)
{
	static const char *const base[] = {"base:"}, *const both[] = {"base:allocation", "base:"};
	static const char *const qemu[] = {"qemu:"}, *const depth[] = {"qemu:", "qemu:allocation-depth"};
	static const char *const other[] = {"qemu:dirty-bitmap:x", "base:other", "nonsense"};
	uint8_t data[64];
	uint32_t id = 99;
	struct rig rig;
	struct client c;

	begin(co, &rig, &c);
	refused(co, &c, NBD_OPT_SET_META_CONTEXT, data, make_meta(data, "disk", 1, both), NBD_REP_ERR_INVALID);
	client_option(co, &c, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	client_expect(co, &c, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);

	CHECK_INT(contexts(co, &c, NBD_OPT_LIST_META_CONTEXT, 0, NULL, &id), 2);
	CHECK_INT(id, 0);
	CHECK_INT(contexts_from(co, &c, NBD_OPT_LIST_META_CONTEXT, 1, qemu, &id, 1), 1);
	CHECK_INT(contexts_from(co, &c, NBD_OPT_SET_META_CONTEXT, 2, depth, &id, 1), 1);
	CHECK_INT(id, 2);
	CHECK_INT(contexts(co, &c, NBD_OPT_LIST_META_CONTEXT, 1, base, &id), 1);
	CHECK_INT(contexts(co, &c, NBD_OPT_LIST_META_CONTEXT, 2, both, &id), 1);
	CHECK_INT(contexts(co, &c, NBD_OPT_LIST_META_CONTEXT, 3, other, &id), 0);
	CHECK_INT(contexts(co, &c, NBD_OPT_SET_META_CONTEXT, 0, NULL, &id), 0);
	CHECK_INT(contexts(co, &c, NBD_OPT_SET_META_CONTEXT, 1, base, &id), 0);
	CHECK_INT(contexts(co, &c, NBD_OPT_SET_META_CONTEXT, 3, other, &id), 0);
	CHECK_INT(contexts(co, &c, NBD_OPT_SET_META_CONTEXT, 2, both, &id), 1);
	CHECK_INT(id, 1);
	refused(co, &c, NBD_OPT_SET_META_CONTEXT, data, make_meta(data, "nodisk", 1, both), NBD_REP_ERR_UNKNOWN);

	/* The failed selection has undone the one before. */
	client_go(co, &c, MODE_SIMPLE);
	CHECK_INT(client_error_chunk(co, &c, client_request(co, &c, NBD_CMD_BLOCK_STATUS, 0, 0, 4096)), NBD_EINVAL);
	end(co, &rig, &c);
}

/* Bytes at random, from many clients: the server only has to survive, and to answer the next one. */
static void random_bytes_do_no_harm(struct co *co)
{
	unsigned seed = 42;
	struct rig rig;
	struct client c;

	rig_start_disk(co, &rig, (struct nbd_options){0}, named);
	for (unsigned round = 0; round < 200; round++) {
		struct nbd_option_wire wire = {
			.magic = be64_of(NBD_OPTION_MAGIC),
			.option = be32_of(rand_r(&seed) % 13),
			.len = be32_of(rand_r(&seed) % 64),
		};
		uint8_t bytes[256];

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = rand_r(&seed) % 3 ? 0 : rand_r(&seed);
		client_connect(co, &rig, &c);
		client_greet(co, &c, CLIENT_FLAGS);
		/* The server may have hung up before it has read all of it. */
		int r = io_send(co, c.sock, IOV_BUF(&wire, sizeof(wire)));

		if (r == 0)
			r = io_send(co, c.sock, IOV_BUF(bytes, sizeof(bytes)));
		CHECK(r <= 0);
		client_close(co, &c);
	}
	client_start(co, &rig, &c, MODE_CONTEXTS);
	end(co, &rig, &c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(unknown_client_flags_end_it),
		TEST(wrong_option_magic_ends_it),
		TEST(export_name_with_zeroes),
		TEST(export_name_with_nul),
		TEST(export_name_that_is_not_there_ends_it),
		TEST(giant_export_name_ends_it),
		TEST(abort_is_acknowledged),
		TEST(list_shows_the_export),
		TEST(what_is_unknown_is_refused),
		TEST(too_large_is_skipped),
		TEST(malformed_is_refused),
		TEST(info_tells_what_is_asked),
		TEST(go_to_nowhere_is_refused),
		TEST(flags_say_what_is_there),
		TEST(contexts_are_listed_and_selected),
		TEST(random_bytes_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
