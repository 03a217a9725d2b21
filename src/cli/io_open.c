/* SPDX-License-Identifier: MIT */
/* corral io: opening, closing and reopening the image. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/options.h"
#include "base/cleanup.h"
#include "cli/io.h"
#include "cli/open.h"
#include "cli/options.h"
#include "cli/scratch.h"
#include "filter/blkdebug.h"
#include "filter/copy_on_read.h"

int cli_io_cache_set(struct cli_io_settings *settings, const char *mode)
{
	if (image_cache_parse(mode, &settings->cache) == 0)
		return 0;
	return cli_complain("Invalid cache option: %s", mode), -EINVAL;
}

int cli_io_discard_set(struct cli_io_settings *settings, const char *mode)
{
	static const char *const modes[] = {"ignore", "off", "unmap", "on"};

	for (unsigned i = 0; i < ARRAY_ENTRIES(modes); i++) {
		if (strcmp(mode, modes[i]) == 0) {
			settings->discard = modes[i];
			return 0;
		}
	}
	return cli_complain("Invalid discard option: %s", mode), -EINVAL;
}

/* ---- one tree of options of all that was said ---- */

/* The name, below the options; a json: name is a tree already. NULL: told in err. */
static json_t *tree_of_path(const char *path, bool is_storage, struct err *err)
{
	json_t *named;

	if (options_of_name(path, &named, err) < 0)
		return NULL;
	return strncmp(path, "json:", 5) == 0 || is_storage ? named : json_pack("{s:o}", "file", named);
}

static bool is_protocol(const char *driver)
{
	return driver && (strcmp(driver, "file") == 0 || strcmp(driver, "nbd") == 0 || strcmp(driver, "null-co") == 0);
}

static json_t *tree_make(const struct cli_io_settings *settings, struct err *err)
{
	const char *driver = settings->options ? options_text(settings->options, "driver") : NULL;
	json_t *tree = settings->path ? tree_of_path(settings->path, is_protocol(driver), err) : json_object();

	if (!tree)
		return NULL;
	if (settings->options)
		json_object_update_recursive(tree, settings->options);
	if (settings->format)
		json_object_set_new(tree, "driver", json_string(settings->format));
	if (settings->discard && !json_object_get(tree, "discard"))
		json_object_set_new(tree, "discard", json_string(settings->discard));
	return tree;
}

/* ---- opening ---- */

static void suspended(void *arg ATTR_UNUSED, const char *tag, bool resumed)
{
	printf("blkdebug: %s request '%s'\n", resumed ? "Resuming" : "Suspended", tag);
	fflush(stdout);
}

static int filters_open(struct co *co, const struct cli_io_settings *settings, struct node **node, struct err *err)
{
	struct node *debug = blkdebug_find(*node), *over;
	int ret = 0;

	if (debug)
		blkdebug_watch(debug, suspended, NULL);
	if (!settings->copy_on_read)
		return 0;
	if ((*node)->read_only)
		return err_set(err, -EINVAL, "Can't use copy-on-read on read-only device");
	ret = copy_on_read_open(co, *node, &over);
	if (ret < 0)
		return err_set(err, ret, "no memory");
	*node = over;
	return 0;
}

/* Those that options name by their ID. */
static unsigned objects_list(const struct cli_secrets *secrets, struct image_secret *out)
{
	unsigned n = 0;

	for (unsigned i = 0; out && i < secrets->n; i++) {
		out[n].id = secrets->v[i].id;
		n += cli_secret_find(secrets, secrets->v[i].id, &out[n].secret);
	}
	return n;
}

static int chain_open(struct co *co, const struct cli_io_session *s, const struct cli_io_settings *settings,
	json_t *tree, struct node **out, struct err *err)
{
	AUTO_FREE struct image_secret *objects = calloc(CLI_SECRETS, sizeof(*objects)); /* stacks are small */
	bool guessed = false;
	struct image_open how = {
		.path = settings->path ? settings->path : "",
		.options = tree,
		.write = !settings->read_only && !settings->snapshot,
		.no_lock = settings->force_share,
		.cache = settings->cache,
		.qemu = cli_is_qemu(),
		.guessed_raw = &guessed,
		.objects = objects,
		.objects_n = objects_list(s->secrets, objects),
	};
	int ret;

	cli_allow_use(s->allow, &how);
	if (settings->native && settings->cache != IMAGE_NONE && settings->cache != IMAGE_DIRECTSYNC)
		return err_set(err, -EINVAL,
			"aio=native was specified, but it requires cache.direct=on, which was not specified.");
	if (cli_secret_use(s->secrets, "io", &how) < 0)
		return err_set(err, -EINVAL, "there is no such passphrase");
	ret = image_open_plain(co, &how, out, err);
	if (ret == 0 && guessed)
		cli_guess_warn(how.path);
	if (ret == 0 && settings->snapshot)
		ret = cli_scratch_open(co, *out, out, err);
	if (ret < 0)
		return ret;
	ret = filters_open(co, settings, out, err);
	if (ret < 0)
		(void)!node_close(co, *out);
	return ret;
}

static void settings_fini(struct cli_io_settings *settings)
{
	free((char *)settings->path);
	free((char *)settings->format);
	json_decref(settings->options);
	*settings = (struct cli_io_settings){0};
}

static void settings_copy(struct cli_io_settings *to, const struct cli_io_settings *from)
{
	*to = *from;
	to->path = from->path ? strdup(from->path) : NULL;
	to->format = from->format ? strdup(from->format) : NULL;
	json_incref(to->options);
}

int cli_io_image_open(struct co *co, struct cli_io_session *s, const struct cli_io_settings *settings)
{
	AUTO_FREE struct err *err = calloc(1, sizeof(*err));
	json_t *tree = err ? tree_make(settings, err) : NULL;
	int ret = -EINVAL;

	if (tree)
		ret = chain_open(co, s, settings, tree, &s->node, err);
	json_decref(tree);
	if (ret < 0) {
		s->node = NULL;
		cli_complain("can't open%s%s: %s", settings->path ? " device " : "",
			settings->path ? settings->path : "", err && err->text[0] ? err->text : "no memory");
		return ret;
	}
	settings_copy(&s->settings, settings);
	return 0;
}

int cli_io_image_close(struct co *co, struct cli_io_session *s)
{
	int ret = 0;

	if (!s->node)
		return 0;
	cli_io_settle(co, s);
	ret = node_close(co, s->node);
	s->node = NULL;
	settings_fini(&s->settings);
	return ret;
}

/* ---- the commands ---- */

int cli_io_close(struct co *co, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv ATTR_UNUSED)
{
	(void)!cli_io_image_close(co, s);
	return 0;
}

/* Members that are there already keep what the later list says. */
static int options_add(struct cli_io_settings *settings, const char *text)
{
	AUTO_FREE struct err *err = calloc(1, sizeof(*err));
	json_t *more;
	int ret = err ? options_parse(text, &more, err) : -ENOMEM;

	if (ret < 0)
		return cli_complain("%s", err ? err->text : "no memory"), ret;
	if (settings->options)
		json_object_update_recursive(more, settings->options);
	json_decref(settings->options);
	settings->options = more;
	return 0;
}

static int open_option(struct cli_io_settings *settings, int option)
{
	switch (option) {
	case 'r': settings->read_only = true; return 0;
	case 's': settings->snapshot = true; return 0;
	case 'C': settings->copy_on_read = true; return 0;
	case 'n': return cli_io_cache_set(settings, "none");
	case 'k': settings->native = true; return 0;
	case 'i': return 0;
	case 'U': settings->force_share = true; return 0;
	case 't': return cli_io_cache_set(settings, optarg);
	case 'd': return cli_io_discard_set(settings, optarg);
	case 'o': return options_add(settings, optarg);
	default: return cli_io_usage("open");
	}
}

int cli_io_open(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	struct cli_io_settings settings = {0};
	int option, ret = 0;

	while (ret == 0 && (option = getopt(argc, argv, "snCro:ki:t:d:U")) != -1)
		ret = open_option(&settings, option);
	if (ret == 0 && (optind < argc - 1 || (optind == argc && !settings.options)))
		ret = cli_io_usage("open");
	if (ret == 0 && s->node) {
		cli_complain("file open already, try 'help close'");
		ret = -EBUSY;
	}
	settings.path = optind < argc ? argv[optind] : NULL;
	if (ret == 0)
		ret = cli_io_image_open(co, s, &settings);
	json_decref(settings.options);
	return ret;
}

static int reopen_parse(struct cli_io_settings *settings, int argc, char **argv)
{
	unsigned modes = 0;
	int option, ret = 0;

	while (ret == 0 && (option = getopt(argc, argv, "c:o:rw")) != -1) {
		switch (option) {
		case 'c': ret = cli_io_cache_set(settings, optarg); break;
		case 'o': ret = options_add(settings, optarg); break;
		case 'r':
		case 'w':
			modes++;
			settings->read_only = option == 'r';
			break;
		default: ret = cli_io_usage("reopen");
		}
	}
	if (ret == 0 && modes > 1)
		ret = (cli_complain("Only one -r/-w option may be given"), -EINVAL);
	if (ret == 0 && optind != argc)
		ret = cli_io_usage("reopen");
	return ret;
}

/* What can't be opened as asked stays open as it was. */
int cli_io_reopen(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	struct cli_io_settings before, after;
	int ret;

	settings_copy(&before, &s->settings);
	settings_copy(&after, &s->settings);
	ret = reopen_parse(&after, argc, argv);
	if (ret == 0)
		ret = cli_io_image_close(co, s);
	if (ret == 0 || s->node == NULL) {
		int opened = cli_io_image_open(co, s, ret == 0 ? &after : &before);

		if (opened < 0 && cli_io_image_open(co, s, &before) < 0)
			cli_complain("and the image can't be opened as it was");
		ret = ret < 0 ? ret : opened;
	}
	settings_fini(&before);
	settings_fini(&after);
	return ret;
}
