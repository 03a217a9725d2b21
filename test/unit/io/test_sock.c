/* SPDX-License-Identifier: MIT */
/* Sockets: many clients at once, shutdown, and a unix listener's path. */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { CLIENTS = 40, MESSAGES = 30, MESSAGE_BYTES = 5000 };

struct server {
	struct io_sock *listener;
	struct co_group group;
	unsigned served;
	int ended; /* what the last accept said */
};

struct client {
	struct server *server;
	struct io_sock *sock;
	unsigned id;
};

/* ---- echo ---- */

static void echo(struct co *co, void *arg)
{
	struct client *c = arg;
	char buf[3000];
	ssize_t n;

	while ((n = io_recv(co, c->sock, buf, sizeof(buf))) > 0)
		CHECK_INT(io_send(co, c->sock, IOV_BUF(buf, (size_t)n)), 0);
	CHECK_INT(n, 0);
	io_sock_close(co, c->sock);
	c->server->served++;
	free(c);
}

static void serve(struct co *co, void *arg)
{
	struct server *s = arg;
	struct io_sock *sock;

	while ((s->ended = io_accept(co, s->listener, &sock)) == 0) {
		struct client *c = malloc(sizeof(*c));

		CHECK(c != NULL);
		*c = (struct client){.server = s, .sock = sock};
		CHECK_INT(co_group_spawn(&s->group, "echo", echo, c), 0);
	}
}

static void recv_whole(struct co *co, struct io_sock *s, unsigned char *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = io_recv(co, s, buf, len);

		CHECK(n > 0);
		buf += n;
		len -= (size_t)n;
	}
}

/* Each message goes out as 100 elements, more than one operation takes. */
static void talk(struct co *co, void *arg)
{
	struct client *c = arg;
	unsigned char out[MESSAGE_BYTES], in[MESSAGE_BYTES];
	struct iovec v[100];
	struct io_sock *s;
	struct err err;

	for (unsigned i = 0; i < 100; i++)
		v[i] = (struct iovec){out + i * (MESSAGE_BYTES / 100), MESSAGE_BYTES / 100};
	CHECK_INT(io_connect(co, io_sock_address(c->server->listener), &s, &err), 0);
	for (unsigned i = 0; i < MESSAGES; i++) {
		pattern_fill(out, sizeof(out), c->id * 100 + i);
		CHECK_INT(io_send(co, s, iov_of(v, 100)), 0);
		recv_whole(co, s, in, sizeof(in));
		CHECK(memcmp(in, out, sizeof(in)) == 0);
	}
	io_sock_close(co, s);
}

static void echo_over(struct co *co, const char *address, const char *prefix)
{
	struct server s = {.ended = 1};
	struct client clients[CLIENTS];
	struct co_group talkers;
	struct err err = {0};

	CHECK_INT(io_listen(co, address, &s.listener, &err), 0);
	CHECK(strncmp(io_sock_address(s.listener), prefix, strlen(prefix)) == 0);
	CHECK(strcmp(io_sock_address(s.listener) + strlen(prefix), "0") != 0);
	co_group_init(&s.group, co_sched_of(co));
	co_group_init(&talkers, co_sched_of(co));
	CHECK_INT(co_group_spawn(&s.group, "serve", serve, &s), 0);
	for (unsigned i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){.server = &s, .id = i};
		CHECK_INT(co_group_spawn(&talkers, "talk", talk, &clients[i]), 0);
	}
	co_group_wait(co, &talkers);
	io_sock_shutdown(s.listener);
	co_group_wait(co, &s.group);
	CHECK_INT(s.served, CLIENTS);
	CHECK_INT(s.ended, -ESHUTDOWN);
	io_sock_close(co, s.listener);
}

static void body_echo_unix(struct co *co, void *arg ATTR_UNUSED)
{
	echo_over(co, "unix:sock", "unix:sock");
	CHECK(access("sock", F_OK) != 0);
}

static void body_echo_tcp(struct co *co, void *arg ATTR_UNUSED) { echo_over(co, ":0", "127.0.0.1:"); }

/* Whether localhost is one or the other is for the system to say. */
static void body_echo_name(struct co *co, void *arg ATTR_UNUSED) { echo_over(co, "localhost:0", ""); }

static void body_echo_v6(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_sock *s;
	struct err err;
	int r = io_listen(co, "[::1]:0", &s, &err);

	if (r == -EADDRNOTAVAIL || r == -EAFNOSUPPORT) {
		print_message("skipped: %s\n", err.text);
		return;
	}
	CHECK_INT(r, 0);
	io_sock_close(co, s);
	echo_over(co, "[::1]:0", "[::1]:");
}

/* ---- shutdown ---- */

struct ends {
	struct io_sock *listener, *a, *b;
	long result;
};

static void ends_open(struct co *co, struct ends *e)
{
	struct err err;

	CHECK_INT(io_listen(co, "unix:s", &e->listener, &err), 0);
	CHECK_INT(io_connect(co, "unix:s", &e->a, &err), 0);
	CHECK_INT(io_accept(co, e->listener, &e->b), 0);
}

static void ends_close(struct co *co, struct ends *e)
{
	io_sock_close(co, e->a);
	io_sock_close(co, e->b);
	io_sock_close(co, e->listener);
}

static void wait_accept(struct co *co, void *arg)
{
	struct ends *e = arg;
	struct io_sock *sock;

	e->result = io_accept(co, e->listener, &sock);
}

static void wait_recv(struct co *co, void *arg)
{
	struct ends *e = arg;
	char c;

	e->result = io_recv(co, e->a, &c, 1);
}

/* Far more than the socket's buffers hold. */
static void wait_send(struct co *co, void *arg)
{
	struct ends *e = arg;
	size_t len = 16 << 20;
	void *buf = calloc(1, len);

	CHECK(buf != NULL);
	e->result = io_send(co, e->a, IOV_BUF(buf, len));
	free(buf);
}

static long woken(struct co *co, struct ends *e, co_entry *waiter, struct io_sock *end)
{
	struct co_group g;

	e->result = 1234;
	co_group_init(&g, co_sched_of(co));
	CHECK_INT(co_group_spawn(&g, "waiter", waiter, e), 0);
	co_sleep(co, 30000000);
	CHECK_INT(e->result, 1234);
	io_sock_shutdown(end);
	co_group_wait(co, &g);
	return e->result;
}

static void body_shutdown(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_sock *sock;
	struct ends e;

	ends_open(co, &e);
	CHECK_INT(woken(co, &e, wait_recv, e.a), 0);
	CHECK_INT(woken(co, &e, wait_accept, e.listener), -ESHUTDOWN);
	CHECK_INT(io_accept(co, e.listener, &sock), -ESHUTDOWN);
	ends_close(co, &e);

	ends_open(co, &e);
	CHECK_INT(woken(co, &e, wait_send, e.a), -EPIPE);
	ends_close(co, &e);

	ends_open(co, &e);
	CHECK_INT(woken(co, &e, wait_recv, e.b), 0);
	CHECK_INT(io_send(co, e.a, IOV_BUF("x", 1)), -EPIPE);
	ends_close(co, &e);
}

static void body_shutdown_tcp(struct co *co, void *arg ATTR_UNUSED)
{
	struct ends e = {0};
	struct err err;

	CHECK_INT(io_listen(co, ":0", &e.listener, &err), 0);
	CHECK_INT(woken(co, &e, wait_accept, e.listener), -ESHUTDOWN);
	io_sock_close(co, e.listener);
}

/* ---- addresses and paths ---- */

static void body_addresses(struct co *co, void *arg ATTR_UNUSED)
{
	static const char *const bad[] = {"", "host", "host:", ":-1", ":65536", ":http", "::1:10809", "unix:", ":1x"};
	struct io_sock *s;
	struct err err;
	char address[300];

	for (size_t i = 0; i < ARRAY_ENTRIES(bad); i++) {
		CHECK_INT(io_listen(co, bad[i], &s, &err), -EINVAL);
		CHECK_INT(io_connect(co, bad[i], &s, &err), -EINVAL);
		CHECK(err.code == -EINVAL && err.text[0] != '\0');
	}
	snprintf(address, sizeof(address), "unix:%0200d", 0);
	CHECK_INT(io_listen(co, address, &s, &err), -ENAMETOOLONG);
	CHECK_INT(io_connect(co, "unix:nobody", &s, &err), -ENOENT);
	CHECK_INT(io_listen(co, "unix:nowhere/s", &s, &err), -ENOENT);
	CHECK_INT(io_connect(co, "127.0.0.1:1", &s, &err), -ECONNREFUSED);
	CHECK(strstr(err.text, "127.0.0.1:1") != NULL);
}

static void path_bind(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(sa.sun_path, path);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	close(fd);
}

static void body_paths(struct co *co, void *arg ATTR_UNUSED)
{
	struct io_sock *a, *b;
	struct err err;
	FILE *f;

	path_bind("s"); /* what a listener that died leaves behind */
	CHECK_INT(io_listen(co, "unix:s", &a, &err), 0);
	CHECK_INT(io_listen(co, "unix:s", &b, &err), -EADDRINUSE);
	CHECK(strstr(err.text, "in use") != NULL);
	io_sock_close(co, a);
	CHECK(access("s", F_OK) != 0);

	CHECK_INT(io_listen(co, "unix:s", &a, &err), 0);
	CHECK(rename("s", "moved") == 0);
	path_bind("s"); /* somebody else's by now */
	io_sock_close(co, a);
	CHECK(access("s", F_OK) == 0);

	f = fopen("file", "w");
	CHECK(f != NULL && fclose(f) == 0);
	CHECK_INT(io_listen(co, "unix:file", &a, &err), -EADDRINUSE);
	CHECK(access("file", F_OK) == 0);
}

/* Without descriptors accept waits for some to come back; the client that waits in the backlog is served then. */
static void release_later(struct co *co, void *arg)
{
	struct rlimit *before = arg;

	co_sleep(co, 120000000);
	CHECK(setrlimit(RLIMIT_NOFILE, before) == 0);
}

static void body_descriptors(struct co *co, void *arg ATTR_UNUSED)
{
	struct rlimit before, few;
	struct ends e;
	struct co_group g;
	struct io_sock *c, *d;
	struct err err;
	int probe;

	co_group_init(&g, co_sched_of(co));
	ends_open(co, &e);
	CHECK_INT(io_connect(co, "unix:s", &c, &err), 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
	probe = dup(0);
	CHECK(probe >= 0);
	few = (struct rlimit){.rlim_cur = (rlim_t)probe, .rlim_max = before.rlim_max};
	close(probe);
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	CHECK_INT(co_group_spawn(&g, "release", release_later, &before), 0);
	CHECK_INT(io_accept(co, e.listener, &d), -EMFILE);
	co_group_wait(co, &g);
	CHECK_INT(io_accept(co, e.listener, &d), 0);
	io_sock_close(co, c);
	io_sock_close(co, d);
	ends_close(co, &e);
}

TEST(echo_unix)
TEST(echo_tcp)
TEST(echo_name)
TEST(echo_v6)
TEST(shutdown)
TEST(shutdown_tcp)
TEST(addresses)
TEST(paths)
TEST(descriptors)

/* ---- listeners that somebody else made ---- */

static void body_adopt_listener(struct co *co, void *arg ATTR_UNUSED)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "adopted.sock"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), pipes[2];
	struct io_sock *listener, *client, *server, *none;
	struct err err = {0};
	char buf[4];

	unlink(sa.sun_path);
	CHECK_INT(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	CHECK_INT(io_listener_adopt(co, dup(fd), &none, &err), -EINVAL);
	CHECK(strstr(err.text, "doesn't listen") != NULL);
	CHECK_INT(listen(fd, 5), 0);
	CHECK_INT(fcntl(fd, F_SETFL, O_NONBLOCK), 0); /* as a manager or another engine may have left it */
	CHECK_INT(io_listener_adopt(co, fd, &listener, &err), 0);
	CHECK(strcmp(io_sock_address(listener), "unix:adopted.sock") == 0);
	CHECK_INT(io_connect(co, "unix:adopted.sock", &client, &err), 0);
	CHECK_INT(io_accept(co, listener, &server), 0);
	CHECK_INT(io_send(co, client, IOV_BUF("abc", 4)), 0);
	CHECK_INT(io_recv(co, server, buf, 4), 4);
	io_sock_close(co, client);
	io_sock_close(co, server);
	io_sock_close(co, listener);
	CHECK_INT(access(sa.sun_path, F_OK), 0);

	CHECK_INT(pipe(pipes), 0);
	CHECK_INT(io_listener_adopt(co, pipes[0], &none, &err), -ENOTSOCK);
	CHECK(fcntl(pipes[0], F_GETFD) < 0); /* taken over, and closed */
	close(pipes[1]);
}

TEST(adopt_listener)

/* ---- changing hands ---- */

struct receiver {
	struct io_sock *sock;
	ssize_t result;
	char buf[4];
};

static void receive_entry(struct co *co, void *arg)
{
	struct receiver *r = arg;

	r->result = io_recv(co, r->sock, r->buf, sizeof(r->buf));
}

static void accept_entry(struct co *co, void *arg)
{
	struct receiver *r = arg;
	struct io_sock *sock;

	r->result = io_accept(co, r->sock, &sock);
}

/* Who waits is woken, who comes isn't let wait; the connection is as it was, and what comes meanwhile is found later. */
static void body_pause(struct co *co, void *arg ATTR_UNUSED)
{
	struct receiver r = {0};
	struct io_sock *listener, *client;
	struct co_group g;
	struct err err = {0};

	CHECK_INT(io_listen(co, "unix:pause.sock", &listener, &err), 0);
	for (unsigned i = 0; i < 3; i++) {
		r = (struct receiver){.sock = listener};
		co_group_init(&g, co_sched_of(co));
		CHECK_INT(co_group_spawn(&g, "accept", accept_entry, &r), 0);
		co_sleep(co, 1000000);
		io_sock_pause(listener);
		co_group_wait(co, &g);
		CHECK_INT(r.result, -ECANCELED);
		io_sock_resume(co, listener);
	}
	CHECK_INT(io_connect(co, "unix:pause.sock", &client, &err), 0);
	CHECK_INT(io_accept(co, listener, &r.sock), 0);
	for (unsigned i = 0; i < 3; i++) {
		co_group_init(&g, co_sched_of(co));
		CHECK_INT(co_group_spawn(&g, "receive", receive_entry, &r), 0);
		co_sleep(co, 1000000);
		io_sock_pause(r.sock);
		co_group_wait(co, &g);
		CHECK_INT(r.result, -ECANCELED);
		CHECK_INT(io_send(co, client, IOV_BUF("abc", 3)), 0);
		CHECK_INT(io_recv(co, r.sock, r.buf, 4), -ECANCELED);
		CHECK_INT(io_send(co, r.sock, IOV_BUF("de", 2)), 0);
		CHECK_INT(io_recv(co, client, r.buf, 4), 2);
		io_sock_resume(co, r.sock);
		CHECK_INT(io_recv(co, r.sock, r.buf, 4), 3);
		CHECK(memcmp(r.buf, "abc", 3) == 0);
	}
	io_sock_close(co, client);
	io_sock_close(co, r.sock);
	io_sock_close(co, listener);
}

TEST(pause)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(echo_unix),
		RUN(echo_tcp),
		RUN(echo_name),
		RUN(echo_v6),
		RUN(shutdown),
		RUN(shutdown_tcp),
		RUN(addresses),
		RUN(paths),
		RUN(descriptors),
		RUN(adopt_listener),
		RUN(pause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
