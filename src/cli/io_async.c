/* SPDX-License-Identifier: MIT */
/* corral io: aio_read, aio_write and aio_flush. A request is a coroutine beside the one that takes commands. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/io_rw.h"
#include "cli/options.h"

struct cli_io_async {
	struct cli_io_session *session;
	struct cli_io_rw rw;
};

static void async_failed(const struct cli_io_async *a, int err)
{
	printf("%s failed: %s\n", a->rw.request.kind == CLI_IO_READ ? "readv" : "aio_write", strerror(-err));
}

static void async_done(struct co *co, const struct cli_io_async *a, uint64_t began)
{
	bool read = a->rw.request.kind == CLI_IO_READ;

	if (read)
		(void)!cli_io_rw_verify(&a->rw);
	if (a->rw.quiet)
		return;
	if (a->rw.dump)
		cli_io_dump(a->rw.request.buffer, a->rw.request.off, a->rw.request.bytes);
	cli_io_rw_report(co, &a->rw, read ? "read" : "wrote", began);
}

static void async_main(struct co *co, void *arg)
{
	struct cli_io_async *a = arg;
	struct cli_io_session *s = a->session;
	uint64_t began = co_now(co);
	int err = cli_io_request_do(co, s->node, &a->rw.request);

	if (err < 0)
		async_failed(a, err);
	else
		async_done(co, a, began);
	fflush(stdout);
	cli_io_buffer_free(s, a->rw.request.buffer);
	free(a);
	if (--s->running == 0)
		co_queue_wake_all(&s->idle);
}

/* Takes *rw along. Once it has begun the command has done its part. */
static int async_begin(struct co *co, struct cli_io_session *s, const struct cli_io_rw *rw)
{
	struct cli_io_async *a = malloc(sizeof(*a));
	int ret = -ENOMEM;

	if (a != NULL) {
		*a = (struct cli_io_async){.session = s, .rw = *rw};
		a->rw.request.buffer = rw->zero ? NULL : cli_io_buffer_new(s, rw->request.bytes, rw->pattern);
		if (rw->zero || a->rw.request.buffer != NULL)
			ret = co_spawn(co_sched_of(co), "aio", async_main, a);
	}
	if (ret < 0) {
		if (a != NULL)
			cli_io_buffer_free(s, a->rw.request.buffer);
		free(a);
		return cli_complain("the request can't begin: %s", strerror(-ret)), ret;
	}
	s->running++;
	co_yield(co); /* so that it is on its way when the next command comes */
	return 0;
}

/* ---- the commands ---- */

int cli_io_aio_read(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	struct cli_io_rw rw = {.request.kind = CLI_IO_READ};
	bool invalid = false;
	int option, ret = 0;

	while (ret == 0 && (option = getopt(argc, argv, "CP:iqv")) != -1) {
		if (option == 'i')
			invalid = true;
		else
			ret = cli_io_rw_read_option(&rw, option, "aio_read");
	}
	if (ret == 0 && invalid)
		return puts("injecting invalid read request"), 0;
	if (ret == 0)
		ret = cli_io_rw_lengths_parse(&rw, "aio_read", argc, argv);
	rw.check_bytes = rw.request.bytes;
	if (!rw.checked)
		rw.pattern = 0xab;
	return ret < 0 ? ret : async_begin(co, s, &rw);
}

static int zero_check(const struct cli_io_rw *rw, int argc)
{
	if (rw->zero && optind != argc - 2)
		return cli_io_refuse("-z supports only a single length parameter");
	if (rw->unmap && !rw->zero)
		return cli_io_refuse("-u requires -z to be specified");
	return 0;
}

int cli_io_aio_write(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	struct cli_io_rw rw = {.pattern = 0xcd};
	bool invalid = false;
	int option, ret = 0;

	while (ret == 0 && (option = getopt(argc, argv, "CfiP:quz")) != -1) {
		if (option == 'i')
			invalid = true;
		else
			ret = cli_io_rw_write_option(&rw, option, "aio_write");
	}
	if (ret == 0 && invalid)
		return puts("injecting invalid write request"), 0;
	if (ret == 0 && optind > argc - 2)
		ret = cli_io_usage("aio_write");
	if (ret == 0)
		ret = zero_check(&rw, argc);
	if (ret == 0)
		ret = cli_io_rw_lengths_parse(&rw, "aio_write", argc, argv);
	rw.request.kind = rw.zero ? CLI_IO_ZERO : CLI_IO_WRITE;
	rw.request.flags = (rw.fua ? NODE_FUA : 0) | (rw.unmap ? NODE_MAY_UNMAP : 0);
	return ret < 0 ? ret : async_begin(co, s, &rw);
}

void cli_io_settle(struct co *co, struct cli_io_session *s)
{
	while (s->running > 0)
		co_queue_wait(co, &s->idle);
}

int cli_io_aio_flush(struct co *co, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv ATTR_UNUSED)
{
	cli_io_settle(co, s);
	return 0;
}
