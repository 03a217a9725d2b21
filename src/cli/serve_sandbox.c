/* SPDX-License-Identifier: MIT */
/* What `corral serve` still needs when everything is open, and as whom it goes on; see io/sandbox.h. */
#include "cli/serve.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int serve_user_parse(struct serve *s, const char *text)
{
	AUTO_FREE char *user = strdup(text);
	char *group = user ? strchr(user, ':') : NULL;
	const struct passwd *pw;
	const struct group *gr = NULL;

	if (group)
		*group++ = '\0';
	pw = user ? getpwnam(user) : NULL;
	if (!pw)
		return cli_usage("serve", "--user: there is no user '%s'", user ? user : text);
	if (group)
		gr = getgrnam(group);
	if (group && !gr)
		return cli_usage("serve", "--user: there is no group '%s'", group);
	s->confine.change_user = true;
	s->confine.uid = pw->pw_uid;
	s->confine.gid = gr ? gr->gr_gid : pw->pw_gid;
	return 0;
}

/* A name by which storage is reached over a network, and may have to be reached again. */
static bool is_remote(const char *path) { return image_has_protocol(path) && strncmp(path, "file:", 5) != 0; }

static bool reaches_out(const struct serve *s)
{
	bool any = false;

	for (unsigned i = 0; i < s->images_n; i++)
		any |= is_remote(s->images[i].open.path);
	return any;
}

/* Where something of ours is removed at the end: the sockets and the pid file. */
static unsigned removal_dirs(const struct serve *s, char **dirs)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->exports_n; i++) {
		if (strncmp(s->exports[i].where, "unix:", 5) == 0)
			dirs[n++] = io_dirname(s->exports[i].where + 5);
	}
	if (s->pid_file)
		dirs[n++] = io_dirname(s->pid_file);
	if (s->control.where && strncmp(s->control.where, "unix:", 5) == 0)
		dirs[n++] = io_dirname(s->control.where + 5);
	return n;
}

int serve_confine(struct co *co, struct serve *s, struct err *err)
{
	AUTO_FREE char **dirs = calloc(SERVE_EXPORTS + 3, sizeof(*dirs));
	unsigned n = dirs ? removal_dirs(s, dirs) : 0;
	int r = dirs ? 0 : err_set(err, -ENOMEM, "no memory");

	for (unsigned i = 0; i < n; i++) {
		if (!dirs[i])
			r = err_set(err, -ENOMEM, "no memory");
	}
	s->confine.removal_dirs = (const char *const *)dirs;
	s->confine.connect = reaches_out(s);
	s->confine.lookup = s->control.where != NULL;
	if (r == 0)
		r = cli_sandbox_enter(co, s->sandbox, &s->confine, err);
	s->confine.removal_dirs = NULL;
	for (unsigned i = 0; i < n; i++)
		free(dirs[i]);
	return r;
}
