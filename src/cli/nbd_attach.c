/* SPDX-License-Identifier: MIT */
/*
 * The kernel's NBD client. The server knows nothing of it: a process of its own connects to the server's socket like anybody
 * else, gives that to the kernel, and stays inside the ioctl that is the device, until the device is disconnected. Then its
 * connection ends, and with it the server.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/endian.h"
#include "cli/nbd.h"

#define NBD_BLOCK_BYTES 512u

/* ---- the handshake: the old way to choose an export, with all that a kernel's client needs ---- */

#define NBD_SERVER_MAGIC UINT64_C(0x4e42444d41474943)
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054)
#define NBD_OPTION_EXPORT_NAME 1u
#define NBD_FIXED_NEWSTYLE 1u
#define NBD_NO_ZEROES 2u

struct greeting {
	be64 magic, option_magic;
	be16 flags;
} __attribute__((packed));

struct choice {
	be32 client_flags;
	be64 magic;
	be32 option, len; /* the name follows */
} __attribute__((packed));

struct chosen {
	be64 size;
	be16 flags;
} __attribute__((packed));

static int all_read(int fd, void *to, size_t bytes)
{
	for (size_t at = 0; at < bytes;) {
		ssize_t got = read(fd, (char *)to + at, bytes - at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ECONNRESET;
		at += (size_t)got;
	}
	return 0;
}

static int all_write(int fd, const void *from, size_t bytes)
{
	ssize_t sent = send(fd, from, bytes, MSG_NOSIGNAL);

	return sent < 0 ? -errno : (size_t)sent == bytes ? 0 : -EIO;
}

static int shake_hands(int fd, const char *name, struct chosen *out)
{
	struct greeting hello;
	struct choice choice = {
		.client_flags = be32_of(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES),
		.magic = be64_of(NBD_OPTION_MAGIC),
		.option = be32_of(NBD_OPTION_EXPORT_NAME),
		.len = be32_of((uint32_t)strlen(name)),
	};
	int ret = all_read(fd, &hello, sizeof(hello));

	if (ret == 0 && (be64_get(hello.magic) != NBD_SERVER_MAGIC || be64_get(hello.option_magic) != NBD_OPTION_MAGIC))
		ret = -EPROTO;
	if (ret == 0)
		ret = all_write(fd, &choice, sizeof(choice));
	if (ret == 0 && name[0])
		ret = all_write(fd, name, strlen(name));
	return ret < 0 ? ret : all_read(fd, out, sizeof(*out));
}

static int socket_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		return fd < 0 ? -errno : -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : fd;
}

/* ---- the device ---- */

static int device_set(int device, int sock, const struct chosen *export)
{
	uint64_t size = be64_get(export->size);
	uint16_t flags = be16_get(export->flags);

	if (ioctl(device, NBD_SET_SOCK, (unsigned long)sock) < 0 ||
		ioctl(device, NBD_SET_BLKSIZE, (unsigned long)NBD_BLOCK_BYTES) < 0 ||
		ioctl(device, NBD_SET_SIZE_BLOCKS, (unsigned long)(size / NBD_BLOCK_BYTES)) < 0)
		return -errno;
	return ioctl(device, NBD_SET_FLAGS, (unsigned long)flags) < 0 && errno != ENOTTY ? -errno : 0;
}

static void say(const struct cli_nbd *n, const char *what, int ret)
{
	cli_complain("Failed to %s %s: %s", what, n->device, strerror(-ret));
}

/* Returns when the device is disconnected; its exit status. */
static int keep(struct cli_nbd *n, int device)
{
	struct chosen export;
	int sock = socket_connect(n->socket), ret = sock < 0 ? sock : shake_hands(sock, n->name, &export);

	if (ret < 0)
		return say(n, "reach our own server for", ret), 1;
	ret = device_set(device, sock, &export);
	if (ret < 0)
		return say(n, "set NBD socket of", ret), 1;
	if (n->verbose)
		printf("NBD device %s is now connected to %s\n", n->device, n->serve.images[0].open.path),
			fflush(stdout);
	ret = ioctl(device, NBD_DO_IT) < 0 && errno != EPIPE ? -errno : 0;
	ioctl(device, NBD_CLEAR_QUE);
	ioctl(device, NBD_CLEAR_SOCK);
	if (ret < 0)
		say(n, "use", ret);
	close(sock);
	return ret < 0;
}

static void ATTR_NORETURN wait_and_keep(struct cli_nbd *n, int device, int told_fd)
{
	char go = 0;

	/* Whoever is to serve may end before he does; we with him. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (all_read(told_fd, &go, 1) < 0)
		_exit(0);
	_exit(keep(n, device));
}

int cli_nbd_attach_prepare(struct cli_nbd *n, struct err *err)
{
	int device = open(n->device, O_RDWR | O_CLOEXEC), fds[2] = {-1, -1};
	pid_t child;

	n->attach_fd = -1;
	if (device < 0)
		return err_set(err, -errno, "Failed to open %s: %s", n->device, strerror(errno));
	if (ioctl(device, NBD_CLEAR_SOCK) < 0 && errno == ENOTTY) {
		close(device);
		return err_set(err, -ENOTTY, "%s is no device of the kernel's NBD client (its module is called nbd)",
			n->device);
	}
	child = pipe2(fds, O_CLOEXEC) < 0 ? -1 : fork();
	if (child == 0) {
		close(fds[1]);
		wait_and_keep(n, device, fds[0]);
	}
	close(device);
	close(fds[0]);
	n->attached = child;
	n->attach_fd = fds[1];
	return child < 0 ? err_set(err, -errno, "can't fork: %s", strerror(errno)) : 0;
}

int cli_nbd_attach(struct cli_nbd *n, struct err *err)
{
	int fd = n->attach_fd;

	n->attach_fd = -1;
	if (write(fd, "", 1) != 1)
		return err_set(err, -EPIPE, "the process that keeps %s has ended", n->device);
	close(fd);
	return 0;
}

int cli_nbd_disconnect(const char *device)
{
	int fd = open(device, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return cli_complain("Cannot open %s: %s", device, strerror(errno));
	if (ioctl(fd, NBD_DISCONNECT) < 0) {
		close(fd);
		return cli_complain("Cannot disconnect %s: %s (is it a device of the kernel's NBD client?)", device,
			strerror(errno));
	}
	printf("%s disconnected\n", device);
	close(fd);
	return 0;
}
