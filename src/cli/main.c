/* SPDX-License-Identifier: MIT */
/* corral: which command is meant. */
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/math.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/qemu_img.h"
#include "cli/tool.h"
#include "co/co.h"

static const struct command commands[] = {
	{"amend", "change the version and other options of an image", cmd_amend},
	{"bench", "measure how fast an image is", cmd_bench},
	{"bitmap", "add, remove or change a persistent dirty bitmap of an image", cmd_bitmap},
	{"create", "make a new image", cmd_create},
	{"info", "show what an image is", cmd_info},
	{"inspect", "judge an image from a stranger, for importers", cmd_inspect},
	{"check", "look for errors and leaks in an image", cmd_check},
	{"convert", "copy an image into one of another format, or with other options", cmd_convert},
	{"commit", "write what an overlay has into its backing file", cmd_commit},
	{"compare", "tell whether two images hold the same disk", cmd_compare},
	{"measure", "tell how much space a new image will need", cmd_measure},
	{"dd", "make an image of a part of a disk", cmd_dd},
	{"io", "read, write and examine a disk, command by command", cmd_io},
	{"map", "show which parts of an image hold data, and where", cmd_map},
	{"nbd", "serve an image over NBD until its last client has gone", cmd_nbd},
	{"rebase", "give an overlay another backing file", cmd_rebase},
	{"resize", "make the disk larger or smaller", cmd_resize},
	{"snapshot", "list, make, apply and delete the snapshots inside an image", cmd_snapshot},
	{"serve", "serve an image over NBD", cmd_serve},
	{"control", "ask a running 'corral serve', or tell it to do something", cmd_control},
};

const struct command *cli_command(const char *name)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

static void help_print(FILE *to)
{
	fputs("Usage: corral COMMAND [OPTIONS] ...\n\nWorks with disk images in the formats qcow2 and raw.\n\nCommands:\n",
		to);
	for (unsigned i = 0; i < ARRAY_ENTRIES(commands); i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].summary);
	fputs("\n'corral COMMAND --help' explains a command; 'man corral' all of it.\n'corral --version' prints the version.\n",
		to);
}

/* How many letters must be added, removed or exchanged to make one word of the other (Levenshtein's distance). */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[32];
	size_t len = strlen(b);

	if (len >= ARRAY_ENTRIES(row))
		return ~0u;
	for (unsigned j = 0; j <= len; j++)
		row[j] = j;
	for (unsigned i = 1; *a; a++, i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= len; j++) {
			unsigned above = row[j];
			unsigned best = MIN(diagonal + (*a != b[j - 1]), MIN(above, row[j - 1]) + 1);

			diagonal = above;
			row[j] = best;
		}
	}
	return row[len];
}

static int unknown(const char *name)
{
	const char *near = NULL;
	unsigned best = 3;

	for (unsigned i = 0; i < ARRAY_ENTRIES(commands); i++) {
		unsigned d = distance(name, commands[i].name);

		if (d < best) {
			best = d;
			near = commands[i].name;
		}
	}
	fprintf(stderr, "corral: there is no command '%s'", name);
	if (near)
		fprintf(stderr, "; did you mean '%s'?\n", near);
	else
		fputs("; 'corral --help' lists them\n", stderr);
	return 1;
}

void cli_help_print(FILE *to)
{
	if (cli_tool() == TOOL_QEMU_IMG)
		qemu_img_help(to);
	else
		help_print(to);
}

static int corral_main(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		help_print(stderr);
		return 1;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		help_print(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts("corral " CORRAL_VERSION);
		return 0;
	}
	command = cli_command(argv[1]);
	return command ? command->run(argc - 1, argv + 1) : unknown(argv[1]);
}

/* The command that is all of the tool. */
static int tool_main(const char *name, int argc, char **argv)
{
	const struct command *command = cli_command(name);

	return command ? command->run(argc, argv) : cli_complain("corral has no command '%s' to be this program", name);
}

int main(int argc, char **argv)
{
	/* Without it an overflow is still a crash, only without the name of the culprit. */
	(void)!co_report_overflow();
	switch (cli_tool()) {
	case TOOL_QEMU_IMG: return qemu_img_main(argc, argv);
	case TOOL_QEMU_IO: return tool_main("io", argc, argv);
	case TOOL_QEMU_NBD: return tool_main("nbd", argc, argv);
	default: return corral_main(argc, argv);
	}
}
