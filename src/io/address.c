/* SPDX-License-Identifier: MIT */
/*
 * Addresses of stream sockets, and the system calls that turn one into a socket. May block in name resolution and in
 * connect, so it runs on helper threads.
 */
#include "io/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 128
#define DYING_MS 500 /* a listener whose process was killed may live on for so long */
#define DYING_TRIES 25
#define CONNECT_SECONDS 10 /* per address that a name has; a helper thread waits meanwhile */

struct inet {
	char host[256];
	char port[6];
};

static const char *unix_path(const char *address) { return strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL; }

static int unix_fill(const char *path, struct sockaddr_un *sa, struct err *err)
{
	size_t len = strlen(path);

	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (len == 0)
		return err_set(err, -EINVAL, "unix: needs the path of a socket");
	if (len >= sizeof(sa->sun_path))
		return err_set(err, -ENAMETOOLONG, "%s: a socket's path can't be longer than %zu bytes", path,
			sizeof(sa->sun_path) - 1);
	memcpy(sa->sun_path, path, len + 1);
	return 0;
}

static bool port_is_valid(const char *port)
{
	unsigned value = 0;
	size_t digits = strspn(port, "0123456789");

	if (digits == 0 || digits > 5 || port[digits] != '\0')
		return false;
	for (size_t i = 0; i < digits; i++)
		value = value * 10 + (unsigned)(port[i] - '0');
	return value <= 65535;
}

/* "HOST:PORT", "[V6]:PORT", ":PORT". */
static int inet_parse(const char *address, struct inet *out, struct err *err)
{
	const char *colon = strrchr(address, ':');
	const char *host = address;
	size_t len = colon == NULL ? 0 : (size_t)(colon - address);

	if (colon == NULL || !port_is_valid(colon + 1))
		return err_set(
			err, -EINVAL, "%s: not an address; write unix:PATH, HOST:PORT, [V6]:PORT or :PORT", address);
	if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
	} else if (memchr(host, ':', len) != NULL) {
		return err_set(err, -EINVAL, "%s: an IPv6 address is written in brackets, as in [::1]:10809", address);
	}
	if (len >= sizeof(out->host))
		return err_set(err, -EINVAL, "%s: the host's name is too long", address);
	if (len == 0) {
		host = "127.0.0.1";
		len = strlen(host);
	}
	memcpy(out->host, host, len);
	out->host[len] = '\0';
	strcpy(out->port, colon + 1);
	return 0;
}

static int inet_resolve(const char *address, struct addrinfo **out, struct err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct inet inet;
	int r = inet_parse(address, &inet, err);

	if (r < 0)
		return r;
	r = getaddrinfo(inet.host, inet.port, &hints, out);
	if (r == EAI_SYSTEM)
		return err_set(err, -errno, "%s: %s", address, strerror(errno));
	if (r == EAI_MEMORY)
		return err_set(err, -ENOMEM, "%s: no memory", address);
	return r == 0 ? 0 : err_set(err, -EADDRNOTAVAIL, "%s: %s", address, gai_strerror(r));
}

static int socket_new(int family, int flags)
{
	int on = 1;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		return -errno;
	if (family != AF_UNIX) /* answers are small and awaited */
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

/* ---- names ---- */

static void name_set(struct io_name *name, const char *text)
{
	*name = (struct io_name){0};
	snprintf(name->text, sizeof(name->text), "%s", text);
}

static void name_of(struct io_name *name, const struct sockaddr_storage *sa, socklen_t len)
{
	char host[80] = "?", port[8] = "?";

	if (sa->ss_family == AF_UNIX) {
		const struct sockaddr_un *un = (const struct sockaddr_un *)sa;
		size_t path = len - offsetof(struct sockaddr_un, sun_path);

		snprintf(name->text, sizeof(name->text), "unix:%.*s", (int)path, un->sun_path);
		return;
	}
	(void)getnameinfo((const struct sockaddr *)sa, len, host, sizeof(host), port, sizeof(port),
		NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(name->text, sizeof(name->text), sa->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static void name_local(struct io_name *name, int fd)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);

	*name = (struct io_name){0};
	if (getsockname(fd, (struct sockaddr *)&sa, &len) == 0)
		name_of(name, &sa, len);
}

/* The client's address; a unix client has none, so there it is the listener's. */
static void name_peer(struct io_name *name, int fd)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);

	*name = (struct io_name){0};
	if (getpeername(fd, (struct sockaddr *)&sa, &len) == 0 && sa.ss_family != AF_UNIX)
		name_of(name, &sa, len);
	else
		name_local(name, fd);
}

int io_posix_accepted(const struct io_op *op, int fd)
{
	int on = 1;

	name_peer(op->name, fd);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* a unix socket refuses, which is fine */
	return fd;
}

/* ---- listeners that somebody else made ---- */

static int adopt_check(int fd, struct err *err)
{
	int type, accepts;
	socklen_t len = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return err_set(err, -errno, "descriptor %d: %s", fd, strerror(errno));
	if (type != SOCK_STREAM)
		return err_set(err, -EINVAL, "descriptor %d: not a stream socket", fd);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) < 0)
		return err_set(err, -errno, "descriptor %d: %s", fd, strerror(errno));
	return accepts ? 0 : err_set(err, -EINVAL, "descriptor %d: a socket, but it doesn't listen", fd);
}

/* A ring must find a socket that may wait, and the threads one that may not. */
static int adopt_flags(int fd, bool nonblock)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	flags = nonblock ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int io_posix_inherit(const struct io_op *op)
{
	int r = adopt_check(op->fd, op->err);

	if (r == 0) {
		r = adopt_flags(op->fd, op->flags & SOCK_NONBLOCK);
		if (r < 0)
			err_set(op->err, r, "descriptor %d: %s", op->fd, strerror(-r));
	}
	if (r < 0) {
		close(op->fd);
		return r;
	}
	name_local(op->name, op->fd);
	return op->fd;
}

/* ---- listen ---- */

/* Whether nobody listens at this path any more. A full backlog shows a living listener, and must not hold us up. */
static bool path_is_stale(const struct sockaddr_un *sa)
{
	struct stat st;
	int fd, r;

	if (lstat(sa->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	r = connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? -errno : 0;
	close(fd);
	return r == -ECONNREFUSED;
}

/* The kernel puts away the io_uring of a process that was killed a little later, and until then its listener lives. */
static bool path_gets_stale(const struct sockaddr_un *sa)
{
	const struct timespec pause = {.tv_nsec = DYING_MS * 1000000L / DYING_TRIES};

	for (unsigned tries = 0; tries < DYING_TRIES; tries++) {
		if (path_is_stale(sa))
			return true;
		(void)nanosleep(&pause, NULL);
	}
	return false;
}

static int bind_path(int fd, const struct sockaddr_un *sa, struct err *err)
{
	int r = bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? -errno : 0;

	if (r == -EADDRINUSE && path_gets_stale(sa) && unlink(sa->sun_path) == 0)
		r = bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? -errno : 0;
	if (r == -EADDRINUSE)
		return err_set(err, r, "%s: exists, and is in use or no socket", sa->sun_path);
	return r < 0 ? err_set(err, r, "%s: %s", sa->sun_path, strerror(-r)) : 0;
}

static int listen_unix(const char *path, unsigned flags, struct io_name *name, struct err *err)
{
	struct sockaddr_un sa;
	struct stat st;
	int fd, r = unix_fill(path, &sa, err);

	if (r < 0)
		return r;
	fd = socket_new(AF_UNIX, (int)(flags & SOCK_NONBLOCK));
	if (fd >= 0 && flags & IO_LISTEN_PRIVATE) /* the path gets the mode of the socket, less umask */
		(void)fchmod(fd, 0600);
	if (fd < 0)
		return err_set(err, fd, "%s: %s", path, strerror(-fd));
	r = bind_path(fd, &sa, err);
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (r < 0) {
		close(fd);
		return r;
	}
	if (lstat(path, &st) == 0) {
		name->device = st.st_dev;
		name->inode = st.st_ino;
	}
	return fd;
}

static int listen_at(const struct addrinfo *ai, int flags)
{
	int on = 1;
	int fd = socket_new(ai->ai_family, flags);

	if (fd < 0)
		return fd;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* Only while it is still the socket that we made there: somebody may have put another one in its place. */
void io_posix_unlink(const struct io_name *name)
{
	const char *path = unix_path(name->text);
	struct stat st;

	if (path != NULL && name->inode != 0 && lstat(path, &st) == 0 && st.st_dev == name->device &&
		st.st_ino == name->inode)
		(void)unlink(path);
}

/* ---- connect ---- */

static int connect_to(int family, const struct sockaddr *sa, socklen_t len)
{
	struct timeval patience = {.tv_sec = CONNECT_SECONDS}, none = {0};
	int fd = socket_new(family, 0);
	int r = 0;

	if (fd < 0)
		return fd;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, sa, len) < 0)
		r = errno == EINPROGRESS || errno == EAGAIN ? -ETIMEDOUT : -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

static int connect_at(const struct addrinfo *ai, int flags)
{
	(void)flags;
	return connect_to(ai->ai_family, ai->ai_addr, ai->ai_addrlen);
}

static int connect_unix(const char *path, struct err *err)
{
	struct sockaddr_un sa;
	int r = unix_fill(path, &sa, err);

	if (r < 0)
		return r;
	r = connect_to(AF_UNIX, (const struct sockaddr *)&sa, sizeof(sa));
	return r < 0 ? err_set(err, r, "%s: %s", path, strerror(-r)) : r;
}

/* The first of a name's addresses that works; if none does, what the last one said. */
static int inet_first(const struct io_op *op, int (*attempt)(const struct addrinfo *, int))
{
	struct addrinfo *all;
	int fd = inet_resolve(op->address, &all, op->err);

	if (fd < 0)
		return fd;
	fd = -EADDRNOTAVAIL;
	for (const struct addrinfo *ai = all; ai != NULL && fd < 0; ai = ai->ai_next)
		fd = attempt(ai, (int)op->flags);
	freeaddrinfo(all);
	return fd < 0 ? err_set(op->err, fd, "%s: %s", op->address, strerror(-fd)) : fd;
}

int io_posix_connect(const struct io_op *op)
{
	const char *path = unix_path(op->address);
	int fd = path != NULL ? connect_unix(path, op->err) : inet_first(op, connect_at);

	if (fd < 0)
		return fd;
	if (path != NULL)
		name_set(op->name, op->address);
	else
		name_peer(op->name, fd);
	return fd;
}

int io_posix_listen(const struct io_op *op)
{
	const char *path = unix_path(op->address);
	int fd;

	if (path != NULL) {
		name_set(op->name, op->address);
		return listen_unix(path, op->flags, op->name, op->err);
	}
	fd = inet_first(op, listen_at);
	if (fd >= 0)
		name_local(op->name, fd);
	return fd;
}
