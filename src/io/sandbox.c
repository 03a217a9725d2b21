/* SPDX-License-Identifier: MIT */
/*
 * Giving up what an opened image doesn't need. In this order, each part without relying on the others:
 *
 *   user        another user and group, if asked for
 *   privileges  every capability, and the way back to them (no_new_privs); no core dumps, nobody may trace us
 *   landlock    no file is opened, made or run any more, no TCP port bound or connected; what was opened before stays
 *               usable. Files may be removed in the few directories where there is something of ours to remove
 *   seccomp     of the system calls only those that serving takes (sandbox_calls.c)
 *
 * io_uring's operations pass seccomp unseen, so the ring has restrictions of its own from the moment it is made
 * (uring.c): it can do nothing that names a file or a peer.
 *
 * Landlock and capabilities belong to a thread and are inherited by the threads that it starts: so the helper threads end
 * before, and those that are started later have been born inside.
 */
#include "io/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/math.h"

/* ---- user and privileges ---- */

static int user_change(const struct io_sandbox *how)
{
	if (!how->change_user)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(how->gid, how->gid, how->gid) < 0 ||
		setresuid(how->uid, how->uid, how->uid) < 0)
		return -errno;
	return 0;
}

/* The bounding set needs a capability itself; who hasn't got it has nothing there to lose either. */
static int privileges_drop(const struct io_sandbox *how ATTR_UNUSED)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
	struct rlimit no_core = {0};

	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &no_core) < 0)
		return -errno;
	return 0;
}

/* ---- landlock ---- */

/* The kernel's structure as it has grown up to version 6; it takes any prefix that the running kernel knows. */
struct ruleset {
	uint64_t files, net, scoped;
};

enum { FILES_V1 = 13, FILES_V2 = 14, FILES_V3 = 15, FILES_V5 = 16 }; /* how many rights each version knows */
enum { NET_BIND = 1 << 0, NET_CONNECT = 1 << 1 };
enum { SCOPE_ABSTRACT_SOCKETS = 1 << 0, SCOPE_SIGNALS = 1 << 1 };

static unsigned rights_known(int version)
{
	return version >= 5 ? FILES_V5 : version >= 3 ? FILES_V3 : version == 2 ? FILES_V2 : FILES_V1;
}

static int ruleset_make(int version, bool connect)
{
	struct ruleset all = {.files = (UINT64_C(1) << rights_known(version)) - 1};
	size_t bytes = sizeof(all.files);

	if (version >= 4) {
		all.net = connect ? NET_BIND : NET_BIND | NET_CONNECT;
		bytes = offsetof(struct ruleset, scoped);
	}
	if (version >= 6) {
		all.scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS;
		bytes = sizeof(all);
	}
	return (int)syscall(SYS_landlock_create_ruleset, &all, bytes, 0);
}

static int allow_removal(int rules, const char *dir)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_REMOVE_FILE};
	int r;

	rule.parent_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return -errno;
	r = (int)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	r = r < 0 ? -errno : 0;
	close(rule.parent_fd);
	return r;
}

static int landlock_enter(const struct io_sandbox *how)
{
	int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int rules = version < 0 ? -1 : ruleset_make(version, how->connect);
	int r = rules < 0 ? -errno : 0;

	for (const char *const *dir = how->removal_dirs; r == 0 && dir != NULL && *dir != NULL; dir++)
		r = allow_removal(rules, *dir);
	if (r == 0 && syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		r = -errno;
	if (rules >= 0)
		close(rules);
	return r;
}

/* ---- all of it ---- */

static const struct {
	enum io_sandbox_part part;
	int (*enter)(const struct io_sandbox *how);
} steps[] = {
	/* in this order: each may need what the next one takes away */
	{IO_SANDBOX_USER, user_change},
	{IO_SANDBOX_PRIVILEGES, privileges_drop},
	{IO_SANDBOX_LANDLOCK, landlock_enter},
	{IO_SANDBOX_SECCOMP, io_sandbox_calls},
};

void io_sandbox_enter(struct co *co, const struct io_sandbox *how, unsigned parts, struct io_sandbox_result *out)
{
	struct io *io = io_of(co);

	*out = (struct io_sandbox_result){0};
	io->ops->threads_stop(io);
	for (unsigned i = 0; i < ARRAY_ENTRIES(steps); i++) {
		int r = parts & steps[i].part ? steps[i].enter(how) : 0;

		if (r < 0 && out->missing == 0)
			out->error = r;
		if (r < 0)
			out->missing |= steps[i].part;
	}
	io->ops->threads_start(io);
}

const char *io_sandbox_part_name(enum io_sandbox_part part)
{
	switch (part) {
	case IO_SANDBOX_USER: return "the change of user";
	case IO_SANDBOX_PRIVILEGES: return "dropping privileges";
	case IO_SANDBOX_LANDLOCK: return "Landlock";
	case IO_SANDBOX_SECCOMP: return "seccomp";
	case IO_SANDBOX_ALL: break;
	}
	return "?";
}
