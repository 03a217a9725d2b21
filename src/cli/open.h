/* SPDX-License-Identifier: MIT */
/*
 * The options that the image commands share, and opening what they say.
 *
 * A command has one struct cli_common, and a struct cli_image for each image. Its long options end with CLI_LONG_COMMON (and
 * CLI_LONG_IMAGE, if it opens one); what its own switch doesn't know it hands to cli_option. After the command line, the
 * command sets image->how.path to the name and whatever else it wants in `how`, and cli_image_open does the rest: what is
 * told of the options, the personality (tool.h), the complaint.
 */
#ifndef CORRAL_CLI_OPEN_H
#define CORRAL_CLI_OPEN_H

#include <getopt.h>

#include "api/image.h"
#include "api/options.h"
#include "cli/options.h"
#include "cli/sandbox.h"
#include "cli/secret.h"
#include "cli/tool.h"

enum {
	CLI_OPT_IMAGE_OPTS = 512,
	CLI_OPT_OBJECT,
	CLI_OPT_KEY_SECRET,
	CLI_OPT_ALLOW,
	CLI_OPT_DATA_FILE,
	CLI_OPT_OUTPUT,
	CLI_OPT_SANDBOX,
};

#define CLI_LONG_COMMON                                                                                                \
	{"object", required_argument, NULL, CLI_OPT_OBJECT}, { "help", no_argument, NULL, 'h' }
#define CLI_LONG_IMAGE                                                                                                 \
	{"format", required_argument, NULL, 'f'}, {"image-opts", no_argument, NULL, CLI_OPT_IMAGE_OPTS},               \
		{"force-share", no_argument, NULL, 'U'}, {"key-secret", required_argument, NULL, CLI_OPT_KEY_SECRET},  \
		{"allow", required_argument, NULL, CLI_OPT_ALLOW},                                                     \
	{                                                                                                              \
		"data-file", required_argument, NULL, CLI_OPT_DATA_FILE                                                \
	}

/* For commands that call cli_confine. */
#define CLI_LONG_SANDBOX                                                                                               \
	{                                                                                                              \
		"sandbox", optional_argument, NULL, CLI_OPT_SANDBOX                                                    \
	}

struct cli_common {
	const char *command;
	struct cli_allow allow;
	struct cli_secrets secrets;
	bool quiet, progress, json; /* -q -p --output=json */
	enum cli_sandbox sandbox;
	struct log log; /* of what is opened; its lines are told like complaints */
};

struct cli_image {
	struct image_open
		how; /* path, format, no_lock are from the command line; write, no_backing and so on the command's */
	const char *cache;                  /* -t or -T: its mode, or NULL */
	bool source;                        /* the mode came from -T */
	bool image_opts;                    /* path is a list of options */
	const struct crypto_secret *secret; /* the one that opens it, whatever --key-secret names; or NULL */
	bool trusted; /* what its header names was named on the command line: --allow may only forbid it */
};

/* -f -U -q -p --image-opts --object --key-secret --allow --data-file --output, what getopt complains of, and -h, which prints
 * the help. 0: taken; 1: all is done, end with status 0; negative: wrong, told. culprit: argv[optind - 1]. */
int cli_option(struct cli_common *common, struct cli_image *image, int option, const char *culprit, const char *help)
	ATTR_MUST_USE;

/* 0, or 1, the exit status: told. */
int cli_image_open(struct co *co, struct cli_common *common, struct cli_image *image, struct node **out) ATTR_MUST_USE;

/* image_storage_open, the same way. */
int cli_storage_open(struct co *co, struct cli_common *common, struct cli_image *image, struct node **out,
	const char **driver) ATTR_MUST_USE;

/* What --sandbox says, once all that the command needs is open; at most once. 0, or 1, the exit status: told. */
int cli_confine(struct co *co, const struct cli_common *common) ATTR_MUST_USE;

/* What to call the image that was opened as n: the path of its file, if the options say no more than that, else json:{...};
 * malloc'd, NULL: no memory. */
char *cli_image_name(const struct cli_image *image, struct node *n);

/* That raw was guessed (struct image_open), in QEMU's words. */
void cli_guess_warn(const char *path);

void cli_common_fini(struct cli_common *common);

#endif
