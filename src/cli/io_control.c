/* SPDX-License-Identifier: MIT */
/* corral io: breakpoints, sleeping, and ways to end. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/io.h"
#include "filter/blkdebug.h"

/* ---- breakpoints: those of the blkdebug node below ---- */

static int told(int err, const char *what)
{
	if (err < 0)
		printf("%s: %s\n", what, strerror(-err));
	return err;
}

int cli_io_break(struct co *co ATTR_UNUSED, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv)
{
	struct node *debug = blkdebug_find(s->node);

	return told(debug ? blkdebug_break(debug, argv[1], argv[2]) : -EOPNOTSUPP, "Could not set breakpoint");
}

int cli_io_remove_break(struct co *co ATTR_UNUSED, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv)
{
	struct node *debug = blkdebug_find(s->node);
	int ret = debug ? blkdebug_remove_break(debug, argv[1]) : -EOPNOTSUPP;

	if (ret < 0)
		printf("Could not remove breakpoint %s: %s\n", argv[1], strerror(-ret));
	return ret;
}

int cli_io_resume(struct co *co, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv)
{
	struct node *debug = blkdebug_find(s->node);
	int ret = told(debug ? blkdebug_resume(debug, argv[1]) : -EOPNOTSUPP, "Could not resume request");

	co_yield(co);
	return ret;
}

int cli_io_wait_break(struct co *co, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv)
{
	struct node *debug = blkdebug_find(s->node);

	if (debug == NULL) {
		puts("Could not wait: there is no blkdebug below the image");
		return -EOPNOTSUPP;
	}
	blkdebug_wait(co, debug, argv[1]);
	return 0;
}

/* ---- time ---- */

int cli_io_sleep(struct co *co, struct cli_io_session *s ATTR_UNUSED, int argc ATTR_UNUSED, char **argv)
{
	const uint64_t ms = 1000000;
	char *end;
	long n = strtol(argv[1], &end, 0);

	if (n < 0 || *end != '\0') {
		printf("%s is not a valid number\n", argv[1]);
		return -EINVAL;
	}
	co_sleep(co, (uint64_t)n * ms);
	return 0;
}

/* ---- ends ---- */

int cli_io_abort(
	struct co *co ATTR_UNUSED, struct cli_io_session *s ATTR_UNUSED, int argc ATTR_UNUSED, char **argv ATTR_UNUSED)
{
	fflush(stdout);
	abort();
}

int cli_io_raise(struct co *co ATTR_UNUSED, struct cli_io_session *s ATTR_UNUSED, int argc ATTR_UNUSED, char **argv)
{
	uint64_t number;
	int ret = cli_io_bytes_parse(argv[1], &number);

	if (ret == 0 && number >= NSIG) {
		printf("signal argument '%s' is too large to be a valid signal\n", argv[1]);
		ret = -EINVAL;
	}
	if (ret < 0)
		return ret;
	fflush(stdout);
	fflush(stderr);
	raise((int)number);
	return 0;
}

int cli_io_quit(struct co *co ATTR_UNUSED, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv ATTR_UNUSED)
{
	s->quit = true;
	return 0;
}
