/* SPDX-License-Identifier: MIT */
/*
 * The control socket of `corral serve`. A request is a line with one JSON object of one member, a command with an object of its
 * arguments: {"resize": {"image": "vm1", "size": 21474836480}}. The answer is a line, {"return": VALUE} or {"error": TEXT}.
 * Commands are carried out one at a time, whoever gives them.
 *
 * One of them is for a successor: {"takeover": {"version": 1}}. The rest of that conversation:
 *
 *   old  {"return": {"pid": N, "exports": [{"kind": K, "where": W}...], "control": W}}    what there is to be had
 *   new  {"freeze": {}}             nobody is served from here on
 *   old  {"return": {"states": [{"bytes": N, "fds": N}...]}}     one for each export, and one for the control socket
 *   new  {"send": {}}
 *   old  each state: its descriptors, eight with a byte, and its bytes
 *   new  {"ready": {}}              all of it is understood, the images are open, nothing can fail any more
 *   old  {"return": {}}             it will serve no more: the new one serves from here on
 *
 * Until the last line is sent, a line {"error": TEXT} or the end of the connection means: the old one serves on. When the
 * connection ends after "ready" without a line, the old one has died, and the new one serves.
 */
#ifndef CORRAL_CLI_SERVE_CONTROL_H
#define CORRAL_CLI_SERVE_CONTROL_H

#include "cli/json_line.h"
#include "cli/serve.h"

#define HANDOVER_VERSION 1
#define HANDOVER_NS (UINT64_C(10) * 1000 * 1000 * 1000) /* then the other one is given up */

/* ---- serve_command.c ---- */

/* *out: what is returned, a new reference; NULL: nothing. -ENOENT: there is no such command. */
int serve_command_do(struct co *co, struct serve *s, const char *name, const json_t *args, json_t **out,
	struct err *err) ATTR_MUST_USE;

/* ---- serve_handover.c ---- */

/* The rest of the conversation after "takeover": afterwards it is s->handed_over, or everything is as it was. */
void serve_hand_over(struct co *co, struct serve *s, struct json_line *line, const json_t *args);

/* ---- handover_wire.c ---- */

int handover_send_state(struct co *co, struct io_sock *sock, const struct export_state *state) ATTR_MUST_USE;
/* state->len and state->fds say how much comes. Whatever happens, state->fds is what there is to be closed. */
int handover_receive_state(struct co *co, struct io_sock *sock, uint64_t len, uint64_t fds, struct export_state *state,
	struct err *err) ATTR_MUST_USE;
/* Whoever waits for the other end is woken when the time is up: the connection ends. */
struct handover_clock {
	struct io_sock *sock;
	uint64_t deadline_ns;
	bool over, expired;
	struct co_queue stop;
	struct co_group group;
	void (*expire)(struct co *co, struct handover_clock *clock); /* before that; NULL: nothing */
};
int handover_clock_start(struct co *co, struct handover_clock *clock, struct io_sock *sock, uint64_t ns) ATTR_MUST_USE;
void handover_clock_stop(struct co *co, struct handover_clock *clock);

#endif
