/* SPDX-License-Identifier: MIT */
/*
 * The io_uring engine. Submitting fills an entry of the submission ring and no more; the kernel is entered once for
 * each wait, to hand over what has gathered and to collect. What the ring can't do, or can't on every kernel since 5.11
 * (open, close, truncate, name resolution), runs on helper threads; what hardly waits (stat, seek, locks) is done on
 * the spot.
 *
 * The ring belongs to the thread that made it, and doesn't survive a fork. The operations on files that the kernel has
 * in hand are bounded; those on sockets may wait for ever, so a bound on them could stop everything: their number is
 * that of the coroutines. Completions beyond the completion ring are kept by the kernel (IORING_FEAT_NODROP).
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/math.h"
#include "io/pool.h"
#include "io/posix.h"

enum {
	SQ_ENTRIES = 256,
	CQ_ENTRIES = 4096,
	FILE_OPS = 1024, /* in the kernel at once */
	PUNCH_SLOTS = 64,
	LOOKS = 2, /* entries are handed over at the latest when it is looked for completions so often */
};

struct uring {
	struct io io; /* first */
	struct io_uring ring;
	struct io_helpers helpers;
	struct list finished;          /* operations that have their result */
	struct list queued;            /* operations that found no room */
	struct list polls;             /* in the ring: what may wait for ever and is no socket */
	unsigned file_ops;             /* in the ring */
	unsigned punches[PUNCH_SLOTS]; /* in the ring, by their descriptors: see is_punch */
	unsigned in_flight;            /* in the ring, of all kinds */
	unsigned looks;                /* since entries were last handed over */
	bool skips;                    /* entries that succeed need no completion */
	bool event_armed;              /* the helpers' event is being read */
	uint64_t event_count;
};

static struct uring *uring_of(struct io *io) { return container_of(io, struct uring, io); }

/* What an entry of the completion ring belongs to, where it isn't an operation. */
enum { TAG_EVENT = 1, TAG_CANCEL = 2, TAG_SIGNAL = 3 };

enum route { ROUTE_HELPER, ROUTE_INLINE, ROUTE_FILE, ROUTE_SOCKET, ROUTE_POLL };

static enum route route_of(const struct io_op *op)
{
	static const enum route routes[] = {
		[IO_OP_OPEN] = ROUTE_HELPER,
		[IO_OP_REOPEN] = ROUTE_HELPER,
		[IO_OP_STAT] = ROUTE_INLINE,
		[IO_OP_CLOSE] = ROUTE_HELPER,
		[IO_OP_READ] = ROUTE_FILE,
		[IO_OP_WRITE] = ROUTE_FILE,
		[IO_OP_SYNC] = ROUTE_FILE,
		[IO_OP_DROP] = ROUTE_HELPER,
		[IO_OP_FALLOCATE] = ROUTE_FILE,
		[IO_OP_COPY] = ROUTE_HELPER,
		[IO_OP_TRUNCATE] = ROUTE_HELPER,
		[IO_OP_SEEK] = ROUTE_INLINE,
		[IO_OP_LOCK] = ROUTE_INLINE,
		[IO_OP_LISTEN] = ROUTE_HELPER,
		[IO_OP_CONNECT] = ROUTE_HELPER,
		[IO_OP_INHERIT] = ROUTE_INLINE,
		[IO_OP_ACCEPT] = ROUTE_SOCKET,
		[IO_OP_RECV] = ROUTE_SOCKET,
		[IO_OP_SEND] = ROUTE_SOCKET,
		[IO_OP_POLL] = ROUTE_POLL,
		[IO_OP_EVENT_WAIT] = ROUTE_POLL,
		[IO_OP_EVENT_SIGNAL] = ROUTE_SOCKET,
		[IO_OP_ADOPT] = ROUTE_INLINE,
		[IO_OP_MEMORY] = ROUTE_HELPER,
		[IO_OP_MAP] = ROUTE_HELPER,
		[IO_OP_UNMAP] = ROUTE_HELPER,
	};

	return routes[op->code];
}

static void finish(struct uring *u, struct io_op *op, int64_t result)
{
	op->result = result;
	list_push(&u->finished, &op->link);
}

/* ---- entries ---- */

/* The ring's lengths have 32 bits; more than this is a short transfer. */
static unsigned length_of(const struct io_op *op) { return (unsigned)MIN(op->v[0].iov_len, (size_t)1 << 30); }

static void prepare_transfer(struct io_uring_sqe *sqe, const struct io_op *op)
{
	void *buf = op->v[0].iov_base;
	bool writes = op->code == IO_OP_WRITE;

	if (op->n == 1 && writes)
		io_uring_prep_write(sqe, op->fd, buf, length_of(op), op->offset);
	else if (op->n == 1)
		io_uring_prep_read(sqe, op->fd, buf, length_of(op), op->offset);
	else if (writes)
		io_uring_prep_writev(sqe, op->fd, op->v, op->n, op->offset);
	else
		io_uring_prep_readv(sqe, op->fd, op->v, op->n, op->offset);
	if (writes && op->flags & IO_WRITE_DSYNC)
		sqe->rw_flags = RWF_DSYNC;
}

static void prepare_send(struct io_uring_sqe *sqe, struct io_op *op)
{
	if (op->n == 1 && op->control == NULL)
		io_uring_prep_send(sqe, op->fd, op->v[0].iov_base, length_of(op), MSG_NOSIGNAL);
	else
		io_uring_prep_sendmsg(sqe, op->fd, io_posix_message(op), MSG_NOSIGNAL);
}

static void prepare_recv(struct io_uring_sqe *sqe, struct io_op *op)
{
	if (op->control == NULL)
		io_uring_prep_recv(sqe, op->fd, op->v[0].iov_base, length_of(op), 0);
	else
		io_uring_prep_recvmsg(sqe, op->fd, io_posix_message(op), MSG_CMSG_CLOEXEC);
}

static void prepare(struct io_uring_sqe *sqe, struct io_op *op)
{
	switch (op->code) {
	case IO_OP_READ:
	case IO_OP_WRITE: prepare_transfer(sqe, op); break;
	case IO_OP_SYNC: io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC); break;
	case IO_OP_FALLOCATE:
		io_uring_prep_fallocate(
			sqe, op->fd, io_posix_fallocate_mode(op->flags), (off_t)op->offset, (off_t)op->len);
		break;
	case IO_OP_ACCEPT: io_uring_prep_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC); break;
	case IO_OP_RECV: prepare_recv(sqe, op); break;
	case IO_OP_SEND: prepare_send(sqe, op); break;
	case IO_OP_POLL: io_uring_prep_poll_add(sqe, op->fd, op->flags & IO_POLL_WRITE ? POLLOUT : POLLIN); break;
	case IO_OP_EVENT_WAIT: io_uring_prep_read(sqe, op->fd, &op->event, sizeof(op->event), 0); break;
	case IO_OP_EVENT_SIGNAL:
		op->event = 1;
		io_uring_prep_write(sqe, op->fd, &op->event, sizeof(op->event), 0);
		sqe->rw_flags = RWF_NOWAIT;
		break;
	default: assert(!"an operation that the ring doesn't do");
	}
	io_uring_sqe_set_data(sqe, op);
}

/*
 * While a hole is punched, the kernel keeps readahead away from the file, and a buffered read that is tried at once waits
 * for that with us in its hands: no completion of anything is seen meanwhile. Such reads are a matter for its threads, and
 * looking for holes, which waits as well, is one for ours.
 */
static unsigned *punches_of(struct uring *u, const struct io_op *op) { return &u->punches[op->fd % PUNCH_SLOTS]; }
static bool is_punch(const struct io_op *op) { return op->code == IO_OP_FALLOCATE && op->flags != IO_FALLOC_ALLOCATE; }

/* An entry of the submission ring, which is handed over early when it is full; NULL: the kernel takes no more now. */
static struct io_uring_sqe *entry_get(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (sqe == NULL && io_uring_submit(&u->ring) > 0)
		sqe = io_uring_get_sqe(&u->ring);
	return sqe;
}

/* false: there was no room. */
static bool push(struct uring *u, struct io_op *op)
{
	enum route route = route_of(op);
	struct io_uring_sqe *sqe = route == ROUTE_FILE && u->file_ops == FILE_OPS ? NULL : entry_get(u);

	if (sqe == NULL)
		return false;
	prepare(sqe, op);
	if (op->code == IO_OP_READ && *punches_of(u, op) > 0)
		sqe->flags |= IOSQE_ASYNC;
	if (is_punch(op))
		++*punches_of(u, op);
	u->in_flight++;
	if (route == ROUTE_FILE)
		u->file_ops++;
	if (route == ROUTE_POLL)
		list_push(&u->polls, &op->link);
	return true;
}

/*
 * A signal is done when it is on its way: nobody waits for it, and it has no completion but where it fails, which is for
 * its receiver to see. false: there was no room.
 */
static bool push_signal(struct uring *u, struct io_op *op)
{
	static const uint64_t one = 1;
	struct io_uring_sqe *sqe = entry_get(u);

	if (sqe == NULL)
		return false;
	io_uring_prep_write(sqe, op->fd, &one, sizeof(one), 0);
	sqe->rw_flags = RWF_NOWAIT;
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	sqe->user_data = TAG_SIGNAL;
	finish(u, op, 0);
	return true;
}

/* In their order, but no socket waits behind files. */
static void push_queued(struct uring *u)
{
	list_for_each_safe(it, &u->queued) {
		struct io_op *op = list_entry(it, struct io_op, link);

		list_remove(it);
		if (!push(u, op))
			list_insert(it_next->prev, it);
	}
}

/* ---- completions ---- */

static void op_completed(struct uring *u, struct io_op *op, int64_t result)
{
	enum route route = route_of(op);

	if (route == ROUTE_FILE)
		u->file_ops--;
	if (is_punch(op))
		--*punches_of(u, op);
	if (route == ROUTE_POLL)
		list_remove(&op->link);
	if (op->code == IO_OP_ACCEPT && result >= 0)
		result = io_posix_accepted(op, (int)result);
	if (op->code == IO_OP_EVENT_SIGNAL && result == -EOPNOTSUPP) /* a pipe, on a kernel before 6.5 */
		result = io_posix_do(op);
	if (op->control != NULL)
		io_posix_message_done(op);
	io_complete(op, result);
}

static void entry_completed(struct uring *u, const struct io_uring_cqe *cqe)
{
	if (cqe->user_data == TAG_SIGNAL)
		return;
	u->in_flight--;
	if (cqe->user_data == TAG_CANCEL)
		return;
	if (cqe->user_data != TAG_EVENT) {
		op_completed(u, io_uring_cqe_get_data(cqe), cqe->res);
		return;
	}
	u->event_armed = false;
	io_helpers_collect(&u->helpers);
}

static bool complete_finished(struct uring *u)
{
	struct list done;

	list_init(&done);
	list_splice(&done, &u->finished);
	if (list_empty(&done))
		return false;
	list_for_each_safe(it, &done) {
		struct io_op *op = list_entry(it, struct io_op, link);

		io_complete(op, op->result);
	}
	return true;
}

static void complete_entries(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&u->ring, head, cqe)
	{
		entry_completed(u, cqe);
		n++;
	}
	io_uring_cq_advance(&u->ring, n);
}

/* ---- waiting ---- */

static void event_arm(struct uring *u)
{
	struct io_uring_sqe *sqe;

	if (u->event_armed || !io_helpers_pending(&u->helpers))
		return;
	sqe = entry_get(u);
	if (sqe == NULL)
		return;
	io_uring_prep_read(sqe, u->helpers.event_fd, &u->event_count, sizeof(u->event_count), 0);
	sqe->user_data = TAG_EVENT;
	u->in_flight++;
	u->event_armed = true;
}

/*
 * What was submitted is handed over with the next wait, so that one call does both. While somebody always has something to
 * do and nobody waits, it is done now and then. Without anything to hand over the kernel is entered only if it says that it
 * has something for us.
 */
static int look(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned ready = io_uring_sq_ready(&u->ring);

	if (ready > 0 && (++u->looks >= LOOKS || ready >= SQ_ENTRIES / 4)) {
		u->looks = 0;
		return io_uring_submit_and_get_events(&u->ring);
	}
	return u->in_flight > 0 ? io_uring_peek_cqe(&u->ring, &cqe) : 0;
}

static int hand_over_and_wait(struct uring *u, uint64_t deadline_ns)
{
	uint64_t ns = io_posix_left(deadline_ns);
	struct __kernel_timespec left = {
		.tv_sec = (long long)(ns / 1000000000), .tv_nsec = (long long)(ns % 1000000000)};
	struct io_uring_cqe *cqe;

	u->looks = 0;
	return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, deadline_ns == CO_NEVER ? NULL : &left, NULL);
}

static void uring_wait(struct co_host *host, uint64_t deadline_ns)
{
	struct uring *u = uring_of(container_of(host, struct io, host));
	bool some = complete_finished(u);
	int r;

	push_queued(u);
	event_arm(u);
	/* What stays queued only has to wait for the kernel's pleasure if the kernel has nothing of ours. */
	if (some || (u->in_flight == 0 && !list_empty(&u->queued)))
		deadline_ns = 0;
	r = deadline_ns == 0 ? look(u) : hand_over_and_wait(u, deadline_ns);
	assert(r >= 0 || r == -ETIME || r == -EINTR || r == -EAGAIN || r == -EBUSY);
	complete_entries(u);
}

/* ---- the backend's functions ---- */

static void uring_submit(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);

	if (op->code == IO_OP_CLOSE) /* a signal that was sent goes out first, and not to who has the number next */
		(void)io_uring_submit(&u->ring);
	if (op->code == IO_OP_EVENT_SIGNAL && u->skips && op->flags == 0 && push_signal(u, op))
		return;
	switch (op->code == IO_OP_SEEK && *punches_of(u, op) > 0 ? ROUTE_HELPER : route_of(op)) {
	case ROUTE_HELPER: io_helpers_block(&u->helpers, op); break;
	case ROUTE_INLINE: finish(u, op, io_posix_do(op)); break;
	case ROUTE_FILE: /* must not overtake those that found no room */
		if (!list_empty(&u->queued) || !push(u, op))
			list_push(&u->queued, &op->link);
		break;
	default:
		if (!push(u, op))
			list_push(&u->queued, &op->link);
	}
}

/* The poll that shall end may be in the ring, or still queued. */
static void uring_shutdown(struct io *io, int fd)
{
	struct uring *u = uring_of(io);

	if (io_posix_shutdown(fd))
		return;
	list_for_each_safe(it, &u->queued) {
		struct io_op *op = list_entry(it, struct io_op, link);

		if (op->fd == fd && IO_OP_IS_WAIT(op)) {
			list_remove(it);
			finish(u, op, -ECANCELED);
		}
	}
	list_for_each(it, &u->polls) {
		struct io_op *op = list_entry(it, struct io_op, link);
		struct io_uring_sqe *sqe = op->fd == fd ? entry_get(u) : NULL;

		if (sqe == NULL)
			continue;
		io_uring_prep_cancel(sqe, op, 0);
		sqe->user_data = TAG_CANCEL;
		u->in_flight++;
	}
}

/* The entry for it is handed over before any that follows, so that it can't mean another one at the same place. */
static void uring_cancel(struct io *io, struct io_op *op)
{
	struct uring *u = uring_of(io);
	struct io_uring_sqe *sqe;

	list_for_each_safe(it, &u->queued) {
		if (list_entry(it, struct io_op, link) == op) {
			list_remove(it);
			finish(u, op, -ECANCELED);
			return;
		}
	}
	sqe = entry_get(u);
	if (sqe == NULL)
		return;
	io_uring_prep_cancel(sqe, op, 0);
	sqe->user_data = TAG_CANCEL;
	u->in_flight++;
}

static uint64_t uring_now(struct co_host *host)
{
	(void)host;
	return io_posix_now();
}

static void uring_offload(struct co_host *host, struct co_work *work)
{
	io_helpers_compute(&uring_of(container_of(host, struct io, host))->helpers, work);
}

static void uring_threads_stop(struct io *io) { io_helpers_stop(&uring_of(io)->helpers); }

static void uring_threads_start(struct io *io) { io_helpers_start(&uring_of(io)->helpers); }

static void uring_free(struct io *io)
{
	struct uring *u = uring_of(io);

	assert(list_empty(&u->queued) && list_empty(&u->finished) && list_empty(&u->polls));
	io_helpers_fini(&u->helpers);
	io_uring_queue_exit(&u->ring);
	free(u);
}

/* ---- making one ---- */

static int ring_explain(struct err *err, int r)
{
	switch (r) {
	case -ENOSYS: return err_set(err, r, "io_uring: this kernel has none, or a sandbox hides it");
	case -EPERM: return err_set(err, r, "io_uring: forbidden by kernel.io_uring_disabled or a sandbox");
	case -ENOMEM: return err_set(err, r, "io_uring: no memory for its rings (see also ulimit -l)");
	default: return err_set(err, r, "io_uring: %s", strerror(-r));
	}
}

/* All that this engine asks a ring for. None of it names a file or a peer. */
static const uint8_t operations[] = {
	IORING_OP_READ,
	IORING_OP_WRITE,
	IORING_OP_READV,
	IORING_OP_WRITEV,
	IORING_OP_FSYNC,
	IORING_OP_FALLOCATE,
	IORING_OP_ACCEPT,
	IORING_OP_RECV,
	IORING_OP_SEND,
	IORING_OP_SENDMSG,
	IORING_OP_RECVMSG,
	IORING_OP_POLL_ADD,
	IORING_OP_ASYNC_CANCEL,
};

/*
 * From what suits one thread best (6.1) to what every kernel has; an older one refuses flags that it doesn't know. A ring
 * that can be restricted (5.10) begins disabled.
 */
static int ring_setup(struct io_uring *ring)
{
	static const unsigned steps[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		0,
	};
	const unsigned always = IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;
	int r = -EINVAL;

	for (unsigned i = 0; i < ARRAY_ENTRIES(steps) && r == -EINVAL; i++) {
		struct io_uring_params params = {.flags = steps[i] | always, .cq_entries = CQ_ENTRIES};

		r = io_uring_queue_init_params(SQ_ENTRIES, ring, &params);
	}
	return r;
}

static int ring_check(struct io_uring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	unsigned features = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG; /* the latter: a wait with a deadline */
	bool complete = probe != NULL && (ring->features & features) == features;

	for (unsigned i = 0; i < ARRAY_ENTRIES(operations) && complete; i++)
		complete = io_uring_opcode_supported(probe, operations[i]);
	io_uring_free_probe(probe);
	return complete ? 0 : -ENOSYS;
}

/* The library of Debian 12 declares functions for these two and doesn't have them. */
static int ring_register(const struct io_uring *ring, unsigned what, const void *arg, unsigned n)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, what, arg, n) < 0 ? -errno : 0;
}

/* Whatever gets hold of the process can make the ring do nothing else: seccomp doesn't see what a ring does. */
static int ring_restrict(struct io_uring *ring)
{
	struct io_uring_restriction allowed[ARRAY_ENTRIES(operations) + 3] = {
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_CQE_SKIP_SUCCESS | IOSQE_ASYNC},
		{.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_RING_FDS},
		{.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_UNREGISTER_RING_FDS},
	};
	int r;

	for (unsigned i = 0; i < ARRAY_ENTRIES(operations); i++)
		allowed[i + 3] =
			(struct io_uring_restriction){.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = operations[i]};
	r = ring_register(ring, IORING_REGISTER_RESTRICTIONS, allowed, ARRAY_ENTRIES(allowed));
	return r < 0 ? r : ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static int ring_new(struct io_uring *ring, struct err *err)
{
	int r = ring_setup(ring);

	if (r < 0)
		return ring_explain(err, r);
	r = ring_check(ring);
	if (r < 0) {
		io_uring_queue_exit(ring);
		return err_set(err, r, "io_uring: this kernel's lacks what is needed; 5.11 has it");
	}
	r = ring_restrict(ring);
	if (r < 0) {
		io_uring_queue_exit(ring);
		return err_set(err, r, "io_uring: the ring can't be restricted: %s", strerror(-r));
	}
	(void)io_uring_register_ring_fd(ring); /* saves a look-up at each entry, where the kernel can */
	return 0;
}

int io_uring_new(struct io **out, struct err *err)
{
	static const struct io_ops ops = {
		.name = "uring",
		.submit = uring_submit,
		.shutdown = uring_shutdown,
		.cancel = uring_cancel,
		.threads_stop = uring_threads_stop,
		.threads_start = uring_threads_start,
		.free = uring_free,
	};
	static const struct co_host_ops host_ops = {
		.now = uring_now,
		.wait = uring_wait,
		.offload = uring_offload,
	};
	struct uring *u = calloc(1, sizeof(*u));
	int r;

	if (u == NULL)
		return err_set(err, -ENOMEM, "no memory for an I/O engine");
	r = io_helpers_init(&u->helpers);
	if (r < 0) {
		free(u);
		return err_set(err, r, "no event descriptor for the helper threads");
	}
	r = ring_new(&u->ring, err);
	if (r < 0) {
		io_helpers_fini(&u->helpers);
		free(u);
		return r;
	}
	u->skips = u->ring.features & IORING_FEAT_CQE_SKIP;
	u->io.ops = &ops;
	u->io.host.ops = &host_ops;
	list_init(&u->finished);
	list_init(&u->queued);
	list_init(&u->polls);
	*out = &u->io;
	return 0;
}
