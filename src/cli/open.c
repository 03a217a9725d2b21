/* SPDX-License-Identifier: MIT */
/* Shared options, and opening an image by them: see open.h. */
#include "cli/open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "file/file.h"

/* ---- options ---- */

static int image_option(struct cli_common *common, struct cli_image *image, int option)
{
	switch (option) {
	case 'f': image->how.format = optarg; return 0;
	case 'U': image->how.no_lock = true; return 0;
	case CLI_OPT_IMAGE_OPTS: image->image_opts = true; return 0;
	case CLI_OPT_DATA_FILE: image->how.data_file = optarg; return 0;
	case CLI_OPT_KEY_SECRET: return cli_secret_key(&common->secrets, common->command, optarg);
	default: return cli_allow_add(&common->allow, common->command, optarg);
	}
}

static int help_print(const char *help)
{
	if (cli_is_qemu())
		cli_help_print(stdout);
	else
		fputs(help, stdout);
	return 1;
}

int cli_option(struct cli_common *common, struct cli_image *image, int option, const char *culprit, const char *help)
{
	switch (option) {
	case 'h': return help_print(help);
	case 'q': common->quiet = true; return 0;
	case 'p': common->progress = true; return 0;
	case CLI_OPT_OUTPUT: return cli_output_parse(common->command, optarg, &common->json);
	case CLI_OPT_SANDBOX: return cli_sandbox_parse(common->command, optarg, &common->sandbox);
	case CLI_OPT_OBJECT: return cli_secret_add(&common->secrets, common->command, optarg);
	case ':': return cli_usage(common->command, "missing argument for option '%s'", culprit);
	case '?': return cli_usage(common->command, "unrecognized option '%s'", culprit);
	default: return image_option(common, image, option);
	}
}

/* ---- opening ---- */

static int cache_take(struct cli_image *image)
{
	if (!image->cache || image_cache_parse(image->cache, &image->how.cache) == 0)
		return 0;
	return cli_complain("Invalid %scache option: %s", image->source ? "source " : "", image->cache);
}

void cli_guess_warn(const char *path)
{
	fprintf(stderr,
		"WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
		"         Automatically detecting the format is dangerous for raw images, write operations on block 0 "
		"will be restricted.\n"
		"         Specify the 'raw' format explicitly to remove the restrictions.\n",
		path);
}

/* driver: NULL, or image_storage_open is meant. */
static int one_open(
	struct co *co, const struct image_open *how, struct node **out, const char **driver, struct err *err)
{
	return driver ? image_storage_open(co, how, out, driver, err) : image_open(co, how, out, err);
}

static int described_open(
	struct co *co, struct image_open *how, struct node **out, const char **driver, struct err *err)
{
	json_t *options;
	int ret = options_parse(how->path, &options, err);

	if (ret < 0) {
		err_prefix(err, "Could not open '%s'", how->path);
		return ret;
	}
	how->options = options;
	ret = one_open(co, how, out, driver, err);
	how->options = NULL;
	json_decref(options);
	return ret;
}

static int image_open_how(struct co *co, const struct cli_image *image, struct node **out, const char **driver)
{
	AUTO_FREE struct err *err = calloc(1, sizeof(*err));
	struct image_open how = image->how;
	bool guessed = false;
	int ret;

	if (!err)
		return cli_complain("no memory");
	how.guessed_raw = &guessed;
	ret = image->image_opts ? described_open(co, &how, out, driver, err) : one_open(co, &how, out, driver, err);
	if (ret < 0)
		return cli_complain("%s", err->text);
	if (guessed)
		cli_guess_warn(image_file_of(*out) ? file_path(image_file_of(*out)) : how.path);
	return 0;
}

static int image_take(
	struct co *co, struct cli_common *common, struct cli_image *image, struct node **out, const char **driver)
{
	struct image_secret objects[CLI_SECRETS];

	if (image->image_opts && image->how.format)
		return cli_complain("--image-opts and --format are mutually exclusive");
	if (cache_take(image) || cli_secret_use(&common->secrets, common->command, &image->how) < 0)
		return 1;
	if (image->secret) {
		image->how.secrets = image->secret;
		image->how.secrets_n = 1;
	}
	cli_allow_use(&common->allow, &image->how);
	if (image->trusted && !image->how.allow_none)
		image->how.allow_all = true;
	cli_log_init(&common->log);
	image->how.qcow2.log = &common->log;
	image->how.objects = objects;
	image->how.objects_n = cli_secret_objects(&common->secrets, objects);
	return image_open_how(co, image, out, driver);
}

int cli_image_open(struct co *co, struct cli_common *common, struct cli_image *image, struct node **out)
{
	return image_take(co, common, image, out, NULL);
}

int cli_storage_open(
	struct co *co, struct cli_common *common, struct cli_image *image, struct node **out, const char **driver)
{
	return image_take(co, common, image, out, driver);
}

int cli_confine(struct co *co, const struct cli_common *common)
{
	AUTO_FREE struct err *err = calloc(1, sizeof(*err));

	if (!err)
		return cli_complain("no memory");
	return cli_sandbox_enter(co, common->sandbox, &(struct io_sandbox){0}, err) < 0 ? cli_complain("%s", err->text)
											: 0;
}

/* The tree that the command line gave; NULL: a plain name. */
static json_t *tree_given(const struct cli_image *image)
{
	json_t *tree = NULL;
	struct err err;

	if (image->image_opts ? options_parse(image->how.path, &tree, &err) < 0
			      : strncmp(image->how.path, "json:", 5) != 0 ||
				options_of_name(image->how.path, &tree, &err) < 0)
		return NULL;
	return tree;
}

char *cli_image_name(const struct cli_image *image, struct node *n)
{
	const struct node *file = image_file_of(n);
	json_t *tree = tree_given(image);
	char *name = NULL, *text;

	if (file && (!tree || options_are_plain(tree)))
		name = strdup(file_path(file));
	else if (!tree)
		name = strdup(image->how.path);
	text = name ? NULL : json_dumps(tree, 0);
	if (text && asprintf(&name, "json:%s", text) < 0)
		name = NULL;
	free(text);
	json_decref(tree);
	return name;
}

void cli_common_fini(struct cli_common *common) { cli_secrets_fini(&common->secrets); }
