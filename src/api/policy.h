/* SPDX-License-Identifier: MIT */
/* Which file a name found in an image's header may open, if any. */
#ifndef CORRAL_API_POLICY_H
#define CORRAL_API_POLICY_H

#include "api/image.h"

struct policy_file {   /* all on the heap */
	char *beneath; /* NULL: anywhere */
	char *path;    /* relative to beneath, or as it is */
	char *name; /* what to call the file, and what the names in its own header are relative to; not a link's target */
};

/*
 * parent: the path that the naming image was opened by. what: "backing file", "data file". name: what its header says. -EPERM: the policy of `how` doesn't
 * let it be opened; -ENOTSUP: not the name of a local file; both explained, with the option that helps.
 */
int policy_resolve(const struct image_open *how, const char *parent, const char *what, const char *name,
	struct policy_file *out, struct err *err) ATTR_MUST_USE;

void policy_file_fini(struct policy_file *file);

#endif
