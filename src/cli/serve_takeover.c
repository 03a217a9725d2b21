/* SPDX-License-Identifier: MIT */
/* The daemon that follows another one: what it is given, before it opens anything, and how it says that it is ready. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/serve_control.h"
#include "io/share.h"

struct serve_takeover {
	struct io_sock *sock;
	struct io_sock
		*unwanted; /* a control socket where ours isn't; closed at the end, and its path removed on success */
	struct io_place place; /* of that */
	struct handover_clock clock;
	bool timed;
	unsigned of[SERVE_EXPORTS]; /* which of our exports each of the old ones is */
	unsigned exports_n;         /* of the old one */
	struct json_line line;
};

/* ---- the conversation ---- */

static int say(struct co *co, struct serve_takeover *t, const char *what, struct err *err)
{
	int r = json_line_write(co, &t->line, json_pack("{s:{}}", what));

	return r < 0 ? err_set(err, r, "the running daemon is gone: %s", strerror(-r)) : 0;
}

/* What is returned, as a new reference. */
static int hear(struct co *co, struct serve_takeover *t, json_t **out, struct err *err)
{
	json_t *got = NULL;
	int r = json_line_read(co, &t->line, &got, err);
	const char *error = json_string_value(json_object_get(got, "error"));

	*out = json_incref(json_object_get(got, "return"));
	if (r < 0)
		err_prefix(err, "the running daemon");
	else if (error)
		r = err_set(err, -ECONNREFUSED, "the running daemon says: %s", error);
	else if (!*out)
		r = err_set(err, -EPROTO, "the running daemon says something that isn't understood here");
	json_decref(got);
	return r;
}

/* ---- what there is to be had ---- */

static int export_find(const struct serve *s, const char *kind, const char *where)
{
	for (unsigned i = 0; i < s->exports_n; i++) {
		const struct serve_export *e = &s->exports[i];

		if (!e->inherited && strcmp(e->kind->name, kind) == 0 && strcmp(e->where, where) == 0)
			return (int)i;
	}
	return -ENOENT;
}

static int export_match(struct serve *s, struct serve_takeover *t, const json_t *offer, struct err *err)
{
	const char *kind = json_string_value(json_object_get(offer, "kind"));
	const char *where = json_string_value(json_object_get(offer, "where"));
	int i = kind && where ? export_find(s, kind, where) : -EPROTO;

	if (i == -ENOENT)
		return err_set(err, i,
			"the running daemon also serves --%s %s: give that here, too, or its clients would be lost",
			kind, where);
	if (i < 0 || t->exports_n == SERVE_EXPORTS)
		return err_set(err, -EPROTO, "the running daemon has exports that aren't understood here");
	s->exports[i].inherited = true;
	t->of[t->exports_n++] = (unsigned)i;
	return 0;
}

static int exports_match(struct serve *s, struct serve_takeover *t, const json_t *offer, struct err *err)
{
	const json_t *exports = json_object_get(offer, "exports");
	const json_t *one;
	size_t i;
	int r = 0;

	json_array_foreach(exports, i, one) { r = r < 0 ? r : export_match(s, t, one, err); }
	return r;
}

static int ask(struct co *co, struct serve *s, struct serve_takeover *t, bool *control, struct err *err)
{
	json_t *offer = NULL;
	const char *where;
	int r = json_line_write(co, &t->line, json_pack("{s:{s:i}}", "takeover", "version", HANDOVER_VERSION));

	if (r < 0)
		return err_set(err, r, "the running daemon is gone: %s", strerror(-r));
	r = hear(co, t, &offer, err);
	if (r == 0)
		r = exports_match(s, t, offer, err);
	where = json_string_value(json_object_get(offer, "control"));
	*control = s->control.where && where && strcmp(s->control.where, where) == 0;
	json_decref(offer);
	return r;
}

/* ---- what is given ---- */

static int state_receive(
	struct co *co, struct serve_takeover *t, const json_t *size, struct export_state *state, struct err *err)
{
	json_int_t bytes = json_integer_value(json_object_get(size, "bytes"));
	json_int_t fds = json_integer_value(json_object_get(size, "fds"));

	return handover_receive_state(co, t->sock, (uint64_t)bytes, (uint64_t)fds, state, err);
}

/* Ours if it is where ours shall be. */
static int control_take(struct co *co, struct serve *s, struct serve_takeover *t, const struct export_state *state,
	bool wanted, struct err *err)
{
	struct export_reader reader = {.state = state};
	struct io_sock *listener;
	struct io_place place;
	int r = export_read_listener(co, &reader, "control socket", &listener, &place, err);

	if (r < 0)
		return r;
	if (wanted) {
		s->control.listener = listener;
		s->control.place = place;
	} else {
		t->unwanted = listener;
		t->place = place;
	}
	return 0;
}

static int states_receive(
	struct co *co, struct serve *s, struct serve_takeover *t, const json_t *sizes, bool control, struct err *err)
{
	struct export_state last = {0};
	int r = json_array_size(sizes) == t->exports_n + 1
		? say(co, t, "send", err)
		: err_set(err, -EPROTO, "the running daemon hands over something that isn't understood here");

	for (unsigned i = 0; i < t->exports_n && r == 0; i++)
		r = state_receive(co, t, json_array_get(sizes, i), &s->exports[t->of[i]].state, err);
	if (r == 0)
		r = state_receive(co, t, json_array_get(sizes, t->exports_n), &last, err);
	if (r == 0)
		r = control_take(co, s, t, &last, control, err);
	export_state_fini(&last);
	return r;
}

static int take_over(struct co *co, struct serve *s, struct serve_takeover *t, struct err *err)
{
	json_t *states = NULL;
	bool control = false;
	int r = ask(co, s, t, &control, err);

	if (r == 0)
		r = say(co, t, "freeze", err);
	if (r == 0)
		r = hear(co, t, &states, err);
	if (r == 0)
		r = states_receive(co, s, t, json_object_get(states, "states"), control, err);
	json_decref(states);
	return r;
}

/* ---- beginning and end ---- */

int serve_takeover_begin(struct co *co, struct serve *s, struct err *err)
{
	struct serve_takeover *t;
	int r;

	if (!s->takeover_from)
		return 0;
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(err, -ENOMEM, "no memory");
	s->takeover = t;
	r = io_connect(co, s->takeover_from, &t->sock, err);
	if (r < 0)
		return err_prefix(err, "--takeover");
	t->line.sock = t->sock;
	/* It gives up first, and says so. */
	t->timed = handover_clock_start(co, &t->clock, t->sock, 2 * HANDOVER_NS) == 0;
	r = take_over(co, s, t, err);
	return r < 0 ? err_prefix(err, "--takeover %s", s->takeover_from) : 0;
}

static int ready(struct co *co, struct serve *s, struct serve_takeover *t, struct err *err)
{
	json_t *got = NULL;
	int r = say(co, t, "ready", err);

	if (r == 0)
		r = hear(co, t, &got, err);
	json_decref(got);
	if (r == -ENODATA) {
		log_line(&s->log.log, LOG_LEVEL_WARNING, "the daemon that was taken over has died meanwhile");
		r = 0;
	}
	return r < 0 ? err_prefix(err, "--takeover %s", s->takeover_from) : 0;
}

int serve_takeover_finish(struct co *co, struct serve *s, struct err *err)
{
	int r;

	if (!s->takeover)
		return 0;
	r = ready(co, s, s->takeover, err);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < s->exports_n; i++) {
		struct serve_export *e = &s->exports[i];

		if (e->inherited)
			e->export->ops->thaw(co, e->export);
		e->inherited = false;
	}
	if (s->control.listener && s->control.place.inode != 0)
		io_sock_place_set(s->control.listener, s->control.place);
	if (s->takeover->unwanted)
		io_sock_place_set(s->takeover->unwanted, s->takeover->place);
	serve_takeover_end(co, s);
	return 0;
}

void serve_takeover_end(struct co *co, struct serve *s)
{
	struct serve_takeover *t = take(s->takeover);

	if (!t)
		return;
	if (t->timed)
		handover_clock_stop(co, &t->clock);
	io_sock_close(co, t->sock);
	io_sock_close(co, t->unwanted);
	for (unsigned i = 0; i < s->exports_n; i++)
		export_state_fini(&s->exports[i].state);
	free(t);
}
