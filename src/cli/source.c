/* SPDX-License-Identifier: MIT */
/* Which snapshot is meant is found out in the image's own table; then the image is opened as it was in it. */
#include "cli/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static int set_text(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
	return *to ? 0 : -ENOMEM;
}

static int part_take(void *arg, const char *name, const char *value)
{
	struct cli_source *s = arg;

	if (strcmp(name, "snapshot.id") == 0)
		return set_text(&s->id, value);
	if (strcmp(name, "snapshot.name") == 0)
		return set_text(&s->name, value);
	cli_complain("Invalid parameter '%s'", name);
	return -EINVAL;
}

int cli_source_snapshot(struct cli_source *s, const char *value)
{
	s->snapshot = value;
	if (strncmp(value, "snapshot.", 9) != 0)
		return 0;
	if (cli_options_parse(value, part_take, s) == 0)
		return 0;
	cli_complain("Failed in parsing snapshot param '%s'", value);
	return -EINVAL;
}

static bool is_meant(const struct cli_source *s, const struct qcow2_snapshot_info *it)
{
	if (!s->id && !s->name)
		return strcmp(it->id, s->snapshot) == 0 || strcmp(it->name, s->snapshot) == 0;
	return (!s->id || strcmp(it->id, s->id) == 0) && (!s->name || strcmp(it->name, s->name) == 0);
}

/* From now on s->snapshot is the ID of the one that is meant. */
static int find(struct co *co, struct cli_source *s, struct node *n, struct err *err)
{
	AUTO_FREE struct qcow2_snapshot_info *all = NULL;
	struct node *image = image_qcow2_of(n);
	unsigned count = 0;
	int ret = image
		? qcow2_snapshots_read(co, image->file, qcow2_node_header(image), &all, &count, err)
		: err_set(err, -ENOTSUP,
			  "Block format 'raw' used by device '' does not support temporarily loading internal snapshots");

	for (unsigned i = 0; ret == 0 && i < count; i++) {
		if (!is_meant(s, &all[i]))
			continue;
		ret = set_text(&s->id, all[i].id);
		s->snapshot = s->id;
		return ret;
	}
	return ret < 0 ? ret : err_set(err, -ENOENT, "Can't find snapshot");
}

static int resolve(struct co *co, struct cli_common *common, struct cli_source *s, const struct cli_image *image)
{
	AUTO_FREE struct err *err = calloc(1, sizeof(*err));
	struct cli_image look = *image;
	struct node *n;
	int ret;

	if (!err)
		return cli_complain("no memory");
	look.how.no_backing = look.how.qcow2.locked = true;
	ret = cli_image_open(co, common, &look, &n);
	if (ret)
		return ret;
	ret = find(co, s, n, err);
	(void)!node_close(co, n);
	return ret < 0 ? cli_complain("Failed to load snapshot: %s", err->text) : 0;
}

int cli_source_open(
	struct co *co, struct cli_common *common, struct cli_source *s, struct cli_image *image, struct node **out)
{
	int status = s->snapshot ? resolve(co, common, s, image) : 0;

	image->how.qcow2.snapshot = s->snapshot;
	return status ? status : cli_image_open(co, common, image, out);
}

void cli_source_fini(struct cli_source *s)
{
	free(s->id);
	free(s->name);
}
