/* SPDX-License-Identifier: MIT */
/*
 * A front end of vhost-user for tests, with a guest in it: it says what it is told, right or wrong. Its guest has a memory
 * of 16 MiB at 1 MiB, of which the first part holds the rings of each queue.
 */
#ifndef CORRAL_TEST_EXPORT_FRONT_H
#define CORRAL_TEST_EXPORT_FRONT_H

#include "driver.h"
#include "export/vhost_user/proto.h"
#include "io/share.h"
#include "rig.h"

#define GUEST_BASE (UINT64_C(1) << 20)
#define GUEST_BYTES (UINT64_C(16) << 20)
#define USER_BASE UINT64_C(0x7f1234000000)           /* where the front end has it */
#define DATA_BASE (GUEST_BASE + (UINT64_C(8) << 20)) /* data lies from here on */
#define FRONT_QUEUES 4

struct vu_rig {
	struct mem *mem;
	struct export_disk disk;
	struct export *export;
	struct log log;
	char said[4096]; /* all lines of the log */
	unsigned lines;
};

void vu_rig_start(struct co *co, struct vu_rig *rig, struct vhost_user_options options);
void vu_rig_stop(struct co *co, struct vu_rig *rig);
void vu_rig_said(const struct vu_rig *rig, const char *text); /* somewhere in the log */
int memory_of(size_t bytes);                                  /* a descriptor of so much */

struct front_queue {
	struct driver driver;
	struct io_event *kick, *call;
	int kick_fd, call_fd; /* the server's ends, until they are sent */
};

struct front {
	struct io_sock *sock;
	struct io_map *memory;
	int memory_fd;
	uint64_t features; /* to be agreed on; 0: all that are offered but packed rings and logging */
	bool packed, indirect, event_index;
	uint16_t size;
	struct front_queue queue[FRONT_QUEUES];
	struct io_map *record;
	int record_fd; /* -1: there is none */
	struct vu_inflight_wire record_wire;
};

void *front_at(const struct front *f, uint64_t guest);

void front_connect(struct co *co, struct vu_rig *rig, struct front *f);
/* The connection ends, whatever is in flight; memory and rings stay. */
void front_hang_up(struct co *co, struct front *f);
void front_close(struct co *co, struct front *f);

void front_send(struct co *co, struct front *f, unsigned request, unsigned flags, const void *payload, size_t len,
	const int *fd, unsigned fds);
/* A reply to the request; returns the length of its payload. */
size_t front_reply(struct co *co, struct front *f, unsigned request, void *payload, size_t max);
uint64_t front_ask(struct co *co, struct front *f, unsigned request); /* a number */
/* Sends it with NEED_REPLY: whether it succeeded. */
bool front_order(
	struct co *co, struct front *f, unsigned request, const void *payload, size_t len, const int *fd, unsigned fds);
bool front_order_u64(struct co *co, struct front *f, unsigned request, uint64_t value);
bool front_order_state(struct co *co, struct front *f, unsigned request, uint32_t index, uint32_t num);
void front_expect_end(struct co *co, struct front *f); /* the server closes, with nothing more to say */

/* Features, memory; no queue. */
void front_negotiate(struct co *co, struct front *f);
bool front_table(struct co *co, struct front *f);
void front_record(
	struct co *co, struct front *f, unsigned queues); /* asks for a record of what is in flight, or hands it back */
bool front_queue_addr(struct co *co, struct front *f, unsigned i, unsigned flags);
void front_queue_start(struct co *co, struct front *f, unsigned i, uint32_t base);
uint32_t front_queue_stop(struct co *co, struct front *f, unsigned i);
/* All of that for queue 0, on a new ring. */
void front_start(struct co *co, struct vu_rig *rig, struct front *f);

/* Server, and all of that; and its end. */
void front_begin(struct co *co, struct vu_rig *rig, struct front *f);
void front_end(struct co *co, struct vu_rig *rig, struct front *f);
/* ADD_MEM_REG or REM_MEM_REG; fd may be -1. */
bool front_region(struct co *co, struct front *f, unsigned request, struct vu_region_wire region, int fd);

/* Requests: offers one, with a header at its own place and data at `data`, split into parts; returns its head. The status
 * lies at front_status. */
int front_offer(
	struct front *f, unsigned i, uint32_t type, uint64_t sector, uint64_t data, uint32_t len, unsigned parts);
uint8_t *front_status(struct front *f, unsigned i, int head);
void front_kick(struct co *co, struct front *f, unsigned i);
/* Waits for one to come back: its head; the length that was written in *len unless that is NULL. */
int front_collect(struct co *co, struct front *f, unsigned i, uint32_t *len);
/* One request on queue 0, from the offer to its status. */
uint8_t front_do(struct co *co, struct front *f, uint32_t type, uint64_t sector, uint64_t data, uint32_t len);

#endif
