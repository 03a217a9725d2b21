/* SPDX-License-Identifier: MIT */
/* Errors where they were asked for, requests that stop and go on, limits; and what the configuration may say. */
#include "../node/toy.h"

#include "filter/blkdebug.h"

struct bench {
	struct rig rig; /* first */
	struct toy_storage *s;
	struct node *n;
	struct blkdebug_config config;
	co_entry *body;
	char told[256];
	bool done;
};

static void bench_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	must(blkdebug_open(co, &b->s->node, &b->config, &b->n, NULL));
	b->body(co, b);
	must(node_close(co, b->n));
}

static void bench_run(const char *text, co_entry *body)
{
	struct bench b = {.body = body};
	struct err err;

	rig_init(&b.rig, 1, NULL);
	b.s = toy_storage_new(&b.rig, 64 * 4096, 64 * 4096, 1);
	blkdebug_config_init(&b.config);
	if (text[0] == '[')
		assert_int_equal(blkdebug_config_text(&b.config, text, &err), 0);
	else if (text[0] != '\0')
		assert_int_equal(blkdebug_config_set(&b.config, text, "8k", &err), 0);
	rig_run(&b.rig, bench_main, &b);
	blkdebug_config_fini(&b.config);
	rig_fini(&b.rig);
}

static int read_at(struct co *co, struct bench *b, uint64_t off)
{
	char data[512];

	return node_read(co, b->n, off, IOV_BUF(data, sizeof(data)));
}

static int write_at(struct co *co, struct bench *b, uint64_t off)
{
	char data[512] = "datum";

	return node_write(co, b->n, off, IOV_BUF(data, sizeof(data)), 0);
}

/* ---- rules ---- */

static void once_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	must(read_at(co, b, 1024));
	node_event(co, b->n, NODE_EVENT_L2_LOAD);
	must(read_at(co, b, 0));
	must(read_at(co, b, 1536));
	assert(write_at(co, b, 1024) == -ENOSPC);
	must(write_at(co, b, 1024));
	node_event(co, b->n, NODE_EVENT_L2_LOAD);
	must(write_at(co, b, 1024));
}

static void error_comes_once_and_at_its_sector(void **state)
{
	(void)state;
	bench_run("[inject-error]\nevent = \"l2_load\"\nerrno = \"28\"\nsector = \"2\"\nonce = \"on\"\n", once_body);
}

static void lasting_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	node_event(co, b->n, NODE_EVENT_WRITE_AIO);
	for (unsigned i = 0; i < 5; i++)
		assert(read_at(co, b, 4096 * i) == -EIO);
	must(write_at(co, b, 0));
	must(node_flush(co, b->n));
	node_event(co, b->n, NODE_EVENT_FLUSH_TO_DISK); /* its rules take the place of the others */
	must(read_at(co, b, 0));
	assert(node_flush(co, b->n) == -EIO);
	b->n->failed = 0;
	node_event(co, b->n, NODE_EVENT_READ_AIO); /* without rules: nothing changes */
	assert(node_flush(co, b->n) == -EIO);
	b->n->failed = 0;
	node_event(co, b->n, NODE_EVENT_WRITE_AIO);
}

static void error_lasts_until_another_takes_its_place(void **state)
{
	(void)state;
	bench_run("[inject-error]\nevent = \"write_aio\"\niotype = \"read\"\n"
		  "[inject-error]\n event = \"flush_to_disk\"\n iotype = \"flush\"\n",
		lasting_body);
}

static void state_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	node_event(co, b->n, NODE_EVENT_L2_UPDATE);
	must(read_at(co, b, 0));
	node_event(co, b->n, NODE_EVENT_CLUSTER_ALLOC); /* 1 to 2 */
	must(read_at(co, b, 0));
	node_event(co, b->n, NODE_EVENT_CLUSTER_ALLOC); /* 2 to 3 */
	node_event(co, b->n, NODE_EVENT_L2_UPDATE);
	assert(read_at(co, b, 0) == -EIO);
	must(read_at(co, b, 0));
	node_event(co, b->n, NODE_EVENT_CLUSTER_ALLOC);
	node_event(co, b->n, NODE_EVENT_L2_UPDATE);
	must(read_at(co, b, 0));
}

static void states_follow_each_other(void **state)
{
	(void)state;
	bench_run("[set-state]\nstate = \"1\"\nevent = \"cluster_alloc\"\nnew_state = \"2\"\n# a comment\n\n"
		  "[set-state]\nstate = \"2\"\nevent = \"cluster_alloc\"\nnew_state = \"3\"\n"
		  "[inject-error]\nstate = \"3\"\nevent = \"l2_update\"\nonce = \"on\"\nimmediately = \"on\"\n",
		state_body);
}

static void none_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	assert(read_at(co, b, 0) == -EIO);
	must(write_at(co, b, 0));
}

static void event_none_is_the_opening(void **state)
{
	(void)state;
	bench_run("[inject-error]\nevent = \"none\"\niotype = \"read\"\n", none_body);
}

/* ---- breakpoints ---- */

static void told(void *arg, const char *tag, bool resumed)
{
	struct bench *b = arg;

	strcat(b->told, resumed ? "-" : "+");
	strcat(b->told, tag);
}

static void passer(struct co *co, void *arg)
{
	struct bench *b = arg;

	node_event(co, b->n, NODE_EVENT_READ_AIO);
	b->done = true;
}

static void break_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	blkdebug_watch(b->n, told, b);
	assert(blkdebug_find(b->n) == b->n && blkdebug_find(&b->s->node) == NULL);
	assert(blkdebug_break(b->n, "nonsense", "A") == -ENOENT && blkdebug_resume(b->n, "A") == -ENOENT);
	must(blkdebug_break(b->n, "read_aio", "A"));
	go(&b->rig.world, "passer", passer, b);
	blkdebug_wait(co, b->n, "A");
	assert(blkdebug_is_suspended(b->n, "A") && !blkdebug_is_suspended(b->n, "B") && !b->done);
	passer(co, b); /* the breakpoint is used up */
	b->done = false;
	must(blkdebug_resume(b->n, "A"));
	assert(!blkdebug_is_suspended(b->n, "A"));
	while (!b->done)
		co_yield(co);
	assert(strcmp(b->told, "+A-A") == 0);

	b->done = false;
	must(blkdebug_break(b->n, "read_aio", "B"));
	must(blkdebug_break(b->n, "read_aio", "B"));
	go(&b->rig.world, "passer", passer, b);
	blkdebug_wait(co, b->n, "B");
	must(blkdebug_remove_break(b->n, "B")); /* the one who stands there, and the breakpoint that is left */
	while (!b->done)
		co_yield(co);
	assert(blkdebug_remove_break(b->n, "B") == -ENOENT);
	passer(co, b);
	assert(strcmp(b->told, "+A-A+B-B") == 0);
}

static void request_stands_at_a_breakpoint(void **state)
{
	(void)state;
	bench_run("", break_body);
}

/* ---- limits ---- */

static void transfer_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	static char data[5 * 4096];

	memset(data, 7, sizeof(data));
	must(node_write(co, b->n, 100, IOV_BUF(data, sizeof(data)), 0));
	assert(b->s->writes == 3 && b->s->bytes_written == sizeof(data));
	must(node_read(co, b->n, 99, IOV_BUF(data, sizeof(data))));
	assert(b->s->reads == 3 && data[0] == 0 && data[1] == 7 && data[sizeof(data) - 1] == 7);
}

static void large_requests_come_in_pieces(void **state)
{
	(void)state;
	bench_run("max-transfer", transfer_body);
}

static void zero_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	memset(b->s->data, 7, b->s->node.size);
	must(node_zero(co, b->n, 4096, 5 * 4096, 0)); /* half a unit, two units */
	assert(b->s->zeroes == 1 && b->s->writes == 1 && b->s->bytes_written == 4096);
	assert(mem_is_zero(b->s->data + 4096, 5 * 4096) && b->s->data[4095] == 7 && b->s->data[6 * 4096] == 7);
}

static void small_zeroing_is_written(void **state)
{
	(void)state;
	bench_run("opt-write-zero", zero_body);
}

static void most_zero_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	must(node_zero(co, b->n, 0, 5 * 4096, 0));
	assert(b->s->zeroes == 3 && b->s->writes == 0);
}

static void large_zeroing_comes_in_pieces(void **state)
{
	(void)state;
	bench_run("max-write-zero", most_zero_body);
}

static void discard_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	memset(b->s->data, 7, b->s->node.size);
	must(node_discard(co, b->n, 4096, 6 * 4096)); /* half a unit, two units, half a unit */
	assert(b->s->discards == 1 && b->s->data[4096] == 7 && b->s->data[6 * 4096] == 7);
	assert(mem_is_zero(b->s->data + 2 * 4096, 4 * 4096));
}

static void small_discards_do_nothing(void **state)
{
	(void)state;
	bench_run("opt-discard", discard_body);
}

static void align_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	assert(b->n->align == 8192);
	must(write_at(co, b, 4096));
	assert(b->s->bytes_read == 8192 && b->s->bytes_written == 8192);
}

static void alignment_pads_requests(void **state)
{
	(void)state;
	bench_run("align", align_body);
}

/* ---- configuration ---- */

static void text_refused(const char *text, const char *says)
{
	struct blkdebug_config c;
	struct err err;

	blkdebug_config_init(&c);
	assert_int_equal(blkdebug_config_text(&c, text, &err), -EINVAL);
	if (strstr(err.text, says) == NULL)
		fail_msg("\"%s\" doesn't say \"%s\"", err.text, says);
	blkdebug_config_fini(&c);
}

static void option_refused(const char *name, const char *value, int expected, const char *says)
{
	struct blkdebug_config c;
	struct err err = {0};

	blkdebug_config_init(&c);
	assert_int_equal(blkdebug_config_set(&c, name, value, &err), expected);
	assert_non_null(strstr(err.text, says));
	blkdebug_config_fini(&c);
}

static void nonsense_is_refused(void **state)
{
	(void)state;
	text_refused("event = \"l2_load\"\n", "line 1: no section");
	text_refused("[inject-error]\nevent = \"l9_load\"\n", "line 2: Invalid event name \"l9_load\"");
	text_refused("[eject-error]\n", "not [eject-error]");
	text_refused("[inject-error\n", "line 1: neither");
	text_refused("[inject-error]\nerrno = \"five\"\n", "line 2: Parameter 'errno' expects a number");
	text_refused("[inject-error]\niotype = \"reads\"\n", "iotype");
	text_refused("[inject-error]\nonce = \"maybe\"\n", "'on' or 'off'");
	text_refused("[inject-error]\nsector = \"-2\"\n", "out of range");
	text_refused("[inject-error]\nnew_state = \"2\"\n", "Invalid parameter 'new_state'");
	text_refused("[set-state]\nerrno = \"2\"\n", "Invalid parameter 'errno'");
	option_refused("align", "big", -EINVAL, "expects a size");
	option_refused("inject-error.0.errno", "99999", -EINVAL, "out of range");
	option_refused("inject-error.event", "l2_load", -ENOENT, "");
	option_refused("speed", "1", -ENOENT, "");
}

static void incomplete_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct blkdebug_config c;
	struct node *n;
	struct err err;

	blkdebug_config_init(&c);
	must(blkdebug_config_set(&c, "set-state.0.new_state", "2", NULL));
	assert(blkdebug_open(co, b->n, &c, &n, &err) == -EINVAL && strstr(err.text, "Missing event name") != NULL);
	blkdebug_config_fini(&c);
	blkdebug_config_init(&c);
	must(blkdebug_config_set(&c, "align", "12k", NULL));
	assert(blkdebug_open(co, b->n, &c, &n, &err) == -EINVAL && strstr(err.text, "align 12288") != NULL);
	must(blkdebug_config_set(&c, "align", "4k", NULL));
	must(blkdebug_config_set(&c, "max-transfer", "6k", NULL));
	assert(blkdebug_open(co, b->n, &c, &n, &err) == -EINVAL && strstr(err.text, "max-transfer 6144") != NULL);
	blkdebug_config_fini(&c);
}

static void rule_needs_its_event_and_limits_agree(void **state)
{
	(void)state;
	bench_run("", incomplete_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_comes_once_and_at_its_sector),
		cmocka_unit_test(error_lasts_until_another_takes_its_place),
		cmocka_unit_test(states_follow_each_other),
		cmocka_unit_test(event_none_is_the_opening),
		cmocka_unit_test(request_stands_at_a_breakpoint),
		cmocka_unit_test(large_requests_come_in_pieces),
		cmocka_unit_test(small_zeroing_is_written),
		cmocka_unit_test(large_zeroing_comes_in_pieces),
		cmocka_unit_test(small_discards_do_nothing),
		cmocka_unit_test(alignment_pads_requests),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(rule_needs_its_event_and_limits_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
