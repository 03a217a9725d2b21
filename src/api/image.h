/* SPDX-License-Identifier: MIT */
/*
 * Opening an image with its backing chain. This is where the policy lives: what a header names is opened only within it.
 * (The public library header include/corral.h is built on this.)
 */
#ifndef CORRAL_API_IMAGE_H
#define CORRAL_API_IMAGE_H

#include <jansson.h>

#include "base/err.h"
#include "node/node.h"
#include "qcow2/qcow2.h"

enum image_cache {
	IMAGE_WRITEBACK,    /* host page cache, flush honoured */
	IMAGE_NONE,         /* O_DIRECT, flush honoured */
	IMAGE_WRITETHROUGH, /* every write durable */
	IMAGE_DIRECTSYNC,   /* O_DIRECT, every write durable */
	IMAGE_UNSAFE,       /* flushes ignored */
};

struct image_secret { /* as --object gives it */
	const char *id;
	struct crypto_secret secret;
};

struct image_open {
	const char *path;      /* a path, or another name that options.h knows: json:, PROTOCOL: */
	const json_t *options; /* NULL, or the tree to be opened; path is then what to call it */
	const char
		*format; /* a driver: "qcow2", "raw"; or NULL: qcow2 if it looks so; raw is never guessed for writing */
	bool write;
	unsigned write_layer; /* with write: one more that is: 1 is the top's backing file; 0: none */
	bool no_backing;      /* leave the chain out: for info and check */
	bool no_data;         /* open no data file: for info; what would lie there reads zeros */
	bool no_lock;
	enum image_cache cache;
	const char *const *
		allow; /* directories besides the image's own that a header may name files in; NULL-terminated; NULL: none */
	bool allow_none; /* not even the image's own directory */
	bool allow_all;  /* any path */
	/* As QEMU's tools do it: names from headers are followed whatever they are (allow_all), raw is guessed for writing,
	 * guarded (struct raw_window), and errors are in QEMU's words alone. */
	bool qemu;
	bool *guessed_raw; /* NULL, or set to whether that was so: a warning is due */
	const char
		*data_file; /* the image's external data file; NULL: the one that its header names, within the policy */
	/* Of encrypted layers, from the top on; the last one is of all that are left. NULL: none */
	const struct crypto_secret *secrets;
	unsigned secrets_n;
	const struct image_secret *objects; /* those that options name by ID */
	unsigned objects_n;
	struct qcow2_options qcow2; /* but for its secret */
	struct node *(*wrap)(
		struct co *co, struct node *file, void *arg); /* NULL, or put a filter over each file node; tests */
	void *wrap_arg;
};

/* -EINVAL also where a raw image would have to be guessed for writing. Errors name the file and the option that helps:
 * "Could not open 'x': ..."; those of image_open_plain leave this beginning to the caller. */
int image_open(struct co *co, const struct image_open *how, struct node **out, struct err *err) ATTR_MUST_USE;
int image_open_plain(struct co *co, const struct image_open *how, struct node **out, struct err *err) ATTR_MUST_USE;

/* Opens what the image lies in, the image itself only if it isn't qcow2: for those who read its header for themselves.
 * *driver: the name of its format, or of the topmost filter. Nothing that the header names is opened. */
int image_storage_open(struct co *co, const struct image_open *how, struct node **out, const char **driver,
	struct err *err) ATTR_MUST_USE;

/* The host file that a node lies in, below any filters; NULL: it doesn't. */
struct node *image_file_of(struct node *n);
/* The node of a layer that is its qcow2 image, below any filters; NULL: there is none. */
struct node *image_qcow2_of(struct node *n);
int image_cache_parse(const char *name, enum image_cache *out) ATTR_MUST_USE; /* -EINVAL */
bool image_cache_writethrough(enum image_cache cache);

/* "qcow2" or "raw", by looking at the first bytes. */
int image_probe(struct co *co, struct node *file, const char **format) ATTR_MUST_USE;

/* Whether a name is of a protocol or json:, rather than a path. QEMU's rule: a colon before the first slash. */
bool image_has_protocol(const char *name);

/* The path of a name found in the header of the image at `path`, as qemu-img shows it in full-backing-filename; malloc'd. */
char *image_relative_path(const char *path, const char *name);

#endif
