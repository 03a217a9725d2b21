/* SPDX-License-Identifier: MIT */
/* Who may have a file open beside whom: two of ours, and one of ours beside QEMU's programs. */
#include "../io/engine.h"

#include <errno.h>

#include "file/file.h"

static int try_open(struct co *co, bool write, bool no_lock, struct node **out, struct err *err)
{
	struct file_open how = {.path = "a", .write = write, .no_lock = no_lock};

	*out = NULL;
	return file_open(co, &how, out, err);
}

static void make_image(void) { CHECK(system("truncate -s 1M a") == 0); }

static void body_ours(struct co *co, void *arg ATTR_UNUSED)
{
	struct node *a, *b, *c;
	struct err err = {0};

	make_image();
	CHECK_INT(try_open(co, false, false, &a, NULL), 0);
	CHECK_INT(try_open(co, false, false, &b, NULL), 0);
	CHECK_INT(try_open(co, true, false, &c, &err), -EAGAIN);
	CHECK(strstr(err.text, "\"a\" is in use by another process as a reader") != NULL);
	CHECK_INT(try_open(co, true, true, &c, NULL), 0);
	CHECK_INT(node_close(co, a), 0);
	CHECK_INT(node_close(co, b), 0);
	CHECK_INT(node_close(co, c), 0);

	CHECK_INT(try_open(co, true, false, &a, NULL), 0);
	CHECK_INT(try_open(co, true, false, &b, &err), -EAGAIN);
	CHECK(strstr(err.text, "\"a\" is in use by another process as a writer") != NULL);
	CHECK_INT(try_open(co, false, false, &b, &err), -EAGAIN);
	CHECK(strstr(err.text, "as a writer") != NULL && strstr(err.text, "-U") != NULL);
	CHECK_INT(try_open(co, false, true, &b, NULL), 0);
	CHECK_INT(node_close(co, b), 0);
	CHECK_INT(node_close(co, a), 0);
	CHECK_INT(try_open(co, true, false, &a, NULL), 0); /* whoever failed left no lock */
	CHECK_INT(node_close(co, a), 0);
}

/* ---- QEMU ---- */

/* QEMU keeps writers out of what it reads as an image; what it reads as raw it leaves open. */
static void make_qcow2(void) { CHECK(system("qemu-img create -q -f qcow2 a 1M") == 0); }

static bool qemu_is_here(void)
{
	if (system("qemu-io --version >out 2>&1 && qemu-img --version >out 2>&1") == 0)
		return true;
	print_message("skipped: no qemu-io, qemu-img\n");
	return false;
}

/* A qemu-io that has the image open until its input ends. */
static FILE *qemu_start(const char *options)
{
	char command[100];
	FILE *in;

	snprintf(command, sizeof(command), "qemu-io %s a >out 2>&1", options);
	in = popen(command, "w");
	CHECK(in != NULL);
	fprintf(in, "read 0 512\n");
	fflush(in);
	for (unsigned i = 0; i < 1000 && system("grep -q 'read 512/512' out") != 0; i++)
		usleep(10000);
	return in;
}

static void body_qemu_writes(struct co *co, void *arg ATTR_UNUSED)
{
	struct err err = {0};
	struct node *n;
	FILE *qemu;

	if (!qemu_is_here())
		return;
	make_image();
	qemu = qemu_start("-f raw");
	CHECK_INT(try_open(co, true, false, &n, &err), -EAGAIN);
	CHECK(strstr(err.text, "as a writer") != NULL);
	CHECK_INT(try_open(co, false, false, &n, &err), -EAGAIN);
	CHECK(strstr(err.text, "as a writer") != NULL);
	CHECK_INT(try_open(co, false, true, &n, NULL), 0);
	CHECK_INT(node_close(co, n), 0);
	CHECK(pclose(qemu) == 0);
	CHECK_INT(try_open(co, true, false, &n, NULL), 0);
	CHECK_INT(node_close(co, n), 0);
}

static void body_qemu_reads(struct co *co, void *arg ATTR_UNUSED)
{
	struct err err = {0};
	struct node *n;
	FILE *qemu;

	if (!qemu_is_here())
		return;
	make_qcow2();
	qemu = qemu_start("-r -f qcow2");
	CHECK_INT(try_open(co, false, false, &n, NULL), 0);
	CHECK_INT(node_close(co, n), 0);
	CHECK_INT(try_open(co, true, false, &n, &err), -EAGAIN);
	CHECK(strstr(err.text, "as a reader") != NULL);
	CHECK(pclose(qemu) == 0);
}

/* The first line that QEMU says is what its users know. */
static bool qemu_says(const char *command, const char *what)
{
	char line[200];

	snprintf(line, sizeof(line), "%s >out 2>&1; grep -q '%s' out", command, what);
	return system(line) == 0;
}

static void body_qemu_kept_out(struct co *co, void *arg ATTR_UNUSED)
{
	struct node *n, *m;

	if (!qemu_is_here())
		return;
	make_qcow2();
	CHECK_INT(try_open(co, true, false, &n, NULL), 0);
	CHECK(qemu_says("qemu-img info -f qcow2 a", "Failed to get shared \"write\" lock"));
	CHECK(qemu_says("qemu-io -f qcow2 -c \"write 0 512\" a", "Failed to get \"write\" lock"));
	CHECK(system("qemu-img info -U -f qcow2 a >out 2>&1") == 0);
	CHECK_INT(node_close(co, n), 0);

	CHECK_INT(try_open(co, false, false, &n, NULL), 0);
	CHECK_INT(try_open(co, false, false, &m, NULL), 0);
	CHECK(system("qemu-img info -f qcow2 a >out 2>&1") == 0);
	CHECK(qemu_says("qemu-io -f qcow2 -c \"write 0 512\" a", "Failed to get \"write\" lock"));
	CHECK_INT(node_close(co, n), 0);
	CHECK_INT(node_close(co, m), 0);
	CHECK(system("qemu-io -f qcow2 -c \"write 0 512\" a >out 2>&1") == 0);
}

TEST(ours)
TEST(qemu_writes)
TEST(qemu_reads)
TEST(qemu_kept_out)

int main(void)
{
	const struct CMUnitTest tests[] = {RUN(ours), RUN(qemu_writes), RUN(qemu_reads), RUN(qemu_kept_out)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
