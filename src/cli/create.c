/* SPDX-License-Identifier: MIT */
/*
 * corral create. Everything that can be found wrong beforehand is; then a file that exists is locked before it is emptied:
 * an image in use isn't destroyed. The text is qemu-img create's.
 */
#include "cli/create.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "base/cleanup.h"
#include "base/math.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/tool.h"
#include "file/file.h"
#include "qcow2/preallocate.h"

struct identity {
	bool known;
	uint64_t device, inode;
};

/* ---- the backing file ---- */

static int backing_open(struct co *co, const struct create *c, struct node **out, struct err *err)
{
	AUTO_FREE char *path = image_relative_path(c->path, c->backing);
	struct image_open how = {
		.path = path,
		.format = c->backing_format,
		.no_backing = !cli_is_qemu(),
		.no_lock = cli_is_qemu(),
		.qemu = cli_is_qemu(),
		.qcow2.locked = true,
	};

	return path ? image_open_plain(co, &how, out, err) : err_set(err, -ENOMEM, "no memory");
}

static int backing_explain(const struct create *c, int ret, struct err *err)
{
	char text[ERR_TEXT_BYTES];

	if (!cli_is_qemu()) {
		err_prefix(err, "Could not open backing file '%s' (-u does without)", c->backing);
		return ret;
	}
	snprintf(text, sizeof(text), "%s", err->text);
	return err_set(err, ret, "%.900s\nCould not open backing image.", text);
}

/* Opens it, to see that it is there, and how large. */
static int backing_look(struct co *co, struct create *c, struct identity *id, struct err *err)
{
	const struct node *file;
	struct node *n;
	bool qcow2;
	int ret = backing_open(co, c, &n, err);

	if (ret < 0)
		return backing_explain(c, ret, err);
	if (!c->has_size)
		c->size = align_up(n->size, 512);
	qcow2 = image_qcow2_of(n) != NULL;
	file = image_file_of(n);
	if (file)
		*id = (struct identity){true, file_info(file)->device, file_info(file)->inode};
	(void)!node_close(co, n);
	if (!c->backing_format)
		return err_set(err, -EINVAL, "Backing file specified without backing format\nDetected format of %s.",
			qcow2 ? "qcow2" : "raw");
	return 0;
}

/* ---- the new file ---- */

/* Opened and locked, with whatever it holds; made, if it isn't there. */
static int file_take(struct co *co, const char *path, struct node **out, struct err *err)
{
	struct file_open open = {.path = path, .write = true};
	struct io_open make = {.path = path, .flags = IO_OPEN_WRITE | IO_OPEN_CREATE};
	struct io_file *made;
	int ret = file_open(co, &open, out, err);

	if (ret != -ENOENT)
		return ret;
	ret = io_file_open(co, &make, &made, err);
	if (ret < 0)
		return ret;
	io_file_close(co, made);
	return file_open(co, &open, out, err);
}

/* Storage of another kind is there already. */
static int storage_take(struct co *co, const char *name, struct node **out, struct err *err)
{
	struct image_open how = {.path = name, .format = "raw", .write = true, .qemu = cli_is_qemu()};
	int ret = image_open_plain(co, &how, out, err);

	if (ret < 0)
		err_prefix(err, "Protocol driver 'nbd' does not support image creation, and opening the image failed");
	return ret;
}

static bool is_same(const struct identity *id, const struct node *file)
{
	const struct io_file_info *info = file ? file_info(file) : NULL;

	return info && id->known && id->device == info->device && id->inode == info->inode;
}

/* Opened, and fit to be written over. path: NULL, or that of a file. */
static int target_take(struct co *co, const char *name, const char *path, const struct identity *backing,
	struct node **out, struct err *err)
{
	int ret = path ? file_take(co, path, out, err) : storage_take(co, name, out, err);

	if (ret < 0)
		return ret;
	if (is_same(backing, image_file_of(*out)))
		ret = err_set(err, -EINVAL, "it is the backing file itself, which would be overwritten");
	if (ret < 0)
		(void)!node_close(co, *out);
	return ret;
}

static int target_close(struct co *co, struct node *file, int ret, struct err *err)
{
	int closed = node_close(co, file);

	if (ret == 0 && closed < 0)
		ret = err_set(err, closed, "what was written may not be on disk: %s", strerror(-closed));
	return ret;
}

/* A file is emptied first. What can't grow must be large enough; a raw disk takes it as it is. */
static int raw_fill(struct co *co, const struct create *c, struct node *file, struct err *err)
{
	uint64_t size = align_up(c->size, 512);
	int ret;

	if (c->fixed)
		return size <= file->size
			? 0
			: err_set(err, -ENOSPC, "it has %" PRIu64 " bytes, of %" PRIu64 " that are needed", file->size,
				  size);
	ret = node_resize(co, file, size);
	if (ret == 0)
		ret = qcow2_space_fill(co, file, 0, file->size, c->how.preallocation);
	return ret < 0 ? err_set(err, ret, "can't be resized: %s", strerror(-ret)) : 0;
}

static int target_fill(struct co *co, struct create *c, struct node *file, struct err *err)
{
	int ret;

	c->fixed = !file->grows_zeroed;
	ret = c->fixed ? 0 : node_resize(co, file, 0);
	if (ret == 0 && c->how.data)
		ret = node_resize(co, c->how.data, 0);
	if (ret < 0)
		return err_set(err, ret, "can't be resized: %s", strerror(-ret));
	return c->raw ? raw_fill(co, c, file, err) : qcow2_create(co, file, &c->how, err);
}

static int data_file_take(struct co *co, struct create *c, const struct identity *backing, struct err *err)
{
	AUTO_FREE char *path = image_relative_path(c->path, c->data_file);
	int ret = path ? target_take(co, NULL, path, backing, &c->how.data, err) : err_set(err, -ENOMEM, "no memory");

	if (ret < 0) {
		c->how.data = NULL;
		err_prefix(err, "the data file '%s'", c->data_file);
	}
	return ret;
}

/* Both files are locked before the first of them is emptied; so the data file can't be the image, either. */
static int target_make(struct co *co, struct create *c, const struct identity *backing, struct err *err)
{
	struct node *file;
	int ret = target_take(co, c->path, c->file, backing, &file, err);

	if (ret < 0)
		return ret;
	if (c->how.data_name)
		ret = data_file_take(co, c, backing, err);
	if (ret == 0)
		ret = target_fill(co, c, file, err);
	if (c->how.data)
		ret = target_close(co, c->how.data, ret, err);
	return target_close(co, file, ret, err);
}

/* ---- all of it ---- */

static void escaped_print(const char *text)
{
	for (; *text; text++)
		printf(*text == ',' ? ",," : "%c", *text);
}

static const char *on_off(bool it) { return it ? "on" : "off"; }

static void formatting_print(const struct create *c)
{
	printf("Formatting '%s', fmt=%s", c->path, c->format);
	create_encrypt_print(&c->encrypt);
	if (!c->raw)
		printf(" cluster_size=%" PRIu64 " extended_l2=%s", c->cluster_bytes, on_off(c->how.extended_l2));
	if (!c->raw && c->preallocation)
		printf(" preallocation=%s", c->preallocation);
	if (!c->raw)
		printf(" compression_type=%s", c->compression ? c->compression : "zlib");
	printf(" size=%" PRIu64, c->size);
	if (c->raw && c->preallocation)
		printf(" preallocation=%s", c->preallocation);
	if (!c->raw && c->compat)
		printf(" compat=%s", c->compat);
	if (c->how.backing_name) {
		fputs(" backing_file=", stdout);
		escaped_print(c->how.backing_name);
		printf(" backing_fmt=%s", c->how.backing_format);
	}
	if (c->data_file) {
		fputs(" data_file=", stdout);
		escaped_print(c->data_file);
	}
	if (c->has_data_raw)
		printf(" data_file_raw=%s", on_off(c->how.data_raw));
	if (!c->raw)
		printf(" lazy_refcounts=%s refcount_bits=%" PRIu64, on_off(c->how.lazy_refcounts), c->refcount_bits);
	putchar('\n');
}

int create_run(struct co *co, struct create *c, struct err *err)
{
	struct identity backing = {0};
	int ret = c->how.backing_name && !c->unsafe ? backing_look(co, c, &backing, err) : 0;

	c->how.size = c->size;
	if (ret == 0 && c->check_late && !c->quiet)
		formatting_print(c);
	if (ret == 0 && c->check_late)
		ret = create_values_check(c, err);
	if (ret == 0 && !c->raw)
		ret = qcow2_create_check(&c->how, err);
	if (ret == 0 && !c->check_late && !c->quiet)
		formatting_print(c);
	return ret < 0 ? ret : target_make(co, c, &backing, err);
}

static int run(struct co *co, void *arg)
{
	struct create *c = arg;
	struct err err = {0};

	if (create_run(co, c, &err) == 0)
		return 0;
	if (cli_is_qemu())
		err_hint_cut(&err);
	return cli_complain("%s: %s", c->path, err.text);
}

int cmd_create(int argc, char **argv)
{
	enum io_engine engine;
	struct cli_secrets secrets = {0};
	struct create c;
	int status = create_parse(&c, &secrets, argc, argv);

	if (status == 0)
		status = cli_engine(NULL, &engine) < 0 ? 1 : cli_in_coroutine(engine, run, &c);
	else
		status = status > 0 ? 0 : 1;
	create_free(&c);
	cli_secrets_fini(&secrets);
	return status;
}
