/* SPDX-License-Identifier: MIT */
/*
 * Writing a cluster compressed. The node layer holds its range lock throughout.
 *
 *     a private copy of the data, which may change in its owner's memory meanwhile, is compressed on a helper thread
 *     space, with a reference to each host cluster, in memory (pack.c)
 *     the compressed data, to the file
 *     the entry, in memory; what it replaces goes into quarantine
 *
 * The commit writes refcounts and entry in the right order (commit.c). COPIED is never set: such a cluster isn't written in
 * place. Data that takes a cluster's space even so isn't stored here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/compress.h"
#include "qcow2/engine.h"

struct work { /* of a helper thread */
	struct qcow2_codec *codec;
	const char *from;
	char *to;
	size_t cluster, room;
	ssize_t bytes;
};

static void compress(void *arg)
{
	struct work *w = arg;

	w->bytes = qcow2_codec_encode(w->codec, w->from, w->cluster, w->to, w->room);
}

static int link_compressed(struct co *co, struct qcow2 *q, uint64_t guest, uint64_t host, uint64_t bytes)
{
	struct qcow2_slice *s;
	uint32_t index;
	int rc = qcow2_l2_get_writable(co, q, guest, &s, &index);

	if (rc)
		return rc;
	if (!qcow2_l2_entry_valid(q, qcow2_l2_entry(q, s, index)))
		return qcow2_corrupt(co, q, "an entry of an L2 table, or the place of one, is what it can't be");
	rc = qcow2_free_prepare(q, 1);
	if (rc)
		return rc;
	qcow2_entry_free(q, qcow2_l2_entry(q, s, index).descriptor);
	qcow2_l2_set(q, s, index, (struct qcow2_entry){.descriptor = qcow2_compressed_descriptor(q, host, bytes)});
	return 0;
}

/* data: bytes of it, and room behind them up to the next unit. */
static int store(struct co *co, struct qcow2 *q, uint64_t guest, char *data, uint64_t bytes, bool *stored)
{
	uint64_t space = align_up(bytes, qcow2_pack_unit(q)), host;
	int rc = qcow2_pack(co, q, space, &host);

	if (rc)
		return rc;
	*stored = host + space <= qcow2_compressed_end(q);
	memset(data + bytes, 0, space - bytes);
	node_event(co, q->node.file, NODE_EVENT_WRITE_COMPRESSED);
	if (*stored)
		rc = qcow2_guard_write(co, q, host, space);
	if (*stored && !rc)
		rc = node_write(co, q->node.file, host, IOV_BUF(data, space), 0);
	if (*stored && !rc)
		rc = link_compressed(co, q, guest, host, bytes);
	if (!*stored || rc)
		qcow2_pack_cancel(co, q, host, space);
	return rc;
}

static int compress_cluster(struct co *co, struct qcow2 *q, uint64_t guest, struct iov from, bool *stored)
{
	uint32_t cluster = q->cluster_bytes;
	AUTO_FREE char *memory = node_alloc(2 * (uint64_t)cluster);
	struct work w = {
		.from = memory, .to = memory + cluster, .cluster = cluster, .room = cluster - qcow2_pack_unit(q)};

	if (!memory)
		return -ENOMEM;
	if (w.room == 0)
		return 0;
	iov_copy_out(from, memory, from.len);
	memset(memory + from.len, 0, cluster - from.len);
	w.codec = qcow2_codec_get(q);
	co_offload(co, compress, &w);
	qcow2_codec_put(q, w.codec);
	if (w.bytes <= 0)
		return (int)w.bytes;
	return store(co, q, guest, w.to, (uint64_t)w.bytes, stored);
}

int qcow2_compress(struct co *co, struct node *n, struct guest at, struct iov from, bool *stored)
{
	struct qcow2 *q = qcow2_of(n);
	int rc;

	*stored = false;
	if (n->data != n->file || q->header.crypt_method)
		return -ENOTSUP;
	co_sem_acquire(co, &q->encoders, 1);
	rc = compress_cluster(co, q, at.off, from, stored);
	co_sem_release(&q->encoders, 1);
	return rc;
}
