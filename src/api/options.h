/* SPDX-License-Identifier: MIT */
/*
 * Trees of block-device options: how a node is to be opened, and its children.
 *
 * A tree is a json_t object. What QEMU writes with a dot in a name is a member of a member: file.driver is the member
 * "driver" of the object "file". Elements of a list are members called "0", "1", ... Leaves are strings, as a command line
 * has them, or what a json: name said: booleans, integers, null. The getters take either and are given dotted keys.
 */
#ifndef CORRAL_API_OPTIONS_H
#define CORRAL_API_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

/* Tells fn each "name=value" of a list; ",," is a comma in a value, which is NULL where there is no '='. The first negative
 * result of fn ends it, and is returned; -ENOMEM. */
typedef int options_fn(void *arg, const char *name, const char *value);
int options_each(const char *list, options_fn *fn, void *arg) ATTR_MUST_USE;
int options_each_in_place(char *list, options_fn *fn, void *arg) ATTR_MUST_USE; /* what fn is told stays there */
/* Cuts the first option off *rest, in place. */
char *options_cut(char **rest);

/* "driver=qcow2,file.driver=file,file.filename=x"; *out is a new tree. */
int options_parse(const char *text, json_t **out, struct err *err) ATTR_MUST_USE;

/*
 * What a file name stands for. "json:{...}" is its tree; anything else is that of a storage node: a path, or a name with
 * the protocol of a driver (driver.h), as far as this knows it; -EINVAL: "Unknown protocol".
 */
int options_of_name(const char *name, json_t **out, struct err *err) ATTR_MUST_USE;

/* Sets what the dotted key leads to, making the objects on the way; takes the value over. */
int options_set(json_t *options, const char *key, json_t *value) ATTR_MUST_USE;

const json_t *options_get(const json_t *options, const char *key); /* NULL: isn't there */
const char *options_text(const json_t *options, const char *key);  /* NULL: isn't there, or is no string */
/* These leave *out alone where the option isn't there. -EINVAL, explained in QEMU's words. */
int options_bool(const json_t *options, const char *key, bool *out, struct err *err) ATTR_MUST_USE;
int options_size(const json_t *options, const char *key, uint64_t *out, struct err *err) ATTR_MUST_USE;

/* A number of bytes, with a suffix k, M, G, T, P or E (powers of 1024), a fraction allowed before one. -EINVAL, or -ERANGE
 * above the largest signed 64-bit number. */
int options_size_parse(const char *text, uint64_t *out) ATTR_MUST_USE;

/* Whether a tree says no more than which file, and how to treat it: nothing of what is to be seen of it. */
bool options_are_plain(const json_t *tree);

#endif
