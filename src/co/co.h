/* SPDX-License-Identifier: MIT */
/*
 * Stackful coroutines on one scheduler per thread.
 *
 * A function that may yield takes `struct co *co` as its first parameter: the witness that it runs in a coroutine. One
 * that does not take it is atomic. The witness is passed down and never stored outside co/ and io/; a test checks both.
 *
 * Nothing resumes a coroutine from within a coroutine: waking puts it on the run queue of its scheduler, and the
 * scheduler's loop runs it. A scheduler and all that hangs off it belong to one thread.
 */
#ifndef CORRAL_CO_CO_H
#define CORRAL_CO_CO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/list.h"

struct co;
struct co_sched;
struct co_host;
struct co_work;

#define CO_NEVER UINT64_MAX /* a deadline that never comes */

typedef void co_entry(struct co *co, void *arg);

/*
 * What a scheduler needs of the world. The embedding host (io/, or the simulator) supplies it.
 *   now      nanoseconds of a monotonic clock
 *   wait     hand over what was submitted, then collect completions (each calls co_ready). Blocks until at least one
 *            came, or deadline_ns passed; a deadline of 0 means: look, don't block.
 *   offload  run work->fn(work->arg) where it may take long, then co_work_done(work) on the scheduler's thread (from wait)
 *   pick     which of the `ready` runnable coroutines goes next; NULL means first come, first served
 */
struct co_host_ops {
	uint64_t (*now)(struct co_host *);
	void (*wait)(struct co_host *, uint64_t deadline_ns);
	void (*offload)(struct co_host *, struct co_work *);
	size_t (*pick)(struct co_host *, size_t ready);
};

struct co_host {
	const struct co_host_ops *ops;
};

struct co_limits {
	size_t stack_bytes; /* of each coroutine; 0: CO_STACK_BYTES */
	unsigned stacks;    /* the most coroutines alive at once; 0: CO_STACKS */
};
#define CO_STACK_BYTES (64 << 10)
#define CO_STACKS 4096

/* NULL: no memory. limits may be NULL. */
struct co_sched *co_sched_new(struct co_host *host, const struct co_limits *limits);
void co_sched_free(struct co_sched *sched); /* nothing may be alive */

/* Starts a coroutine: it is runnable, and runs from the scheduler's loop. name must outlive it.
 * -EAGAIN: as many are alive as the limits allow. -ENOMEM. */
int co_spawn(struct co_sched *sched, const char *name, co_entry *entry, void *arg) ATTR_MUST_USE;

/* Runs until no coroutine is alive. */
void co_sched_run(struct co_sched *sched);

/* Runs entry in a new coroutine, and the loop until nothing is alive; 0 or what co_spawn said. */
int co_main(struct co_sched *sched, const char *name, co_entry *entry, void *arg) ATTR_MUST_USE;

/* The deepest stack use seen so far, in bytes, by looking at which bytes of the pooled stacks were touched. */
size_t co_sched_stack_peak(const struct co_sched *sched);
unsigned co_sched_alive(const struct co_sched *sched);
uint64_t co_sched_now(const struct co_sched *sched); /* the host's clock */

/*
 * How long the loop was busy at a time, without looking for what else has come: everybody waits meanwhile. slow is told of
 * each turn that took longer than limit_ns; it is called by the loop, outside every coroutine.
 */
struct co_turns {
	uint64_t limit_ns; /* CO_NEVER: none is slow */
	void (*slow)(struct co_turns *turns, uint64_t ns);
	uint64_t turns, longest_ns;
};
void co_sched_watch(struct co_sched *sched, struct co_turns *turns); /* NULL: nobody watches, which costs nothing */

struct co_sched *co_sched_of(struct co *co);
struct co_host *co_host_of(struct co *co);
const char *co_name(const struct co *co);
uint64_t co_now(struct co *co); /* does not yield */

/* Lets everything that is runnable run first. */
void co_yield(struct co *co);
void co_sleep_until(struct co *co, uint64_t deadline_ns);
void co_sleep(struct co *co, uint64_t ns);

/*
 * For co/ and io/ alone: suspend the running coroutine until somebody makes it ready. Each co_park is matched by exactly
 * one co_ready.
 */
void co_park(struct co *co);
void co_ready(struct co *co);

/* Pure work (compression, hashes, no I/O) on a helper thread; the caller waits, its scheduler goes on. */
void co_offload(struct co *co, void (*fn)(void *arg), void *arg);

struct co_work { /* what the host's offload gets; it links the work by `link` as it likes */
	struct list link;
	void (*fn)(void *arg);
	void *arg;
	struct co *co;
};
void co_work_done(struct co_work *work);

/*
 * Turns the SIGSEGV of a stack overflow into a message that names the coroutine, then dies by the same signal. Meant for
 * programs; a library user calls it if he likes. Schedulers made before and after are both covered.
 */
int co_report_overflow(void) ATTR_MUST_USE;

#endif
