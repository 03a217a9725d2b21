/* SPDX-License-Identifier: MIT */
/*
 * Names from headers. An image may come from anybody, so what it names is opened only beneath a directory that the policy
 * allows: by default the one in which the naming image lies. The comparison of paths here only picks the directory; that
 * nothing escapes from it, through links or "..", is for the kernel to see to when it opens (RESOLVE_BENEATH).
 */
#include "api/policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "io/io.h"

bool image_has_protocol(const char *name) { return name[strcspn(name, ":/")] == ':'; }

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

char *image_relative_path(const char *path, const char *name)
{
	int dir = (int)(last_part(path) - path);
	char *full;

	if (name[0] == '/' || image_has_protocol(name))
		return strdup(name);
	return asprintf(&full, "%.*s%s", dir, path, name) < 0 ? NULL : full;
}

void policy_file_fini(struct policy_file *file)
{
	free(file->beneath);
	free(file->path);
	free(file->name);
}

/* The name as a local path, relative to the current directory or absolute. */
static int name_check(const char *what, const char *name, const char **local, struct err *err)
{
	*local = name;
	if (strncmp(name, "json:", 5) == 0)
		return err_set(err, -ENOTSUP,
			"the image names its %s by a json: description ('%s'), which is never followed; %s", what, name,
			strcmp(what, "backing file") == 0
				? "record a plain path with `qemu-img rebase -u -b PATH -F FORMAT`"
				: "record a plain path, or give the file with --data-file");
	if (strncmp(name, "file:", 5) == 0 && name[5] != '\0')
		*local = name + 5;
	else if (image_has_protocol(name))
		return err_set(err, -ENOTSUP,
			"the image names a %s that isn't a local file ('%s'), which is never followed", what, name);
	return 0;
}

/* The directory of path, absolute and with its links followed. NULL: it doesn't exist, or no memory. */
static char *directory_of(const char *path)
{
	size_t len = (size_t)(last_part(path) - path);
	AUTO_FREE char *dir = len ? strndup(path, len) : strdup(".");

	return dir ? io_realpath(dir) : NULL;
}

/* The path with its directory in that form, so that prefixes can be compared. */
static char *canonical(const char *path)
{
	AUTO_FREE char *dir = directory_of(path);
	char *full;

	if (!dir || asprintf(&full, "%s%s%s", dir, strcmp(dir, "/") ? "/" : "", last_part(path)) < 0)
		return NULL;
	return full;
}

/* What of path lies below dir; NULL: it doesn't. */
static const char *below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (strcmp(dir, "/") == 0)
		return path[0] == '/' && path[1] ? path + 1 : NULL;
	return strncmp(path, dir, len) == 0 && path[len] == '/' && path[len + 1] ? path + len + 1 : NULL;
}

/* 1: dir holds the file, out is filled. 0: it doesn't. Takes dir over, which may be NULL. */
static int directory_try(char *dir, const char *path, struct policy_file *out)
{
	const char *rest = dir ? below(path, dir) : NULL;

	if (!rest) {
		free(dir);
		return 0;
	}
	out->path = strdup(rest);
	out->beneath = dir;
	return out->path ? 1 : -ENOMEM;
}

static int directories_try(const struct image_open *how, const char *parent, const char *path, struct policy_file *out)
{
	int found = how->allow_none ? 0 : directory_try(directory_of(parent), path, out);

	for (const char *const *dir = how->allow; found == 0 && !how->allow_none && dir && *dir; dir++)
		found = directory_try(io_realpath(*dir), path, out);
	return found;
}

static int refuse(const struct image_open *how, const char *parent, const char *what, const char *name,
	const char *path, struct err *err)
{
	if (how->allow_none)
		return err_set(err, -EPERM, "'%s' names the %s '%s', and --allow none lets no image name a file",
			parent, what, name);
	return err_set(err, -EPERM,
		"'%s' names the %s '%s', which lies outside of the image's own directory; --allow %.*s would permit it",
		parent, what, name, (int)(last_part(path) - path > 1 ? last_part(path) - path - 1 : 1), path);
}

/* The file that the name leads to, and the place where it is allowed. */
static int place_find(const struct image_open *how, const char *parent, const char *what, const char *name,
	const char *full, struct policy_file *out, struct err *err)
{
	AUTO_FREE char *target = io_realpath(full);
	const char *path = target ? target : out->name;
	int ret = directories_try(how, parent, path, out);

	if (ret < 0)
		return err_set(err, ret, "no memory for the path of '%s'", name);
	return ret > 0 ? 0 : refuse(how, parent, what, name, path, err);
}

int policy_resolve(const struct image_open *how, const char *parent, const char *what, const char *name,
	struct policy_file *out, struct err *err)
{
	AUTO_FREE char *full = NULL;
	const char *local;
	int ret = name_check(what, name, &local, err);

	*out = (struct policy_file){0};
	if (ret < 0)
		return ret;
	full = local[0] == '/' || local != name ? strdup(local) : image_relative_path(parent, local);
	if (!full)
		return err_set(err, -ENOMEM, "no memory for the path of '%s'", name);
	out->name = how->allow_all || how->qemu ? strdup(full) : canonical(full);
	if (!out->name)
		return err_set(err, -ENOENT,
			"'%s' names the %s '%s', whose directory doesn't exist (outside of the image's own, --allow would be needed, too)",
			parent, what, name);
	if (!how->allow_all && !how->qemu)
		return place_find(how, parent, what, name, full, out, err);
	out->path = take(full);
	return 0;
}
