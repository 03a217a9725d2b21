/* SPDX-License-Identifier: MIT */
/* What world.h says. Programs are linked with --wrap for the allocation functions: what the engine takes is counted. */
#include "world.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/math.h"
#include "io/backend.h"

#define TIMERS_ONLY 100000u /* turns in which nothing but time passes */
#define TURNS 4000000u      /* of one input */

static _Noreturn void violation(const char *what, uint64_t is, uint64_t most)
{
	fprintf(stderr, "fuzz: %s: %llu, at most %llu\n", what, (unsigned long long)is, (unsigned long long)most);
	abort();
}

/* ---- memory ---- */

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__real_aligned_alloc(size_t, size_t);
void __real_free(void *);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);
void *__wrap_aligned_alloc(size_t, size_t);
void __wrap_free(void *);

static _Thread_local int64_t alive, most_alive = INT64_MAX;

static void *take_note(void *p)
{
	alive += p ? (int64_t)malloc_usable_size(p) : 0;
	if (alive > most_alive)
		violation("memory", (uint64_t)alive, (uint64_t)most_alive);
	return p;
}

static void forget(void *p) { alive -= p ? (int64_t)malloc_usable_size(p) : 0; }

void *__wrap_malloc(size_t bytes) { return take_note(__real_malloc(bytes)); }
void *__wrap_calloc(size_t n, size_t bytes) { return take_note(__real_calloc(n, bytes)); }
void *__wrap_aligned_alloc(size_t align, size_t bytes) { return take_note(__real_aligned_alloc(align, bytes)); }

void *__wrap_realloc(void *p, size_t bytes)
{
	forget(p);
	return take_note(__real_realloc(p, bytes));
}

void __wrap_free(void *p)
{
	forget(p);
	__real_free(p);
}

/* ---- the disk ---- */

struct disk_node {
	struct node node; /* first */
};

static struct {
	uint8_t *bytes; /* FUZZ_DISK_BYTES */
	uint64_t size, writes, requests, read;
	uint32_t dirty[FUZZ_DISK_BYTES / FUZZ_SECTOR];
	uint32_t dirty_n;
	bool is_dirty[FUZZ_DISK_BYTES / FUZZ_SECTOR];
	struct fuzz_limits limits;
} disk;

static void disk_make(void)
{
	if (disk.bytes)
		return;
	disk.bytes =
		mmap(NULL, FUZZ_DISK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert(disk.bytes != MAP_FAILED);
}

static void disk_soil(uint64_t off, uint64_t len)
{
	for (uint64_t s = off / FUZZ_SECTOR; len > 0 && s <= (off + len - 1) / FUZZ_SECTOR; s++) {
		if (disk.is_dirty[s])
			continue;
		disk.is_dirty[s] = true;
		disk.dirty[disk.dirty_n++] = (uint32_t)s;
	}
}

static void disk_zero(uint64_t off, uint64_t len)
{
	for (uint64_t at = off, n; at < off + len; at += n) {
		n = MIN(off + len - at, FUZZ_SECTOR - at % FUZZ_SECTOR);
		if (disk.is_dirty[at / FUZZ_SECTOR])
			memset(disk.bytes + at, 0, n);
	}
}

void fuzz_disk_clear(uint64_t size)
{
	disk_make();
	assert(size <= FUZZ_DISK_BYTES);
	for (uint32_t i = 0; i < disk.dirty_n; i++) {
		memset(disk.bytes + (uint64_t)disk.dirty[i] * FUZZ_SECTOR, 0, FUZZ_SECTOR);
		disk.is_dirty[disk.dirty[i]] = false;
	}
	disk.dirty_n = 0;
	disk.size = size;
	disk.writes = 0;
}

void fuzz_disk_put(uint64_t off, const void *bytes, size_t len)
{
	disk_soil(off, len);
	memcpy(disk.bytes + off, bytes, len);
}

const uint8_t *fuzz_disk_bytes(void) { return disk.bytes; }
uint64_t fuzz_disk_size(void) { return disk.size; }
uint64_t fuzz_disk_writes(void) { return disk.writes; }

static void disk_count(struct co *co, const struct node *n, uint64_t off, uint64_t len)
{
	co_yield(co);
	assert(off <= n->size && len <= n->size - off);
	disk.read += len;
	if (++disk.requests > disk.limits.requests)
		violation("requests to the disk", disk.requests, disk.limits.requests);
	if (disk.read > disk.limits.bytes)
		violation("bytes of the disk", disk.read, disk.limits.bytes);
}

static int disk_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	disk_count(co, n, off, to.len);
	iov_copy_in(to, disk.bytes + off, to.len);
	return 0;
}

static int disk_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	(void)flags;
	disk_count(co, n, off, from.len);
	assert(!n->read_only);
	disk.writes++;
	disk_soil(off, from.len);
	iov_copy_out(from, disk.bytes + off, from.len);
	return 0;
}

static int disk_zeros(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	(void)flags;
	disk_count(co, n, off, 0);
	assert(!n->read_only && len <= n->size - off);
	disk.writes++;
	disk_zero(off, len);
	return 0;
}

static int disk_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	return disk_zeros(co, n, off, len, 0);
}

static int disk_flush(struct co *co, struct node *n)
{
	disk_count(co, n, 0, 0);
	return 0;
}

static int disk_resize(struct co *co, struct node *n, uint64_t size)
{
	disk_count(co, n, 0, 0);
	assert(!n->read_only);
	if (size > FUZZ_DISK_BYTES)
		return -ENOSPC;
	disk.writes++;
	if (size < n->size)
		disk_zero(size, n->size - size);
	n->size = disk.size = size;
	return 0;
}

static int disk_close(struct co *co, struct node *n)
{
	(void)co;
	node_fini(n);
	free(container_of(n, struct disk_node, node));
	return 0;
}

static const struct node_ops disk_ops = {
	.name = "memory",
	.read = disk_read,
	.write = disk_write,
	.zero = disk_zeros,
	.discard = disk_discard,
	.flush = disk_flush,
	.resize = disk_resize,
	.close = disk_close,
};

struct node *fuzz_disk_open(struct co *co, bool write)
{
	struct disk_node *d = calloc(1, sizeof(*d));

	assert(d);
	d->node.ops = &disk_ops;
	d->node.size = disk.size;
	d->node.align = d->node.mem_align = d->node.cluster = 1;
	d->node.grows_zeroed = true;
	d->node.read_only = !write;
	assert(node_init(&d->node, co_sched_of(co)) == 0);
	return &d->node;
}

/* ---- the peer ---- */

enum { LISTENER = 3, PEER = 4 };

static struct {
	const uint8_t *bytes;
	size_t left;
	uint64_t sent;
	bool accepted, shut, ended;
	struct io_op *accepting;
} peer;

void fuzz_peer_set(const uint8_t *bytes, size_t size)
{
	memset(&peer, 0, sizeof(peer));
	peer.bytes = bytes;
	peer.left = size;
}

bool fuzz_peer_ended(void) { return peer.ended; }
uint64_t fuzz_peer_sent(void) { return peer.sent; }

static int64_t peer_recv(const struct io_op *op)
{
	/* Not all at once: what is cut anywhere must mean the same. */
	size_t n = MIN(peer.left, MIN(op->v[0].iov_len, peer.left % 7 == 0 ? (size_t)3 : peer.left));

	if (peer.shut || n == 0) {
		peer.ended = true;
		return 0;
	}
	memcpy(op->v[0].iov_base, peer.bytes, n);
	peer.bytes += n;
	peer.left -= n;
	return (int64_t)n;
}

static int64_t peer_send(const struct io_op *op)
{
	int64_t n = 0;

	for (unsigned i = 0; i < op->n; i++)
		n += (int64_t)op->v[i].iov_len;
	peer.sent += (uint64_t)n;
	return peer.shut ? -EPIPE : n;
}

/* ---- the scheduler's host ---- */

static struct {
	struct io io; /* first */
	uint64_t now;
	struct list works, done;
	unsigned timers_only, turns;
} host;

static uint64_t host_now(struct co_host *h)
{
	(void)h;
	return host.now;
}

static bool host_finish(void)
{
	bool any = !list_empty(&host.works) || !list_empty(&host.done);

	list_for_each_safe(it, &host.works) {
		struct co_work *work = list_entry(it, struct co_work, link);

		list_remove(it);
		work->fn(work->arg);
		co_work_done(work);
	}
	list_for_each_safe(it, &host.done) {
		struct io_op *op = list_entry(it, struct io_op, link);

		list_remove(it);
		io_complete(op, op->result);
	}
	return any;
}

static void host_wait(struct co_host *h, uint64_t deadline_ns)
{
	(void)h;
	if (++host.turns > TURNS)
		violation("turns", host.turns, TURNS);
	if (host_finish()) {
		host.timers_only = 0;
		return;
	}
	if (deadline_ns == CO_NEVER)
		violation("coroutines that wait for ever", co_sched_alive(host.io.sched), 0);
	if (deadline_ns != 0 && ++host.timers_only > TIMERS_ONLY)
		violation("turns of timers alone", host.timers_only, TIMERS_ONLY);
	host.now = MAX(host.now + 1000, deadline_ns);
}

static void host_offload(struct co_host *h, struct co_work *work)
{
	(void)h;
	list_push(&host.works, &work->link);
}

static const struct co_host_ops host_ops = {.now = host_now, .wait = host_wait, .offload = host_offload};

static void host_submit(struct io *io, struct io_op *op)
{
	(void)io;
	switch (op->code) {
	case IO_OP_LISTEN: op->result = LISTENER; break;
	case IO_OP_ACCEPT:
		if (peer.accepted) {
			peer.accepting = op;
			return;
		}
		peer.accepted = true;
		op->result = PEER;
		break;
	case IO_OP_RECV: op->result = peer_recv(op); break;
	case IO_OP_SEND: op->result = peer_send(op); break;
	case IO_OP_CLOSE:
		peer.ended |= op->fd == PEER;
		op->result = 0;
		break;
	default: violation("an operation of the kind", op->code, 0);
	}
	list_push(&host.done, &op->link);
}

static void host_shutdown(struct io *io, int fd)
{
	struct io_op *op = fd == LISTENER ? take(peer.accepting) : NULL;

	(void)io;
	peer.shut |= fd == PEER;
	if (!op)
		return;
	op->result = -ECANCELED;
	list_push(&host.done, &op->link);
}

static void host_free(struct io *io) { (void)io; }

static const struct io_ops host_io_ops = {
	.name = "fuzz", .submit = host_submit, .shutdown = host_shutdown, .free = host_free};

static struct co_sched *host_get(void)
{
	static const struct co_limits limits = {.stack_bytes = 512 << 10, .stacks = 512};

	if (host.io.sched)
		return host.io.sched;
	host.io = (struct io){.host.ops = &host_ops, .ops = &host_io_ops, .signal_fd = -1};
	list_init(&host.works);
	list_init(&host.done);
	host.io.sched = co_sched_new(&host.io.host, &limits);
	assert(host.io.sched);
	return host.io.sched;
}

void fuzz_run(const struct fuzz_limits *limits, co_entry *entry, void *arg)
{
	struct co_sched *sched = host_get();

	disk_make();
	disk.limits = *limits;
	disk.requests = disk.read = 0;
	host.timers_only = host.turns = 0;
	alive = 0;
	most_alive = (int64_t)limits->memory;
	assert(co_main(sched, "fuzz", entry, arg) == 0);
	most_alive = INT64_MAX;
}
