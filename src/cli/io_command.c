/* SPDX-License-Identifier: MIT */
/* How a line becomes a command of corral io, and help. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "cli/io.h"
#include "cli/options.h"

#define WORDS 256

static const struct cli_io_command *find(const char *name)
{
	for (unsigned i = 0; i < cli_io_commands_n; i++) {
		const struct cli_io_command *c = &cli_io_commands[i];

		if (strcmp(c->name, name) == 0 || (c->other && strcmp(c->other, name) == 0))
			return c;
	}
	return NULL;
}

/* ---- help ---- */

static void line_print(const char *name, const struct cli_io_command *c)
{
	printf("%s %s%s-- %s\n", name, c->args ? c->args : "", c->args ? " " : "", c->summary);
}

int cli_io_usage(const char *name)
{
	line_print(name, find(name));
	return -EINVAL;
}

int cli_io_help(struct co *co ATTR_UNUSED, struct cli_io_session *s ATTR_UNUSED, int argc, char **argv)
{
	const struct cli_io_command *c = argc > 1 ? find(argv[1]) : NULL;

	if (argc > 1 && !c) {
		printf("command %s not found\n", argv[1]);
		return -EINVAL;
	}
	if (c) {
		line_print(argv[1], c);
		fputs(c->help ? c->help : "", stdout);
		return 0;
	}
	for (unsigned i = 0; i < cli_io_commands_n; i++)
		line_print(cli_io_commands[i].name, &cli_io_commands[i]);
	puts("\nUse 'help commandname' for extended help.");
	return 0;
}

/* ---- running one ---- */

static int count_check(const struct cli_io_command *c, const char *name, int n)
{
	if (n >= c->least && (c->most < 0 || n <= c->most))
		return 0;
	fprintf(stderr, "bad argument count %d to %s, expected ", n, name);
	if (c->most < 0)
		fprintf(stderr, "at least %d arguments\n", c->least);
	else if (c->most == c->least)
		fprintf(stderr, "%d arguments\n", c->least);
	else
		fprintf(stderr, "between %d and %d arguments\n", c->least, c->most);
	return -EINVAL;
}

static int command_check(const struct cli_io_session *s, const struct cli_io_command *c, int argc, char **argv)
{
	if (!(c->flags & CLI_IO_NO_FILE) && !s->node) {
		fputs("no file open, try 'help open'\n", stderr);
		return -EINVAL;
	}
	if (count_check(c, argv[0], argc - 1) < 0)
		return -EINVAL;
	if ((c->flags & CLI_IO_WRITES) && s->node->read_only)
		return cli_complain("Block node is read-only"), -EACCES;
	return 0;
}

static int split(char *line, char **words)
{
	char *rest = line, *word;
	int n = 0;

	while (n < WORDS - 1 && (word = strsep(&rest, " ")) != NULL)
		if (*word != '\0')
			words[n++] = word;
	words[n] = NULL;
	return n;
}

int cli_io_command_run(struct co *co, struct cli_io_session *s, char *line)
{
	char *words[WORDS];
	int n = split(line, words), ret;
	const struct cli_io_command *c = n > 0 ? find(words[0]) : NULL;

	if (n == 0)
		return 0;
	if (!c) {
		fprintf(stderr, "command \"%s\" not found\n", words[0]);
		return -EINVAL;
	}
	ret = command_check(s, c, n, words);
	if (ret < 0)
		return ret;
	optind = 0;
	return c->run(co, s, n, words);
}
