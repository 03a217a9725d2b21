/* SPDX-License-Identifier: MIT */
/* What each request does to the node (virtio 1.2, section 5.2.6). Its memory is the guest's, which goes on changing it. */
#include "export/vhost_user/device.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>

#include "base/math.h"
#include "export/vhost_user/shared.h"

/* Without FLUSH the guest has no way to make a write durable but the write itself. */
static bool is_durable(const struct vu_session *s)
{
	return s->server->disk->writethrough || !s->writeback || !(s->features & VU_F(VIRTIO_BLK_F_FLUSH));
}

static uint8_t status_of(const struct vu_job *job, const char *what, int r)
{
	if (r == 0)
		return VIRTIO_BLK_S_OK;
	vu_say(job->session->server, "a request to %s at sector %llu fails: %s", what,
		(unsigned long long)job->blk.sector, strerror(-r));
	return VIRTIO_BLK_S_IOERR;
}

/*
 * Where a successor can go on from a record, the guest won't notice that we were killed: what it was told is written must
 * be there then, though it never asked for it to be durable.
 */
static unsigned flags_of(const struct vu_job *job)
{
	return (is_durable(job->session) ? NODE_FUA : 0) | (job->queue->inflight.area ? NODE_LASTING : 0);
}

/* Where on the disk; false: a request that no disk could have. */
static bool is_inside(const struct node *n, uint64_t sector, uint64_t bytes, uint64_t *off)
{
	uint64_t end;

	return !mul_overflows(sector, VU_SECTOR, off) && !add_overflows(*off, bytes, &end) && end <= n->size &&
		is_aligned(bytes, VU_SECTOR);
}

/* ---- data ---- */

static uint8_t run_read(struct co *co, struct vu_job *job, uint32_t *written)
{
	struct node *n = job->session->server->disk->node;
	struct iov to = job->blk.in;
	uint64_t off;

	if (!is_inside(n, job->blk.sector, to.len, &off))
		return VIRTIO_BLK_S_IOERR;
	*written = (uint32_t)to.len;
	return status_of(job, "read", to.len > 0 ? node_read(co, n, off, to) : 0);
}

static uint8_t run_write(struct co *co, struct vu_job *job, uint32_t *written)
{
	const struct vu_session *s = job->session;
	struct iov from = job->blk.out;
	uint64_t off;

	(void)written;
	if (!export_disk_writable(s->server->disk) ||
		!is_inside(s->server->disk->node, job->blk.sector, from.len, &off))
		return VIRTIO_BLK_S_IOERR;
	return status_of(
		job, "write", from.len > 0 ? node_write(co, s->server->disk->node, off, from, flags_of(job)) : 0);
}

static uint8_t run_flush(struct co *co, struct vu_job *job, uint32_t *written)
{
	(void)written;
	return status_of(job, "flush", node_flush(co, job->session->server->disk->node));
}

static uint8_t run_get_id(struct co *co, struct vu_job *job, uint32_t *written)
{
	char id[VIRTIO_BLK_ID_BYTES] = {0};
	const char *serial = job->session->server->serial;

	(void)co;
	memcpy(id, serial, MIN(strlen(serial), sizeof(id)));
	*written = (uint32_t)iov_copy_in(job->blk.in, id, sizeof(id));
	return VIRTIO_BLK_S_OK;
}

/* ---- ranges ---- */

struct range {
	uint64_t off, len;
	bool unmap;
};

/* All of them are looked at before the first is worked on. */
static uint8_t ranges_get(const struct vu_job *job, struct range *range, unsigned *n)
{
	struct virtio_blk_discard_write_zeroes raw[VU_RANGES];
	struct iov from = job->blk.out;
	uint32_t allowed = job->blk.type == VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;

	if (from.len == 0 || from.len > sizeof(raw) || from.len % sizeof(raw[0]) != 0)
		return VIRTIO_BLK_S_IOERR;
	iov_copy_out(from, raw, from.len);
	shared_settle();
	*n = (unsigned)(from.len / sizeof(raw[0]));
	for (unsigned i = 0; i < *n; i++) {
		uint32_t sectors = le32toh(raw[i].num_sectors), flags = le32toh(raw[i].flags);

		if (flags & ~allowed)
			return VIRTIO_BLK_S_UNSUPP;
		range[i] = (struct range){.len = (uint64_t)sectors * VU_SECTOR, .unmap = flags};
		if (sectors > VU_RANGE_SECTORS ||
			!is_inside(
				job->session->server->disk->node, le64toh(raw[i].sector), range[i].len, &range[i].off))
			return VIRTIO_BLK_S_IOERR;
	}
	return VIRTIO_BLK_S_OK;
}

/* A discard is a hint: where the node can't take it, it is done. */
static int discard(struct co *co, const struct vu_job *job, const struct range *range)
{
	const struct export_disk *disk = job->session->server->disk;
	struct node *n = disk->node;
	int r = disk->no_discard || range->len == 0 ? 0 : node_discard(co, n, range->off, range->len);

	if (r == -EOPNOTSUPP)
		return 0;
	return r == 0 && flags_of(job) != 0 ? node_flush(co, n) : r;
}

static int zero(struct co *co, const struct vu_job *job, const struct range *range)
{
	const struct export_disk *disk = job->session->server->disk;
	unsigned flags = flags_of(job) | (range->unmap && !disk->no_discard ? NODE_MAY_UNMAP : 0);

	return range->len > 0 ? node_zero(co, disk->node, range->off, range->len, flags) : 0;
}

static uint8_t run_ranges(struct co *co, struct vu_job *job, uint32_t *written)
{
	bool zeroes = job->blk.type == VIRTIO_BLK_T_WRITE_ZEROES;
	struct range range[VU_RANGES];
	unsigned n;
	uint8_t status =
		!export_disk_writable(job->session->server->disk) ? VIRTIO_BLK_S_IOERR : ranges_get(job, range, &n);
	int r = 0;

	(void)written;
	if (status != VIRTIO_BLK_S_OK)
		return status;
	for (unsigned i = 0; i < n && r == 0; i++)
		r = zeroes ? zero(co, job, &range[i]) : discard(co, job, &range[i]);
	return status_of(job, zeroes ? "write zeroes" : "discard", r);
}

static uint8_t (*const run[])(struct co *co, struct vu_job *job, uint32_t *written) = {
	[VIRTIO_BLK_T_IN] = run_read,
	[VIRTIO_BLK_T_OUT] = run_write,
	[VIRTIO_BLK_T_FLUSH] = run_flush,
	[VIRTIO_BLK_T_GET_ID] = run_get_id,
	[VIRTIO_BLK_T_DISCARD] = run_ranges,
	[VIRTIO_BLK_T_WRITE_ZEROES] = run_ranges,
};

uint8_t vu_request_run(struct co *co, struct vu_job *job, uint32_t *written)
{
	if (job->blk.type >= ARRAY_ENTRIES(run) || !run[job->blk.type])
		return VIRTIO_BLK_S_UNSUPP;
	return run[job->blk.type](co, job, written);
}
