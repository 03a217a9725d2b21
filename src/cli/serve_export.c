/* SPDX-License-Identifier: MIT */
/*
 * The exports of `corral serve`: which kinds there are, which images each offers, starting and stopping; see serve.h.
 * A new kind is a row of the table.
 */
#include "cli/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* ---- NBD ---- */

static int nbd_option(struct serve_export *e, const char *name, const char *value)
{
	char *end;

	if (strcmp(name, "tls") == 0) {
		e->plain = strcmp(value, "off") == 0;
		return e->plain || strcmp(value, "on") == 0
			? 0
			: cli_usage("serve", "--nbd: tls is on or off, not '%s'", value);
	}
	if (strcmp(name, "connections") != 0)
		return -ENOENT;
	unsigned long n = strtoul(value, &end, 10);

	if (*end != '\0' || n < 1 || n > 1000)
		return cli_usage("serve", "--nbd: connections is a number from 1 to 1000, not '%s'", value);
	e->nbd.connections = (unsigned)n;
	return 0;
}

/* "systemd" or "systemd:NAME": a socket that this process was given. 0 with *out NULL: an address of another kind. */
static int inherited(struct co *co, struct serve *s, const char *where, struct io_sock **out, struct err *err)
{
	*out = NULL;
	if (strncmp(where, "systemd", 7) != 0 || (where[7] != '\0' && where[7] != ':'))
		return 0;
	int fd = systemd_take(&s->systemd, where[7] == ':' ? where + 8 : NULL, err);

	return fd < 0 ? fd : io_listener_adopt(co, fd, out, err);
}

static int nbd_start(struct co *co, struct serve *s, struct serve_export *e, struct err *err)
{
	struct nbd_options *o = &e->nbd;
	int r = e->inherited ? 0 : inherited(co, s, e->where, &o->listener, err);

	o->address = e->where;
	o->state = e->inherited ? &e->state : NULL;
	o->disks = e->disks;
	o->disks_n = e->disks_n;
	o->log = &s->log.log;
	o->tls = e->plain ? NULL : s->tls_creds;
	return r < 0 ? r : nbd_export_start(co, o, &e->export, err);
}

/* ---- vhost-user-blk ---- */

struct number { /* an option that is one */
	const char *name;
	unsigned long least, most;
};

static int number_parse(const struct number *n, const char *value, unsigned long *out)
{
	char *end;

	*out = strtoul(value, &end, 10);
	if (*value < '0' || *value > '9' || *end != '\0' || *out < n->least || *out > n->most)
		return cli_usage("serve", "--vhost-user: %s is a number from %lu to %lu, not '%s'", n->name, n->least,
			n->most, value);
	return 0;
}

static int vhost_user_option(struct serve_export *e, const char *name, const char *value)
{
	static const struct number numbers[] = {
		{"queues", 1, 256}, {"queue-size", 1, 1024}, {"block-size", 512, 4096}, {"poll-us", 0, 10000}};
	struct vhost_user_options *o = &e->vhost_user;
	unsigned *const to[] = {&o->queues, &o->queue_size, &o->block_size};
	unsigned long n;

	if (strcmp(name, "serial") == 0) {
		o->serial = value;
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_ENTRIES(numbers); i++) {
		if (strcmp(name, numbers[i].name) != 0)
			continue;
		if (number_parse(&numbers[i], value, &n) < 0)
			return -EINVAL;
		if (i < ARRAY_ENTRIES(to))
			*to[i] = (unsigned)n;
		else
			o->poll_ns = n * 1000;
		return 0;
	}
	return -ENOENT;
}

/* The plain path is meant, as VMMs have it too. */
static int vhost_user_start(struct co *co, struct serve *s, struct serve_export *e, struct err *err)
{
	struct vhost_user_options *o = &e->vhost_user;
	AUTO_FREE char *address = NULL;

	if (e->disks_n != 1)
		return err_set(
			err, -EINVAL, "--vhost-user %s: image=NAME has to say which one of the images", e->where);
	if (asprintf(&address, "%s%s", strncmp(e->where, "unix:", 5) == 0 ? "" : "unix:", e->where) < 0)
		return err_set(err, -ENOMEM, "no memory");
	int r = e->inherited ? 0 : inherited(co, s, e->where, &o->listener, err);

	o->address = address;
	o->state = e->inherited ? &e->state : NULL;
	o->hands_over = s->control.where != NULL;
	o->disk = e->disks[0];
	o->log = &s->log.log;
	return r < 0 ? r : vhost_user_export_start(co, o, &e->export, err);
}

/* ---- kinds ---- */

static const struct serve_kind kinds[] = {
	{.name = "nbd", .option = nbd_option, .start = nbd_start},
	{.name = "vhost-user", .option = vhost_user_option, .start = vhost_user_start},
};

const struct serve_kind *serve_kind_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(kinds); i++) {
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	}
	return NULL;
}

/* ---- the command line ---- */

static int export_option(void *arg, const char *name, const char *value)
{
	struct serve_export *e = arg;
	int r = -ENOENT;

	if (strcmp(name, "image") == 0) {
		if (e->image_names_n == SERVE_IMAGES)
			return cli_usage("serve", "--%s: more than %d images", e->kind->name, SERVE_IMAGES);
		e->image_names[e->image_names_n++] = value;
		return 0;
	}
	if (e->kind->option)
		r = e->kind->option(e, name, value);
	return r == -ENOENT ? cli_usage("serve", "--%s: no option '%s'", e->kind->name, name) : r;
}

int serve_export_add(struct serve *s, const struct serve_kind *kind, const char *spec)
{
	if (s->exports_n == SERVE_EXPORTS)
		return cli_usage("serve", "more than %d exports", SERVE_EXPORTS);

	struct serve_export *e = &s->exports[s->exports_n++];
	char *rest = strdup(spec);

	e->kind = kind;
	e->spec = rest;
	if (!rest)
		return -ENOMEM;
	e->where = options_cut(&rest);
	return cli_options_parse_in_place(rest, export_option, e);
}

static int disk_select(struct serve *s, struct serve_export *e, const char *name)
{
	for (unsigned i = 0; i < s->images_n; i++) {
		if (strcmp(s->images[i].disk.name, name) == 0) {
			e->disks[e->disks_n++] = &s->images[i].disk;
			return 0;
		}
	}
	return cli_usage("serve", "--%s: there is no image of the name '%s'", e->kind->name, name);
}

static int disks_select(struct serve *s, struct serve_export *e)
{
	for (unsigned i = 0; i < e->image_names_n; i++) {
		int r = disk_select(s, e, e->image_names[i]);

		if (r < 0)
			return r;
	}
	for (unsigned i = 0; i < s->images_n && e->image_names_n == 0; i++)
		e->disks[e->disks_n++] = &s->images[i].disk;
	return 0;
}

int serve_exports_finish(struct serve *s)
{
	if (s->exports_n == 0)
		return cli_usage("serve", "where to? --nbd ADDRESS or --vhost-user PATH is missing");
	for (unsigned i = 0; i < s->exports_n; i++) {
		int r = disks_select(s, &s->exports[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

void serve_exports_fini(struct serve *s)
{
	for (unsigned i = 0; i < s->exports_n; i++)
		free(s->exports[i].spec);
}

/* ---- life ---- */

int serve_exports_start(struct co *co, struct serve *s, struct err *err)
{
	for (unsigned i = 0; i < s->exports_n; i++) {
		int r = s->exports[i].kind->start(co, s, &s->exports[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

void serve_exports_stop(struct co *co, struct serve *s)
{
	for (unsigned i = s->exports_n; i-- > 0;) {
		struct export *e = take(s->exports[i].export);

		if (e && (s->handed_over || s->exports[i].inherited))
			e->ops->release(co, e);
		else if (e)
			e->ops->stop(co, e);
	}
}

/* ---- where they are ---- */

static const char *disk_path(const struct serve *s, const struct export_disk *disk)
{
	for (unsigned i = 0; i < s->images_n; i++) {
		if (disk == &s->images[i].disk)
			return s->images[i].open.path;
	}
	return "?";
}

static bool disk_text(FILE *out, const struct serve *s, const struct serve_export *e, const struct export_disk *disk)
{
	char *where = e->export->ops->where(e->export, disk);

	if (where)
		fprintf(out, "corral: serving %s at %s\n", disk_path(s, disk), where);
	free(where);
	return where != NULL;
}

char *serve_exports_text(const struct serve *s)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	bool complete = out != NULL;

	for (unsigned i = 0; i < s->exports_n; i++) {
		for (unsigned d = 0; d < s->exports[i].disks_n && complete; d++)
			complete = disk_text(out, s, &s->exports[i], s->exports[i].disks[d]);
	}
	if (out && fclose(out) == 0 && complete) {
		text[len - 1] = '\0'; /* whoever prints it ends the last line */
		return text;
	}
	free(text);
	return NULL;
}
