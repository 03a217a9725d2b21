/* SPDX-License-Identifier: MIT */
/*
 * Reading an image in order: see stream.h. What is known of the rest of the file waits in a heap, the lowest place first:
 *
 *   L1 table      its place is in the header; its entries add the L2 tables
 *   L2 table      its entries add what they point to
 *   data          is given out, neighbours in file and disk together
 *
 * What is found to lie where the input has already been is too late: the image can't be read from a pipe. Compressed ranges
 * may share a sector, so the last bytes that were read are kept. All numbers are the input's: each is checked.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/math.h"
#include "qcow2/compress.h"
#include "qcow2/stream.h"

#define SECTOR 512u
#define TAIL 4096u                        /* what has been read last, at least a sector */
#define MOST_ITEMS (UINT64_C(1) << 20)    /* that wait: 24 MiB */
#define DISCARD_BYTES (UINT64_C(1) << 16) /* at a time, of what nobody wants */
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define COMPRESSED (UINT64_C(1) << 62)
#define ZERO UINT64_C(1)

enum kind { L1, L2, PLAIN, PACKED };

struct item {
	uint64_t host;
	uint64_t guest : 62; /* L2: the first address that it maps */
	uint64_t kind : 2;
	uint64_t bytes; /* of the file */
};

struct qcow2_source {
	qcow2_source_read *read;
	void *arg;
	struct qcow2_header header;
	uint32_t cluster;
	uint64_t at;     /* how far the input has been read */
	char tail[TAIL]; /* of it */
	size_t tail_len;
	struct item *heap;
	uint64_t items, room;
};

uint64_t qcow2_source_size(const struct qcow2_source *s) { return s->header.size; }
uint64_t qcow2_source_cluster(const struct qcow2_source *s) { return s->cluster; }

/* ---- the heap ---- */

static bool before(const struct item *a, const struct item *b) { return a->host < b->host; }

static int heap_room(struct qcow2_source *s)
{
	uint64_t room = MAX(s->room * 2, UINT64_C(1024));
	struct item *heap;

	if (s->items < s->room)
		return 0;
	if (room > MOST_ITEMS)
		return -E2BIG;
	heap = realloc(s->heap, room * sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	s->heap = heap;
	s->room = room;
	return 0;
}

static int heap_add(struct qcow2_source *s, struct item item)
{
	int ret = heap_room(s);
	uint64_t i;

	if (ret < 0)
		return ret;
	for (i = s->items++; i > 0 && before(&item, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = item;
	return 0;
}

static struct item heap_take(struct qcow2_source *s)
{
	struct item first = s->heap[0], last = s->heap[--s->items];
	uint64_t i = 0, child;

	while ((child = 2 * i + 1) < s->items) {
		if (child + 1 < s->items && before(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (!before(&s->heap[child], &last))
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = last;
	return first;
}

/* ---- the input ---- */

static void tail_keep(struct qcow2_source *s, const char *data, size_t len)
{
	size_t keep = len >= TAIL ? 0 : MIN(s->tail_len, TAIL - len);

	memmove(s->tail, s->tail + s->tail_len - keep, keep);
	len = MIN(len, (size_t)TAIL);
	memcpy(s->tail + keep, data, len);
	s->tail_len = keep + len;
}

/* The next bytes. *got: fewer where the input ends. */
static int input(struct co *co, struct qcow2_source *s, char *to, size_t len, size_t *got)
{
	ssize_t n = s->read(co, s->arg, to, len);

	if (n < 0)
		return (int)n;
	*got = (size_t)n;
	s->at += *got;
	tail_keep(s, to + (*got > TAIL ? *got - TAIL : 0), MIN(*got, (size_t)TAIL));
	return 0;
}

static int skip(struct co *co, struct qcow2_source *s, uint64_t to)
{
	AUTO_FREE char *waste = malloc(DISCARD_BYTES);
	size_t got = 1;
	int ret = waste ? 0 : -ENOMEM;

	while (ret == 0 && s->at < to && got > 0)
		ret = input(co, s, waste, MIN(to - s->at, DISCARD_BYTES), &got);
	return ret;
}

/* [host, host + len): what of it was read last, and what comes. *got: less where the input ends. */
static int fetch(struct co *co, struct qcow2_source *s, uint64_t host, char *to, size_t len, size_t *got)
{
	size_t back = host < s->at ? MIN(s->at - host, (uint64_t)len) : 0, more = 0;
	int ret = 0;

	if (host + s->tail_len < s->at)
		return -ESPIPE;
	if (back > 0)
		memcpy(to, s->tail + s->tail_len - (s->at - host), back);
	if (host > s->at)
		ret = skip(co, s, host);
	if (ret == 0 && back < len)
		ret = input(co, s, to + back, len - back, &more);
	*got = back + more;
	return ret;
}

/* ---- tables ---- */

static int l1_read(struct co *co, struct qcow2_source *s, const struct item *it)
{
	AUTO_FREE be64 *entry = malloc(it->bytes);
	size_t got;
	int ret = entry ? fetch(co, s, it->host, (char *)entry, it->bytes, &got) : -ENOMEM;

	if (ret == 0 && got < it->bytes)
		return -EIO;
	for (uint64_t i = 0; ret == 0 && i < it->bytes / 8; i++) {
		uint64_t host = be64_get(entry[i]) & OFFSET_MASK;
		uint64_t guest = i * s->cluster * (s->cluster / 8);

		if (host && guest < s->header.size)
			ret = is_aligned(host, s->cluster) ? heap_add(s, (struct item){host, guest, L2, s->cluster})
							   : -EINVAL;
	}
	return ret;
}

static struct item packed_item(const struct qcow2_source *s, uint64_t guest, uint64_t entry)
{
	unsigned bits = 62 - (s->header.cluster_bits - 8);
	uint64_t host = entry & ((UINT64_C(1) << bits) - 1);
	uint64_t sectors = ((entry & (COMPRESSED - 1)) >> bits) + 1;

	return (struct item){host, guest, PACKED, align_down(host, SECTOR) + sectors * SECTOR - host};
}

static int entry_add(struct qcow2_source *s, uint64_t guest, uint64_t entry)
{
	uint64_t host = entry & OFFSET_MASK;

	if (entry & COMPRESSED)
		return heap_add(s, packed_item(s, guest, entry));
	if (host == 0 || (entry & ZERO))
		return 0;
	if (!is_aligned(host, s->cluster))
		return -EINVAL;
	return heap_add(s, (struct item){host, guest, PLAIN, s->cluster});
}

static int l2_read(struct co *co, struct qcow2_source *s, const struct item *it)
{
	AUTO_FREE be64 *entry = malloc(it->bytes);
	size_t got;
	int ret = entry ? fetch(co, s, it->host, (char *)entry, it->bytes, &got) : -ENOMEM;

	if (ret == 0 && got < it->bytes)
		return -EIO;
	for (uint64_t i = 0; ret == 0 && i < s->cluster / 8; i++) {
		uint64_t guest = it->guest + i * s->cluster;

		if (guest < s->header.size)
			ret = entry_add(s, guest, be64_get(entry[i]));
	}
	return ret;
}

/* ---- data ---- */

/* Takes what follows in the file and on the disk alike, up to `most` bytes. */
static void widen(struct qcow2_source *s, struct item *it, uint64_t most)
{
	while (s->items > 0 && it->bytes + s->cluster <= most) {
		const struct item *next = &s->heap[0];

		if (next->kind != PLAIN || next->host != it->host + it->bytes || next->guest != it->guest + it->bytes)
			return;
		it->bytes += heap_take(s).bytes;
	}
}

static int plain_read(
	struct co *co, struct qcow2_source *s, struct item *it, uint64_t most, struct qcow2_source_piece *out)
{
	AUTO_FREE char *data = NULL;
	size_t got;
	int ret;

	widen(s, it, most);
	data = malloc(it->bytes);
	ret = data ? fetch(co, s, it->host, data, it->bytes, &got) : -ENOMEM;
	if (ret < 0)
		return ret;
	out->off = it->guest;
	out->len = MIN(it->bytes, s->header.size - it->guest);
	if (got < out->len)
		return -EIO;
	out->data = take(data);
	return 0;
}

/* The last sector of the file may be cut off, as it needn't be used up. */
static int packed_read(struct co *co, struct qcow2_source *s, const struct item *it, struct qcow2_source_piece *out)
{
	AUTO_FREE char *data = malloc(it->bytes);
	size_t got;
	int ret = data ? fetch(co, s, it->host, data, it->bytes, &got) : -ENOMEM;

	if (ret < 0)
		return ret;
	if (got + SECTOR <= it->bytes)
		return -EIO;
	out->off = it->guest;
	out->len = MIN((uint64_t)s->cluster, s->header.size - it->guest);
	out->encoded = true;
	out->codec = s->header.compression_type;
	out->data_bytes = got;
	out->data = take(data);
	return 0;
}

int qcow2_source_decode(struct qcow2_source_piece *piece, uint64_t cluster_bytes)
{
	AUTO_FREE char *to = malloc(cluster_bytes);
	struct qcow2_codec codec = {.type = piece->codec};
	int ret = to ? qcow2_codec_decode(&codec, piece->data, piece->data_bytes, to, cluster_bytes) : -ENOMEM;

	qcow2_codec_fini(&codec);
	if (ret < 0)
		return ret;
	free(piece->data);
	piece->data = take(to);
	piece->encoded = false;
	return 0;
}

static int explain(const struct qcow2_source *s, const struct item *it, int ret, struct err *err)
{
	static const char *const names[] = {
		[L1] = "the L1 table", [L2] = "an L2 table", [PLAIN] = "data", [PACKED] = "data"};

	switch (ret) {
	case -ESPIPE:
		return err_set(err, -ENOTSUP,
			"%s at byte %" PRIu64
			" lies before what points to it: this image can't be read from a pipe; give it as a file",
			names[it->kind], (uint64_t)it->host);
	case -E2BIG:
		return err_set(err, -ENOTSUP,
			"its tables lie too far before what they point to, to be read from a pipe; give it as a file");
	case -EINVAL: return err_set(err, ret, "the table at byte %" PRIu64 " is damaged", (uint64_t)it->host);
	case -EIO:
		return err_set(err, ret,
			"it ends at byte %" PRIu64 ", before its end: whoever wrote it has not finished", s->at);
	default: return err_set(err, ret, "%s", strerror(-ret));
	}
}

int qcow2_source_next(struct co *co, struct qcow2_source *s, uint64_t most, struct qcow2_source_piece *out, bool *more,
	struct err *err)
{
	int ret = 0;

	*out = (struct qcow2_source_piece){0};
	while (ret == 0 && !out->data && s->items > 0) {
		struct item it = heap_take(s);

		switch (it.kind) {
		case L1: ret = l1_read(co, s, &it); break;
		case L2: ret = l2_read(co, s, &it); break;
		case PLAIN: ret = plain_read(co, s, &it, most, out); break;
		case PACKED: ret = packed_read(co, s, &it, out); break;
		}
		if (ret < 0)
			return explain(s, &it, ret, err);
	}
	*more = out->data != NULL;
	if (!*more)
		ret = skip(co, s, UINT64_MAX);
	return ret < 0 ? err_set(err, ret, "%s", strerror(-ret)) : 0;
}

/* ---- the header ---- */

static int features_check(const struct qcow2_header *h, struct err *err)
{
	const char *what = NULL;

	if (h->backing_name[0])
		what = "stands on a backing file";
	else if (h->incompatible & QCOW2_INCOMPAT_DATA_FILE)
		what = "has an external data file";
	else if (h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2)
		what = "has extended L2 entries";
	else if (h->incompatible & QCOW2_INCOMPAT_CORRUPT)
		what = "is marked as corrupt";
	else if (h->crypt_method != QCOW2_CRYPT_NONE)
		what = "is encrypted";
	else if (!qcow2_codec_known(h->compression_type))
		what = "has a compression that isn't built in";
	return what ? err_set(err, -ENOTSUP, "the image %s: it can't be read from a pipe; give it as a file", what) : 0;
}

/* The rest of the first cluster, and what it says. */
static int header_read(struct co *co, struct qcow2_source *s, const void *start, size_t len, struct err *err)
{
	const struct qcow2_disk_header *disk = start;
	unsigned bits = len >= sizeof(*disk) ? be32_get(disk->cluster_bits) : 0;
	AUTO_FREE char *first = NULL;
	size_t got = 0;
	int ret;

	if (bits < QCOW2_MIN_CLUSTER_BITS || bits > QCOW2_MAX_CLUSTER_BITS)
		return err_set(err, -EINVAL, "the header is damaged");
	s->cluster = 1u << bits;
	first = calloc(1, s->cluster);
	if (!first)
		return err_set(err, -ENOMEM, "no memory");
	memcpy(first, start, len);
	s->at = len;
	ret = input(co, s, first + len, s->cluster - len, &got);
	if (ret < 0)
		return err_set(err, ret, "%s", strerror(-ret));
	ret = qcow2_header_check_features(QCOW2_INCOMPAT_KNOWN, first, s->cluster, err);
	if (ret == 0)
		ret = qcow2_header_parse(first, s->cluster, INT64_MAX, &s->header, err);
	return ret < 0 ? ret : features_check(&s->header, err);
}

int qcow2_source_new(struct co *co, const void *start, size_t len, qcow2_source_read *read, void *arg,
	struct qcow2_source **out, struct err *err)
{
	struct qcow2_source *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return err_set(err, -ENOMEM, "no memory");
	s->read = read;
	s->arg = arg;
	ret = header_read(co, s, start, len, err);
	if (ret == 0 && s->header.l1_entries)
		ret = heap_add(s, (struct item){s->header.l1.off, 0, L1, s->header.l1_entries * UINT64_C(8)});
	if (ret < 0) {
		qcow2_source_free(s);
		return ret;
	}
	*out = s;
	return 0;
}

void qcow2_source_free(struct qcow2_source *s)
{
	if (s)
		free(s->heap);
	free(s);
}
