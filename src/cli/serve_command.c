/* SPDX-License-Identifier: MIT */
/* What can be asked of a running `corral serve`: a table of commands, each JSON in and JSON out; see serve_control.h. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/describe.h"
#include "cli/serve_control.h"

#define SECTOR 512

/* ---- arguments ---- */

static int argument_text(const json_t *args, const char *name, const char **out, struct err *err)
{
	const json_t *value = json_object_get(args, name);

	*out = json_string_value(value);
	return *out ? 0 : err_set(err, -EINVAL, "\"%s\" is missing, or isn't a string", name);
}

/* "image"; it can be left out where there is only one. */
static int argument_image(struct serve *s, const json_t *args, struct serve_image **out, struct err *err)
{
	const json_t *value = json_object_get(args, "image");
	const char *name = json_string_value(value);

	if (value && !name)
		return err_set(err, -EINVAL, "\"image\" isn't a string");
	if (!value && s->images_n > 1)
		return err_set(err, -EINVAL, "several images are served: which one (\"image\")?");
	for (unsigned i = 0; i < s->images_n; i++) {
		if (!name || strcmp(s->images[i].disk.name, name) == 0) {
			*out = &s->images[i];
			return 0;
		}
	}
	return err_set(err, -ENOENT, "no image of the name '%s' is served", name);
}

static int argument_qcow2(
	struct serve *s, const json_t *args, struct serve_image **image, struct node **out, struct err *err)
{
	int r = argument_image(s, args, image, err);

	if (r < 0)
		return r;
	*out = image_qcow2_of(export_disk_image(&(*image)->disk));
	return *out ? 0 : err_set(err, -ENOTSUP, "%s: isn't qcow2, and has no snapshots", (*image)->open.path);
}

/* ---- looking ---- */

static json_t *image_status(const struct serve_image *i)
{
	return json_pack("{s:s, s:s, s:I, s:b}", "name", i->disk.name, "file", i->open.path, "size",
		(json_int_t)i->disk.node->size, "read-only", !export_disk_writable(&i->disk));
}

static unsigned clients_of(const struct serve_export *e)
{
	unsigned n = 0;

	for (unsigned d = 0; d < e->disks_n; d++)
		n += e->export->ops->clients(e->export, e->disks[d]);
	return n;
}

static json_t *export_status(const struct serve_export *e)
{
	return json_pack("{s:s, s:s, s:i}", "kind", e->kind->name, "where", e->where, "clients", (int)clients_of(e));
}

static int do_status(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err)
{
	json_t *images = json_array(), *exports = json_array();

	(void)co;
	(void)args;
	(void)err;
	for (unsigned i = 0; i < s->images_n; i++)
		json_array_append_new(images, image_status(&s->images[i]));
	for (unsigned i = 0; i < s->exports_n; i++)
		json_array_append_new(exports, export_status(&s->exports[i]));
	*out = json_pack("{s:s, s:i, s:s, s:o, s:o}", "version", CORRAL_VERSION, "pid", (int)getpid(), "log-level",
		log_level_name(s->log.log.level), "images", images, "exports", exports);
	return 0;
}

static json_t *counter_json(const struct export_counter *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "requests", (json_int_t)c->requests, "bytes",
		(json_int_t)c->bytes, "errors", (json_int_t)c->errors, "p50-us",
		(json_int_t)export_counter_percentile(c, 500) / 1000, "p99-us",
		(json_int_t)export_counter_percentile(c, 990) / 1000, "p99.9-us",
		(json_int_t)export_counter_percentile(c, 999) / 1000, "longest-us", (json_int_t)c->longest_ns / 1000);
}

static json_t *export_stats(const struct serve_export *e)
{
	const struct export_stats *stats = &e->export->stats;
	json_t *o = export_status(e);

	json_object_set_new(o, "clients-ever", json_integer((json_int_t)stats->clients));
	json_object_set_new(o, "refused", json_integer((json_int_t)stats->refused));
	for (unsigned op = 0; op < EXPORT_OPS; op++) {
		if (stats->op[op].requests > 0)
			json_object_set_new(o, export_op_name((enum export_op)op), counter_json(&stats->op[op]));
	}
	return o;
}

static int do_stats(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err)
{
	json_t *exports = json_array();

	(void)co;
	(void)args;
	(void)err;
	for (unsigned i = 0; i < s->exports_n; i++)
		json_array_append_new(exports, export_stats(&s->exports[i]));
	*out = json_pack("{s:o, s:{s:I, s:I}}", "exports", exports, "event-loop", "turns", (json_int_t)s->turns.turns,
		"longest-us", (json_int_t)s->turns.longest_ns / 1000);
	return 0;
}

/* ---- changing the daemon ---- */

static int do_log_level(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err)
{
	const char *name = json_string_value(json_object_get(args, "level"));
	enum log_level level;

	(void)co;
	if (name && log_level_parse(name, &level) < 0)
		return err_set(err, -EINVAL, "a level is error, warning, info or debug, not '%s'", name);
	if (name)
		serve_log_level_set(s, level);
	*out = json_string(log_level_name(s->log.log.level));
	return 0;
}

static int do_stop(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err)
{
	(void)args;
	(void)out;
	(void)err;
	log_line(&s->log.log, LOG_LEVEL_INFO, "ending: asked to over the control socket");
	io_signal_end(io_of(co));
	return 0;
}

/* ---- changing an image ---- */

static int size_check(const struct serve_image *i, uint64_t size, bool shrink, struct err *err)
{
	const struct node *n = i->disk.node;

	if (!export_disk_writable(&i->disk))
		return err_set(err, -EROFS, "%s: is served read-only", i->open.path);
	if (size == 0 || size % SECTOR != 0)
		return err_set(err, -EINVAL, "the size of a disk is a multiple of %d, and not 0", SECTOR);
	if (size < n->size && !shrink)
		return err_set(err, -EINVAL,
			"%s: has %" PRIu64 " bytes; \"shrink\": true would drop what lies behind its new end",
			i->open.path, n->size);
	return 0;
}

static void resized_tell(struct serve *s, const struct export_disk *disk)
{
	for (unsigned i = 0; i < s->exports_n; i++) {
		struct export *e = s->exports[i].export;

		if (e)
			e->ops->resized(e, disk);
	}
}

static int do_resize(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err)
{
	json_int_t size = json_integer_value(json_object_get(args, "size"));
	struct serve_image *i;
	int r = argument_image(s, args, &i, err);

	if (r == 0 && size <= 0)
		r = err_set(err, -EINVAL, "\"size\" is missing, or isn't a number of bytes");
	if (r == 0)
		r = size_check(i, (uint64_t)size, json_is_true(json_object_get(args, "shrink")), err);
	if (r < 0)
		return r;
	r = node_resize(co, i->disk.node, (uint64_t)size);
	if (r < 0)
		return err_set(err, r, "%s: couldn't be resized: %s", i->open.path, strerror(-r));
	resized_tell(s, &i->disk);
	log_line(&s->log.log, LOG_LEVEL_INFO, "%s: has %" PRIu64 " bytes now", i->open.path, i->disk.node->size);
	*out = json_pack("{s:I}", "size", (json_int_t)i->disk.node->size);
	return 0;
}

static int do_snapshot_create(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err)
{
	struct qcow2_snapshot_new how = {0};
	struct serve_image *i;
	struct timespec now;
	struct node *n;
	int r = argument_qcow2(s, args, &i, &n, err);

	(void)out;
	if (r == 0)
		r = argument_text(args, "name", &how.name, err);
	if (r == 0 && n->read_only)
		r = err_set(err, -EROFS, "is served read-only");
	clock_gettime(CLOCK_REALTIME, &now);
	how.date_sec = (uint32_t)now.tv_sec;
	how.date_nsec = (uint32_t)now.tv_nsec;
	return r == 0 ? qcow2_snapshot_create(co, n, &how, err) : r;
}

static int do_snapshot_delete(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err)
{
	struct serve_image *i;
	const char *which;
	struct node *n;
	int r = argument_qcow2(s, args, &i, &n, err);

	(void)out;
	if (r == 0)
		r = argument_text(args, "snapshot", &which, err);
	if (r == 0 && n->read_only)
		r = err_set(err, -EROFS, "is served read-only");
	return r == 0 ? qcow2_snapshot_delete(co, n, which, err) : r;
}

static int do_snapshot_list(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err)
{
	struct serve_image *i;
	struct node *n;
	int r = argument_qcow2(s, args, &i, &n, err);

	return r == 0 ? describe_snapshots(co, n->file, qcow2_node_header(n), out, err) : r;
}

/* ---- all of them ---- */

static int do_help(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err);

static const struct {
	const char *name;
	const char *arguments; /* for who asks */
	int (*fn)(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err);
} commands[] = {
	{"help", "", do_help},
	{"status", "", do_status},
	{"stats", "", do_stats},
	{"log-level", "[level]", do_log_level},
	{"resize", "[image] size [shrink]", do_resize},
	{"snapshot-create", "[image] name", do_snapshot_create},
	{"snapshot-delete", "[image] snapshot", do_snapshot_delete},
	{"snapshot-list", "[image]", do_snapshot_list},
	{"stop", "", do_stop},
};

static int do_help(struct co *co, struct serve *s, const json_t *args, json_t **out, struct err *err)
{
	(void)co;
	(void)s;
	(void)args;
	(void)err;
	*out = json_object();
	for (unsigned i = 0; i < ARRAY_ENTRIES(commands); i++)
		json_object_set_new(*out, commands[i].name, json_string(commands[i].arguments));
	return 0;
}

int serve_command_do(
	struct co *co, struct serve *s, const char *name, const json_t *args, json_t **out, struct err *err)
{
	*out = NULL;
	for (unsigned i = 0; i < ARRAY_ENTRIES(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return commands[i].fn(co, s, args, out, err);
	}
	return err_set(err, -ENOENT, "there is no command '%s'; help lists them", name);
}
