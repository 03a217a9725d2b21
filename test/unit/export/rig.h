/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the NBD server share: a server over a node in memory, and a client that sends what it is told,
 * right or wrong. Each test body is a coroutine on a fresh engine, the one that CORRAL_AIO names.
 */
#ifndef CORRAL_TEST_EXPORT_RIG_H
#define CORRAL_TEST_EXPORT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../check.h"
#include "base/math.h"
#include "export/export.h"
#include "export/nbd/proto.h"
#include "mem.h"

#define MS UINT64_C(1000000)
#define DISK_BYTES (UINT64_C(40) << 20)

struct rig {
	struct mem *mem;
	struct export_disk disk;
	const struct export_disk *disks[1];
	struct export *server;
};

/* The server and its disk as the test wants them; what is NULL or 0 is filled in. */
void rig_start(struct co *co, struct rig *rig, struct nbd_options options);
void rig_start_disk(struct co *co, struct rig *rig, struct nbd_options options, struct export_disk disk);
void rig_stop(struct co *co, struct rig *rig);

typedef void test_body(struct co *co);
void rig_run(void **state);
#define TEST(body)                                                                                                     \
	{                                                                                                              \
		.name = #body, .test_func = rig_run, .initial_state = (void *)(body)                                   \
	}

/* ---- a client ---- */

struct client {
	struct io_sock *sock;
	uint64_t next_cookie;
};

void client_connect(struct co *co, struct rig *rig, struct client *c); /* no more than that */
void client_close(struct co *co, struct client *c);
void client_send(struct co *co, struct client *c, const void *data, size_t len);
void client_recv(struct co *co, struct client *c, void *to, size_t len);
void client_expect_end(struct co *co, struct client *c); /* the server closes, with nothing more to say */

/* Handshake. */
#define CLIENT_FLAGS (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)
void client_greet(struct co *co, struct client *c, uint32_t flags);
void client_option(struct co *co, struct client *c, uint32_t option, const void *data, size_t len);

struct option_reply {
	uint32_t option, type, len;
	uint8_t data[8192];
};
void client_option_reply(struct co *co, struct client *c, struct option_reply *out);
/* One reply, of this type; its data don't matter. */
void client_expect(struct co *co, struct client *c, uint32_t option, uint32_t type);

/* Data of NBD_OPT_GO and of the context options, in buf; returns the length. */
size_t make_go(uint8_t *buf, const char *name, unsigned infos, const uint16_t *info);
size_t make_meta(uint8_t *buf, const char *name, unsigned queries, const char *const *query);

/* All of the handshake, to the transmission phase; returns the transmission flags. */
enum { MODE_SIMPLE, MODE_STRUCTURED, MODE_CONTEXTS };
uint16_t client_go(struct co *co, struct client *c, int mode);
uint16_t client_start(struct co *co, struct rig *rig, struct client *c, int mode); /* connect and that */

/* Requests: each returns its cookie. The payload isn't sent. */
uint64_t client_request(struct co *co, struct client *c, unsigned type, unsigned flags, uint64_t offset, uint32_t len);
uint64_t client_write(struct co *co, struct client *c, unsigned flags, uint64_t offset, const void *data, uint32_t len);

uint32_t client_simple(struct co *co, struct client *c, uint64_t cookie); /* receives it; the error */
struct chunk {
	uint16_t flags, type;
	uint64_t cookie;
	uint32_t len; /* of the payload, which is not received yet */
};
void client_chunk(struct co *co, struct client *c, struct chunk *out);
uint32_t client_error_chunk(struct co *co, struct client *c, uint64_t cookie); /* the error */

/* Request and simple reply in one. */
uint32_t client_do(struct co *co, struct client *c, unsigned type, unsigned flags, uint64_t offset, uint32_t len);
uint32_t client_do_write(
	struct co *co, struct client *c, unsigned flags, uint64_t offset, const void *data, uint32_t len);

#endif
