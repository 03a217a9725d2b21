/* SPDX-License-Identifier: MIT */
/* Another backing file's name in the header of an open image. */
#include <errno.h>
#include <string.h>

#include "qcow2/engine.h"
#include "qcow2/rewrite.h"

struct names {
	const char *name, *format;
};

static void header_name(struct qcow2_header *h, void *arg)
{
	const struct names *names = arg;

	memcpy(h->backing_name, names->name, strlen(names->name) + 1);
	memcpy(h->backing_format, names->format, strlen(names->format) + 1);
}

int qcow2_backing_check(const struct node *n, const char *name, const char *format, struct err *err)
{
	const struct qcow2_header *h = qcow2_node_header(n);

	if (name && (h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW))
		return err_set(err, -EINVAL, "an image with a raw external data file can't have a backing file");
	if (name && strlen(name) > QCOW2_MAX_BACKING_NAME)
		return err_set(err, -EINVAL, "the backing file's name has %zu bytes; the most is %u", strlen(name),
			QCOW2_MAX_BACKING_NAME);
	if (name && format && strlen(format) >= sizeof(h->backing_format))
		return err_set(err, -EINVAL, "the backing file's format has %zu bytes; the most is %zu", strlen(format),
			sizeof(h->backing_format) - 1);
	return 0;
}

void qcow2_backing_expect(struct node *n) { qcow2_of(n)->other_backing = true; }

int qcow2_backing_set(struct co *co, struct node *n, const char *name, const char *format, struct err *err)
{
	struct names names = {.name = name ? name : "", .format = name && format ? format : ""};
	int ret = qcow2_backing_check(n, name, format, err);

	return ret < 0 ? ret : qcow2_rewrite_open(co, qcow2_of(n), header_name, &names, err);
}
