/* SPDX-License-Identifier: MIT */
/* Reading for the check: what lies past the end of the file is zeros, and many clusters are read at once. */
#include "qcow2/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FETCH_BYTES (UINT64_C(2) << 20)

int qcow2_check_read(struct co *co, struct qcow2_checker *c, uint64_t off, void *to, size_t len)
{
	size_t inside = off < c->file->size ? MIN(c->file->size - off, (uint64_t)len) : 0;

	memset((char *)to + inside, 0, len - inside);
	return inside ? node_read(co, c->file, off, IOV_BUF(to, inside)) : 0;
}

int qcow2_fetch_init(struct qcow2_fetch *f, struct qcow2_checker *c, uint64_t most)
{
	f->c = c;
	f->n = 0;
	f->room = (unsigned)MIN(FETCH_BYTES / c->cluster_bytes, MIN(most, (uint64_t)QCOW2_PIECES));
	f->room = MAX(f->room, 1U);
	f->memory = node_alloc(f->room * c->cluster_bytes);
	return f->memory ? 0 : -ENOMEM;
}

void qcow2_fetch_fini(struct qcow2_fetch *f) { free(f->memory); }

void qcow2_fetch_add(struct qcow2_fetch *f, uint64_t host, uint64_t index, uint64_t entry)
{
	f->v[f->n] = (struct qcow2_piece){
		.host = host, .index = index, .entry = entry, .bytes = f->memory + f->n * f->c->cluster_bytes};
	f->n++;
}

/* A read of many that fails is done again one by one: the others are good. */
static void run_read(struct co *co, void *arg)
{
	struct fetch_run *run = arg;
	struct qcow2_checker *c = run->fetch->c;
	struct qcow2_piece *v = &run->fetch->v[run->first];
	int rc = qcow2_check_read(co, c, v->host, v->bytes, run->n * c->cluster_bytes);

	for (unsigned i = 0; i < run->n; i++) {
		v[i].result = rc;
		if (rc && run->n > 1)
			v[i].result = qcow2_check_read(co, c, v[i].host, v[i].bytes, c->cluster_bytes);
	}
}

static unsigned adjoining(const struct qcow2_fetch *f, unsigned first)
{
	unsigned n = 1;

	while (first + n < f->n && f->v[first + n].host == f->v[first].host + n * f->c->cluster_bytes)
		n++;
	return n;
}

void qcow2_fetch_start(struct co *co, struct qcow2_fetch *f)
{
	unsigned runs = 0;

	co_group_init(&f->group, co_sched_of(co));
	for (unsigned first = 0; first < f->n; first += f->runs[runs++].n) {
		f->runs[runs] = (struct fetch_run){.fetch = f, .first = first, .n = adjoining(f, first)};
		if (co_group_spawn(&f->group, "check-read", run_read, &f->runs[runs]) < 0)
			run_read(co, &f->runs[runs]);
	}
	co_yield(co);
}

void qcow2_fetch_wait(struct co *co, struct qcow2_fetch *f) { co_group_wait(co, &f->group); }
