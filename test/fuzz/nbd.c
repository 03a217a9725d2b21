/* SPDX-License-Identifier: MIT */
/* Any bytes as what a client sends to an NBD server: handshake and requests. The first byte says what the disk is like. */
#include <assert.h>
#include <string.h>

#include "base/math.h"
#include "export/export.h"
#include "fuzz.h"
#include "world.h"

#define DISK_BYTES (256 * KiB)

static int status(
	struct co *co, const struct export_context *c, uint64_t off, uint64_t len, uint32_t *flags, uint64_t *run)
{
	(void)c;
	co_yield(co);
	*flags = off >> 16 & 1;
	*run = MIN(len, 65536 - off % 65536);
	return 0;
}

static void entry(struct co *co, void *arg)
{
	const uint8_t *kind = arg;
	static const struct export_context context = {"qemu:dirty-bitmap:b", status}, *const contexts[] = {&context};
	struct node *n = fuzz_disk_open(co, !(*kind & 1));
	struct export_disk disk = {
		.name = *kind & 2 ? "disk" : "", .node = n, .contexts = contexts, .contexts_n = *kind >> 2 & 1};
	const struct export_disk *const disks[] = {&disk};
	struct nbd_options options = {.address = "unix:x", .disks = disks, .disks_n = 1};
	struct export *server;
	struct err err;

	assert(nbd_export_start(co, &options, &server, &err) == 0);
	while (!fuzz_peer_ended())
		co_sleep(co, 1000000);
	server->ops->stop(co, server);
	assert(fuzz_peer_sent() > 0);
	assert(node_close(co, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuzz_limits limits = {.memory = 96 * MiB, .requests = 100000, .bytes = 1024 * MiB};
	uint8_t kind = size ? data[0] : 0;

	fuzz_disk_clear(DISK_BYTES);
	fuzz_peer_set(data + (size ? 1 : 0), size ? size - 1 : 0);
	fuzz_run(&limits, entry, &kind);
	return 0;
}
