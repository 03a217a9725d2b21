/* SPDX-License-Identifier: MIT */
/* Writing and reading of states; see state.h. */
#include "export/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

static bool room_make(struct export_state *s, size_t more)
{
	size_t room = MAX(2 * s->room, s->len + more);
	uint8_t *bytes;

	if (s->len + more <= s->room)
		return true;
	bytes = realloc(s->bytes, room);
	if (!bytes)
		return false;
	s->bytes = bytes;
	s->room = room;
	return true;
}

void export_state_put(struct export_state *s, const void *bytes, size_t len)
{
	if (len == 0)
		return;
	if (!room_make(s, len)) {
		s->failed = true;
		return;
	}
	memcpy(s->bytes + s->len, bytes, len);
	s->len += len;
}

void export_state_put_number(struct export_state *s, uint64_t n) { export_state_put(s, &n, sizeof(n)); }

void export_state_put_block(struct export_state *s, const void *bytes, size_t len)
{
	export_state_put_number(s, len);
	export_state_put(s, bytes, len);
}

void export_state_put_fd(struct export_state *s, int fd)
{
	unsigned room = s->fds < s->fds_room ? s->fds_room : MAX(2 * s->fds_room, 16u);
	int *fds = room > s->fds_room ? realloc(s->fd, room * sizeof(*fds)) : s->fd;

	if (!fds) {
		s->failed = true;
		return;
	}
	s->fd = fds;
	s->fds_room = room;
	s->fd[s->fds++] = fd;
}

void export_state_put_listener(struct export_state *s, const struct io_sock *listener)
{
	struct io_place place = io_sock_place(listener);

	export_state_put(s, &place, sizeof(place));
	export_state_put_fd(s, io_sock_fd(listener));
}

void export_state_fini(struct export_state *s)
{
	free(s->bytes);
	free(s->fd);
	*s = (struct export_state){0};
}

void export_read(struct export_reader *r, void *to, size_t len)
{
	if (r->failed || len > r->state->len - r->at) {
		r->failed = true;
		memset(to, 0, len);
		return;
	}
	memcpy(to, r->state->bytes + r->at, len);
	r->at += len;
}

uint64_t export_read_number(struct export_reader *r)
{
	uint64_t n;

	export_read(r, &n, sizeof(n));
	return n;
}

const void *export_read_block(struct export_reader *r, size_t most, size_t *len)
{
	uint64_t n = export_read_number(r);
	const void *block = r->state->bytes + r->at;

	*len = 0;
	if (r->failed || n > most || n > r->state->len - r->at) {
		r->failed = true;
		return "";
	}
	r->at += n;
	*len = n;
	return block;
}

int export_read_fd(struct export_reader *r)
{
	if (r->fd_at == r->state->fds) {
		r->failed = true;
		return -1;
	}
	return r->state->fd[r->fd_at++];
}

int export_read_listener(struct co *co, struct export_reader *r, const char *what, struct io_sock **out,
	struct io_place *place, struct err *err)
{
	int fd;

	export_read(r, place, sizeof(*place));
	fd = export_read_fd(r);
	return fd < 0 ? err_set(err, -EPROTO, "no %s was handed over", what) : io_listener_adopt(co, fd, out, err);
}

void export_read_end(struct co *co, struct export_reader *r)
{
	while (r->fd_at < r->state->fds)
		io_fd_close(co, r->state->fd[r->fd_at++]);
}
