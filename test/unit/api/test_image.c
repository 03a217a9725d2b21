/* SPDX-License-Identifier: MIT */
/* Opening by options: windows of raw files, what is guessed to be raw, and what isn't an image. */
#include "../io/engine.h"

#include <errno.h>

#include "api/image.h"
#include "api/options.h"

#define SIZE 65536u

static void file_make(struct co *co)
{
	struct io_open how = {.path = "a", .flags = IO_OPEN_WRITE | IO_OPEN_CREATE};
	struct io_file *f;
	AUTO_FREE unsigned char *bytes = malloc(SIZE);

	for (unsigned i = 0; i < SIZE; i++)
		bytes[i] = (unsigned char)(i / 512 + 1);
	CHECK_INT(io_file_open(co, &how, &f, NULL), 0);
	CHECK_INT(io_file_write(co, f, 0, IOV_BUF(bytes, SIZE), 0), 0);
	io_file_close(co, f);
}

static int open_list(struct co *co, const char *list, struct image_open how, struct node **out, struct err *err)
{
	json_t *tree;
	int ret = options_parse(list, &tree, err);

	CHECK_INT(ret, 0);
	how.path = list;
	how.options = tree;
	ret = image_open(co, &how, out, err);
	json_decref(tree);
	return ret;
}

static void body_window(struct co *co, void *arg ATTR_UNUSED)
{
	unsigned char in[1024];
	struct err err;
	struct node *n;

	file_make(co);
	CHECK_INT(open_list(co, "driver=raw,offset=512,size=1k,file.filename=a", (struct image_open){.write = true}, &n,
			  &err),
		0);
	CHECK_INT(n->size, 1024);
	CHECK_INT(node_read(co, n, 0, IOV_BUF(in, 1024)), 0);
	CHECK(in[0] == 2 && in[1023] == 3);
	CHECK_INT(node_write(co, n, 0, IOV_BUF("xy", 2), 0), 0);
	CHECK_INT(node_write(co, n, 1023, IOV_BUF("xy", 2), 0), -ENOSPC);
	CHECK_INT(node_resize(co, n, 2048), -ENOTSUP);
	CHECK_INT(node_close(co, n), 0);

	CHECK_INT(open_list(co, "driver=raw,offset=513,file.filename=a", (struct image_open){0}, &n, &err), 0);
	CHECK_INT(n->size, SIZE - 513);
	CHECK_INT(node_read(co, n, 0, IOV_BUF(in, 1)), 0);
	CHECK_INT(in[0], 'y');
	CHECK_INT(node_close(co, n), 0);

	CHECK_INT(open_list(co, "driver=raw,offset=1M,file.filename=a", (struct image_open){0}, &n, &err), -EINVAL);
	CHECK_INT(open_list(co, "driver=raw,size=1M,file.filename=a", (struct image_open){0}, &n, &err), -EINVAL);
	CHECK_INT(open_list(co, "driver=raw,size=1000,file.filename=a", (struct image_open){0}, &n, &err), -EINVAL);
}

/* Nobody may make a disk that was guessed to be raw look like something that names files. */
static void body_guard(struct co *co, void *arg ATTR_UNUSED)
{
	static const char magic[] = "QFI\xfb";
	bool guessed = false;
	struct image_open how = {.path = "a", .write = true};
	struct err err;
	struct node *n;

	file_make(co);
	CHECK_INT(image_open(co, &how, &n, &err), -EINVAL);
	CHECK(strstr(err.text, "-f raw") != NULL);
	how.qemu = true;
	how.guessed_raw = &guessed;
	CHECK_INT(image_open(co, &how, &n, &err), 0);
	CHECK(guessed);
	CHECK_INT(node_write(co, n, 0, IOV_BUF(magic, 4), 0), -EPERM);
	CHECK_INT(node_write(co, n, 0, IOV_BUF(magic, 3), 0), 0);
	CHECK_INT(node_write(co, n, 3, IOV_BUF(magic + 3, 1), 0), -EPERM); /* the last piece of it */
	CHECK_INT(node_write(co, n, 4, IOV_BUF(magic, 4), 0), 0);
	CHECK_INT(node_close(co, n), 0);

	how.format = "raw"; /* then it is the user's word */
	guessed = false;
	CHECK_INT(image_open(co, &how, &n, &err), 0);
	CHECK(!guessed);
	CHECK_INT(node_write(co, n, 0, IOV_BUF(magic, 4), 0), 0);
	CHECK_INT(node_close(co, n), 0);
}

static void body_refused(struct co *co, void *arg ATTR_UNUSED)
{
	static const struct {
		const char *list, *says;
	} bad[] = {
		{"driver=nosuch,file.filename=a", "Unknown driver 'nosuch'"},
		{"driver=raw", "A block device must be specified for \"file\""},
		{"driver=file", "The 'file' block driver requires a file name"},
		{"filename=a", "Must specify either driver or file"},
		{"driver=raw,file=node", "Cannot find device='node' nor node-name='node'"},
		{"driver=raw,file.driver=file,file.filename=nowhere", "No such file"},
		{"driver=host_device,filename=a", "to be either a character or block device"},
		{"driver=raw,file.filename=a,x=1", "Block format 'raw' does not support the option 'x'"},
		{"driver=raw,file.filename=a,file.x=1", "Block protocol 'file' doesn't support the option 'x'"},
		{"driver=raw,discard=some,file.filename=a", "Invalid discard option"},
		{"driver=qcow2,file.filename=a", "Image is not in qcow2 format"},
		{"driver=raw,file.driver=raw,file.file.driver=raw,file.file.file.driver=raw,file.file.file.file.driver=raw,"
		 "file.file.file.file.file.driver=raw,file.file.file.file.file.file.driver=raw,"
		 "file.file.file.file.file.file.file.driver=raw,file.file.file.file.file.file.file.file.driver=raw,"
		 "file.file.file.file.file.file.file.file.file.filename=a",
			"more than 8 nodes"},
	};
	struct err err;
	struct node *n;

	file_make(co);
	for (unsigned i = 0; i < ARRAY_ENTRIES(bad); i++) {
		CHECK(open_list(co, bad[i].list, (struct image_open){0}, &n, &err) < 0);
		if (!strstr(err.text, bad[i].says))
			fprintf(stderr, "%s: %s\n", bad[i].list, err.text);
		CHECK(strstr(err.text, bad[i].says) != NULL);
	}
}

/* What isn't said is as it is above. */
static void body_inherits(struct co *co, void *arg ATTR_UNUSED)
{
	struct err err;
	struct node *n;

	file_make(co);
	CHECK_INT(
		open_list(co, "driver=raw,read-only=on,file.filename=a", (struct image_open){.write = true}, &n, &err),
		0);
	CHECK(n->read_only);
	CHECK_INT(node_write(co, n, 0, IOV_BUF("x", 1), 0), -EROFS);
	CHECK_INT(node_close(co, n), 0);
	CHECK_INT(open_list(co, "driver=raw,force-share=on,file.filename=a", (struct image_open){.write = true}, &n,
			  &err),
		-EINVAL);
}

static void test_window(void **state ATTR_UNUSED) { engine_run(body_window, NULL); }
static void test_guard(void **state ATTR_UNUSED) { engine_run(body_guard, NULL); }
static void test_refused(void **state ATTR_UNUSED) { engine_run(body_refused, NULL); }
static void test_inherits(void **state ATTR_UNUSED) { engine_run(body_inherits, NULL); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_guard),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_inherits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
