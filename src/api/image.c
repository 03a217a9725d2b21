/* SPDX-License-Identifier: MIT */
/*
 * Opening an image and, layer by layer, what it stands on. The chain grows downwards in a loop: its depth is bounded, each
 * file, that of external data too, is held against all before it by device and inode, and a layer that only looked like qcow2, without anybody having
 * said so, may not name further files: a guest that wrote a header into a raw disk gains nothing by it.
 */
#include "api/image.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/policy.h"
#include "base/math.h"
#include "file/file.h"

/* ---- cache modes ---- */

static const char *const cache_names[] = {
	[IMAGE_WRITEBACK] = "writeback",
	[IMAGE_NONE] = "none",
	[IMAGE_WRITETHROUGH] = "writethrough",
	[IMAGE_DIRECTSYNC] = "directsync",
	[IMAGE_UNSAFE] = "unsafe",
};

int image_cache_parse(const char *name, enum image_cache *out)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(cache_names); i++) {
		if (strcmp(name, cache_names[i]) == 0) {
			*out = (enum image_cache)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool image_cache_writethrough(enum image_cache cache)
{
	return cache == IMAGE_WRITETHROUGH || cache == IMAGE_DIRECTSYNC;
}

/* ---- probing ---- */

int image_probe(struct co *co, struct node *file, const char **format)
{
	char start[QCOW2_HEADER_SECTOR];
	size_t len = MIN(file->size, sizeof(start));
	int ret = node_read(co, file, 0, IOV_BUF(start, len));

	*format = qcow2_header_probe(start, len) ? "qcow2" : "raw";
	return ret;
}

/* ---- one layer ---- */

struct layer {
	char *path;         /* owned */
	const char *format; /* NULL: to be probed */
	bool probed;
	struct node *node; /* NULL until it is open; owned by the chain from then on */
};

struct identity {
	uint64_t device, inode;
};

struct chain {
	const struct image_open *how;
	struct node *top, *bottom;
	struct identity seen[2 * NODE_MAX_DEPTH]; /* of each file: an image may have its data in another one */
	unsigned files, layers, encrypted;
};

static int identity_add(struct chain *chain, const struct node *file, struct err *err)
{
	struct identity id = {file_info(file)->device, file_info(file)->inode};

	for (unsigned i = 0; i < chain->files; i++) {
		if (chain->seen[i].device == id.device && chain->seen[i].inode == id.inode)
			return err_set(err, -ELOOP,
				"the file is already in the backing chain, as its file %u: the chain is a circle", i);
	}
	chain->seen[chain->files++] = id;
	return 0;
}

static int chain_file(struct co *co, struct chain *chain, const char *path, const char *beneath, bool top,
	struct node **out, struct err *err)
{
	const struct image_open *how = chain->how;
	struct file_open open = {
		.path = path,
		.beneath = beneath,
		.write = how->write && top,
		.direct = how->cache == IMAGE_NONE || how->cache == IMAGE_DIRECTSYNC,
		.no_flush = how->cache == IMAGE_UNSAFE,
		.no_lock = how->no_lock,
	};
	struct node *file, *wrapped;
	int ret = file_open(co, &open, &file, err);

	if (ret < 0)
		return ret;
	ret = identity_add(chain, file, err);
	if (ret < 0) {
		(void)!node_close(co, file);
		return ret;
	}
	wrapped = how->wrap ? how->wrap(co, file, how->wrap_arg) : file;
	if (!wrapped) {
		(void)!node_close(co, file);
		return err_set(err, -ENOMEM, "no memory for a filter");
	}
	*out = wrapped;
	return 0;
}

static int format_find(
	struct co *co, const struct chain *chain, struct layer *layer, struct node *file, struct err *err)
{
	int ret;

	if (layer->format) {
		if (strcmp(layer->format, "qcow2") != 0 && strcmp(layer->format, "raw") != 0)
			return err_set(err, -ENOTSUP, "the format '%s' isn't supported; there are qcow2 and raw",
				layer->format);
		return 0;
	}
	layer->probed = true;
	ret = image_probe(co, file, &layer->format);
	if (ret < 0)
		return err_set(err, ret, "can't be read: %s", strerror(-ret));
	if (chain->how->write && file == chain->top && strcmp(layer->format, "raw") == 0)
		return err_set(err, -EINVAL,
			"the file isn't qcow2, and raw is never guessed for writing: whoever can write to the disk could make it look like "
			"something else; say -f raw if that is what it is");
	return 0;
}

/* What a file that was found to be qcow2 by looking at it may not do below the top: whoever could write to a raw disk that
 * lies there could name any file. */
static int naming_permitted(
	const struct chain *chain, const struct layer *layer, const char *what, const char *name, struct err *err)
{
	if (!layer->probed || chain->layers == 1)
		return 0;
	return err_set(err, -EPERM,
		"'%s' was found to be qcow2 by looking at it, since the image above records no format for it; such a file may not "
		"name a %s itself ('%s'). If it is to be trusted, record its format in the image above with "
		"`qemu-img rebase -u -b NAME -F qcow2`",
		layer->path, what, name);
}

/* The data file that the header names. */
static int named_data_open(struct co *co, struct chain *chain, const struct layer *layer, const char *name, bool top,
	struct node **out, struct err *err)
{
	struct policy_file found = {0};
	int ret = name[0] ? naming_permitted(chain, layer, "data file", name, err)
			  : err_set(err, -EINVAL, "the image names no data file; say which with --data-file");

	if (ret == 0)
		ret = policy_resolve(chain->how, layer->path, "data file", name, &found, err);
	if (ret == 0) {
		ret = chain_file(co, chain, found.path, found.beneath, top, out, err);
		if (ret == -EXDEV)
			ret = err_set(err, ret, "a link on the way to it leads out of '%s' now", found.beneath);
		if (ret < 0)
			err_prefix(err, "'%s', the data file (--data-file names another one)", found.name);
	}
	policy_file_fini(&found);
	return ret;
}

/* *out stays NULL where the image has its data in itself. */
static int data_open(struct co *co, struct chain *chain, const struct layer *layer, struct node *file, bool top,
	struct node **out, struct err *err)
{
	struct qcow2_header *header = malloc(sizeof(*header));
	const char *given = top ? chain->how->data_file : NULL;
	int ret = header ? qcow2_header_load(co, file, ~UINT64_C(0), header, err)
			 : err_set(err, -ENOMEM, "no memory for the header");

	if (ret == 0 && given)
		ret = chain_file(co, chain, given, NULL, top, out, err);
	else if (ret == 0 && (header->incompatible & QCOW2_INCOMPAT_DATA_FILE))
		ret = named_data_open(co, chain, layer, header->data_file, top, out, err);
	free(header);
	return ret;
}

static const struct crypto_secret *secret_of(const struct image_open *how, unsigned encrypted)
{
	return how->secrets_n > 0 ? &how->secrets[MIN(encrypted, how->secrets_n - 1)] : NULL;
}

static int format_open(struct co *co, struct chain *chain, const struct layer *layer, struct node *file,
	struct node **out, struct err *err)
{
	struct qcow2_options options = chain->how->qcow2;
	bool top = file == chain->top;
	int ret;

	if (file != chain->top)
		options.snapshot = NULL;
	if (strcmp(layer->format, "raw") == 0 && options.snapshot)
		return err_set(err, -ENOTSUP, "a raw image has no snapshots");
	if (strcmp(layer->format, "raw") == 0) {
		*out = file;
		return top && chain->how->data_file ? err_set(err, -EINVAL, "a raw image has no data file") : 0;
	}
	options.write = chain->how->write && top;
	ret = data_open(co, chain, layer, file, top, &options.data_file, err);
	options.secret = secret_of(chain->how, chain->encrypted);
	if (ret == 0)
		ret = qcow2_open(co, file, &options, out, err);
	if (ret == 0)
		chain->encrypted += qcow2_node_header(*out)->crypt_method != QCOW2_CRYPT_NONE;
	if (ret < 0)
		(void)!node_close(co, options.data_file);
	return ret;
}

/* Opens the file and what is in it, and hangs it below the chain. The chain owns it from the first moment. */
static int layer_open(
	struct co *co, struct chain *chain, struct layer *layer, const char *path, const char *beneath, struct err *err)
{
	struct node **slot = chain->bottom ? &chain->bottom->backing : &chain->top;
	int ret = chain_file(co, chain, path, beneath, chain->layers == 0, slot, err);
	struct node *file = *slot;

	chain->layers++;
	if (ret == 0)
		ret = format_find(co, chain, layer, file, err);
	if (ret == 0)
		ret = format_open(co, chain, layer, file, &layer->node, err);
	if (ret < 0)
		return ret;
	*slot = chain->bottom = layer->node;
	return 0;
}

/* ---- the layer below ---- */

static const char *backing_name(const struct node *n)
{
	return node_is_qcow2(n) ? qcow2_node_header(n)->backing_name : "";
}

static int backing_permitted(const struct chain *chain, const struct layer *layer, struct err *err)
{
	int ret = naming_permitted(chain, layer, "backing file", backing_name(layer->node), err);

	if (ret < 0)
		return ret;
	if (chain->layers == NODE_MAX_DEPTH)
		return err_set(err, -ELOOP,
			"the backing chain has more than %d layers; make it shorter with `qemu-img commit` or rebase",
			NODE_MAX_DEPTH);
	return 0;
}

static int backing_file_open(
	struct co *co, struct chain *chain, struct layer *layer, struct policy_file *found, struct err *err)
{
	const struct qcow2_header *above = qcow2_node_header(layer->node);
	struct layer below = {
		.path = found->name,
		.format = above->backing_format[0] ? above->backing_format : NULL,
	};
	int ret;

	ret = layer_open(co, chain, &below, found->path, found->beneath, err);
	if (ret == -EXDEV)
		ret = err_set(err, ret, "a link on the way to it leads out of '%s' now", found->beneath);
	if (ret < 0) {
		err_prefix(err, "'%s', the backing file of '%s'", below.path, layer->path);
		return ret;
	}
	free(layer->path);
	*layer = below;
	found->name = NULL;
	return 0;
}

/* Replaces layer by the one that it names. */
static int backing_open(struct co *co, struct chain *chain, struct layer *layer, struct err *err)
{
	struct policy_file found;
	int ret = backing_permitted(chain, layer, err);

	if (ret < 0)
		return ret;
	ret = policy_resolve(chain->how, layer->path, "backing file", backing_name(layer->node), &found, err);
	if (ret == 0)
		ret = backing_file_open(co, chain, layer, &found, err);
	policy_file_fini(&found);
	return ret;
}

static int chain_open(struct co *co, struct chain *chain, struct layer *layer, struct err *err)
{
	int ret = layer_open(co, chain, layer, layer->path, NULL, err);

	if (ret < 0) {
		err_prefix(err, "'%s'", layer->path);
		return ret;
	}
	while (ret == 0 && !chain->how->no_backing && backing_name(layer->node)[0])
		ret = backing_open(co, chain, layer, err);
	return ret;
}

int image_open(struct co *co, const struct image_open *how, struct node **out, struct err *err)
{
	struct chain *chain = calloc(1, sizeof(*chain));
	struct layer layer = {.path = strdup(how->path), .format = how->format};
	int ret = -ENOMEM;

	assert(!(how->allow_all && how->allow_none));
	if (chain && layer.path) {
		chain->how = how;
		ret = chain_open(co, chain, &layer, err);
	} else {
		err_set(err, ret, "no memory to open '%s'", how->path);
	}
	if (ret == 0)
		*out = chain->top;
	else if (chain && chain->top)
		(void)!node_close(co, chain->top);
	free(layer.path);
	free(chain);
	return ret;
}
