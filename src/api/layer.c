/* SPDX-License-Identifier: MIT */
/*
 * One layer: its levels are found from the top down, as each option tree describes what is below, and opened from the bottom
 * up, as a node needs its child. Level by level, what isn't said is as it is above.
 *
 *     throttle     level 0
 *     qcow2        level 1, the format: may have to be probed; has backing file and data file
 *     blkdebug     level 2
 *     file         level 3
 */
#include "api/layer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "file/file.h"
#include "filter/null.h"

struct level {
	const struct driver *driver; /* NULL: to be probed */
	json_t *options;
	struct driver_context context;
};

struct stack {
	struct level level[LAYER_LEVELS];
	unsigned n;
};

/* ---- finding the levels ---- */

static int discard_take(const json_t *options, bool *ignore, struct err *err)
{
	const char *mode = options_text(options, "discard");

	if (!mode)
		return 0;
	*ignore = strcmp(mode, "ignore") == 0 || strcmp(mode, "off") == 0;
	if (!*ignore && strcmp(mode, "unmap") != 0 && strcmp(mode, "on") != 0)
		return err_set(err, -EINVAL, "Invalid discard option");
	return 0;
}

static int detect_zeroes_check(const json_t *options, struct err *err)
{
	const char *mode = options_text(options, "detect-zeroes");

	if (!mode || strcmp(mode, "off") == 0)
		return 0;
	if (strcmp(mode, "on") != 0 && strcmp(mode, "unmap") != 0)
		return err_set(err, -EINVAL, "invalid parameter value: %s", mode);
	return err_set(err, -ENOTSUP, "detect-zeroes=%s isn't supported", mode);
}

/* What the options of a level change in what its parent does. */
static int context_take(const json_t *options, struct driver_context *c, struct err *err)
{
	bool read_only = !c->write;
	int ret = options_bool(options, "read-only", &read_only, err);

	if (ret == 0)
		ret = options_bool(options, "cache.direct", &c->direct, err);
	if (ret == 0)
		ret = options_bool(options, "cache.no-flush", &c->no_flush, err);
	if (ret == 0)
		ret = options_bool(options, "force-share", &c->no_lock, err);
	if (ret == 0)
		ret = discard_take(options, &c->no_discard, err);
	if (ret == 0)
		ret = detect_zeroes_check(options, err);
	if (ret == 0 && read_only)
		c->write = false;
	if (ret == 0 && c->write && c->no_lock)
		ret = err_set(err, -EINVAL, "force-share=on can only be used with read-only images");
	return ret;
}

/* A storage node may be told by a name alone, whose protocol is then its driver. */
static int protocol_find(json_t *options, const struct driver **out, struct err *err)
{
	const char *name = options_text(options, "filename");
	json_t *parsed;
	int ret;

	if (!name)
		return err_set(err, -EINVAL, "Must specify either driver or file");
	if (strncmp(name, "json:", 5) == 0)
		return err_set(err, -EINVAL, "Unknown protocol 'json'");
	ret = options_of_name(name, &parsed, err);
	if (ret < 0)
		return ret;
	if (json_object_del(options, "filename") < 0 || json_object_update_missing(options, parsed) < 0)
		ret = err_set(err, -ENOMEM, "no memory");
	json_decref(parsed);
	*out = ret == 0 ? driver_find(options_text(options, "driver")) : NULL;
	return ret;
}

/* A driver that was named, and a name in its own words, such as an URI, beside it. */
static int named_find(json_t *options, const char *name, const struct driver **out, struct err *err)
{
	const char *filename = options_text(options, "filename");

	*out = driver_find(name);
	if (!*out)
		return err_set(err, -EINVAL, "Unknown driver '%s'", name);
	if (!filename || !(*out)->parse || !driver_of_protocol(filename, strcspn(filename, ":")) ||
		(*out)->kind == DRIVER_FORMAT || *out == &driver_file || *out == &driver_host_device)
		return 0;
	return (*out)->parse(filename, options, err);
}

static int driver_choose(struct stack *stack, json_t *options, const struct driver **out, struct err *err)
{
	const json_t *named = options_get(options, "driver");

	*out = NULL;
	if (named)
		return named_find(options, json_is_string(named) ? json_string_value(named) : "", out, err);
	if (stack->n > 0)
		return protocol_find(options, out, err);
	return options_get(options, "file") ? 0 : err_set(err, -EINVAL, "Must specify either driver or file");
}

/* The tree of the node below; *out is NULL if there is none. */
static int child_find(const struct driver *driver, json_t *options, json_t **out, struct err *err)
{
	const char *key = driver ? driver->child : "file";
	const char *node = key ? options_text(options, key) : NULL;

	*out = key ? json_object_get(options, key) : NULL;
	if (node)
		return err_set(err, -ENODEV, "Cannot find device='%s' nor node-name='%s'", node, node);
	if (key && !json_is_object(*out))
		return err_set(err, -EINVAL, "A block device must be specified for \"%s\"", key);
	return 0;
}

/* backing="" is how a command line says null: none, whatever the header says. */
static void backing_normalize(json_t *options)
{
	const char *backing = options_text(options, "backing");

	if (backing && !backing[0])
		(void)!json_object_set_new(options, "backing", json_null());
}

/* The tree of options stays the caller's, and is changed where a name in it turns out to be more options. */
static int stack_find(struct stack *stack, json_t *options, struct driver_context context, struct err *err)
{
	json_t *below = NULL;
	int ret = 0;

	for (stack->n = 0; options && ret == 0; stack->n++) {
		struct level *level = &stack->level[stack->n];

		if (stack->n == LAYER_LEVELS)
			return err_set(err, -ELOOP, "more than %d nodes, one over the other", LAYER_LEVELS);
		level->options = options;
		backing_normalize(options);
		ret = driver_choose(stack, options, &level->driver, err);
		if (ret == 0)
			ret = context_take(options, &context, err);
		level->context = context;
		if (ret == 0)
			ret = child_find(level->driver, options, &below, err);
		if (ret == 0 && level->driver)
			ret = driver_options_check(level->driver, stack->n == 0 && below, options, err);
		options = below;
	}
	return ret;
}

/* ---- opening them ---- */

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

/* What is done with each node that is a file. */
static int file_adopt(struct co *co, struct chain *chain, struct node **file, struct err *err)
{
	const struct image_open *how = chain->how;
	struct node *wrapped;
	int ret = identity_add(chain, *file, err);

	if (ret < 0 || !how->wrap)
		return ret;
	wrapped = how->wrap(co, *file, how->wrap_arg);
	if (!wrapped)
		return err_set(err, -ENOMEM, "no memory for a filter");
	*file = wrapped;
	return 0;
}

/* Replaces *node by the one over it; closes it if that fails. */
static int level_open(
	struct co *co, struct chain *chain, const struct level *level, struct node **node, struct err *err)
{
	struct node *over = NULL;
	int ret = level->driver->open(co, &level->context, level->options, *node, &over, err);

	if (ret == 0) {
		*node = over;
		if (level->driver->kind == DRIVER_PROTOCOL)
			over->log = chain->how->qcow2.log;
		if (level->driver->kind == DRIVER_PROTOCOL && node_is_file(over))
			ret = file_adopt(co, chain, node, err);
	}
	if (ret < 0) {
		(void)!node_close(co, *node);
		*node = NULL;
	}
	return ret;
}

/* From level `from`, the lowest, up to `to`. */
static int levels_open(struct co *co, struct chain *chain, const struct stack *stack, unsigned from, unsigned to,
	struct node **node, struct err *err)
{
	int ret = 0;

	for (unsigned i = from; i > to && ret == 0; i--)
		ret = level_open(co, chain, &stack->level[i - 1], node, err);
	return ret;
}

/* ---- the external data file ---- */

int layer_naming_permitted(
	const struct chain *chain, const struct layer *layer, const char *what, const char *name, struct err *err)
{
	if (!layer->probed || chain->layers == 1 || chain->how->qemu)
		return 0;
	return err_set(err, -EPERM,
		"'%s' was found to be qcow2 by looking at it, since the image above records no format for it; such a file may not "
		"name a %s itself ('%s'). If it is to be trusted, record its format in the image above with "
		"`qemu-img rebase -u -b NAME -F qcow2`",
		layer->path, what, name);
}

/* Opens the tree as storage; takes it over. */
static int data_tree_open(struct co *co, struct chain *chain, json_t *tree, struct driver_context context,
	struct node **out, struct err *err)
{
	struct stack *stack = calloc(1, sizeof(*stack));
	int ret = stack && tree ? stack_find(stack, tree, context, err) : err_set(err, -ENOMEM, "no memory");

	for (unsigned i = 0; ret == 0 && i < stack->n; i++) {
		if (!stack->level[i].driver || stack->level[i].driver == &driver_qcow2)
			ret = err_set(err, -EINVAL, "a data file can only be raw");
	}
	if (ret == 0)
		ret = levels_open(co, chain, stack, stack->n, 0, out, err);
	json_decref(tree);
	free(stack);
	return ret;
}

/* As the options of the image say, which are the user's. */
static int data_described_open(struct co *co, struct chain *chain, json_t *tree, struct driver_context context,
	struct node **out, struct err *err)
{
	context.beneath = context.shown = NULL;
	return data_tree_open(co, chain, json_incref(tree), context, out, err);
}

static int data_path_open(struct co *co, struct chain *chain, const char *path, const char *beneath, const char *shown,
	struct driver_context context, struct node **out, struct err *err)
{
	json_t *tree = json_pack("{s:s, s:o*}", "driver", "file", "filename", json_string_nocheck(path));

	context.beneath = beneath;
	context.shown = shown;
	return data_tree_open(co, chain, tree, context, out, err);
}

const char *layer_shown(const struct layer *layer) { return layer->shown ? layer->shown : layer->path; }

/* The data file that the header names. */
static int named_data_open(struct co *co, struct chain *chain, const struct layer *layer, const char *name,
	struct driver_context context, struct node **out, struct err *err)
{
	AUTO_FREE char *shown = image_relative_path(layer_shown(layer), name);
	struct policy_file found = {0};
	int ret = name[0] ? layer_naming_permitted(chain, layer, "data file", name, err)
			  : err_set(err, -EINVAL, "the image names no data file; say which with --data-file");

	if (ret == 0)
		ret = policy_resolve(chain->how, layer->path, "data file", name, &found, err);
	if (ret == 0) {
		ret = data_path_open(co, chain, found.path, found.beneath, shown, context, out, err);
		if (ret == -EXDEV)
			ret = err_set(err, ret, "a link on the way to it leads out of '%s' now", found.beneath);
		if (ret < 0 && !chain->how->qemu)
			err_prefix(err, "'%s', the data file (--data-file names another one)", found.name);
	}
	policy_file_fini(&found);
	return ret;
}

static int no_data_open(struct co *co, uint64_t size, struct node **out, struct err *err)
{
	int ret = null_open(co, &(struct null_open){.size = size}, out);

	return ret < 0 ? err_set(err, ret, "no memory for a data file that isn't there") : 0;
}

/* *out stays NULL where the image has its data in itself. */
static int data_open(struct co *co, struct chain *chain, const struct layer *layer, const struct level *level,
	struct node *file, struct node **out, struct err *err)
{
	struct qcow2_header *header = malloc(sizeof(*header));
	const char *given = level->context.top ? chain->how->data_file : NULL;
	json_t *tree = json_object_get(level->options, "data-file");
	int ret = header ? qcow2_header_load(co, file, ~UINT64_C(0), header, err)
			 : err_set(err, -ENOMEM, "no memory for the header");

	if (ret == 0 && given)
		ret = data_path_open(co, chain, given, NULL, NULL, level->context, out, err);
	else if (ret == 0 && tree)
		ret = data_described_open(co, chain, tree, level->context, out, err);
	else if (ret == 0 && (header->incompatible & QCOW2_INCOMPAT_DATA_FILE) && chain->how->no_data)
		ret = no_data_open(co, header->size, out, err);
	else if (ret == 0 && (header->incompatible & QCOW2_INCOMPAT_DATA_FILE))
		ret = named_data_open(co, chain, layer, header->data_file, level->context, out, err);
	free(header);
	return ret;
}

/* ---- the format ---- */

static int format_probe(struct co *co, const struct chain *chain, struct layer *layer, struct level *level,
	struct node *file, struct err *err)
{
	const char *format;
	int ret = image_probe(co, file, &format);

	if (ret < 0)
		return err_set(err, ret, "can't be read: %s", strerror(-ret));
	layer->probed = level->context.probed = true;
	level->driver = driver_find(format);
	if (level->driver != &driver_raw || !level->context.write)
		return driver_options_check(level->driver, true, level->options, err);
	if (!chain->how->qemu)
		return err_set(err, -EINVAL,
			"the file isn't qcow2, and raw is never guessed for writing: whoever can write to the disk could make it look "
			"like something else; say -f raw if that is what it is");
	if (chain->how->guessed_raw)
		*chain->how->guessed_raw = true;
	return driver_options_check(level->driver, true, level->options, err);
}

static int raw_check(const struct chain *chain, bool top, struct err *err)
{
	if (top && chain->how->qcow2.snapshot)
		return err_set(err, -ENOTSUP, "a raw image has no snapshots");
	if (top && chain->how->data_file)
		return err_set(err, -EINVAL, "a raw image has no data file");
	return 0;
}

static int qcow2_level_open(struct co *co, struct chain *chain, const struct layer *layer, struct level *level,
	struct node **node, struct err *err)
{
	struct node *data = NULL;
	int ret = data_open(co, chain, layer, level, *node, &data, err);

	level->context.data = data;
	if (ret < 0) {
		(void)!node_close(co, *node);
		*node = NULL;
		return ret;
	}
	level->context.encrypted = chain->encrypted;
	ret = level_open(co, chain, level, node, err);
	if (ret < 0)
		(void)!node_close(co, data);
	else
		chain->encrypted += qcow2_node_header(*node)->crypt_method != QCOW2_CRYPT_NONE;
	return ret;
}

/* The format over *node, which is closed if this fails. */
static int format_open(struct co *co, struct chain *chain, struct layer *layer, struct level *level, struct node **node,
	struct err *err)
{
	int ret = level->driver ? 0 : format_probe(co, chain, layer, level, *node, err);

	if (ret == 0 && level->driver == &driver_qcow2 && chain->storage_only)
		return 0;
	if (ret == 0 && level->driver == &driver_qcow2)
		return qcow2_level_open(co, chain, layer, level, node, err);
	if (ret == 0)
		ret = raw_check(chain, level->context.top, err);
	if (ret == 0)
		return level_open(co, chain, level, node, err);
	(void)!node_close(co, *node);
	*node = NULL;
	return ret;
}

/* ---- the layer ---- */

/* The level of the format: that of qcow2, the one to be probed, or else the topmost. */
static unsigned format_level(const struct stack *stack)
{
	for (unsigned i = 0; i < stack->n; i++) {
		if (!stack->level[i].driver || stack->level[i].driver == &driver_qcow2)
			return i;
	}
	return 0;
}

static int format_check(const struct stack *stack, unsigned format, struct err *err)
{
	for (unsigned i = format + 1; i < stack->n; i++) {
		if (stack->level[i].driver == &driver_qcow2)
			return err_set(err, -ENOTSUP, "a qcow2 image can't lie inside of another one");
	}
	return 0;
}

static int path_find(struct layer *layer, const struct stack *stack, struct err *err)
{
	const char *path = options_text(stack->level[stack->n - 1].options, "filename");

	if (!layer->path)
		layer->path = strdup(path ? path : "");
	return layer->path ? 0 : err_set(err, -ENOMEM, "no memory");
}

static int stack_open(struct co *co, struct chain *chain, struct layer *layer, struct stack *stack, struct node **out,
	struct err *err)
{
	unsigned format = format_level(stack);
	int ret = format_check(stack, format, err);

	if (ret == 0)
		ret = levels_open(co, chain, stack, stack->n, format + 1, out, err);
	if (ret == 0)
		ret = format_open(co, chain, layer, &stack->level[format], out, err);
	layer->format = *out;
	layer->backing = json_object_get(stack->level[format].options, "backing");
	if (ret == 0)
		chain->driver = stack->level[0].driver->name;
	if (ret == 0 && !(chain->storage_only && stack->level[format].driver == &driver_qcow2))
		ret = levels_open(co, chain, stack, format, 0, out, err);
	return ret;
}

int layer_open(struct co *co, struct chain *chain, struct layer *layer, struct err *err)
{
	const struct image_open *how = chain->how;
	unsigned index = chain->layers++;
	bool top = index == 0;
	struct driver_context context = {
		.how = how,
		.beneath = layer->beneath,
		.shown = layer->shown,
		.write = how->write && (top || index == how->write_layer),
		.direct = how->cache == IMAGE_NONE || how->cache == IMAGE_DIRECTSYNC,
		.no_flush = how->cache == IMAGE_UNSAFE,
		.no_lock = how->no_lock,
		.no_discard = how->qcow2.no_discard,
		.top = top,
	};
	struct stack *stack = calloc(1, sizeof(*stack));
	struct node *node = NULL;
	int ret = stack ? stack_find(stack, layer->options, context, err) : err_set(err, -ENOMEM, "no memory");

	if (ret == 0)
		ret = path_find(layer, stack, err);
	if (ret == 0)
		ret = stack_open(co, chain, layer, stack, &node, err);
	free(stack);
	if (ret < 0)
		return ret;
	*(chain->bottom ? &chain->bottom->backing : &chain->top) = node;
	chain->bottom = layer->format;
	return 0;
}

void layer_fini(struct layer *layer)
{
	json_decref(layer->options);
	free(layer->path);
	free(layer->beneath);
	free(layer->shown);
}

const char *layer_backing_name(const struct layer *layer)
{
	return node_is_qcow2(layer->format) ? qcow2_node_header(layer->format)->backing_name : "";
}
