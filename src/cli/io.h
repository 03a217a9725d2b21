/* SPDX-License-Identifier: MIT */
/*
 * corral io: an image, and commands that read, write and examine it, as qemu-io has them: the same words, the same text.
 * A session has at most one image open. A command is a row of the table in io_table.c; it prints what it has to say to
 * standard output, and returns 0, or a negative number where it failed: the program's status is then 1.
 */
#ifndef CORRAL_CLI_IO_H
#define CORRAL_CLI_IO_H

#include "api/image.h"
#include "cli/options.h"
#include "cli/secret.h"
#include "co/sync.h"

#define CLI_IO_MOST UINT64_C(2147483136) /* of one command */

struct cli_io_settings { /* how an image is opened; strings are the caller's, options owned */
	const char *path;
	const char *format;
	json_t *options; /* of -o or --image-opts, or NULL */
	bool read_only, snapshot, copy_on_read, force_share, native;
	enum image_cache cache;
	const char *discard; /* or NULL */
};

struct cli_io_session {
	struct node *node;               /* the image; NULL: none is open */
	struct cli_io_settings settings; /* that it was opened with; what is in it is owned */
	struct cli_secrets *secrets;
	const struct cli_allow *allow;
	bool misaligned; /* -m: buffers are */
	bool quit;
	unsigned running; /* aio requests */
	struct co_queue idle;
};

typedef int cli_io_fn(struct co *co, struct cli_io_session *s, int argc, char **argv);

enum { CLI_IO_NO_FILE = 1 << 0, CLI_IO_WRITES = 1 << 1 }; /* it needs no image; it changes it */

struct cli_io_command {
	const char *name, *other; /* other: or NULL */
	cli_io_fn *run;
	int least, most; /* arguments; most: -1 is any number */
	unsigned flags;
	const char *args;    /* for the help, or NULL */
	const char *summary; /* one line */
	const char *help;    /* more of them, or NULL */
};

/* ---- io_table.c ---- */

extern const struct cli_io_command cli_io_commands[];
extern const unsigned cli_io_commands_n;

/* ---- io_command.c ---- */

/* One line of commands' words, which it takes apart in place. */
int cli_io_command_run(struct co *co, struct cli_io_session *s, char *line);
int cli_io_usage(const char *name); /* prints how a command is used; -EINVAL */

/* ---- io_print.c ---- */

/* "1.500 KiB" */
#define CLI_IO_TEXT 64
const char *cli_io_number_text(double value, char text[CLI_IO_TEXT]);
struct cli_io_report {
	const char *op; /* "read", "wrote", "discard" */
	uint64_t off, bytes, ns;
	bool parsable;
};
void cli_io_report_print(const struct cli_io_report *r);
void cli_io_dump(const uint8_t *data, uint64_t off, uint64_t bytes);
/* A number of bytes. -EINVAL, told. */
int cli_io_bytes_parse(const char *text, uint64_t *out) ATTR_MUST_USE;
int cli_io_pattern_parse(const char *text, int *out) ATTR_MUST_USE;
int cli_io_length_parse(const char *text, uint64_t *out) ATTR_MUST_USE; /* not above CLI_IO_MOST */

/* ---- io_request.c ---- */

void *cli_io_buffer_new(const struct cli_io_session *s, uint64_t bytes, int pattern); /* NULL: no memory, told */
void cli_io_buffer_free(const struct cli_io_session *s, void *buffer);
enum cli_io_kind { CLI_IO_READ, CLI_IO_WRITE, CLI_IO_ZERO, CLI_IO_COMPRESSED, CLI_IO_DISCARD };
struct cli_io_request {
	enum cli_io_kind kind;
	uint64_t off, bytes;
	void *buffer;
	unsigned flags; /* of node_write and node_zero */
};
/* 0 or a negative errno. */
int cli_io_request_do(struct co *co, struct node *n, const struct cli_io_request *r) ATTR_MUST_USE;

/* ---- io_open.c ---- */

int cli_io_image_open(struct co *co, struct cli_io_session *s, const struct cli_io_settings *settings);
int cli_io_image_close(struct co *co, struct cli_io_session *s); /* waits for aio requests */
void cli_io_settle(struct co *co, struct cli_io_session *s);     /* until no aio request is running */
int cli_io_cache_set(struct cli_io_settings *settings, const char *mode) ATTR_MUST_USE;
int cli_io_discard_set(struct cli_io_settings *settings, const char *mode) ATTR_MUST_USE;

/* ---- the commands, a file a theme ---- */

cli_io_fn cli_io_read, cli_io_write, cli_io_readv, cli_io_writev;    /* io_rw.c */
cli_io_fn cli_io_aio_read, cli_io_aio_write, cli_io_aio_flush;       /* io_async.c */
cli_io_fn cli_io_open, cli_io_close, cli_io_reopen;                  /* io_open.c */
cli_io_fn cli_io_flush, cli_io_truncate, cli_io_length, cli_io_info; /* io_image.c */
cli_io_fn cli_io_discard, cli_io_alloc, cli_io_map;                  /* io_image.c */
cli_io_fn cli_io_break, cli_io_remove_break, cli_io_resume;          /* io_control.c */
cli_io_fn cli_io_wait_break, cli_io_sleep, cli_io_abort, cli_io_raise, cli_io_quit;
cli_io_fn cli_io_help; /* io_command.c */

#endif
