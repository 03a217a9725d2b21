/* SPDX-License-Identifier: MIT */
/* Sockets from and messages to a service manager; see systemd.h. */
#include "cli/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void names_parse(struct systemd *s)
{
	char *rest = s->names;

	for (unsigned i = 0; i < s->n && rest; i++)
		s->name[i] = strsep(&rest, ":");
}

/* Early, for a process that can make no socket any more when it has something to say. */
static int notify_connect(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	socklen_t len = (socklen_t)offsetof(struct sockaddr_un, sun_path);
	int fd;

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(to.sun_path))
		return -1;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	memcpy(to.sun_path, path, strlen(path));
	if (path[0] == '@') /* a name of the abstract kind */
		to.sun_path[0] = '\0';
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, len + (socklen_t)strlen(path)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

int systemd_begin(struct systemd *s, struct err *err)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
	unsigned long n;

	*s = (struct systemd){.notify_fd = notify_connect()};
	if (!pid || !fds || strtoul(pid, NULL, 10) != (unsigned long)getpid())
		return 0;
	n = strtoul(fds, NULL, 10);
	if (n > SYSTEMD_SOCKETS)
		return err_set(err, -E2BIG, "LISTEN_FDS: %lu sockets, at most %d are taken", n, SYSTEMD_SOCKETS);
	s->n = (unsigned)n;
	s->names = names ? strdup(names) : NULL;
	names_parse(s);
	for (unsigned i = 0; i < s->n; i++)
		(void)fcntl(SYSTEMD_FIRST + (int)i, F_SETFD, FD_CLOEXEC);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return 0;
}

void systemd_end(struct systemd *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		if (!s->taken[i])
			close(SYSTEMD_FIRST + (int)i);
	}
	if (s->notify_fd >= 0)
		close(s->notify_fd);
	free(s->names);
	*s = (struct systemd){.notify_fd = -1};
}

int systemd_take(struct systemd *s, const char *name, struct err *err)
{
	for (unsigned i = 0; i < s->n; i++) {
		if (s->taken[i] || (name && (!s->name[i] || strcmp(s->name[i], name) != 0)))
			continue;
		s->taken[i] = true;
		return SYSTEMD_FIRST + (int)i;
	}
	if (name)
		return err_set(err, -ENOENT, "systemd:%s: no socket of that name was passed to this process", name);
	return err_set(err, -ENOENT, "systemd: %s was passed to this process (LISTEN_FDS)",
		s->n == 0 ? "no socket" : "no further socket");
}

void systemd_notify(const struct systemd *s, const char *state)
{
	if (s->notify_fd >= 0)
		(void)!send(s->notify_fd, state, strlen(state), MSG_NOSIGNAL);
}
