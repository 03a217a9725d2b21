/* SPDX-License-Identifier: MIT */
/* What the tests of the engine share: a small image of any geometry in a file, opened over the delay node. */
#ifndef TEST_QCOW2_IMAGE_H
#define TEST_QCOW2_IMAGE_H

#include "../io/engine.h"

#include "base/math.h"
#include "file/file.h"
#include "filter/filter.h"
#include "qcow2/qcow2.h"

struct image {
	const char *path;
	struct node *node, *delay;
};

static inline struct node *image_file(struct co *co, const char *path, bool write)
{
	struct file_open how = {.path = path, .write = write};
	struct node *file;
	struct err err = {0};

	if (file_open(co, &how, &file, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return file;
}

static inline void image_create(struct co *co, const char *path, const struct qcow2_create *how)
{
	struct node *file;
	struct err err = {0};
	FILE *fresh = fopen(path, "w");

	CHECK(fresh != NULL);
	fclose(fresh);
	file = image_file(co, path, true);
	if (qcow2_create(co, file, how, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	CHECK_INT(node_close(co, file), 0);
}

static inline void image_open(struct co *co, struct image *im, const struct qcow2_options *options)
{
	struct node *file = image_file(co, im->path, options->write);
	struct err err = {0};

	CHECK_INT(delay_open(co, file, &(struct delay_rules){0}, &im->delay), 0);
	if (qcow2_open(co, im->delay, options, &im->node, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

static inline void image_finding(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "%s\n", text);
}

/* Neither errors nor leaks. */
static inline void image_check(struct co *co, const char *path)
{
	struct node *file = image_file(co, path, false);
	struct qcow2_check found;
	struct err err = {0};

	CHECK_INT(qcow2_check_run(co, file, image_finding, NULL, &found, &err), 0);
	CHECK_INT(found.corruptions, 0);
	CHECK_INT(found.leaks, 0);
	CHECK_INT(found.check_errors, 0);
	CHECK_INT(node_close(co, file), 0);
}

#endif
