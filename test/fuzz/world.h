/* SPDX-License-Identifier: MIT */
/*
 * What a target runs in: a scheduler whose clock jumps, a disk in memory, a peer that says what the input says. There is
 * no file, no socket and no thread; whoever asks for one, waits for what never comes, or takes more memory or work than
 * the target allows ends the program.
 */
#ifndef CORRAL_TEST_FUZZ_WORLD_H
#define CORRAL_TEST_FUZZ_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "co/co.h"
#include "node/node.h"

#define FUZZ_SECTOR 512u
#define FUZZ_DISK_BYTES (UINT64_C(16) << 20) /* the most that it may grow to */

struct fuzz_limits {              /* of one input */
	uint64_t memory;          /* bytes alive at once, beyond what was alive before it */
	uint64_t requests, bytes; /* to the disk */
};

/* Runs entry as the only coroutine, until nothing is alive. */
void fuzz_run(const struct fuzz_limits *limits, co_entry *entry, void *arg);

/* ---- the disk ---- */

void fuzz_disk_clear(uint64_t size);
void fuzz_disk_put(uint64_t off, const void *bytes, size_t len); /* inside FUZZ_DISK_BYTES */
const uint8_t *fuzz_disk_bytes(void);
uint64_t fuzz_disk_size(void);
uint64_t fuzz_disk_writes(void); /* and resizes, since it was cleared */
/* A node over it. What is written stays when it is closed. */
struct node *fuzz_disk_open(struct co *co, bool write);

/* ---- the peer ---- */

/* What is received from the one socket that is accepted; then it ends. */
void fuzz_peer_set(const uint8_t *bytes, size_t size);
bool fuzz_peer_ended(void);
uint64_t fuzz_peer_sent(void); /* bytes that it was sent */

#endif
