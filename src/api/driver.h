/* SPDX-License-Identifier: MIT */
/*
 * The drivers that a node can be opened with by options: a row each.
 *
 * A driver is added by a row in drivers.c: its name, which kind it is, the options that it takes, and the function that
 * opens it. A row lives in a file of its own, driver_NAME.c, that turns options into the arguments of the room that does
 * the work. What is the same for all is done before (image.c): the child is open, options that nobody knows are refused,
 * and those that all have (driver, node-name, read-only, auto-read-only, cache.direct, cache.no-flush, force-share,
 * discard, detect-zeroes) have become the context.
 *
 * A protocol (file, nbd, null-co) has no child. A filter (throttle, blkdebug) has one, called `child`. The formats are raw
 * and qcow2; one of these is in every layer of a backing chain, with any number of filters above and below.
 */
#ifndef CORRAL_API_DRIVER_H
#define CORRAL_API_DRIVER_H

#include "api/image.h"
#include "api/options.h"

enum driver_kind { DRIVER_PROTOCOL, DRIVER_FILTER, DRIVER_FORMAT };

struct driver_context {
	const struct image_open *how;
	const char *beneath, *shown; /* of a file that a header names; or NULL (struct file_open) */
	bool write, direct, no_flush, no_lock, no_discard;
	bool top;           /* in the topmost layer */
	bool probed;        /* formats: nobody has said that it is this one */
	struct node *data;  /* formats: the external data file, or NULL */
	unsigned encrypted; /* formats: how many encrypted layers are above */
};

struct driver {
	const char *name;
	enum driver_kind kind;
	const char *child;            /* the option that describes the child: "file"; NULL: there is none */
	const char *const *options;   /* that it takes; NULL-terminated; one that ends in '.' stands for all below it */
	const char *const *protocols; /* names before a colon that mean this driver; NULL-terminated; or NULL */
	int (*parse)(const char *name, json_t *options, struct err *err); /* such a name, into options; NULL: they are
									     "filename" */
	/* Opens the node over its child, NULL for a protocol, which it takes over on success. `options` stays the caller's. */
	int (*open)(struct co *co, const struct driver_context *context, const json_t *options, struct node *child,
		struct node **out, struct err *err);
};

const struct driver *driver_find(const char *name); /* NULL: unknown */
const char *driver_name(unsigned i);                /* of the i-th in alphabetical order; NULL: there are no more */
const struct driver *driver_of_protocol(const char *name, size_t len); /* "nbd+unix"; NULL: unknown */

/* -EINVAL: an option that the driver doesn't take, by name. format: it is to be called one, rather than a protocol. */
int driver_options_check(const struct driver *driver, bool format, const json_t *options, struct err *err)
	ATTR_MUST_USE;

extern const struct driver driver_file, driver_host_device, driver_nbd, driver_null, driver_raw, driver_qcow2;
extern const struct driver driver_blkdebug, driver_copy_on_read, driver_throttle;

#endif
