/* SPDX-License-Identifier: MIT */
/* Going into the background; see background.h. */
#include "cli/background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

static void ATTR_NORETURN wait_until_ready(int fd, pid_t child)
{
	char ready;
	ssize_t n;
	int status;

	do {
		n = read(fd, &ready, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(0);
	/* The pipe was closed with nothing in it: the child is ending, and has said why. */
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1);
}

static int fork_and_wait(struct background *b, struct err *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, -errno, "can't make a pipe: %s", strerror(errno));
	pid_t child = fork();

	if (child < 0)
		return err_set(err, -errno, "can't fork: %s", strerror(errno));
	if (child > 0) {
		close(fds[1]);
		wait_until_ready(fds[0], child);
	}
	close(fds[0]);
	setsid();
	b->ready_fd = fds[1];
	return 0;
}

int background_begin(struct background *b, bool fork_first, const char *pid_file, struct err *err)
{
	*b = (struct background){.ready_fd = -1, .null_fd = -1, .pid_file = pid_file};
	return fork_first ? fork_and_wait(b, err) : 0;
}

int background_prepare(struct background *b, struct err *err)
{
	if (b->ready_fd >= 0)
		b->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!b->pid_file)
		return 0;
	/* It may be that of a process which we are about to follow: it stays as it is until then. */
	int fd = open(b->pid_file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	b->pid_to = fd >= 0 ? fdopen(fd, "w") : NULL;
	return b->pid_to ? 0 : err_set(err, -errno, "Could not create '%s': %s", b->pid_file, strerror(errno));
}

static int pid_write(struct background *b, struct err *err)
{
	FILE *f = take(b->pid_to);

	b->pid_made = ftruncate(fileno(f), 0) == 0;
	fprintf(f, "%ld\n", (long)getpid());
	return fclose(f) == 0 ? 0 : err_set(err, -EIO, "can't write the pid file '%s'", b->pid_file);
}

/* Whoever reads our output through a pipe must see its end. */
static void leave_terminal(struct background *b)
{
	for (int fd = 0; b->null_fd >= 0 && fd <= 2; fd++)
		dup2(b->null_fd, fd);
}

int background_ready(struct background *b, const char *line, struct err *err)
{
	int r = b->pid_to ? pid_write(b, err) : 0;

	if (r < 0)
		return r;
	if (line)
		puts(line);
	fflush(stdout);
	if (b->ready_fd < 0)
		return 0;
	leave_terminal(b);
	if (write(b->ready_fd, "", 1) != 1)
		r = err_set(err, -EPIPE, "the process that waits for this one is gone");
	close(b->ready_fd);
	b->ready_fd = -1;
	return r;
}

/* An empty one is what we have left there ourselves. */
static void pid_abandon(struct background *b)
{
	struct stat st;

	if (fstat(fileno(b->pid_to), &st) == 0 && st.st_size == 0)
		b->pid_made = true;
	fclose(b->pid_to);
}

void background_end(struct background *b)
{
	if (b->pid_to)
		pid_abandon(b);
	if (b->pid_made)
		unlink(b->pid_file);
	if (b->null_fd > 2)
		close(b->null_fd);
	*b = (struct background){.ready_fd = -1, .null_fd = -1};
}
