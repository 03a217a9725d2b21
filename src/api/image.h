/* SPDX-License-Identifier: MIT */
/*
 * Opening an image with its backing chain. This is where the policy lives: what a header names is opened only within it.
 * (The public library header include/corral.h is built on this.)
 */
#ifndef CORRAL_API_IMAGE_H
#define CORRAL_API_IMAGE_H

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

struct image_open {
	const char *path;
	const char *format; /* "qcow2", "raw", or NULL: qcow2 if it looks so; raw is never guessed for writing */
	bool write;
	bool no_backing; /* leave the chain out: for info and check */
	bool no_lock;
	enum image_cache cache;
	const char *const *
		allow; /* directories besides the image's own that a header may name files in; NULL-terminated; NULL: none */
	bool allow_none; /* not even the image's own directory */
	bool allow_all;  /* any path: for the tools that qemu-img's users expect */
	const char
		*data_file; /* the image's external data file; NULL: the one that its header names, within the policy */
	/* Of encrypted layers, from the top on; the last one is of all that are left. NULL: none */
	const struct crypto_secret *secrets;
	unsigned secrets_n;
	struct qcow2_options qcow2; /* but for its secret */
	struct node *(*wrap)(
		struct co *co, struct node *file, void *arg); /* NULL, or put a filter over each file node; tests */
	void *wrap_arg;
};

/* -EINVAL also where a raw image would have to be guessed for writing. Errors name the file and the option that helps. */
int image_open(struct co *co, const struct image_open *how, struct node **out, struct err *err) ATTR_MUST_USE;
int image_cache_parse(const char *name, enum image_cache *out) ATTR_MUST_USE; /* -EINVAL */
bool image_cache_writethrough(enum image_cache cache);

/* "qcow2" or "raw", by looking at the first bytes. */
int image_probe(struct co *co, struct node *file, const char **format) ATTR_MUST_USE;

/* The path of a name found in the header of the image at `path`, as qemu-img shows it in full-backing-filename; malloc'd. */
char *image_relative_path(const char *path, const char *name);

#endif
