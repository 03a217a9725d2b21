/* SPDX-License-Identifier: MIT */
/* corral snapshot: the internal snapshots of an image, with the options and the words of qemu-img snapshot. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/describe.h"
#include "cli/open.h"

static const char help[] =
	"Usage: corral snapshot [OPTIONS] [-l | -c NAME | -a SNAPSHOT | -d NAME] FILE\n"
	"\n"
	"Lists, makes, goes back to and deletes the snapshots that lie inside a qcow2 image.\n"
	"\n"
	"  -l, --list               list them (default)\n"
	"  -c, --create NAME        make one of the disk as it is now\n"
	"  -a, --apply SNAPSHOT     make the disk what it was in the snapshot (ID or name); what it is now is lost\n"
	"  -d, --delete NAME        delete the snapshot of this name\n"
	"  -f, --format FORMAT      the image is qcow2 or raw (default: look at it)\n"
	"  -U, --force-share        with -l: take no lock, the image may be in use\n"
	"      --image-opts         FILE is a list of options: driver=qcow2,file.filename=...\n"
	"      --allow DIR          a header may also name files in DIR (none, all); may be given more than once\n"
	"      --data-file FILE     the image's external data file (default: the one that the image names)\n" CLI_KEY_SECRET_HELP
	"  -q, --quiet              nothing but errors and what was asked for is ever printed; accepted for qemu-img's sake\n"
	"  -h, --help               print this\n"
	"\n"
	"Examples:\n"
	"  corral snapshot -c before-upgrade vm1.qcow2\n"
	"  corral serve --snapshot before-upgrade --nbd unix:/tmp/old.sock vm1.qcow2\n";

enum action { LIST, CREATE, APPLY, DELETE };

struct snapshot {
	struct cli_common common;
	struct cli_image image;
	enum action action;
	unsigned actions; /* how many were asked for */
	const char *name;
};

static const struct option long_options[] = {
	{"list", no_argument, NULL, 'l'},
	{"create", required_argument, NULL, 'c'},
	{"apply", required_argument, NULL, 'a'},
	{"delete", required_argument, NULL, 'd'},
	{"quiet", no_argument, NULL, 'q'},
	CLI_LONG_IMAGE,
	CLI_LONG_COMMON,
	{0},
};

static int parse_action(struct snapshot *s, enum action action)
{
	s->action = action;
	s->name = optarg;
	return s->actions++ ? cli_usage("snapshot", "Cannot mix '-l', '-a', '-c', '-d'") : 0;
}

static int parse_one(struct snapshot *s, int option, const char *culprit)
{
	switch (option) {
	case 'l': return parse_action(s, LIST);
	case 'c': return parse_action(s, CREATE);
	case 'a': return parse_action(s, APPLY);
	case 'd': return parse_action(s, DELETE);
	default: return cli_option(&s->common, &s->image, option, culprit, help);
	}
}

/* 0; 1: help was printed; or negative. */
static int parse(struct snapshot *s, int argc, char **argv)
{
	int option, ret = 0;

	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":la:c:d:f:hqU", long_options, NULL)) != -1)
		ret = parse_one(s, option, argv[optind - 1]);
	if (ret != 0)
		return ret;
	if (optind + 1 != argc)
		return cli_usage("snapshot", "Expecting one image file name");
	s->image.how.path = argv[optind];
	return 0;
}

/* ---- list ---- */

static int list(struct co *co, const struct snapshot *s, struct node *n, struct err *err)
{
	json_t *array;
	int ret;

	if (!n)
		return 0;
	ret = describe_snapshots(co, n->file, qcow2_node_header(n), &array, err);
	if (ret < 0)
		return cli_complain("'%s': %s", s->image.how.path, err->text);
	if (json_array_size(array) > 0)
		describe_snapshots_print(array);
	json_decref(array);
	return 0;
}

/* ---- change ---- */

static int create(struct co *co, const struct snapshot *s, struct node *n, struct err *err)
{
	struct qcow2_snapshot_new how = {.name = s->name};
	struct timespec now;
	int ret = -ENOTSUP;

	clock_gettime(CLOCK_REALTIME, &now);
	how.date_sec = (uint32_t)now.tv_sec;
	how.date_nsec = (uint32_t)now.tv_nsec;
	if (n)
		ret = qcow2_snapshot_create(co, n, &how, err);
	if (ret == 0)
		return 0;
	return n && !cli_is_qemu()
		? cli_complain("Could not create snapshot '%s': %d (%s): %s", s->name, ret, strerror(-ret), err->text)
		: cli_complain("Could not create snapshot '%s': %d (%s)", s->name, ret, strerror(-ret));
}

static int apply(struct co *co, const struct snapshot *s, struct node *n, struct err *err)
{
	int ret = err_set(err, -ENOTSUP, "Block driver does not support snapshots");

	if (n)
		ret = qcow2_snapshot_apply(co, n, s->name, err);
	if (ret == -ENOENT)
		return cli_complain(
			"Could not apply snapshot '%s': Failed to load snapshot: %s", s->name, strerror(ENOENT));
	return ret < 0 ? cli_complain("Could not apply snapshot '%s': %s", s->name, err->text) : 0;
}

/* As qemu-img has it, it is names that are deleted: IDs are names, too, of other snapshots. */
static int id_of_name(struct co *co, const struct snapshot *s, struct node *n, char id[64], struct err *err)
{
	AUTO_FREE struct qcow2_snapshot_info *all = NULL;
	unsigned count = 0;
	int ret = n ? qcow2_snapshots_read(co, n->file, qcow2_node_header(n), &all, &count, err) : 0;

	for (unsigned i = 0; ret == 0 && i < count; i++) {
		if (strcmp(all[i].name, s->name) == 0) {
			memcpy(id, all[i].id, sizeof(all[i].id));
			return 0;
		}
	}
	return ret < 0 ? ret : err_set(err, -ENOENT, "snapshot not found");
}

static int delete (struct co *co, const struct snapshot *s, struct node *n, struct err *err)
{
	char id[64];
	int ret = id_of_name(co, s, n, id, err);

	if (ret == 0)
		ret = qcow2_snapshot_delete(co, n, id, err);
	return ret < 0 ? cli_complain("Could not delete snapshot '%s': %s", s->name, err->text) : 0;
}

static int run(struct co *co, void *arg)
{
	static int (*const actions[])(struct co *, const struct snapshot *, struct node *, struct err *) = {
		[LIST] = list, [CREATE] = create, [APPLY] = apply, [DELETE] = delete};
	struct snapshot *s = arg;
	struct err err = {0};
	struct node *n;
	int status, ret;

	s->image.how.no_backing = true;
	s->image.how.write = s->action != LIST;
	s->image.how.qcow2.locked = true; /* no data is read or written */
	status = cli_image_open(co, &s->common, &s->image, &n);
	if (status)
		return status;
	status = actions[s->action](co, s, image_qcow2_of(n), &err);
	ret = node_close(co, n);
	return ret < 0 ? cli_complain("'%s': %s", s->image.how.path, strerror(-ret)) : status;
}

int cmd_snapshot(int argc, char **argv)
{
	struct snapshot s = {.common = {.command = "snapshot"}};
	int status = parse(&s, argc, argv);

	status = status == 0 ? cli_run(run, &s) : status < 0;
	cli_common_fini(&s.common);
	return status;
}
