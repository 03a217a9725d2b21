/* SPDX-License-Identifier: MIT */
/*
 * The network of the simulated world: listeners, and connections of two pipes with bounded buffers. A send or a receive
 * takes its time like any other operation; when its time has come it moves some bytes, fewer than asked if the seed says
 * so, or waits in the queue without a time until there is something to move. A connection may break after any byte.
 *
 * Bytes that were sent before a socket was shut down arrive at the other end, followed by the end of the stream; unless
 * the one who left had not read all that came to him: then, as with TCP, what he sent last may be lost.
 */
#ifndef CORRAL_SIM_NET_H
#define CORRAL_SIM_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "prng.h"

#define SIM_SOCKETS 128
#define SIM_SOCKET_FD 1000 /* the descriptor of the first socket; those of files are below */
#define SIM_BACKLOG 8

struct sim_world;
struct sim_event;
struct io_op;

struct sim_net_faults {                            /* one in so many; 0: never */
	uint32_t short_in, again_in, interrupt_in; /* of transfers */
	uint32_t refuse_in;                        /* of connects */
	uint32_t want_in;     /* of accepts: no memory or descriptors, or the client has gone again */
	uint32_t break_in;    /* of connections */
	uint32_t break_after; /* ... at most so many bytes later */
};

enum sim_socket_kind { SIM_SOCKET_FREE, SIM_SOCKET_LISTENER, SIM_SOCKET_STREAM };

struct sim_socket {
	enum sim_socket_kind kind;
	int peer;        /* the other end, by its descriptor; -1: closed */
	int listener;    /* whose backlog it waits in; -1: none */
	uint64_t number; /* streams are accepted in the order of these */
	unsigned others; /* that have it open besides its first owner, under the same number */
	bool shut;       /* by its owner */
	bool ended;      /* the other end was shut down: when the buffer is empty the stream ends */
	bool broken;     /* the connection broke */
	uint8_t *bytes;  /* what has come: a ring */
	uint32_t room, head, used;
	uint64_t breaks_in; /* bytes that come until the connection breaks; 0: it doesn't */
};

struct sim_net {
	struct sim_rng rng;
	struct sim_net_faults faults;
	uint64_t least, spread; /* nanoseconds that an operation takes */
	uint32_t tail_in;       /* one in so many takes ... */
	uint64_t tail;          /* ... up to this much more */
	uint32_t room;          /* bytes of a pipe's buffer */
	uint64_t connected;     /* how many were made */
	struct sim_socket sockets[SIM_SOCKETS];
};

void sim_net_init(struct sim_net *net, uint64_t seed);
void sim_net_clear(struct sim_net *net); /* every socket is gone, as after a power cut */

/* Whether the world is to hand the operation to the network; and how long it takes. */
bool sim_net_takes(const struct io_op *op);
uint64_t sim_net_latency(struct sim_net *net);
/* The time of an operation has come. False: it has to wait, and is not to be completed. */
bool sim_net_finish(struct sim_world *w, struct sim_event *e);
void sim_net_shutdown(struct sim_world *w, int fd);
/* Somebody else has it open, too: it ends when the last one closes it. */
void sim_net_share(struct sim_world *w, int fd);

#endif
