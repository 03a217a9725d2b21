/* SPDX-License-Identifier: MIT */
/*
 * The inside of `corral serve`: images, the exports that offer them, and what is watched meanwhile. One coroutine opens
 * the images, starts the exports, waits for signals, and takes everything down again.
 */
#ifndef CORRAL_CLI_SERVE_H
#define CORRAL_CLI_SERVE_H

#include "api/image.h"
#include "api/options.h"
#include "cli/background.h"
#include "cli/options.h"
#include "cli/sandbox.h"
#include "cli/secret.h"
#include "cli/serve_log.h"
#include "cli/systemd.h"
#include "co/sync.h"
#include "export/export.h"
#include "filter/throttle.h"
#include "io/share.h"

#define SERVE_IMAGES 64
#define SERVE_EXPORTS 64

struct serve_bitmap {                  /* a dirty bitmap that clients may ask for */
	struct export_context context; /* its name is on the heap */
	struct node *node;             /* the image's own, below any filter */
	const char *name;
};

struct serve_image {
	char *spec; /* of --image, which the strings below lie in; NULL: they are of the command line */
	struct image_open open;
	struct crypto_secret key; /* of key-secret= */
	struct throttle_limits limits;
	bool limited;
	struct serve_bitmap bitmaps[EXPORT_CONTEXTS];
	const struct export_context *contexts[EXPORT_CONTEXTS];
	unsigned bitmaps_n;
	struct export_disk disk; /* its node is NULL until the image is open */
};

struct serve;
struct serve_export;

/* A kind of exports: the option that asks for one, "--NAME WHERE[,option=value...]". */
struct serve_kind {
	const char *name;
	/* An option that isn't common to all kinds; -EINVAL, told. NULL: there are none. */
	int (*option)(struct serve_export *e, const char *name, const char *value);
	int (*start)(struct co *co, struct serve *s, struct serve_export *e, struct err *err);
};

struct serve_export {
	const struct serve_kind *kind;
	char *spec;                                    /* which the strings below lie in */
	const char *where;                             /* an address */
	const char *image_names[SERVE_IMAGES];         /* image=NAME */
	const struct export_disk *disks[SERVE_IMAGES]; /* these, or all */
	unsigned image_names_n, disks_n;
	bool plain; /* NBD without TLS, although there is one */
	union {
		struct nbd_options nbd;
		struct vhost_user_options vhost_user;
	};
	bool inherited;            /* it goes on with what another process had, and is frozen until that has let go */
	struct export_state state; /* of that */
	struct export *export;     /* NULL: not started */
};

struct serve_takeover;

struct serve_control {     /* the socket over which others give commands */
	const char *where; /* NULL: there is none */
	struct io_sock *listener;
	struct io_place place; /* of a listener that was another process's */
	bool started, ending;
	struct co_group group;
	struct co_mutex busy; /* whoever carries a command out */
	struct co_queue resumed;
	struct list talks;
	unsigned talks_n;
};

struct serve {
	struct serve_image defaults; /* what options outside --image say */
	struct serve_image images[SERVE_IMAGES];
	struct serve_export exports[SERVE_EXPORTS];
	unsigned images_n, exports_n;
	struct cli_secrets secrets;
	struct cli_allow allow;
	struct nbd_tls_options tls;
	struct nbd_tls_creds *tls_creds; /* NULL: no TLS */
	const char *aio, *log_file;

	struct background background;
	const char *pid_file;
	bool fork_first;
	enum cli_sandbox sandbox;
	struct io_sandbox confine; /* the user to change to */

	struct serve_control control;
	const char *takeover_from;       /* NULL: nobody is followed */
	struct serve_takeover *takeover; /* under way */
	bool handed_over;                /* another process has all of it: nothing is shut down or removed */
	bool lost;                       /* it was not, and couldn't be had back */

	struct systemd systemd;
	struct serve_log log;
	enum log_level quiet_level; /* the log's, when it isn't "debug" for a while */
	uint64_t stats_ns;          /* statistics are logged so often; 0: at the end only, if stats_at_end */
	bool stats_at_end;
	struct co_turns turns;

	bool ending;
	struct co_queue end; /* who watches waits here */
	struct err err;      /* here, since a coroutine's stack is small */
};

/* ---- serve_image.c ---- */

/* --image NAME=FILE[,option=value...]: noted, and looked at when all options are known. */
int serve_image_add(struct serve *s, const char *spec) ATTR_MUST_USE;
/* Options that may also stand outside of --image; -EINVAL, told. -ENOENT: there is none of that name. */
int serve_image_option(struct serve *s, struct serve_image *image, const char *name, const char *value) ATTR_MUST_USE;
int serve_image_limit(struct serve_image *image, const char *limits) ATTR_MUST_USE; /* --limit */
/* file: the plain argument, or NULL. */
int serve_images_finish(struct serve *s, const char *file) ATTR_MUST_USE;
int serve_images_open(struct co *co, struct serve *s, struct err *err) ATTR_MUST_USE;
/* Closes what is open; 0, or the exit status 1 where what was written may not be on disk, which is told. */
int serve_images_close(struct co *co, struct serve *s) ATTR_MUST_USE;
void serve_images_fini(struct serve *s);

/* ---- serve_export.c ---- */

const struct serve_kind *serve_kind_find(const char *name);
int serve_export_add(struct serve *s, const struct serve_kind *kind, const char *spec) ATTR_MUST_USE;
int serve_exports_finish(struct serve *s) ATTR_MUST_USE; /* when the images are known */
int serve_exports_start(struct co *co, struct serve *s, struct err *err) ATTR_MUST_USE;
/* Or what stands in its place where another process serves them. */
void serve_exports_stop(struct co *co, struct serve *s);
void serve_exports_fini(struct serve *s);
/* Where clients find what: a line for each image of each export. On the heap; NULL: no memory. */
char *serve_exports_text(const struct serve *s);

/* ---- serve_control.c ---- */

/* Each does nothing where there is no such socket. */
int serve_control_listen(struct co *co, struct serve *s, struct err *err) ATTR_MUST_USE;
int serve_control_start(struct co *co, struct serve *s, struct err *err) ATTR_MUST_USE;
/* No more commands; one that is being carried out ends first, and with it s->handed_over is settled. */
void serve_control_stop(struct co *co, struct serve *s);

/* ---- serve_takeover.c ---- */

/* --takeover: nobody serves from here on; the states of exports are there. Each does nothing without it. */
int serve_takeover_begin(struct co *co, struct serve *s, struct err *err) ATTR_MUST_USE;
/* Everything is open and started: the other process lets go, and the exports are thawed. */
int serve_takeover_finish(struct co *co, struct serve *s, struct err *err) ATTR_MUST_USE;
void serve_takeover_end(struct co *co, struct serve *s);

/* ---- serve_sandbox.c ---- */

/* --user NAME[:GROUP]; -EINVAL, told. */
int serve_user_parse(struct serve *s, const char *text) ATTR_MUST_USE;
/* All images and exports are open: everything else is given up, as --sandbox says. -EPERM: a part of it can't be had. */
int serve_confine(struct co *co, struct serve *s, struct err *err) ATTR_MUST_USE;

/* ---- serve_watch.c ---- */

int serve_watch_start(struct co *co, struct serve *s, struct co_group *group, struct err *err) ATTR_MUST_USE;
void serve_watch_end(struct serve *s); /* its coroutines end */
void serve_stats_log(struct serve *s);
void serve_log_level_set(struct serve *s, enum log_level level);
/* Until a signal says that it is time to go: 0, or why it can't wait. */
int serve_wait(struct co *co, struct serve *s, struct err *err) ATTR_MUST_USE;
int serve_signals_take(void) ATTR_MUST_USE;

#endif
