/* SPDX-License-Identifier: MIT */
/*
 * Committing an overlay, with the power cut after every request: the overlay must read as before (G15), also behind the end
 * of the smaller base (H27), and its bitmap must be there in the end (H29). What is worst is left of each file: of the base
 * what its last flush made durable, of the overlay all that was written. Then the same with the mutants that have the bug.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/mutant.h"
#include "io/io.h"
#include "job/commit.h"
#include "qcow2/qcow2.h"

#define CLUSTER 4096u
#define BASE_BYTES (40 * CLUSTER)
#define TOP_BYTES (48 * CLUSTER)

static void must(int ret)
{
	if (ret < 0) {
		fprintf(stderr, "a step that can't fail: %s\n", strerror(-ret));
		abort();
	}
}

/* ---- files in memory ---- */

struct content {
	uint8_t *data;
	uint64_t size;
};

static struct content content_copy(const struct content *from)
{
	struct content to = {malloc(from->size + 1), from->size};

	assert(to.data);
	if (from->size)
		memcpy(to.data, from->data, from->size);
	return to;
}

static void content_replace(struct content *to, const struct content *from)
{
	free(to->data);
	*to = content_copy(from);
}

struct power {
	unsigned requests, cut_at; /* every request from this one on fails; 0: none */
};

struct ram {
	struct node node; /* first */
	struct power *power;
	struct content now, durable;
	struct content *left_now, *left_durable; /* where they go when it is closed */
};

static struct ram *ram_of(struct node *n) { return container_of(n, struct ram, node); }

static bool is_cut(struct co *co, struct node *n)
{
	struct power *p = ram_of(n)->power;

	co_yield(co);
	p->requests++;
	return p->cut_at && p->requests >= p->cut_at;
}

static int ram_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	if (is_cut(co, n))
		return -EIO;
	iov_copy_in(to, ram_of(n)->now.data + off, to.len);
	return 0;
}

static int ram_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	if (is_cut(co, n))
		return -EIO;
	iov_copy_out(from, ram_of(n)->now.data + off, from.len);
	if (flags & NODE_FUA)
		content_replace(&ram_of(n)->durable, &ram_of(n)->now);
	return 0;
}

static int ram_flush(struct co *co, struct node *n)
{
	if (is_cut(co, n))
		return -EIO;
	content_replace(&ram_of(n)->durable, &ram_of(n)->now);
	return 0;
}

static int ram_resize(struct co *co, struct node *n, uint64_t size)
{
	struct ram *r = ram_of(n);

	if (is_cut(co, n))
		return -EIO;
	r->now.data = realloc(r->now.data, size + 1);
	assert(r->now.data);
	if (size > r->now.size)
		memset(r->now.data + r->now.size, 0, size - r->now.size);
	r->now.size = n->size = size;
	return 0;
}

static int ram_close(struct co *co, struct node *n)
{
	struct ram *r = ram_of(n);

	(void)co;
	node_fini(n);
	content_replace(r->left_now, &r->now);
	content_replace(r->left_durable, &r->durable);
	free(r->now.data);
	free(r->durable.data);
	free(r);
	return 0;
}

static const struct node_ops ram_ops = {
	.name = "ram",
	.read = ram_read,
	.write = ram_write,
	.flush = ram_flush,
	.resize = ram_resize,
	.close = ram_close,
};

/* ---- the world ---- */

struct file { /* as it is, and as the last flush left it */
	struct content now, durable;
};

struct world {
	struct power power;
	struct file top, base;
	struct err err;
	unsigned cuts, wrong;
};

static struct node *file_open(struct co *co, struct world *w, struct file *f)
{
	struct ram *r = calloc(1, sizeof(*r));

	assert(r);
	r->power = &w->power;
	r->now = content_copy(&f->now);
	r->durable = content_copy(&f->now);
	r->left_now = &f->now;
	r->left_durable = &f->durable;
	r->node = (struct node){
		.ops = &ram_ops, .size = f->now.size, .align = 1, .mem_align = 1, .cluster = 1, .grows_zeroed = true};
	must(node_init(&r->node, co_sched_of(co)));
	return &r->node;
}

static void make(struct co *co, struct world *w, struct file *f, uint64_t size, const char *backing)
{
	struct qcow2_create how = {.size = size,
		.version = 3,
		.cluster_bits = 12,
		.refcount_order = 4,
		.backing_name = backing,
		.backing_format = backing ? "qcow2" : NULL};
	struct node *file = file_open(co, w, f);

	must(qcow2_create(co, file, &how, &w->err));
	must(node_close(co, file));
}

/* NULL: it can't be opened, which after a cut is a failure as well. */
static struct node *chain_open(struct co *co, struct world *w)
{
	struct qcow2_options options = {.write = true, .keep_leaks = true};
	struct node *top = NULL, *base = NULL, *base_file = file_open(co, w, &w->base),
		    *top_file = file_open(co, w, &w->top);

	if (qcow2_open(co, base_file, &options, &base, &w->err) < 0)
		base = base_file;
	if (qcow2_open(co, top_file, &options, &top, &w->err) == 0 && base != base_file) {
		top->backing = base;
		return top;
	}
	(void)!node_close(co, top ? top : top_file);
	(void)!node_close(co, base);
	return NULL;
}

static void put(struct co *co, struct node *n, uint64_t off, uint64_t len, int byte)
{
	char data[3 * CLUSTER];

	memset(data, byte, sizeof(data));
	must(node_write(co, n, off, IOV_BUF(data, len), 0));
}

/* The base has data everywhere; the overlay some over it, zeros, and some behind its end. */
static void setup(struct co *co, struct world *w)
{
	struct content none = {0};
	struct node *n;

	content_replace(&w->base.now, &none);
	content_replace(&w->top.now, &none);
	make(co, w, &w->base, BASE_BYTES, NULL);
	make(co, w, &w->top, TOP_BYTES, "base");
	n = chain_open(co, w);
	assert(n);
	for (uint64_t at = 0; at < BASE_BYTES; at += 2 * CLUSTER)
		put(co, n->backing, at, 2 * CLUSTER, 1);
	must(qcow2_bitmap_add(co, n, "kept", 0, true, &w->err));
	put(co, n, 3 * CLUSTER, 2 * CLUSTER, 2);
	put(co, n, 9 * CLUSTER + 512, 1024, 3);
	must(node_zero(co, n, 20 * CLUSTER, 3 * CLUSTER, NODE_MAY_UNMAP));
	put(co, n, 44 * CLUSTER, CLUSTER, 4);
	must(node_close(co, n));
}

static uint8_t expected(uint64_t at)
{
	if (at >= 3 * CLUSTER && at < 5 * CLUSTER)
		return 2;
	if (at >= 9 * CLUSTER + 512 && at < 9 * CLUSTER + 1536)
		return 3;
	if (at >= 20 * CLUSTER && at < 23 * CLUSTER)
		return 0;
	if (at >= 44 * CLUSTER && at < 45 * CLUSTER)
		return 4;
	return at < BASE_BYTES;
}

static bool reads_right(struct co *co, struct node *n)
{
	uint8_t data[CLUSTER];

	for (uint64_t at = 0; at < TOP_BYTES; at += CLUSTER) {
		if (node_read(co, n, at, IOV_BUF(data, CLUSTER)) < 0)
			return false;
		for (unsigned i = 0; i < CLUSTER; i++) {
			if (data[i] != expected(at + i))
				return false;
		}
	}
	return true;
}

static bool is_sound(struct co *co, struct world *w, struct file *f)
{
	struct node *file = file_open(co, w, f);
	struct qcow2_check found = {0};
	int ret = qcow2_check_run(co, file, NULL, NULL, &found, &w->err);

	(void)!node_close(co, file);
	return ret == 0 && found.corruptions == 0;
}

/* Nothing of it is left in the overlay, and its bitmap is. */
static bool is_emptied(struct co *co, struct world *w, struct node *n)
{
	struct qcow2_bitmap_status *all = NULL;
	struct node_status is;
	unsigned count = 0;
	bool empty;

	must(node_status(co, n, 0, TOP_BYTES, false, &is));
	must(qcow2_bitmap_list(co, n, &all, &count, &w->err));
	empty = is.len == TOP_BYTES && !is.allocated && count == 1 && all[0].usable && all[0].dirty_bytes > 0;
	free(all);
	return empty;
}

static bool judge(struct co *co, struct world *w, bool finished)
{
	struct node *n;
	bool right;

	w->power = (struct power){0};
	if (!is_sound(co, w, &w->top) || !is_sound(co, w, &w->base))
		return false;
	n = chain_open(co, w);
	right = n && reads_right(co, n) && (!finished || is_emptied(co, w, n));
	if (n)
		(void)!node_close(co, n);
	return right;
}

/* One commit, cut at a request; 0: not at all. Returns how many requests there were. */
static unsigned commit_once(struct co *co, struct world *w, unsigned cut_at, bool *right)
{
	struct commit_how how = {.requests = 3};
	unsigned requests;
	int ret;

	setup(co, w);
	how.top = chain_open(co, w);
	assert(how.top);
	how.base = how.top->backing;
	w->power = (struct power){.cut_at = cut_at};
	ret = commit_run(co, &how, &w->err);
	requests = w->power.requests;
	(void)!node_close(co, how.top);
	if (cut_at)
		content_replace(&w->base.now, &w->base.durable);
	*right = judge(co, w, !cut_at) && (cut_at || ret == 0);
	return requests;
}

static void body(struct co *co, void *arg)
{
	struct world *w = arg;
	bool right;
	unsigned requests;

	w->wrong = 0;
	requests = commit_once(co, w, 0, &right);
	w->wrong += !right;
	for (w->cuts = 1; w->cuts <= requests; w->cuts++) {
		(void)commit_once(co, w, w->cuts, &right);
		w->wrong += !right;
	}
}

static unsigned wrong_with(int mutant)
{
	struct world w = {.cuts = 0};
	struct err err = {0};
	struct io *io;

	mutant_selected = mutant;
	must(io_new(&io, IO_THREADS, NULL, &err));
	must(co_main(io_sched(io), "commit", body, &w));
	io_free(io);
	free(w.top.now.data);
	free(w.top.durable.data);
	free(w.base.now.data);
	free(w.base.durable.data);
	printf("mutant %d: %u of %u wrong\n", mutant, w.wrong, w.cuts);
	return w.wrong;
}

int main(void)
{
	static const int mutants[] = {115, 116};

	if (wrong_with(0) != 0)
		return 1;
	for (unsigned i = 0; i < ARRAY_ENTRIES(mutants); i++) {
		if (wrong_with(mutants[i]) == 0)
			return 1;
	}
	return 0;
}
