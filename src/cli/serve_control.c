/* SPDX-License-Identifier: MIT */
/* Who connects to the control socket, and what he says; see serve_control.h. */
#include "cli/serve_control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "io/share.h"

#define CONNECTIONS 32
#define ACCEPT_PAUSE_NS (UINT64_C(100) * 1000 * 1000)

struct talk { /* with one who has connected */
	struct list link;
	struct serve *serve;
	struct io_sock *sock;
	bool handing_over;
	struct err err;
	struct json_line line;
};

/* ---- commands ---- */

static int answer(struct co *co, struct talk *t, int r, json_t *value, const struct err *err)
{
	if (r < 0)
		return json_line_write(co, &t->line, json_pack("{s:s}", "error", err->text));
	return json_line_write(co, &t->line, json_pack("{s:o}", "return", value ? value : json_object()));
}

static void hand_over(struct co *co, struct talk *t, const json_t *args)
{
	t->handing_over = true;
	serve_hand_over(co, t->serve, &t->line, args);
	t->handing_over = false;
}

static int command_do(struct co *co, struct talk *t, const char *name, const json_t *args, struct err *err)
{
	struct serve *s = t->serve;
	json_t *value;
	int r;

	log_line(&s->log.log, LOG_LEVEL_DEBUG, "control: %s", name);
	co_mutex_lock(co, &s->control.busy);
	if (strcmp(name, "takeover") == 0 && !s->control.ending) {
		hand_over(co, t, args);
		r = -ESHUTDOWN;
	} else if (s->control.ending || s->handed_over) {
		r = -ESHUTDOWN;
	} else {
		r = serve_command_do(co, s, name, args, &value, err);
		r = answer(co, t, r, value, err);
	}
	co_mutex_unlock(&s->control.busy);
	return r;
}

static int request_do(struct co *co, struct talk *t, json_t *request, struct err *err)
{
	void *it = json_object_iter(request);
	const json_t *args = it ? json_object_iter_value(it) : NULL;

	if (json_object_size(request) != 1 || !json_is_object(args)) {
		err_set(err, -EINVAL, "a request is an object of one member: {COMMAND: {ARGUMENT: VALUE...}}");
		return answer(co, t, -EINVAL, NULL, err);
	}
	return command_do(co, t, json_object_iter_key(it), args, err);
}

static void talk_entry(struct co *co, void *arg)
{
	struct talk *t = arg;
	struct serve *s = t->serve;
	struct err *err = &t->err;
	int r = 0;

	while (r == 0 && !s->control.ending) {
		json_t *request = NULL;

		r = json_line_read(co, &t->line, &request, err);
		if (r == 0)
			r = request_do(co, t, request, err);
		else if (r == -EPROTO)
			(void)!answer(co, t, r, NULL, err);
		json_decref(request);
	}
	list_remove(&t->link);
	s->control.talks_n--;
	io_sock_close(co, t->sock);
	free(t);
}

/* ---- connections ---- */

static int talk_begin(struct co *co, struct serve *s, struct io_sock *sock)
{
	struct serve_control *c = &s->control;
	struct talk *t = c->talks_n < CONNECTIONS ? malloc(sizeof(*t)) : NULL;

	(void)co;
	if (!t)
		return -EAGAIN;
	t->serve = s;
	t->sock = sock;
	t->handing_over = false;
	t->line.sock = sock;
	t->line.len = 0;
	if (co_group_spawn(&c->group, "control", talk_entry, t) < 0) {
		free(t);
		return -EAGAIN;
	}
	c->talks_n++;
	list_push(&c->talks, &t->link);
	return 0;
}

static void accept_entry(struct co *co, void *arg)
{
	struct serve *s = arg;

	while (!s->control.ending) {
		struct io_sock *sock;
		int r = io_accept(co, s->control.listener, &sock);

		if (r == 0 && talk_begin(co, s, sock) < 0) {
			log_line(&s->log.log, LOG_LEVEL_WARNING,
				"%s: somebody is turned away: too many at once (at most %d)", s->control.where,
				CONNECTIONS);
			io_sock_close(co, sock);
		} else if (r == -ECANCELED && !s->control.ending) { /* frozen: thawed or at its end when it goes on */
			co_queue_wait(co, &s->control.resumed);
		} else if (r < 0 && !s->control.ending) {
			co_sleep(co, ACCEPT_PAUSE_NS);
		}
	}
}

/* ---- life ---- */

int serve_control_listen(struct co *co, struct serve *s, struct err *err)
{
	if (!s->control.where || s->control.listener)
		return 0;
	return io_listen_private(co, s->control.where, &s->control.listener, err);
}

int serve_control_start(struct co *co, struct serve *s, struct err *err)
{
	struct serve_control *c = &s->control;

	if (!c->listener)
		return 0;
	co_group_init(&c->group, co_sched_of(co));
	co_mutex_init(&c->busy);
	co_queue_init(&c->resumed);
	list_init(&c->talks);
	c->started = true;
	if (co_group_spawn(&c->group, "control-accept", accept_entry, s) < 0)
		return err_set(err, -EAGAIN, "no coroutine for the control socket");
	return 0;
}

void serve_control_stop(struct co *co, struct serve *s)
{
	struct serve_control *c = &s->control;

	c->ending = true;
	if (c->started) {
		io_sock_pause(c->listener); /* it may be in other hands, and isn't shut down */
		co_queue_wake_all(&c->resumed);
		list_for_each_safe(it, &c->talks) {
			struct talk *t = list_entry(it, struct talk, link);

			if (!t->handing_over)
				io_sock_shutdown(t->sock);
		}
		co_group_wait(co, &c->group);
	}
	if (s->handed_over && c->listener)
		io_sock_place_set(c->listener, (struct io_place){0});
	io_sock_close(co, take(c->listener));
}
