/* SPDX-License-Identifier: MIT */
/* The guest's memory: see memory.h. */
#include "export/vhost_user/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "export/vhost_user/shared.h"

/* ---- tables ---- */

struct vu_memory *vu_memory_new(bool keeps)
{
	struct vu_memory *m = malloc(sizeof(*m) + VU_REGIONS * sizeof(struct vu_region));

	if (m) {
		m->users = 1;
		m->keeps = keeps;
		m->n = 0;
	}
	return m;
}

struct vu_memory *vu_memory_copy(const struct vu_memory *m)
{
	struct vu_memory *copy = vu_memory_new(m->keeps);

	if (!copy)
		return NULL;
	copy->n = m->n;
	memcpy(copy->region, m->region, m->n * sizeof(struct vu_region));
	for (unsigned i = 0; i < m->n; i++)
		m->region[i].mapping->tables++;
	return copy;
}

struct vu_memory *vu_memory_get(struct vu_memory *m)
{
	m->users++;
	return m;
}

static void region_drop(struct co *co, struct vu_region *r)
{
	if (--r->mapping->tables > 0)
		return;
	io_unmap(co, r->mapping->map);
	if (r->mapping->fd >= 0)
		io_fd_close(co, r->mapping->fd);
	free(r->mapping);
}

void vu_memory_put(struct co *co, struct vu_memory *m)
{
	if (!m || --m->users > 0)
		return;
	for (unsigned i = 0; i < m->n; i++)
		region_drop(co, &m->region[i]);
	free(m);
}

bool vu_memory_broken(const struct vu_memory *m)
{
	for (unsigned i = 0; i < m->n; i++)
		if (io_map_broken(m->region[i].mapping->map))
			return true;
	return false;
}

/* ---- regions ---- */

static int region_check(const struct vu_memory *m, const struct vu_region_wire *w, struct err *err)
{
	uint64_t end;

	if (m->n == VU_REGIONS)
		return err_set(err, -ENOSPC, "no more than %d regions of memory", VU_REGIONS);
	if (w->size == 0 || add_overflows(w->guest, w->size, &end) || add_overflows(w->user, w->size, &end))
		return err_set(err, -EINVAL,
			"a region of %#" PRIx64 " bytes at %#" PRIx64 " (%#" PRIx64 " of the front end)", w->size,
			w->guest, w->user);
	for (unsigned i = 0; i < m->n; i++) {
		const struct vu_region *r = &m->region[i];

		if (ranges_overlap(w->guest, w->size, r->guest, r->size) ||
			ranges_overlap(w->user, w->size, r->user, r->size))
			return err_set(err, -EINVAL,
				"the regions of %#" PRIx64 " bytes at %#" PRIx64 " and of %#" PRIx64 " at %#" PRIx64
				" overlap",
				w->size, w->guest, r->size, r->guest);
	}
	return 0;
}

int vu_memory_add(struct co *co, struct vu_memory *m, const struct vu_region_wire *w, int fd, struct err *err)
{
	int r = region_check(m, w, err);
	struct vu_mapping *mapping;

	if (r < 0)
		return r;
	mapping = malloc(sizeof(*mapping));
	if (!mapping)
		return err_set(err, -ENOMEM, "no memory");
	r = io_map(co, fd, w->offset, w->size, &mapping->map, err);
	if (r < 0) {
		free(mapping);
		err_prefix(err, "the region of %#" PRIx64 " bytes at %#" PRIx64, w->size, w->guest);
		return r;
	}
	mapping->tables = 1;
	mapping->fd = m->keeps ? io_fd_dup(fd) : -1;
	mapping->offset = w->offset;
	m->region[m->n++] = (struct vu_region){
		.guest = w->guest,
		.user = w->user,
		.size = w->size,
		.bytes = io_map_bytes(mapping->map),
		.mapping = mapping,
	};
	return 0;
}

int vu_memory_remove(struct co *co, struct vu_memory *m, const struct vu_region_wire *w, struct err *err)
{
	for (unsigned i = 0; i < m->n; i++) {
		struct vu_region gone = m->region[i];

		if (gone.guest != w->guest || gone.user != w->user || gone.size != w->size)
			continue;
		m->region[i] = m->region[--m->n];
		region_drop(co, &gone);
		return 0;
	}
	return err_set(err, -ENOENT, "there is no region of %#" PRIx64 " bytes at %#" PRIx64, w->size, w->guest);
}

/* ---- finding things ---- */

static const struct vu_region *find_guest(const struct vu_memory *m, uint64_t guest)
{
	for (unsigned i = 0; i < m->n; i++)
		if (guest - m->region[i].guest < m->region[i].size)
			return &m->region[i];
	return NULL;
}

/* As much of [guest, guest + len) as lies in one region; at least a byte, or nothing. */
static struct iovec piece_at(const struct vu_memory *m, uint64_t guest, uint64_t len)
{
	const struct vu_region *r = find_guest(m, guest);
	uint64_t skip = r ? guest - r->guest : 0;

	return r ? (struct iovec){r->bytes + skip, MIN(len, r->size - skip)} : (struct iovec){0};
}

bool vu_memory_pieces(
	const struct vu_memory *m, uint64_t guest, uint64_t len, struct iovec *v, unsigned max, unsigned *n)
{
	while (len > 0) {
		struct iovec piece = piece_at(m, guest, len);

		if (piece.iov_len == 0 || *n == max)
			return false;
		v[(*n)++] = piece;
		guest += piece.iov_len;
		len -= piece.iov_len;
	}
	return true;
}

bool vu_memory_read(const struct vu_memory *m, uint64_t guest, void *to, size_t len)
{
	for (size_t done = 0; done < len;) {
		struct iovec piece = piece_at(m, guest + done, len - done);

		if (piece.iov_len == 0)
			return false;
		shared_copy((char *)to + done, piece.iov_base, piece.iov_len);
		done += piece.iov_len;
	}
	return true;
}

uint8_t *vu_memory_user(const struct vu_memory *m, uint64_t user, uint64_t len)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct vu_region *r = &m->region[i];
		uint64_t skip = user - r->user;

		if (skip < r->size)
			return len <= r->size - skip ? r->bytes + skip : NULL;
	}
	return NULL;
}

uint64_t vu_memory_guest(const struct vu_memory *m, const void *byte)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct vu_region *r = &m->region[i];
		uint64_t skip = (uint64_t)((uintptr_t)byte - (uintptr_t)r->bytes);

		if (skip < r->size)
			return r->guest + skip;
	}
	return UINT64_MAX;
}
