/* SPDX-License-Identifier: MIT */
/*
 * The daemon that is followed by another one (docs/handover.md): it lets go of its exports and images, and takes all of it back
 * unless the other one says that it is ready. It may be in its sandbox, where no file can be opened by its name: those that it
 * had open are kept (io_files_keep).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "cli/serve_control.h"
#include "io/share.h"

#define MS UINT64_C(1000000)
#define REOPEN_PAUSE_NS (UINT64_C(100) * MS)
#define REOPEN_TRIES 50 /* each of them waits for locks, half a second long */

struct handover {
	struct serve *serve;
	struct json_line *line;
	struct handover_clock clock;
	struct export_state states[SERVE_EXPORTS + 1]; /* the last one is of the control socket */
	unsigned states_n;
	uint64_t frozen_ns, closed_ns;
	struct err err;
};

/* ---- the conversation ---- */

/* The member of that name of the next line. */
static int expect(struct co *co, struct handover *h, const char *name)
{
	json_t *got = NULL;
	int r = json_line_read(co, h->line, &got, &h->err);

	if (r == 0 && !json_object_get(got, name))
		r = err_set(&h->err, -EPROTO, "the successor doesn't say \"%s\"", name);
	json_decref(got);
	return r;
}

static int say(struct co *co, struct handover *h, json_t *value)
{
	int r = json_line_write(co, h->line, json_pack("{s:o}", "return", value));

	return r < 0 ? err_set(&h->err, r, "the successor is gone: %s", strerror(-r)) : 0;
}

static json_t *what_there_is(const struct serve *s)
{
	json_t *exports = json_array();

	for (unsigned i = 0; i < s->exports_n; i++)
		json_array_append_new(exports,
			json_pack("{s:s, s:s}", "kind", s->exports[i].kind->name, "where", s->exports[i].where));
	return json_pack("{s:i, s:o, s:s}", "pid", (int)getpid(), "exports", exports, "control", s->control.where);
}

static json_t *states_json(const struct handover *h)
{
	json_t *states = json_array();

	for (unsigned i = 0; i < h->states_n; i++)
		json_array_append_new(states,
			json_pack("{s:I, s:I}", "bytes", (json_int_t)h->states[i].len, "fds",
				(json_int_t)h->states[i].fds));
	return json_pack("{s:o}", "states", states);
}

static int states_send(struct co *co, struct handover *h)
{
	int r = say(co, h, states_json(h));

	if (r == 0)
		r = expect(co, h, "send");
	for (unsigned i = 0; i < h->states_n && r == 0; i++) {
		r = handover_send_state(co, h->line->sock, &h->states[i]);
		if (r < 0)
			err_set(&h->err, r, "the successor doesn't take what is handed over: %s", strerror(-r));
	}
	return r;
}

/* ---- letting go ---- */

/* While clients are still served, so that there is little left to do when they aren't. */
static int images_flush(struct co *co, struct handover *h)
{
	struct serve *s = h->serve;

	for (unsigned i = 0; i < s->images_n; i++) {
		int r = s->images[i].disk.node->read_only ? 0 : node_flush(co, s->images[i].disk.node);

		if (r < 0)
			return err_set(&h->err, r, "%s: can't be flushed: %s", s->images[i].open.path, strerror(-r));
	}
	return 0;
}

static void control_freeze(struct handover *h)
{
	struct io_sock *listener = h->serve->control.listener;
	struct export_state *state = &h->states[h->states_n++];

	io_sock_pause(listener);
	export_state_put_listener(state, listener);
}

/* *frozen: how many of the exports are, also after a failure. */
static int exports_freeze(struct co *co, struct handover *h, unsigned *frozen)
{
	struct serve *s = h->serve;

	h->frozen_ns = co_now(co);
	for (*frozen = 0; *frozen < s->exports_n; (*frozen)++) {
		struct export *e = s->exports[*frozen].export;
		int r = e->ops->freeze(co, e, &h->states[*frozen], &h->err);

		if (r < 0)
			return r;
		h->states_n++;
	}
	control_freeze(h);
	return h->states[*frozen].failed ? err_set(&h->err, -ENOMEM, "no memory for the control socket's state") : 0;
}

/* ---- taking it back ---- */

/* The successor may still be about to close them. */
static int images_reopen(struct co *co, struct serve *s, struct err *err)
{
	int r = serve_images_open(co, s, err);

	for (unsigned tries = 0; r < 0 && tries < REOPEN_TRIES; tries++) {
		if (tries % 10 == 0)
			log_line(&s->log.log, LOG_LEVEL_WARNING, "taking the images back: %s", err->text);
		(void)!serve_images_close(co, s);
		co_sleep(co, REOPEN_PAUSE_NS);
		r = serve_images_open(co, s, err);
	}
	return r;
}

static void exports_thaw(struct co *co, struct serve *s, unsigned frozen)
{
	for (unsigned i = 0; i < frozen; i++)
		s->exports[i].export->ops->thaw(co, s->exports[i].export);
	io_sock_resume(co, s->control.listener);
	co_queue_wake_all(&s->control.resumed);
}

/* Nothing is served while nothing can be: it ends, and says so. */
static void give_up(struct co *co, struct serve *s, const struct err *err)
{
	log_line(
		&s->log.log, LOG_LEVEL_ERROR, "the images can't be had back, and nothing can be served: %s", err->text);
	s->lost = true;
	io_signal_end(io_of(co));
}

static void take_back(struct co *co, struct handover *h, unsigned frozen, bool closed)
{
	struct serve *s = h->serve;

	log_line(&s->log.log, LOG_LEVEL_WARNING, "not handed over: %s", h->err.text);
	if (closed && images_reopen(co, s, &h->err) < 0) {
		give_up(co, s, &h->err);
		return;
	}
	exports_thaw(co, s, frozen);
	log_line(&s->log.log, LOG_LEVEL_INFO, "serving on, after %" PRIu64 " ms", (co_now(co) - h->frozen_ns) / MS);
}

/* ---- the whole of it ---- */

static void too_late(struct co *co, struct handover_clock *clock)
{
	struct handover *h = container_of(clock, struct handover, clock);

	(void)!json_line_write(co, h->line, json_pack("{s:s}", "error", "it took too long"));
}

/* Everything is closed: what the other one makes of it. */
static int pass_on(struct co *co, struct handover *h)
{
	int r = states_send(co, h);

	if (r == 0)
		r = expect(co, h, "ready");
	handover_clock_stop(co, &h->clock);
	if (h->clock.expired)
		return err_set(
			&h->err, -ETIMEDOUT, "the successor took longer than %d s", (int)(HANDOVER_NS / (1000 * MS)));
	return r == 0 ? say(co, h, json_object()) : r;
}

static void handed_over(struct co *co, struct handover *h)
{
	struct serve *s = h->serve;

	s->handed_over = true;
	log_line(&s->log.log, LOG_LEVEL_INFO,
		"handed over: nobody was served for %" PRIu64 " ms, %" PRIu64 " of them until the images were closed",
		(co_now(co) - h->frozen_ns) / MS, (h->closed_ns - h->frozen_ns) / MS);
	co_queue_wake_all(&s->control.resumed);
	io_signal_end(io_of(co));
}

static void freeze_and_pass_on(struct co *co, struct handover *h)
{
	struct serve *s = h->serve;
	unsigned frozen;
	int r = exports_freeze(co, h, &frozen);
	bool close = r == 0;

	if (close && serve_images_close(co, s) != 0)
		r = err_set(&h->err, -EIO, "an image couldn't be closed as it should be");
	h->closed_ns = co_now(co);
	if (r == 0)
		r = pass_on(co, h);
	else
		handover_clock_stop(co, &h->clock);
	if (r == 0) {
		handed_over(co, h);
		return;
	}
	(void)!json_line_write(co, h->line, json_pack("{s:s}", "error", h->err.text));
	io_sock_shutdown(h->line->sock);
	take_back(co, h, frozen, close);
}

/* Another user may not even see where they are. */
static int images_can_be_reopened(struct handover *h)
{
	const struct serve *s = h->serve;

	for (unsigned i = 0; i < s->images_n; i++) {
		const char *path = s->images[i].open.path;
		AUTO_FREE char *real = image_has_protocol(path) ? strdup(path) : io_realpath(path);

		if (!real)
			return err_set(
				&h->err, -errno, "%s: couldn't be taken back by this user: %s", path, strerror(errno));
	}
	return 0;
}

static int prepare(struct co *co, struct handover *h, const json_t *args)
{
	json_int_t version = json_integer_value(json_object_get(args, "version"));
	int r = 0;

	if (version != HANDOVER_VERSION)
		return err_set(&h->err, -EPROTO, "a takeover of version %d is understood here, not %d",
			HANDOVER_VERSION, (int)version);
	r = images_can_be_reopened(h);
	if (r == 0)
		r = say(co, h, what_there_is(h->serve));
	if (r == 0)
		r = expect(co, h, "freeze");
	return r == 0 ? images_flush(co, h) : r;
}

static void hand_over(struct co *co, struct handover *h, const json_t *args)
{
	int r = handover_clock_start(co, &h->clock, h->line->sock, HANDOVER_NS);

	if (r == 0)
		r = prepare(co, h, args);
	if (r == 0) {
		freeze_and_pass_on(co, h);
		return;
	}
	handover_clock_stop(co, &h->clock);
	log_line(&h->serve->log.log, LOG_LEVEL_WARNING, "not handed over: %s", h->err.text);
	(void)!json_line_write(co, h->line, json_pack("{s:s}", "error", h->err.text));
}

void serve_hand_over(struct co *co, struct serve *s, struct json_line *line, const json_t *args)
{
	struct handover *h = calloc(1, sizeof(*h));

	if (!h) {
		(void)!json_line_write(co, line, json_pack("{s:s}", "error", "no memory"));
		return;
	}
	h->serve = s;
	h->line = line;
	h->clock.expire = too_late;
	hand_over(co, h, args);
	for (unsigned i = 0; i < ARRAY_ENTRIES(h->states); i++)
		export_state_fini(&h->states[i]);
	free(h);
}
