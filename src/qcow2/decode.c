/* SPDX-License-Identifier: MIT */
/*
 * Reading compressed clusters. A few of them are kept decompressed, by where they lie compressed: a guest reads a cluster in
 * several requests. Those who want the same cluster at the same time wait for the one who reads it.
 *
 *     slot    nothing -> busy: read from the file, decompressed on a helper thread -> there, until its turn to make room
 *
 * What lies at a place in the file changes when its host cluster has been free: the last reference is taken when all who
 * could read what was there have ended (reclaim.c), so nobody can put the old content here afterwards; at that moment it is
 * forgotten. That a range loses its entry before is no reason to forget it: nobody will ask for it.
 *
 * Slots hold the memory for the work, so that it is bounded, and whoever has one waits for nobody else.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/compress.h"
#include "qcow2/crypt.h"
#include "qcow2/engine.h"

/* ---- codecs ---- */

/* There are as many as may be in use at a time; the one that was used last is taken first, since its memory is warm. */
struct qcow2_codec *qcow2_codec_get(struct qcow2 *q)
{
	struct qcow2_codecs *c = &q->codecs;

	for (unsigned i = 0; i < QCOW2_CODECS; i++) {
		if (!c->busy[i]) {
			c->busy[i] = true;
			c->v[i].type = q->header.compression_type;
			return &c->v[i];
		}
	}
	assert(!"more codecs in use than there are encoders and decoders");
	return NULL;
}

void qcow2_codec_put(struct qcow2 *q, struct qcow2_codec *codec) { q->codecs.busy[codec - q->codecs.v] = false; }

void qcow2_codecs_fini(struct qcow2 *q)
{
	for (unsigned i = 0; i < QCOW2_CODECS; i++)
		qcow2_codec_fini(&q->codecs.v[i]);
}

/* ---- what was decompressed ---- */

void qcow2_decoder_init(struct qcow2 *q)
{
	struct qcow2_decoder *d = &q->decoder;
	uint64_t n = QCOW2_DECODED_BYTES / q->cluster_bytes;

	d->n = (unsigned)MIN(MAX(n, UINT64_C(1) * QCOW2_LEAST_DECODED), UINT64_C(1) * QCOW2_DECODED);
	for (unsigned i = 0; i < d->n; i++)
		co_queue_init(&d->slots[i].done);
	co_sem_init(&d->idle, d->n);
}

void qcow2_decoder_fini(struct qcow2 *q)
{
	for (unsigned i = 0; i < q->decoder.n; i++)
		free(q->decoder.slots[i].memory);
}

void qcow2_decoder_forget(struct qcow2 *q, uint64_t cluster)
{
	for (unsigned i = 0; i < q->decoder.n; i++) {
		struct qcow2_decoded *s = &q->decoder.slots[i];

		if (!MUTANT(68) && ranges_overlap(s->host, s->bytes, cluster << q->cluster_bits, q->cluster_bytes))
			s->bytes = 0;
	}
}

static struct qcow2_decoded *find(struct qcow2_decoder *d, uint64_t host, uint64_t bytes)
{
	for (unsigned i = 0; i < d->n; i++)
		if (d->slots[i].host == host && d->slots[i].bytes == bytes)
			return &d->slots[i];
	return NULL;
}

/* The one that nobody has wanted for the longest time. The caller has a unit of d->idle. */
static struct qcow2_decoded *oldest(struct qcow2_decoder *d)
{
	struct qcow2_decoded *best = NULL;

	for (unsigned i = 0; i < d->n; i++) {
		struct qcow2_decoded *s = &d->slots[i];

		if (!s->busy && (!best || s->used < best->used))
			best = s;
	}
	assert(best);
	return best;
}

/* ---- filling a slot ---- */

struct work { /* of a helper thread */
	struct qcow2_codec *codec;
	const char *from;
	size_t len, cluster;
	void *to;
	int rc;
};

static void decompress(void *arg)
{
	struct work *w = arg;

	w->rc = qcow2_codec_decode(w->codec, w->from, w->len, w->to, w->cluster);
}

/* From a whole sector on, which storage can give directly. What is cut off at the end of the file reads zeros. */
static int read_encoded(struct co *co, struct qcow2 *q, uint64_t from, uint64_t end, char *to)
{
	uint64_t there = MIN(end, MAX(q->node.file->size, from)) - from;

	memset(to + there, 0, end - from - there);
	node_event(co, q->node.file, NODE_EVENT_READ_COMPRESSED);
	return there ? node_read(co, q->node.file, from, IOV_BUF(to, there)) : -EIO;
}

/* A descriptor has room for two clusters' length of sectors at most. */
static int fill(struct co *co, struct qcow2 *q, struct qcow2_decoded *s)
{
	uint64_t from = align_down(s->host, QCOW2_SECTOR), end = s->host + s->bytes;
	char *encoded;
	struct work w;
	int rc;

	assert(end - from <= 2 * (uint64_t)q->cluster_bytes);
	if (!s->memory)
		s->memory = node_alloc(3 * (uint64_t)q->cluster_bytes);
	if (!s->memory)
		return -ENOMEM;
	encoded = (char *)s->memory + q->cluster_bytes;
	w = (struct work){
		.from = encoded + (s->host - from), .len = s->bytes, .to = s->memory, .cluster = q->cluster_bytes};
	rc = read_encoded(co, q, from, end, encoded);
	if (rc)
		return rc;
	w.codec = qcow2_codec_get(q);
	co_offload(co, decompress, &w);
	qcow2_codec_put(q, w.codec);
	return w.rc;
}

/* Decompresses what `what` names, and gives of it what is asked. Somebody else may be at it already: *again. */
static int fill_and_copy(
	struct co *co, struct qcow2 *q, const struct node_extent *what, struct iov to, uint64_t skip, bool *again)
{
	struct qcow2_decoder *d = &q->decoder;
	struct qcow2_decoded *s;
	int rc = 0;

	co_sem_acquire(co, &d->idle, 1);
	*again = find(d, what->host.off, what->encoded_bytes) != NULL;
	if (!*again) {
		s = oldest(d);
		s->host = what->host.off;
		s->bytes = what->encoded_bytes;
		s->busy = true;
		rc = fill(co, q, s);
		if (rc)
			s->bytes = 0;
		else
			iov_copy_in(to, (char *)s->memory + skip, to.len);
		s->busy = false;
		s->used = ++d->wanted;
		co_queue_wake_all(&s->done);
	}
	co_sem_release(&d->idle, 1);
	return rc;
}

int qcow2_decode(struct co *co, struct node *n, const struct node_extent *what, struct guest at, struct iov to)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t skip = at.off & (q->cluster_bytes - 1);
	bool again = true;
	int rc = 0;

	if (!what->compressed)
		return qcow2_aes_read(co, q, what->host.off, at.off, to);
	while (!rc && again) {
		struct qcow2_decoded *s = find(&q->decoder, what->host.off, what->encoded_bytes);

		if (s && s->busy) {
			co_queue_wait(co, &s->done);
		} else if (s) {
			s->used = ++q->decoder.wanted;
			iov_copy_in(to, (char *)s->memory + skip, to.len);
			return 0;
		} else {
			rc = fill_and_copy(co, q, what, to, skip, &again);
		}
	}
	return rc;
}
