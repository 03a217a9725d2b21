/* SPDX-License-Identifier: MIT */
/*
 * corral convert with "-" for a source or the target: standard input or output, which may be a pipe. Nothing is kept in a
 * temporary file. A qcow2 target is planned from the source's mapping first (qcow2/stream.h); a source is taken as it comes.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "cli/convert.h"
#include "cli/progress.h"
#include "file/sink.h"
#include "job/pour.h"
#include "job/walk.h"
#include "qcow2/stream.h"

#define PIECE_BYTES (UINT64_C(1) << 20) /* at least a cluster */

static bool is_stream(const char *name) { return strcmp(name, "-") == 0; }

bool convert_to_stream(const struct convert *c) { return is_stream(c->target); }

bool convert_from_stream(const struct convert *c)
{
	for (unsigned i = 0; i < c->sources_n; i++) {
		if (is_stream(c->sources[i]))
			return true;
	}
	return false;
}

int convert_stream_check(const struct convert *c)
{
	bool in = convert_from_stream(c), out = convert_to_stream(c);

	if (in && (c->sources_n > 1 || c->as_it_was.snapshot || c->bitmaps || c->create.backing || c->salvage))
		return cli_complain(
			"standard input goes alone, and without -l, -B, --bitmaps and --salvage: it can be read only once");
	if (out && (c->compressed || c->skip_create || c->bitmaps || c->create.backing))
		return cli_complain(
			"standard output goes without -c, -n, -B and --bitmaps: it can be written only once");
	if (in && out && strcmp(c->format, "raw") != 0)
		return cli_complain(
			"from standard input to standard output goes only -O raw: what there will be isn't known "
			"before the end");
	return 0;
}

static int stream_sink(struct co *co, struct node **out)
{
	struct io_stream *stream = io_stream_standard(IO_STDOUT);
	int ret = stream ? sink_open(co, stream, "standard output", out) : -ENOMEM;

	signal(SIGPIPE, SIG_IGN); /* whoever reads may have gone: an error, which is told */
	if (ret < 0)
		io_stream_free(stream);
	return ret < 0 ? cli_complain("standard output: %s", strerror(-ret)) : 0;
}

/* ---- to standard output ---- */

struct run {
	struct progress progress;
	uint64_t all; /* 0: unknown */
};

static bool show(void *arg, uint64_t done, uint64_t all)
{
	struct run *run = arg;

	progress_show(&run->progress, done, all);
	return true;
}

static int plan(struct co *co, struct convert *c, struct node *from, struct node *to)
{
	bool more = true;
	struct walk w;
	int ret = 0;

	walk_init(&w, from, to->size);
	w.unit = to->cluster;
	while (ret == 0 && more) {
		struct walk_range r;

		ret = walk_next(co, &w, MAX(PIECE_BYTES, to->cluster), &r, &more);
		if (ret == 0 && more && (r.kind == WALK_DATA || c->sparse == 0))
			qcow2_stream_plan(to, r.off, r.len);
	}
	return ret < 0 ? cli_complain("error while reading block status at byte %" PRIu64 ": %s", w.at, strerror(-ret))
		       : 0;
}

/* Puts the format on the sink. */
static int format_open(struct co *co, struct convert *c, struct node *from, struct node **to)
{
	struct node *image;
	int status;

	if (strcmp(c->format, "raw") == 0)
		return 0;
	c->create.how.size = from->size;
	if (create_values_check(&c->create, &c->err) < 0 ||
		qcow2_stream_new(co, *to, &c->create.how, &image, &c->err) < 0)
		return cli_complain("%s", c->err.text);
	*to = image;
	status = plan(co, c, from, image);
	return status;
}

static int copy_out(struct co *co, struct convert *c, struct node *from, struct node *to)
{
	bool raw = strcmp(c->format, "raw") == 0;
	struct run run = {.all = 0};
	struct copy_how how = {
		.from = from,
		.to = to,
		.len = align_up(from->size, 512),
		.requests = c->requests,
		.sparse = raw ? 0 : c->sparse,
		.target_zero = true,
		.in_order = true,
		.salvage = c->salvage,
		.rate = c->rate,
		.progress = c->common.progress ? show : NULL,
		.arg = &run,
	};
	int ret;

	progress_begin(&run.progress, c->common.progress && !c->common.quiet, stderr);
	ret = copy_run(co, &how, NULL, &c->err);
	progress_end(&run.progress, ret == 0);
	if (ret == -ESTALE)
		return cli_complain("the source has changed while it was read");
	if (ret < 0)
		return convert_complain(c);
	ret = node_flush(co, to);
	return ret < 0 ? cli_complain("standard output: %s", strerror(-ret)) : 0;
}

int convert_stream_out(struct co *co, struct convert *c, struct node *from)
{
	struct node *to;
	int status = stream_sink(co, &to);

	if (status)
		return status;
	status = format_open(co, c, from, &to);
	if (!status)
		status = copy_out(co, c, from, to);
	(void)!node_close(co, to);
	return status;
}

/* ---- from standard input ---- */

struct input {
	struct io_stream *stream;
	char start[512]; /* what was read to look at it */
	size_t start_len, start_used;
	struct qcow2_source *image; /* NULL: raw */
	uint64_t at;                /* raw: bytes that were taken */
	uint64_t piece_bytes;
	struct run run;
};

/* The next bytes, of which the first have been read already. */
static ssize_t input_read(struct co *co, void *arg, void *buf, size_t len)
{
	struct input *in = arg;
	size_t from_start = MIN(len, in->start_len - in->start_used);
	ssize_t got;

	memcpy(buf, in->start + in->start_used, from_start);
	in->start_used += from_start;
	got = io_stream_read(co, in->stream, (char *)buf + from_start, len - from_start);
	return got < 0 ? got : (ssize_t)from_start + got;
}

static int raw_next(struct co *co, void *arg, struct pour_piece *piece, bool *more, struct err *err)
{
	struct input *in = arg;
	AUTO_FREE char *data = malloc(in->piece_bytes);
	ssize_t got = data ? input_read(co, in, data, in->piece_bytes) : -ENOMEM;

	if (got < 0)
		return err_set(err, (int)got, "standard input: %s", strerror((int)-got));
	*more = got > 0;
	if (!*more)
		return 0;
	*piece = (struct pour_piece){.off = in->at, .len = (uint64_t)got, .data = take(data)};
	in->at += piece->len;
	return 0;
}

static int image_next(struct co *co, void *arg, struct pour_piece *piece, bool *more, struct err *err)
{
	struct input *in = arg;
	AUTO_FREE struct qcow2_source_piece *p = malloc(sizeof(*p));
	int ret = p ? qcow2_source_next(co, in->image, in->piece_bytes, p, more, err)
		    : err_set(err, -ENOMEM, "no memory");

	if (ret < 0)
		return err_prefix(err, "standard input"), ret;
	if (*more)
		*piece = (struct pour_piece){p->off, p->len, p->data, p->encoded ? p : NULL};
	if (*more && p->encoded)
		(void)take(p);
	return 0;
}

static bool is_encoded(const struct pour_piece *piece) { return piece->more != NULL; }

static int decode(void *arg, struct pour_piece *piece)
{
	const struct input *in = arg;
	struct qcow2_source_piece *p = piece->more;
	int ret = qcow2_source_decode(p, qcow2_source_cluster(in->image));

	piece->data = p->data;
	return ret;
}

static bool show_input(void *arg, uint64_t done)
{
	struct input *in = arg;

	if (in->run.all)
		progress_show(&in->run.progress, MIN(done, in->run.all), in->run.all);
	return true;
}

static int input_pour(struct co *co, struct convert *c, struct input *in, struct node *to, bool zero)
{
	bool out = convert_to_stream(c);
	struct pour_how how = {
		.to = to,
		.next = in->image ? image_next : raw_next,
		.decode_needed = is_encoded,
		.decode = in->image ? decode : NULL,
		.arg = in,
		.sparse = zero && c->sparse ? MAX(UINT64_C(4096), to->subcluster) : 0,
		.compressed = c->compressed,
		.grows = !in->image && !out && !c->skip_create,
		.in_order = out,
		.end = in->image ? align_up(qcow2_source_size(in->image), 512) : 0,
		.rate = c->rate,
		.progress = show_input,
	};
	int ret;

	in->piece_bytes = MAX(PIECE_BYTES, to->cluster);
	in->run.all = in->image ? qcow2_source_size(in->image) : 0;
	progress_begin(&in->run.progress, c->common.progress && !c->common.quiet, out ? stderr : stdout);
	ret = pour_run(co, &how, &c->err);
	progress_end(&in->run.progress, ret == 0);
	return ret < 0 ? convert_complain(c) : 0;
}

/* An existing target doesn't read zeros where nothing will come: it is emptied first. */
static int target_empty(struct co *co, const struct convert *c, struct node *to)
{
	int ret = node_zero(co, to, 0, to->size, NODE_MAY_UNMAP);

	return ret < 0 ? cli_complain("'%s' can't be emptied: %s", c->target, strerror(-ret)) : 0;
}

static int input_to_file(struct co *co, struct convert *c, struct input *in)
{
	uint64_t size = in->image ? align_up(qcow2_source_size(in->image), 512) : 0;
	struct convert_target t = {0};
	int status = convert_target_make(co, c, size, &t);
	bool zero;

	if (!status)
		status = convert_target_open(co, c, &t);
	if (status)
		return status;
	zero = t.blank || c->target_is_zero;
	status = convert_target_fits(c, t.node, size);
	if (!status && !zero && in->image)
		status = target_empty(co, c, t.node);
	if (!status)
		status = input_pour(co, c, in, t.node, zero || in->image);
	return convert_target_close(co, c, &t, status);
}

static int input_to_stream(struct co *co, struct convert *c, struct input *in)
{
	struct node *to;
	int status = stream_sink(co, &to);

	if (status)
		return status;
	status = input_pour(co, c, in, to, false);
	(void)!node_close(co, to);
	return status;
}

/* Looks at its first sector, unless the format was given. */
static int input_open(struct co *co, struct convert *c, struct input *in)
{
	const char *format = c->source.how.format;
	ssize_t got = io_stream_read(co, in->stream, in->start, sizeof(in->start));

	if (got < 0)
		return cli_complain("standard input: %s", strerror((int)-got));
	in->start_len = (size_t)got;
	if (!format)
		format = got >= 4 && qcow2_header_probe(in->start, in->start_len) ? "qcow2" : "raw";
	if (strcmp(format, "raw") == 0)
		return 0;
	if (strcmp(format, "qcow2") != 0)
		return cli_complain("Unknown file format '%s'", format);
	in->start_used = in->start_len;
	if (qcow2_source_new(co, in->start, in->start_len, input_read, in, &in->image, &c->err) < 0)
		return cli_complain("Could not open '-': standard input: %s", c->err.text);
	return 0;
}

int convert_stream_in(struct co *co, struct convert *c)
{
	AUTO_FREE struct input *in = calloc(1, sizeof(*in));
	int status;

	if (in)
		in->stream = io_stream_standard(IO_STDIN);
	if (!in || !in->stream)
		return cli_complain("no memory");
	status = input_open(co, c, in);
	if (!status)
		status = convert_to_stream(c) ? input_to_stream(co, c, in) : input_to_file(co, c, in);
	qcow2_source_free(in->image);
	io_stream_free(in->stream);
	return status;
}
