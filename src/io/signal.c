/* SPDX-License-Identifier: MIT */
/*
 * Signals as something to wait for. They are blocked for the whole process and read from a descriptor, so that no code
 * ever runs in a handler. Ending is for good: a waiter that comes later is told at once.
 */
#include "io/backend.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void set_fill(sigset_t *set, const int *signals, unsigned n)
{
	sigemptyset(set);
	for (unsigned i = 0; i < n; i++)
		sigaddset(set, signals[i]);
}

int io_signals_take(const int *signals, unsigned n)
{
	sigset_t set;

	set_fill(&set, signals, n);
	return -pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int signal_fd_set(struct io *io, const int *signals, unsigned n)
{
	sigset_t set;
	int fd;

	set_fill(&set, signals, n);
	fd = signalfd(io->signal_fd, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	io->signal_fd = fd;
	return 0;
}

static int signal_read(int fd)
{
	struct signalfd_siginfo info;

	return read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo : -errno;
}

int io_signal_wait(struct co *co, const int *signals, unsigned n)
{
	struct io *io = io_of(co);
	int64_t r = signal_fd_set(io, signals, n);

	while (r >= 0 || r == -EINTR) {
		int number;

		if (io->signals_ended)
			return -ECANCELED;
		number = signal_read(io->signal_fd);
		if (number != -EAGAIN)
			return number;
		r = io_do(co, &(struct io_op){.code = IO_OP_POLL, .fd = io->signal_fd});
	}
	return (int)r;
}

void io_signal_end(struct io *io)
{
	io->signals_ended = true;
	if (io->signal_fd >= 0)
		io->ops->shutdown(io, io->signal_fd);
}
