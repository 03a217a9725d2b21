/* SPDX-License-Identifier: MIT */
/* The images of `corral serve`: their options, opening and closing; see serve.h. */
#include "cli/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* ---- options ---- */

static int option_cache(struct serve_image *i, const char *mode)
{
	if (image_cache_parse(mode, &i->open.cache) < 0)
		return cli_usage("serve", "no cache mode of the name '%s'", mode);
	i->disk.writethrough = image_cache_writethrough(i->open.cache);
	return 0;
}

static int option_discard(struct serve_image *i, const char *mode)
{
	bool unmap = strcmp(mode, "unmap") == 0 || strcmp(mode, "on") == 0;

	if (!unmap && strcmp(mode, "ignore") != 0 && strcmp(mode, "off") != 0)
		return cli_usage("serve", "discard is unmap or ignore, not '%s'", mode);
	i->disk.no_discard = i->open.qcow2.no_discard = !unmap;
	return 0;
}

static int option_read_only(struct serve_image *i, const char *value)
{
	i->disk.read_only = strcmp(value, "on") == 0;
	if (!i->disk.read_only && strcmp(value, "off") != 0)
		return cli_usage("serve", "read-only is on or off, not '%s'", value);
	return 0;
}

static int option_key(struct serve *s, struct serve_image *i, const char *id)
{
	if (!cli_secret_find(&s->secrets, id, &i->key))
		return cli_usage("serve", "there is no --object secret,id=%s", id);
	i->open.secrets = &i->key;
	i->open.secrets_n = 1;
	return 0;
}

static int option_bitmap(struct serve_image *i, const char *name)
{
	if (i->bitmaps_n == EXPORT_CONTEXTS)
		return cli_usage("serve", "more than %d bitmaps of one image", EXPORT_CONTEXTS);
	i->bitmaps[i->bitmaps_n++].name = name;
	return 0;
}

/* -ENOENT: it is no limit. */
static int option_limit(struct serve_image *i, const char *name, const char *value)
{
	bool both = strcmp(name, "iops") == 0 || strcmp(name, "bps") == 0;
	char total[16];
	uint64_t n;

	snprintf(total, sizeof(total), "%s-total", name);
	if (cli_size_parse(value, &n) < 0)
		n = 0;
	int r = throttle_set(&i->limits, both ? total : name, n);

	if (r == 0 && n == 0)
		return cli_usage("serve", "%s takes a number above 0, not '%s'", name, value);
	i->limited |= r == 0;
	return r;
}

static int option_of_limit(void *arg, const char *name, const char *value)
{
	int r = option_limit(arg, name, value);

	return r == -ENOENT ? cli_usage("serve", "--limit: there is no limit '%s'", name) : r;
}

int serve_image_limit(struct serve_image *i, const char *limits)
{
	return cli_options_parse(limits, option_of_limit, i);
}

int serve_image_option(struct serve *s, struct serve_image *i, const char *name, const char *value)
{
	if (strcmp(name, "cache") == 0)
		return option_cache(i, value);
	if (strcmp(name, "discard") == 0)
		return option_discard(i, value);
	if (strcmp(name, "read-only") == 0)
		return option_read_only(i, value);
	if (strcmp(name, "key-secret") == 0)
		return option_key(s, i, value);
	if (strcmp(name, "bitmap") == 0)
		return option_bitmap(i, value);
	if (strcmp(name, "format") == 0)
		i->open.format = value;
	else if (strcmp(name, "data-file") == 0)
		i->open.data_file = value;
	else if (strcmp(name, "description") == 0)
		i->disk.description = value;
	else if (strcmp(name, "snapshot") == 0) {
		i->open.qcow2.snapshot = value;
		i->disk.read_only = true;
	} else {
		return option_limit(i, name, value);
	}
	return 0;
}

struct option_target {
	struct serve *serve;
	struct serve_image *image;
};

static int option_of_image(void *arg, const char *name, const char *value)
{
	struct option_target *t = arg;
	int r = serve_image_option(t->serve, t->image, name, value);

	return r == -ENOENT ? cli_usage("serve", "--image %s: no option '%s'", t->image->disk.name, name) : r;
}

/* ---- the command line ---- */

int serve_image_add(struct serve *s, const char *spec)
{
	if (s->images_n == SERVE_IMAGES)
		return cli_usage("serve", "more than %d images", SERVE_IMAGES);

	struct serve_image *i = &s->images[s->images_n];

	i->spec = strdup(spec);
	if (!i->spec)
		return -ENOMEM;
	s->images_n++;
	return 0;
}

static int image_parse(struct serve *s, struct serve_image *i)
{
	char *rest = i->spec;
	char *name = options_cut(&rest);
	char *file = strchr(name, '=');

	*i = s->defaults;
	i->spec = name;
	if (!file || file == name || file[1] == '\0')
		return cli_usage("serve", "--image takes NAME=FILE, not '%s'", name);
	*file++ = '\0';
	i->disk.name = name;
	i->open.path = file;
	return cli_options_parse_in_place(rest, option_of_image, &(struct option_target){.serve = s, .image = i});
}

static int names_check(const struct serve *s)
{
	for (unsigned a = 0; a < s->images_n; a++) {
		for (unsigned b = 0; b < a; b++) {
			if (strcmp(s->images[a].disk.name, s->images[b].disk.name) == 0)
				return cli_usage("serve", "two images of the name '%s'", s->images[a].disk.name);
		}
	}
	return 0;
}

int serve_images_finish(struct serve *s, const char *file)
{
	int r = cli_secret_use(&s->secrets, "serve", &s->defaults.open);

	cli_allow_use(&s->allow, &s->defaults.open);
	for (unsigned i = 0; i < s->images_n && r == 0; i++)
		r = image_parse(s, &s->images[i]);
	if (r == 0 && file && s->images_n == SERVE_IMAGES)
		r = cli_usage("serve", "more than %d images", SERVE_IMAGES);
	if (r < 0)
		return r;
	if (file) {
		s->images[s->images_n] = s->defaults;
		s->images[s->images_n++].open.path = file;
	}
	for (unsigned i = 0; i < s->images_n; i++)
		s->images[i].open.write = !s->images[i].disk.read_only;
	return s->images_n == 0 ? cli_usage("serve", "which image?") : names_check(s);
}

static void bitmaps_close(struct serve_image *i)
{
	for (unsigned b = 0; b < i->bitmaps_n; b++)
		free((char *)take(i->bitmaps[b].context.name));
}

void serve_images_fini(struct serve *s)
{
	for (unsigned i = 0; i < s->images_n; i++) {
		bitmaps_close(&s->images[i]);
		free(s->images[i].spec);
	}
}

/* ---- dirty bitmaps ---- */

static int bitmap_status(
	struct co *co, const struct export_context *c, uint64_t off, uint64_t len, uint32_t *flags, uint64_t *run)
{
	const struct serve_bitmap *b = container_of(c, struct serve_bitmap, context);
	struct qcow2_bitmap_extent extent;
	int r = qcow2_bitmap_run(co, b->node, b->name, off, len, &extent);

	if (r < 0)
		return r;
	*flags = extent.dirty; /* NBD_STATE_DIRTY of QEMU's docs/interop/nbd.txt */
	*run = extent.len;
	return 0;
}

/* The first question tells whether it exists and is usable. */
static int bitmap_open(struct co *co, struct serve_image *i, struct serve_bitmap *b, struct err *err)
{
	struct qcow2_bitmap_extent extent;
	int r = -ENOTSUP;
	char *name;

	b->node = image_qcow2_of(i->disk.node);
	if (b->node)
		r = qcow2_bitmap_run(co, b->node, b->name, 0, 1, &extent);
	if (r == -ENOENT)
		return err_set(err, r, "%s: there is no bitmap '%s'", i->open.path, b->name);
	if (r < 0)
		return err_set(err, r, "%s: bitmap '%s' can't be used: %s", i->open.path, b->name, strerror(-r));
	if (asprintf(&name, "qemu:dirty-bitmap:%s", b->name) < 0)
		return err_set(err, -ENOMEM, "no memory");
	b->context = (struct export_context){.name = name, .status = bitmap_status};
	return 0;
}

static int bitmaps_open(struct co *co, struct serve_image *i, struct err *err)
{
	for (unsigned b = 0; b < i->bitmaps_n; b++) {
		int r = bitmap_open(co, i, &i->bitmaps[b], err);

		if (r < 0)
			return r;
		i->contexts[b] = &i->bitmaps[b].context;
	}
	i->disk.contexts = i->contexts;
	i->disk.contexts_n = i->bitmaps_n;
	return 0;
}

/* ---- life ---- */

/* The image goes below its limits; it stays with the caller where they can't be had. */
static int limits_open(struct co *co, struct serve_image *i, struct err *err)
{
	struct throttle_group *group;
	int r = throttle_check(&i->limits, err);

	if (r < 0)
		return err_prefix(err, "%s", i->open.path);
	group = throttle_group_new(co_sched_of(co), &i->limits);
	i->disk.image = i->disk.node;
	r = group ? throttle_open(co, i->disk.node, group, &i->disk.node) : -ENOMEM;
	throttle_group_unref(group);
	return r < 0 ? err_set(err, r, "%s: no limits: %s", i->open.path, strerror(-r)) : 0;
}

static int open_one(struct co *co, struct serve *s, struct serve_image *i, struct err *err)
{
	int r = image_open(co, &i->open, &i->disk.node, err);

	if (r == 0)
		r = bitmaps_open(co, i, err);
	if (r == 0 && i->limited)
		r = limits_open(co, i, err);
	if (r == 0)
		log_line(&s->log.log, LOG_LEVEL_DEBUG, "%s: open, %s, %llu bytes", i->open.path,
			export_disk_writable(&i->disk) ? "read-write" : "read-only",
			(unsigned long long)i->disk.node->size);
	return r;
}

int serve_images_open(struct co *co, struct serve *s, struct err *err)
{
	for (unsigned i = 0; i < s->images_n; i++) {
		int r;

		s->images[i].open.qcow2.log = &s->log.log;
		r = open_one(co, s, &s->images[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

int serve_images_close(struct co *co, struct serve *s)
{
	int status = 0;

	for (unsigned i = s->images_n; i-- > 0;) {
		int r = node_close(co, take(s->images[i].disk.node));

		bitmaps_close(&s->images[i]);
		if (r == 0)
			continue;
		status = 1;
		log_line(&s->log.log, LOG_LEVEL_ERROR, "%s: what was written may not be on disk: %s",
			s->images[i].open.path, strerror(-r));
	}
	return status;
}
