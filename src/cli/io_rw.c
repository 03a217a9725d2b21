/* SPDX-License-Identifier: MIT */
/* corral io: read, write, readv and writev. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/io_rw.h"
#include "cli/options.h"
#include "io/io.h"

int cli_io_refuse(const char *text)
{
	puts(text);
	return -EINVAL;
}

/* offset and length, the last two words. */
static int range_parse(struct cli_io_rw *rw, const char *name, int argc, char **argv)
{
	if (optind != argc - 2)
		return cli_io_usage(name);
	if (cli_io_bytes_parse(argv[optind], &rw->request.off) < 0 ||
		cli_io_length_parse(argv[optind + 1], &rw->request.bytes) < 0)
		return -EINVAL;
	return 0;
}

static int sectors_check(const struct cli_io_rw *rw)
{
	const uint64_t mask = 511;

	if (rw->request.off & mask)
		printf("%" PRIu64 " is not a sector-aligned value for 'offset'\n", rw->request.off);
	else if (rw->request.bytes & mask)
		printf("%" PRIu64 " is not a sector-aligned value for 'count'\n", rw->request.bytes);
	else
		return 0;
	return -EINVAL;
}

void cli_io_rw_report(struct co *co, const struct cli_io_rw *rw, const char *op, uint64_t began)
{
	struct cli_io_report r = {
		.op = op,
		.off = rw->request.off,
		.bytes = rw->request.bytes,
		.ns = co_now(co) - began,
		.parsable = rw->parsable,
	};

	cli_io_report_print(&r);
}

static int failed(const char *name, int err)
{
	printf("%s failed: %s\n", name, strerror(-err));
	return err;
}

/* ---- reading ---- */

int cli_io_rw_read_option(struct cli_io_rw *rw, int option, const char *name)
{
	switch (option) {
	case 'b': rw->vm_state = true; return 0;
	case 'C': rw->parsable = true; return 0;
	case 'l': rw->check_all = false; return cli_io_bytes_parse(optarg, &rw->check_bytes);
	case 'P': rw->checked = true; return cli_io_pattern_parse(optarg, &rw->pattern);
	case 'q': rw->quiet = true; return 0;
	case 's': return cli_io_bytes_parse(optarg, &rw->check_off);
	case 'v': rw->dump = true; return 0;
	case 'p': return 0;
	default: return cli_io_usage(name);
	}
}

static int read_parse(struct cli_io_rw *rw, int argc, char **argv)
{
	int option, ret = 0;

	*rw = (struct cli_io_rw){.check_all = true, .request.kind = CLI_IO_READ};
	while (ret == 0 && (option = getopt(argc, argv, "bCl:pP:qs:v")) != -1)
		ret = cli_io_rw_read_option(rw, option, "read");
	if (ret == 0)
		ret = range_parse(rw, "read", argc, argv);
	if (ret == 0 && !rw->checked && (!rw->check_all || rw->check_off > 0))
		ret = cli_io_usage("read");
	if (ret < 0)
		return ret;
	if (rw->check_off > rw->request.bytes || rw->check_bytes > rw->request.bytes - rw->check_off)
		return cli_io_refuse("pattern verification range exceeds end of read data");
	if (rw->check_all)
		rw->check_bytes = rw->request.bytes - rw->check_off;
	return rw->vm_state ? sectors_check(rw) : 0;
}

int cli_io_rw_verify(const struct cli_io_rw *rw)
{
	const uint8_t *at = (const uint8_t *)rw->request.buffer + rw->check_off;

	for (uint64_t i = 0; rw->checked && i < rw->check_bytes; i++) {
		if (at[i] == rw->pattern)
			continue;
		printf("Pattern verification failed at offset %" PRIu64 ", %" PRIu64 " bytes\n",
			rw->request.off + rw->check_off, rw->check_bytes);
		return -EINVAL;
	}
	return 0;
}

static int read_do(struct co *co, struct cli_io_session *s, struct cli_io_rw *rw, const char *name)
{
	uint64_t began;
	int ret;

	rw->request.buffer = cli_io_buffer_new(s, rw->request.bytes, 0xab);
	if (rw->request.buffer == NULL)
		return -ENOMEM;
	began = co_now(co);
	ret = rw->vm_state ? -ENOTSUP : cli_io_request_do(co, s->node, &rw->request);
	if (ret < 0) {
		ret = failed(name, ret);
	} else {
		ret = cli_io_rw_verify(rw);
		if (rw->dump && !rw->quiet)
			cli_io_dump(rw->request.buffer, rw->request.off, rw->request.bytes);
		if (!rw->quiet)
			cli_io_rw_report(co, rw, "read", began);
	}
	cli_io_buffer_free(s, rw->request.buffer);
	return ret;
}

int cli_io_read(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	struct cli_io_rw rw;
	int ret = read_parse(&rw, argc, argv);

	return ret < 0 ? ret : read_do(co, s, &rw, "read");
}

/* ---- writing ---- */

int cli_io_rw_write_option(struct cli_io_rw *rw, int option, const char *name)
{
	switch (option) {
	case 'b': rw->vm_state = true; return 0;
	case 'c': rw->compressed = true; return 0;
	case 'C': rw->parsable = true; return 0;
	case 'f': rw->fua = true; return 0;
	case 'n': rw->no_fallback = true; return 0;
	case 'P': rw->checked = true; return cli_io_pattern_parse(optarg, &rw->pattern);
	case 'q': rw->quiet = true; return 0;
	case 's': rw->file = optarg; return 0;
	case 'u': rw->unmap = true; return 0;
	case 'z': rw->zero = true; return 0;
	case 'p': return 0;
	default: return cli_io_usage(name);
	}
}

static int write_check(const struct cli_io_rw *rw)
{
	if (rw->vm_state && rw->zero)
		return cli_io_refuse("-b and -z cannot be specified at the same time");
	if (rw->fua && (rw->vm_state || rw->compressed))
		return cli_io_refuse("-f and -b or -c cannot be specified at the same time");
	if (rw->no_fallback && !rw->zero)
		return cli_io_refuse("-n requires -z to be specified");
	if (rw->unmap && !rw->zero)
		return cli_io_refuse("-u requires -z to be specified");
	if (rw->zero + rw->checked + (rw->file != NULL) > 1)
		return cli_io_refuse("Only one of -z, -P, and -s can be specified at the same time");
	return 0;
}

static int write_parse(struct cli_io_rw *rw, int argc, char **argv)
{
	int option, ret = 0;

	*rw = (struct cli_io_rw){.pattern = 0xcd};
	while (ret == 0 && (option = getopt(argc, argv, "bcCfnpP:qs:uz")) != -1)
		ret = cli_io_rw_write_option(rw, option, "write");
	if (ret == 0 && optind != argc - 2)
		ret = cli_io_usage("write");
	if (ret == 0)
		ret = write_check(rw);
	if (ret == 0)
		ret = range_parse(rw, "write", argc, argv);
	if (ret == 0 && (rw->vm_state || rw->compressed))
		ret = sectors_check(rw);
	rw->request.kind = rw->zero ? CLI_IO_ZERO : rw->compressed ? CLI_IO_COMPRESSED : CLI_IO_WRITE;
	rw->request.flags =
		(rw->fua ? NODE_FUA : 0) | (rw->unmap ? NODE_MAY_UNMAP : 0) | (rw->no_fallback ? NODE_NO_FALLBACK : 0);
	return ret;
}

/* The file's content, again and again. */
static void repeat(char *buffer, uint64_t bytes, uint64_t content)
{
	for (uint64_t at = content; at < bytes; at += content)
		memcpy(buffer + at, buffer, MIN(content, bytes - at));
}

static int pattern_read(struct co *co, const struct cli_io_rw *rw)
{
	struct io_open open = {.path = rw->file};
	struct io_file *f;
	uint64_t content = 0;
	int ret = io_file_open(co, &open, &f, NULL);

	if (ret == 0) {
		content = MIN(io_file_info(f)->size, rw->request.bytes);
		ret = io_file_read(co, f, 0, IOV_BUF(rw->request.buffer, content));
		io_file_close(co, f);
	}
	if (ret < 0)
		fprintf(stderr, "%s: %s\n", rw->file, strerror(-ret));
	else if (content == 0)
		fprintf(stderr, "%s: file is empty\n", rw->file);
	else
		repeat(rw->request.buffer, rw->request.bytes, content);
	return ret < 0 ? ret : content == 0 ? -EINVAL : 0;
}

static int write_do(struct co *co, struct cli_io_session *s, struct cli_io_rw *rw, const char *name)
{
	uint64_t began;
	int ret = 0;

	if (!rw->zero) {
		rw->request.buffer = cli_io_buffer_new(s, rw->request.bytes, rw->pattern);
		if (rw->request.buffer == NULL)
			return -ENOMEM;
	}
	if (rw->file != NULL)
		ret = pattern_read(co, rw);
	if (ret == 0) {
		began = co_now(co);
		ret = rw->vm_state ? -ENOTSUP : cli_io_request_do(co, s->node, &rw->request);
		if (ret < 0)
			ret = failed(name, ret);
		else if (!rw->quiet)
			cli_io_rw_report(co, rw, "wrote", began);
	}
	cli_io_buffer_free(s, rw->request.buffer);
	return ret;
}

int cli_io_write(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	struct cli_io_rw rw;
	int ret = write_parse(&rw, argc, argv);

	return ret < 0 ? ret : write_do(co, s, &rw, "write");
}

/* ---- several lengths ---- */

/* off len [len...]: one request for all of them. */
int cli_io_rw_lengths_parse(struct cli_io_rw *rw, const char *name, int argc, char **argv)
{
	if (optind > argc - 2)
		return cli_io_usage(name);
	if (cli_io_bytes_parse(argv[optind], &rw->request.off) < 0)
		return -EINVAL;
	for (int i = optind + 1; i < argc; i++) {
		uint64_t bytes;

		if (cli_io_bytes_parse(argv[i], &bytes) < 0)
			return -EINVAL;
		if (bytes > CLI_IO_MOST) {
			printf("Argument '%s' exceeds maximum size %" PRIu64 "\n", argv[i], CLI_IO_MOST);
			return -EINVAL;
		}
		rw->request.bytes += bytes;
		if (rw->request.bytes > CLI_IO_MOST) {
			printf("The total number of bytes exceed the maximum size %" PRIu64 "\n", CLI_IO_MOST);
			return -EINVAL;
		}
	}
	return 0;
}

int cli_io_readv(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	struct cli_io_rw rw = {.request.kind = CLI_IO_READ};
	int option, ret = 0;

	while (ret == 0 && (option = getopt(argc, argv, "CP:qv")) != -1)
		ret = cli_io_rw_read_option(&rw, option, "readv");
	if (ret == 0)
		ret = cli_io_rw_lengths_parse(&rw, "readv", argc, argv);
	rw.check_bytes = rw.request.bytes;
	return ret < 0 ? ret : read_do(co, s, &rw, "readv");
}

int cli_io_writev(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	struct cli_io_rw rw = {.request.kind = CLI_IO_WRITE, .pattern = 0xcd};
	int option, ret = 0;

	while (ret == 0 && (option = getopt(argc, argv, "CfP:q")) != -1)
		ret = cli_io_rw_write_option(&rw, option, "writev");
	if (ret == 0)
		ret = cli_io_rw_lengths_parse(&rw, "writev", argc, argv);
	rw.request.flags = rw.fua ? NODE_FUA : 0;
	return ret < 0 ? ret : write_do(co, s, &rw, "writev");
}
