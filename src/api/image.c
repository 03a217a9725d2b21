/* SPDX-License-Identifier: MIT */
/*
 * Opening an image and, layer by layer, what it stands on. The chain grows downwards in a loop: its depth is bounded, each
 * file, that of external data too, is held against all before it by device and inode, and a layer that only looked like
 * qcow2, without anybody having said so, may not name further files: a guest that wrote a header into a raw disk gains
 * nothing by it.
 */
#include "api/image.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/layer.h"
#include "base/cleanup.h"
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

/* ---- names ---- */

/* Whether the driver is what the name itself leads to, rather than something on top of that. */
static bool is_storage(const struct driver *driver, const json_t *storage)
{
	return driver && driver->kind != DRIVER_FORMAT &&
		(driver->kind == DRIVER_PROTOCOL || strcmp(driver->name, options_text(storage, "driver")) == 0);
}

/* The tree that a name and a format (NULL: to be probed) stand for. */
static int tree_of_name(const char *name, const char *format, json_t **out, struct err *err)
{
	bool json = strncmp(name, "json:", 5) == 0;
	json_t *tree;
	int ret = options_of_name(name, &tree, err);

	if (ret < 0)
		return ret;
	if (!json && !(format && is_storage(driver_find(format), tree)))
		tree = json_pack("{s:o}", "file", tree);
	if (!tree || (format && options_set(tree, "driver", json_string_nocheck(format)) < 0)) {
		json_decref(tree);
		return err_set(err, -ENOMEM, "no memory");
	}
	*out = tree;
	return 0;
}

/* The tree for a local file that a header names; its path may be anything, and is beneath where the policy found it. */
static json_t *tree_of_path(const char *path, const char *format)
{
	return json_pack("{s:o*, s:{s:s, s:o*}}", "driver", format ? json_string_nocheck(format) : NULL, "file",
		"driver", "file", "filename", json_string_nocheck(path));
}

/* ---- the layer below ---- */

static int depth_check(const struct chain *chain, struct err *err)
{
	if (chain->layers < NODE_MAX_DEPTH)
		return 0;
	return err_set(err, -ELOOP,
		"the backing chain has more than %d layers; make it shorter with `qemu-img commit` or rebase",
		NODE_MAX_DEPTH);
}

static const char *format_below(const struct layer *layer)
{
	const char *format = node_is_qcow2(layer->format) ? qcow2_node_header(layer->format)->backing_format : "";

	return format[0] ? format : NULL;
}

/* As the options say, which are the user's. */
static int described_below(const struct layer *layer, struct layer *below, struct err *err)
{
	const char *format = format_below(layer);

	below->options = json_incref(layer->backing);
	if (!format || options_get(below->options, "driver"))
		return 0;
	return options_set(below->options, "driver", json_string_nocheck(format)) < 0
		? err_set(err, -ENOMEM, "no memory")
		: 0;
}

/* As QEMU follows the name in the header. */
static int followed_below(const struct layer *layer, struct layer *below, struct err *err)
{
	AUTO_FREE char *name = image_relative_path(layer->path, layer_backing_name(layer));

	return name ? tree_of_name(name, format_below(layer), &below->options, err)
		    : err_set(err, -ENOMEM, "no memory");
}

/* As the policy permits the name in the header. */
static int permitted_below(const struct chain *chain, const struct layer *layer, struct layer *below, struct err *err)
{
	const char *name = layer_backing_name(layer);
	struct policy_file found = {0};
	int ret = layer_naming_permitted(chain, layer, "backing file", name, err);

	if (ret == 0)
		ret = policy_resolve(chain->how, layer->path, "backing file", name, &found, err);
	if (ret == 0) {
		below->path = take(found.name);
		below->beneath = take(found.beneath);
		below->shown = image_relative_path(layer_shown(layer), name);
		below->options = tree_of_path(found.path, format_below(layer));
		ret = below->options ? 0 : err_set(err, -ENOMEM, "no memory");
	}
	policy_file_fini(&found);
	return ret;
}

static int below_find(const struct chain *chain, const struct layer *layer, struct layer *below, struct err *err)
{
	int ret = depth_check(chain, err);

	if (ret < 0)
		return ret;
	if (layer->backing)
		return described_below(layer, below, err);
	return chain->how->qemu ? followed_below(layer, below, err) : permitted_below(chain, layer, below, err);
}

static int below_explain(
	const struct chain *chain, const struct layer *layer, const struct layer *below, int ret, struct err *err)
{
	if (ret == -EXDEV)
		ret = err_set(err, ret, "a link on the way to it leads out of '%s' now", below->beneath);
	if (!chain->how->qemu)
		err_prefix(err, "'%s', the backing file of '%s'", below->path ? below->path : "", layer->path);
	return ret;
}

/* Replaces layer by the one below it. */
static int below_open(struct co *co, struct chain *chain, struct layer *layer, struct err *err)
{
	struct layer below = {0};
	unsigned depth = chain->layers;
	int ret = below_find(chain, layer, &below, err);

	if (ret == 0) {
		ret = layer_open(co, chain, &below, err);
		if (ret < 0)
			ret = below_explain(chain, layer, &below, ret, err);
	}
	for (unsigned i = 0; ret < 0 && chain->how->qemu && i < depth; i++)
		err_prefix(err, "Could not open backing file");
	layer_fini(layer);
	*layer = below;
	return ret;
}

static bool has_below(const struct chain *chain, const struct layer *layer)
{
	if (chain->how->no_backing || chain->storage_only)
		return false;
	return layer->backing ? json_is_object(layer->backing) : layer_backing_name(layer)[0] != '\0';
}

/* ---- all of them ---- */

static int top_find(const struct image_open *how, struct layer *layer, struct err *err)
{
	if (!how->options)
		return tree_of_name(how->path, how->format, &layer->options, err);
	layer->options = json_deep_copy(how->options);
	if (!layer->options ||
		(how->format && options_set(layer->options, "driver", json_string_nocheck(how->format)) < 0))
		return err_set(err, -ENOMEM, "no memory");
	return 0;
}

static int chain_open(struct co *co, struct chain *chain, struct err *err)
{
	struct layer layer = {0};
	int ret = top_find(chain->how, &layer, err);

	if (ret == 0)
		ret = layer_open(co, chain, &layer, err);
	while (ret == 0 && has_below(chain, &layer))
		ret = below_open(co, chain, &layer, err);
	layer_fini(&layer);
	return ret;
}

static int chain_try(struct co *co, struct chain *chain, const struct image_open *how, struct err *err)
{
	int ret;

	assert(!(how->allow_all && how->allow_none));
	chain->how = how;
	ret = chain_open(co, chain, err);
	if (ret == 0)
		return 0;
	if (how->qemu)
		err_hint_cut(err);
	(void)!node_close(co, chain->top);
	return ret;
}

int image_open_plain(struct co *co, const struct image_open *how, struct node **out, struct err *err)
{
	AUTO_FREE struct chain *chain = calloc(1, sizeof(*chain));
	int ret = chain ? chain_try(co, chain, how, err) : err_set(err, -ENOMEM, "no memory");

	if (ret == 0)
		*out = chain->top;
	return ret;
}

int image_storage_open(
	struct co *co, const struct image_open *how, struct node **out, const char **driver, struct err *err)
{
	AUTO_FREE struct chain *chain = calloc(1, sizeof(*chain));
	int ret = -ENOMEM;

	if (chain) {
		chain->storage_only = true;
		ret = chain_try(co, chain, how, err);
	} else {
		err_set(err, ret, "no memory");
	}
	if (ret < 0) {
		err_prefix(err, "Could not open '%s'", how->path);
		return ret;
	}
	*out = chain->top;
	*driver = chain->driver;
	return 0;
}

int image_open(struct co *co, const struct image_open *how, struct node **out, struct err *err)
{
	int ret = image_open_plain(co, how, out, err);

	if (ret < 0)
		err_prefix(err, "Could not open '%s'", how->path);
	return ret;
}

struct node *image_qcow2_of(struct node *n)
{
	while (n && !node_is_qcow2(n))
		n = n->file;
	return n;
}

struct node *image_file_of(struct node *n)
{
	while (n && !node_is_file(n))
		n = n->file;
	return n;
}
