/* SPDX-License-Identifier: MIT */
/* See toy.h. */
#include "toy.h"

/* ---- the rig ---- */

static size_t rig_pick(struct co_host *host, size_t ready)
{
	return rig_random(container_of(host, struct rig, world.host), ready);
}

static const struct co_host_ops rig_ops = {
	.now = world_now, .wait = world_wait, .offload = world_offload, .pick = rig_pick};

void rig_init(struct rig *r, uint64_t seed, const struct co_limits *limits)
{
	*r = (struct rig){.seed = seed * UINT64_C(0x9e3779b97f4a7c15) + 1};
	world_init_limits(&r->world, &rig_ops, limits);
}

void rig_fini(struct rig *r) { world_fini(&r->world); }

void rig_run(struct rig *r, co_entry *entry, void *arg) { assert(co_main(r->world.sched, "test", entry, arg) == 0); }

uint64_t rig_random(struct rig *r, uint64_t below)
{
	r->seed ^= r->seed << 13;
	r->seed ^= r->seed >> 7;
	r->seed ^= r->seed << 17;
	return (r->seed >> 11) % below;
}

int rig_step(struct co *co, struct rig *r)
{
	if (r->dawdle > 0)
		co_sleep(co, rig_random(r, r->dawdle));
	if (r->fail_at == 0 || --r->fail_at > 0)
		return 0;
	r->failed++;
	return r->fail_with != 0 ? r->fail_with : -EIO;
}

/* ---- storage ---- */

static void storage_enter(struct toy_storage *s, uint64_t off, uint64_t len)
{
	assert(is_aligned(off | len, s->node.align) && len > 0 && off + len <= align_up(s->node.size, s->node.align));
	s->in_flight++;
	s->most_in_flight = MAX(s->most_in_flight, s->in_flight);
}

static int storage_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	struct toy_storage *s = toy_storage_of(n);
	int err = 0;

	storage_enter(s, off, to.len);
	assert(iov_is_aligned(to, n->mem_align));
	s->reads++;
	s->bytes_read += to.len;
	for (uint64_t at = 0, part; at < to.len && err == 0; at += part) {
		part = MIN(to.len - at, TOY_SECTOR - (off + at) % TOY_SECTOR);
		iov_copy_in(iov_slice(to, at, part), s->data + off + at, part);
		if (at == 0 || rig_random(s->rig, 8) == 0)
			err = rig_step(co, s->rig);
	}
	s->in_flight--;
	return err;
}

/* Marks the sectors as being written; nobody else may be in them. */
static void mark_writing(struct toy_storage *s, uint64_t off, uint64_t len, bool writing)
{
	for (uint64_t at = align_down(off, TOY_SECTOR); at < off + len; at += TOY_SECTOR) {
		assert(s->writing[at / TOY_SECTOR] == !writing);
		s->writing[at / TOY_SECTOR] = writing;
	}
}

/* Sector by sector, in no hurry. */
static int storage_change(struct co *co, struct toy_storage *s, uint64_t off, uint64_t len, const struct iov *from)
{
	int err = 0;

	storage_enter(s, off, len);
	mark_writing(s, off, len, true);
	for (uint64_t at = 0, part; at < len && err == 0; at += part) {
		part = MIN(len - at, TOY_SECTOR - (off + at) % TOY_SECTOR);
		if (at == 0 || rig_random(s->rig, 8) == 0)
			err = rig_step(co, s->rig);
		if (err == 0 && from != NULL)
			iov_copy_out(iov_slice(*from, at, part), s->data + off + at, part);
		else if (err == 0)
			memset(s->data + off + at, 0, part);
	}
	mark_writing(s, off, len, false);
	s->in_flight--;
	return err;
}

static int storage_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct toy_storage *s = toy_storage_of(n);

	assert(iov_is_aligned(from, n->mem_align) && !n->read_only);
	if (s->alone)
		list_for_each(it, &n->ranges)
			assert(list_entry(it, struct node_range, link)->blockers == 0);
	s->writes++;
	s->bytes_written += from.len;
	s->fua += (flags & NODE_FUA) != 0;
	return storage_change(co, s, off, from.len, &from);
}

static int storage_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct toy_storage *s = toy_storage_of(n);

	(void)flags;
	s->zeroes++;
	return s->no_zero ? -ENOTSUP : storage_change(co, s, off, len, NULL);
}

static int storage_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	struct toy_storage *s = toy_storage_of(n);

	s->discards++;
	if (s->no_zero)
		return -ENOTSUP;
	return len > 0 ? storage_change(co, s, off, len, NULL) : 0;
}

static int storage_flush(struct co *co, struct node *n)
{
	toy_storage_of(n)->flushes++;
	return rig_step(co, toy_storage_of(n)->rig);
}

static int storage_resize(struct co *co, struct node *n, uint64_t size)
{
	struct toy_storage *s = toy_storage_of(n);
	int err = rig_step(co, s->rig);

	assert(size <= s->room);
	if (err != 0)
		return err;
	if (size < n->size)
		memset(s->data + size, 0, n->size - size);
	n->size = size;
	return 0;
}

static int storage_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	struct toy_storage *s = toy_storage_of(n);
	uint64_t run = MIN(len, 4096 - at.off % 4096);
	bool zero = s->holes && mem_is_zero(s->data + align_down(at.off, 4096), 4096);

	*out = (struct node_extent){
		.kind = zero ? NODE_ZERO : NODE_DATA, .has_host = true, .host = {at.off}, .len = s->holes ? run : len};
	return rig_step(co, s->rig);
}

static int storage_close(struct co *co, struct node *n)
{
	struct toy_storage *s = toy_storage_of(n);
	int err = rig_step(co, s->rig);

	if (s->closed != NULL)
		++*s->closed;
	node_fini(n);
	free(s->data);
	free(s->writing);
	free(s);
	return err;
}

static const struct node_ops storage_ops = {
	.name = "toy storage",
	.close = storage_close,
	.flush = storage_flush,
	.resize = storage_resize,
	.read = storage_read,
	.write = storage_write,
	.zero = storage_zero,
	.discard = storage_discard,
	.map = storage_map,
};

struct toy_storage *toy_storage_new(struct rig *r, uint64_t size, uint64_t room, uint32_t align)
{
	struct toy_storage *s = calloc(1, sizeof(*s));

	room = align_up(room, 4096);
	assert(s != NULL && size <= room);
	s->rig = r;
	s->room = room;
	s->data = calloc(1, room);
	s->writing = calloc(1, room / TOY_SECTOR);
	assert(s->data != NULL && s->writing != NULL);
	s->node.ops = &storage_ops;
	s->node.size = size;
	s->node.align = s->node.mem_align = align;
	s->node.cluster = 1;
	s->node.grows_zeroed = true;
	must(node_init(&s->node, r->world.sched));
	return s;
}

/* ---- the format ---- */

static struct toy_storage *file_of(struct toy_format *f) { return toy_storage_of(f->node.file); }

/* The caller must be alone in these clusters. */
static void check_locked(struct toy_format *f, uint64_t off, uint64_t len)
{
	bool held = false;

	list_for_each(it, &f->node.ranges) {
		const struct node_range *r = list_entry(it, struct node_range, link);

		held |= r->blockers == 0 && r->off <= off && off + len <= r->off + r->len;
	}
	assert(held && is_aligned(off | len, f->node.cluster));
}

static bool follows(const struct toy_format *f, const struct toy_cluster *a, const struct toy_cluster *b)
{
	return a->kind == b->kind && a->shared == b->shared && a->moving == b->moving && a->has_host == b->has_host &&
		(!a->has_host || b->host == a->host + f->node.cluster);
}

static int format_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	struct toy_format *f = toy_format_of(n);
	int err = rig_step(co, f->rig);
	uint64_t first = at.off / n->cluster, i = first, last = (at.off + len - 1) / n->cluster;
	const struct toy_cluster *c = &f->map[first];

	assert(len > 0 && last < f->clusters);
	f->maps++;
	while (i < last && follows(f, &f->map[i], &f->map[i + 1]) && (f->most_map == 0 || i - first + 1 < f->most_map))
		i++;
	*out = (struct node_extent){
		.kind = c->kind,
		.in_place = c->kind == NODE_DATA && !c->shared && !c->moving,
		.has_host = c->has_host,
		.host = {c->host + at.off % n->cluster},
		.len = MIN(len, (i + 1) * n->cluster - at.off),
	};
	return err;
}

/* What has been freed is filled with garbage as soon as it may be used again. */
static void reclaim(struct toy_format *f)
{
	size_t left = 0;

	for (size_t i = 0; i < f->n_freed; i++) {
		uint64_t host = f->freed[i].host;

		if (!node_epoch_passed(&f->node, f->freed[i].epoch)) {
			f->freed[left++] = f->freed[i];
			continue;
		}
		f->used[host / f->node.cluster] = TOY_DIRTY;
		memset(file_of(f)->data + host, TOY_GARBAGE, f->node.cluster);
	}
	f->n_freed = left;
}

static void give_back(struct toy_format *f, struct toy_cluster *c)
{
	if (c->has_host && !c->shared)
		f->freed[f->n_freed++] = (struct toy_freed){.host = c->host, .epoch = node_epoch_now(&f->node)};
	c->has_host = false;
	assert(f->n_freed <= f->hosts);
}

static void take_hosts(struct toy_format *f, uint64_t want, struct node_reservation *out)
{
	uint64_t first = 0, n = 0;

	while (first < f->hosts && f->used[first] == TOY_USED)
		first++;
	assert(first < f->hosts);
	while (n < want && first + n < f->hosts && f->used[first + n] == f->used[first])
		n++;
	out->zeroed = f->used[first] == TOY_FRESH && !f->never_zeroed;
	memset(f->used + first, TOY_USED, n);
	out->host.off = first * f->node.cluster;
	out->len = n * f->node.cluster;
}

static void format_cancel(struct co *co, struct node *n, const struct node_reservation *res)
{
	struct toy_format *f = toy_format_of(n);

	if (f->rig->dawdle > 0)
		co_yield(co);
	check_locked(f, res->guest.off, res->len);
	if (!res->reused)
		memset(f->used + res->host.off / n->cluster, TOY_DIRTY, res->len / n->cluster);
	f->reserved--;
	f->cancels++;
}

static int format_reserve(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_reservation *out)
{
	struct toy_format *f = toy_format_of(n);
	const struct toy_cluster *c = &f->map[at.off / n->cluster];
	uint64_t want = len / n->cluster;
	uint64_t end;
	int err = rig_step(co, f->rig);

	check_locked(f, at.off, len);
	for (uint64_t i = 0; i < want; i++)
		assert(c[i].kind != NODE_DATA || c[i].shared || c[i].moving);
	if (err != 0)
		return err;
	reclaim(f);
	if (f->most_reserve > 0)
		want = MIN(want, f->most_reserve);
	*out = (struct node_reservation){.guest = at};
	if (c->kind == NODE_ZERO && c->has_host && !c->shared) {
		out->host.off = c->host;
		out->len = n->cluster;
		out->reused = true;
	} else {
		take_hosts(f, want, out);
	}
	f->reserved++;
	f->reserves++;
	end = out->host.off + out->len;
	co_mutex_lock(co, &f->grow_file);
	if (end > n->file->size)
		err = node_resize(co, n->file, end);
	co_mutex_unlock(&f->grow_file);
	if (err != 0)
		format_cancel(co, n, out);
	return err;
}

static int format_publish(struct co *co, struct node *n, const struct node_reservation *res)
{
	struct toy_format *f = toy_format_of(n);
	int err = rig_step(co, f->rig);

	check_locked(f, res->guest.off, res->len);
	if (err != 0)
		return err;
	for (uint64_t done = 0; done < res->len; done += n->cluster) {
		struct toy_cluster *c = &f->map[(res->guest.off + done) / n->cluster];

		if (!res->reused)
			give_back(f, c);
		*c = (struct toy_cluster){.kind = NODE_DATA, .has_host = true, .host = res->host.off + done};
	}
	f->reserved--;
	f->publishes++;
	return 0;
}

static int format_unmap(struct co *co, struct node *n, struct guest at, uint64_t len, enum node_unmap how)
{
	struct toy_format *f = toy_format_of(n);
	int err = f->no_unmap ? -ENOTSUP : rig_step(co, f->rig);

	if (err != 0 || len == 0)
		return err;
	check_locked(f, at.off, len);
	f->unmaps++;
	for (uint64_t i = at.off / n->cluster; i < (at.off + len) / n->cluster; i++) {
		struct toy_cluster *c = &f->map[i];

		if (how != NODE_UNMAP_KEEP || c->shared || c->kind != NODE_DATA)
			give_back(f, c);
		*c = (struct toy_cluster){.kind = NODE_ZERO, .has_host = c->has_host, .host = c->host};
	}
	return 0;
}

static int format_flush(struct co *co, struct node *n)
{
	struct toy_format *f = toy_format_of(n);
	int err = rig_step(co, f->rig);

	f->flushes++;
	return err != 0 ? err : node_flush(co, n->file);
}

static int format_resize(struct co *co, struct node *n, uint64_t size)
{
	struct toy_format *f = toy_format_of(n);
	int err = rig_step(co, f->rig);
	uint64_t from = align_down(MIN(n->size, size), n->cluster);

	check_locked(f, from, f->clusters * n->cluster - from);
	if (err == 0)
		n->size = size;
	return err;
}

static int format_close(struct co *co, struct node *n)
{
	struct toy_format *f = toy_format_of(n);
	int err = rig_step(co, f->rig);

	assert(f->reserved == 0);
	if (f->closed != NULL)
		++*f->closed;
	node_fini(n);
	free(f->map);
	free(f->used);
	free(f->freed);
	free(f);
	return err;
}

static const struct node_ops format_ops = {
	.name = "toy format",
	.close = format_close,
	.flush = format_flush,
	.resize = format_resize,
	.map = format_map,
	.reserve = format_reserve,
	.publish = format_publish,
	.cancel = format_cancel,
	.unmap = format_unmap,
};

struct toy_format *toy_format_new(
	struct rig *r, struct node *file, struct node *backing, uint64_t size, uint32_t cluster)
{
	struct toy_format *f = calloc(1, sizeof(*f));

	assert(f != NULL);
	f->rig = r;
	co_mutex_init(&f->grow_file);
	f->clusters = div_round_up(size, cluster) + 1; /* one to grow into */
	f->hosts = toy_storage_of(file)->room / cluster;
	f->map = calloc(f->clusters, sizeof(*f->map));
	f->used = calloc(f->hosts, 1);
	f->freed = calloc(f->hosts + 1, sizeof(*f->freed));
	assert(f->map != NULL && f->used != NULL && f->freed != NULL);
	f->node.ops = &format_ops;
	f->node.file = file;
	f->node.backing = backing;
	f->node.size = size;
	f->node.align = f->node.mem_align = 1;
	f->node.cluster = cluster;
	must(node_init(&f->node, r->world.sched));
	return f;
}

void toy_format_set(struct toy_format *f, uint64_t cluster, enum node_kind kind, bool shared, int byte)
{
	struct node_reservation res = {0};
	struct toy_cluster *c = &f->map[cluster];

	*c = (struct toy_cluster){.kind = kind, .shared = shared};
	if (kind != NODE_DATA)
		return;
	take_hosts(f, 1, &res);
	c->has_host = true;
	c->host = res.host.off;
	f->node.file->size = MAX(f->node.file->size, res.host.off + res.len);
	memset(file_of(f)->data + c->host, byte, f->node.cluster);
}

uint8_t toy_peek(struct node *n, uint64_t off)
{
	for (; n != NULL && off < n->size; n = n->backing) {
		const struct toy_cluster *c;

		if (n->ops == &storage_ops)
			return toy_storage_of(n)->data[off];
		c = &toy_format_of(n)->map[off / n->cluster];
		if (c->kind == NODE_ZERO)
			return 0;
		if (c->kind == NODE_DATA)
			return file_of(toy_format_of(n))->data[c->host + off % n->cluster];
	}
	return 0;
}
