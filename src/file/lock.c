/* SPDX-License-Identifier: MIT */
/*
 * The locks by which QEMU's programs keep out of each other's images, and we out of theirs and they out of ours.
 *
 * There are a few permissions, each with a number. Whoever has a file open holds a shared lock on byte 100 + i for each
 * permission that he uses, and on byte 200 + i for each that he doesn't grant to others. After taking his own he tests for
 * locks of others: on 200 + i for what he uses, on 100 + i for what he doesn't grant. So two who conflict can't both get
 * in; at worst neither does.
 */
#include "file/lock.h"

#include <errno.h>

#define LOCK_USED 100u
#define LOCK_REFUSED 200u
#define PERMISSIONS 4u

#define DYING_NS UINT64_C(500000000)
#define DYING_TRIES 20u

enum { /* bit i is permission i */
	PERM_CONSISTENT_READ = 1 << 0,
	PERM_WRITE = 1 << 1,
	PERM_WRITE_UNCHANGED = 1 << 2,
	PERM_RESIZE = 1 << 3,
};

struct permissions {
	unsigned used, refused;
};

static struct permissions permissions_of(bool write)
{
	unsigned used = PERM_CONSISTENT_READ | (write ? PERM_WRITE | PERM_RESIZE : 0u);

	return (struct permissions){.used = used, .refused = PERM_WRITE | PERM_RESIZE};
}

/* For each permission in the set: lock or test its byte. */
static int for_each_byte(struct co *co, struct io_file *f, uint64_t base, unsigned set,
	int (*what)(struct co *co, struct io_file *f, uint64_t at))
{
	int err = 0;

	for (unsigned i = 0; i < PERMISSIONS && err == 0; i++)
		if (set & 1u << i)
			err = what(co, f, base + i);
	return err;
}

static int take_all(struct co *co, struct io_file *f, struct permissions p)
{
	int err = for_each_byte(co, f, LOCK_USED, p.used, io_file_lock);

	return err != 0 ? err : for_each_byte(co, f, LOCK_REFUSED, p.refused, io_file_lock);
}

/* The first permission in the set on whose byte somebody else has a lock; PERMISSIONS: none. */
static unsigned conflict_find(struct co *co, struct io_file *f, uint64_t base, unsigned set)
{
	unsigned i = 0;

	while (i < PERMISSIONS && !((set & 1u << i) && io_file_lock_test(co, f, base + i) == -EAGAIN))
		i++;
	return i;
}

static int explain(
	struct co *co, struct io_file *f, struct permissions p, bool write, const char *path, struct err *err)
{
	static const char *const names[] = {"consistent read", "write", "write unchanged", "resize", "write"};
	unsigned ours = conflict_find(co, f, LOCK_REFUSED, p.used);
	unsigned theirs = conflict_find(co, f, LOCK_USED, p.refused);
	bool writer = io_file_lock_test(co, f, LOCK_USED + 1) == -EAGAIN;

	if (ours < PERMISSIONS)
		err_set(err, -EAGAIN, "Failed to get \"%s\" lock\nIs another process using the image [%s]?",
			names[ours], path);
	else
		err_set(err, -EAGAIN, "Failed to get shared \"%s\" lock\nIs another process using the image [%s]?",
			names[theirs], path);
	err_hint(err, "\"%s\" is in use by another process as a %s; close it there, or %s", path,
		writer ? "writer" : "reader", write ? "open it read only" : "read it with -U");
	return -EAGAIN;
}

static int test_all(struct co *co, struct io_file *f, struct permissions p)
{
	int err = for_each_byte(co, f, LOCK_REFUSED, p.used, io_file_lock_test);

	return err != 0 ? err : for_each_byte(co, f, LOCK_USED, p.refused, io_file_lock_test);
}

/* A process that was killed keeps its locks until the kernel has put its io_uring away, a little after it has gone. */
static int test_patiently(struct co *co, struct io_file *f, struct permissions p)
{
	int err = test_all(co, f, p);

	for (unsigned tries = 0; err == -EAGAIN && tries < DYING_TRIES; tries++) {
		co_sleep(co, DYING_NS / DYING_TRIES);
		err = test_all(co, f, p);
	}
	return err;
}

int file_lock(struct co *co, struct io_file *f, bool write, const char *path, struct err *err)
{
	struct permissions p = permissions_of(write);
	int rc = take_all(co, f, p);

	if (rc != 0)
		return err_set(
			err, rc, "can't lock \"%s\", which would keep other programs from it (-U does without)", path);
	rc = test_patiently(co, f, p);
	if (rc == -EAGAIN)
		return explain(co, f, p, write, path, err);
	return rc != 0 ? err_set(err, rc, "can't test the locks of \"%s\"", path) : 0;
}
