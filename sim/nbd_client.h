/* SPDX-License-Identifier: MIT */
/*
 * A small NBD client of the simulator's own: nothing of it is shared with the server but the specification (doc/proto.md
 * of the NetworkBlockDevice project). It doubts everything that it is told: what the protocol forbids is a violation.
 *
 * A connection has one coroutine that receives; requests are sent by whoever has them, one after the other. Several are
 * in flight; each is answered exactly once, or lost when the connection ends.
 */
#ifndef CORRAL_SIM_NBD_CLIENT_H
#define CORRAL_SIM_NBD_CLIENT_H

#include "base/list.h"
#include "co/sync.h"
#include "io/io.h"
#include "prng.h"

enum sim_nbd_type {
	SIM_NBD_READ,
	SIM_NBD_WRITE,
	SIM_NBD_DISC,
	SIM_NBD_FLUSH,
	SIM_NBD_TRIM,
	SIM_NBD_CACHE,
	SIM_NBD_ZEROES,
	SIM_NBD_STATUS,
};

enum { SIM_NBD_FUA = 1, SIM_NBD_NO_HOLE = 2, SIM_NBD_DF = 4, SIM_NBD_ONE = 8, SIM_NBD_FAST = 16 };

/* What comes as the error of a request that was never answered. */
#define SIM_NBD_LOST UINT32_MAX
#define SIM_NBD_NOTSUP 95

struct sim_nbd_extent {
	uint32_t len, flags;
};
enum { SIM_NBD_HOLE = 1, SIM_NBD_ZERO = 2 };

struct sim_nbd_request {
	enum sim_nbd_type type;
	uint16_t flags;
	uint64_t offset;
	uint32_t len;
	uint8_t *data; /* to be written, or read into; extents for SIM_NBD_STATUS */

	bool over; /* answered or lost */
	uint32_t error;
	uint32_t got; /* bytes read, or extents */
	uint64_t cookie;
	struct list link;
};

struct sim_nbd_wishes {                        /* what a client is like */
	bool go;                               /* else NBD_OPT_EXPORT_NAME */
	bool structured, extended, allocation; /* extended: instead of structured */
	bool no_zeroes, look_around;           /* look_around: asks more than it needs to know */
	uint32_t stall_after;                  /* bytes; then it doesn't read for a while; 0: never */
	uint64_t stall_ns;
};

struct sim_nbd_clients {      /* what all of them know */
	bool stopping;        /* the server is being stopped: it may hang up at any time */
	uint64_t least;       /* the smallest disk that a successor found: whoever knows a larger one is shown out */
	unsigned connections; /* that are not yet closed */
	struct co_queue closed;
};

struct sim_nbd_conn {
	struct sim_nbd_clients *clients;
	struct io_sock *sock;
	struct sim_nbd_wishes wishes;
	uint64_t size; /* what the server said */
	uint16_t flags;
	bool structured, extended, allocation;
	struct co_mutex sending;
	struct list pending;
	struct co_queue progress;
	uint64_t cookie, received;
	bool finished;  /* nothing more may be sent */
	bool polite;    /* by a request to disconnect, which was sent whole */
	unsigned users; /* coroutines: the last one closes it */
};

enum {
	SIM_NBD_FLAG_FLUSH = 1 << 2,
	SIM_NBD_FLAG_FUA = 1 << 3,
	SIM_NBD_FLAG_TRIM = 1 << 5,
	SIM_NBD_FLAG_ZEROES = 1 << 6,
	SIM_NBD_FLAG_DF = 1 << 7,
	SIM_NBD_FLAG_MULTI = 1 << 8,
	SIM_NBD_FLAG_CACHE = 1 << 10,
	SIM_NBD_FLAG_FAST = 1 << 11,
};

/* NULL: it didn't come to a connection. The caller is one of its users, until he leaves. */
struct sim_nbd_conn *sim_nbd_connect(
	struct co *co, struct sim_nbd_clients *clients, const char *address, const struct sim_nbd_wishes *wishes);
void sim_nbd_leave(struct co *co, struct sim_nbd_conn *c);

/* False: it is over. Else the caller alone may send, until sim_nbd_send or sim_nbd_say_goodbye. */
bool sim_nbd_lock(struct co *co, struct sim_nbd_conn *c);
/* Sends and unlocks. The answer may come before it returns. */
void sim_nbd_send(struct co *co, struct sim_nbd_conn *c, struct sim_nbd_request *r);
void sim_nbd_wait(struct co *co, struct sim_nbd_conn *c, const struct sim_nbd_request *r);
/* Ends it: with a request to disconnect, which leaves everything in flight to be answered; or at once. */
void sim_nbd_say_goodbye(struct co *co, struct sim_nbd_conn *c);
void sim_nbd_hang_up(struct sim_nbd_conn *c);

#endif
