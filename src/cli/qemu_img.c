/* SPDX-License-Identifier: MIT */
/* The program as qemu-img: its options before the command, its commands, its help. */
#include "cli/qemu_img.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/driver.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/tool.h"

struct synopsis {
	const char *name, *arguments;
};

static const struct synopsis synopses[] = {
	{"amend", "[--object OBJECT] [--image-opts] [-p] [-q] [-f FORMAT] [-t CACHE] [--force] -o OPTIONS FILE"},
	{"bench",
		"[-c COUNT] [-d DEPTH] [-f FORMAT] [--flush-interval=N] [-i AIO] [-n] [--no-drain] [-o OFFSET] "
		"[--pattern=BYTE] [-q] [-s SIZE] [-S STEP] [-t CACHE] [-w] [-U] FILE"},
	{"bitmap",
		"(--merge BITMAP | --add | --remove | --clear | --enable | --disable)... [-b FILE [-F FORMAT]] "
		"[-g GRANULARITY] [--object OBJECT] [--image-opts | -f FORMAT] FILE BITMAP"},
	{"check",
		"[--object OBJECT] [--image-opts] [-q] [-f FORMAT] [--output=human|json] [-r leaks|all] [-T CACHE] "
		"[-U] FILE"},
	{"commit", "[--object OBJECT] [--image-opts] [-q] [-f FORMAT] [-t CACHE] [-b BASE] [-r RATE] [-d] [-p] FILE"},
	{"compare",
		"[--object OBJECT] [--image-opts] [-f FORMAT] [-F FORMAT] [-T CACHE] [-p] [-q] [-s] [-U] FILE1 FILE2"},
	{"convert",
		"[--object OBJECT] [--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps "
		"[--skip-broken-bitmaps]] [-U] [-C] [-c] [-p] [-q] [-n] [-f FORMAT] [-t CACHE] [-T CACHE] "
		"[-O FORMAT] [-B FILE [-F FORMAT]] [-o OPTIONS] [-l SNAPSHOT] [-S SIZE] [-r RATE] [-m N] [-W] "
		"[--salvage] FILE... TARGET"},
	{"create", "[--object OBJECT] [-q] [-f FORMAT] [-b FILE [-F FORMAT]] [-u] [-o OPTIONS] FILE [SIZE]"},
	{"dd", "[--image-opts] [-U] [-f FORMAT] [-O FORMAT] [bs=SIZE] [count=N] [skip=N] if=FILE of=FILE"},
	{"info", "[--object OBJECT] [--image-opts] [-f FORMAT] [--output=human|json] [--backing-chain] [-U] FILE"},
	{"map",
		"[--object OBJECT] [--image-opts] [-f FORMAT] [--start-offset=N] [--max-length=N] "
		"[--output=human|json] [-U] FILE"},
	{"measure",
		"[--output=human|json] [-O FORMAT] [-o OPTIONS] [--size N | [--object OBJECT] [--image-opts] "
		"[-f FORMAT] [-l SNAPSHOT] FILE]"},
	{"rebase",
		"[--object OBJECT] [--image-opts] [-U] [-q] [-f FORMAT] [-t CACHE] [-T CACHE] [-p] [-u] -b FILE "
		"[-F FORMAT] FILE"},
	{"resize",
		"[--object OBJECT] [--image-opts] [-f FORMAT] [--preallocation=MODE] [-q] [--shrink] FILE [+|-]SIZE"},
	{"snapshot", "[--object OBJECT] [--image-opts] [-U] [-q] [-l | -a SNAPSHOT | -c NAME | -d NAME] FILE"},
};

static void version_print(FILE *to) { fprintf(to, "qemu-img version " QEMU_VERSION " (corral " CORRAL_VERSION ")\n"); }

void qemu_img_help(FILE *to)
{
	version_print(to);
	fputs("usage: qemu-img [-h | --help] [-V | --version] [-T | --trace PATTERN] COMMAND [OPTIONS]\n\n"
	      "This is corral, called by the name of QEMU's program; 'man corral' explains each command.\n\n"
	      "Command syntax:\n",
		to);
	for (unsigned i = 0; i < ARRAY_ENTRIES(synopses); i++) {
		if (cli_command(synopses[i].name))
			fprintf(to, "  %s %s\n", synopses[i].name, synopses[i].arguments);
	}
	fputs("\nSupported formats:", to);
	for (unsigned i = 0; driver_name(i); i++)
		fprintf(to, " %s", driver_name(i));
	fputc('\n', to);
}

static const struct command *command_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(synopses); i++) {
		if (strcmp(synopses[i].name, name) == 0)
			return cli_command(name);
	}
	return NULL;
}

static const struct option long_options[] = {
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{"trace", required_argument, NULL, 'T'},
	{0},
};

int qemu_img_main(int argc, char **argv)
{
	const struct command *command;
	int option;

	while ((option = getopt_long(argc, argv, "+:hVT:", long_options, NULL)) != -1) {
		switch (option) {
		case 'h': qemu_img_help(stdout); return 0;
		case 'V': version_print(stdout); return 0;
		case 'T': break; /* there is nothing to trace */
		case ':': return cli_usage("", "missing argument for option '%s'", argv[optind - 1]) < 0;
		default: return cli_usage("", "unrecognized option '%s'", argv[optind - 1]) < 0;
		}
	}
	if (argc == 1)
		return cli_usage("", "Not enough arguments") < 0;
	if (optind == argc)
		return 0;
	command = command_find(argv[optind]);
	argc -= optind;
	argv += optind;
	/* Commands take options behind arguments, too: getopt forgets that here it didn't. */
	optind = 0;
	(void)getopt_long(1, argv, ":", long_options, NULL);
	return command ? command->run(argc, argv) : cli_usage("", "Command not found: %s", argv[0]) < 0;
}
