/* SPDX-License-Identifier: MIT */
/* From descriptors to a request: see chain.h. */
#include "export/vhost_user/chain.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>

#include "export/vhost_user/shared.h"

struct mapping { /* a chain on its way to be mapped */
	const struct vu_memory *memory;
	struct vu_buffers *to;
	unsigned n, n_out; /* pieces, and how many of them are read */
	uint64_t bytes;
	bool writes; /* one that is written has come */
};

static int add(struct mapping *c, uint64_t addr, uint32_t len, uint16_t flags, struct err *err)
{
	bool writes = flags & VRING_DESC_F_WRITE;

	if (len == 0)
		return err_set(err, -EPROTO, "a descriptor of no bytes");
	if (c->writes && !writes)
		return err_set(err, -EPROTO, "a descriptor to be read follows one to be written");
	c->bytes += len;
	if (c->bytes > VU_CHAIN_BYTES)
		return err_set(err, -EPROTO, "a chain of more than %" PRIu64 " bytes", VU_CHAIN_BYTES);
	if (!vu_memory_pieces(c->memory, addr, len, c->to->piece, VU_PIECES, &c->n))
		return err_set(err, -EPROTO, "%" PRIu32 " bytes at %#" PRIx64 " aren't in the guest's memory%s", len,
			addr, c->n == VU_PIECES ? ", or lie in too many regions" : "");
	c->writes = writes;
	if (!writes)
		c->n_out = c->n;
	return 0;
}

/* A split ring's table is a list from its first entry on; a packed one's has them in order. */
static int add_table(struct mapping *c, const struct vring_desc *table, unsigned entries, bool packed, struct err *err)
{
	unsigned at = 0;
	int r = 0;

	for (unsigned n = 0; r == 0; n++) {
		const struct vring_desc *d = &table[at];
		/* In a packed table the flags are where a split one has `next`. */
		uint16_t flags = packed ? le16toh(d->next) : le16toh(d->flags);

		if (flags & VRING_DESC_F_INDIRECT)
			return err_set(err, -EPROTO, "an indirect descriptor in an indirect table");
		r = add(c, le64toh(d->addr), le32toh(d->len), flags, err);
		if (packed ? n + 1 == entries : !(flags & VRING_DESC_F_NEXT))
			return r;
		at = packed ? n + 1 : le16toh(d->next);
		if (at >= entries || n + 1 == entries)
			return err_set(
				err, -EPROTO, "an indirect table of %u is left at %u, or is a loop", entries, at);
	}
	return r;
}

static int add_indirect(struct mapping *c, const struct vu_desc *d, const struct vu_terms *terms,
	struct vring_desc *table, struct err *err)
{
	unsigned entries = d->len / sizeof(*table);

	if (!terms->indirect || d->flags & VRING_DESC_F_NEXT)
		return err_set(err, -EPROTO, "an indirect descriptor %s",
			terms->indirect ? "that isn't the last" : "though none were agreed on");
	if (entries == 0 || entries > VU_CHAIN_MAX || d->len % sizeof(*table) != 0)
		return err_set(err, -EPROTO, "an indirect table of %" PRIu32 " bytes, of at most %zu", d->len,
			VU_CHAIN_MAX * sizeof(*table));
	if (!vu_memory_read(c->memory, d->addr, table, d->len))
		return err_set(err, -EPROTO, "an indirect table at %#" PRIx64 ", not in the guest's memory", d->addr);
	return add_table(c, table, entries, terms->packed, err);
}

int vu_chain_map(const struct vu_memory *m, const struct vu_terms *terms, struct vu_scratch *s, unsigned n,
	struct vu_buffers *out, struct err *err)
{
	struct mapping c = {.memory = m, .to = out};
	int r = 0;

	for (unsigned i = 0; i < n && r == 0; i++) {
		const struct vu_desc *d = &s->desc[i];

		r = d->flags & VRING_DESC_F_INDIRECT ? add_indirect(&c, d, terms, s->table, err)
						     : add(&c, d->addr, d->len, d->flags, err);
	}
	out->out = iov_of(out->piece, c.n_out);
	out->in = iov_of(out->piece + c.n_out, c.n - c.n_out);
	return r;
}

/* "The device MUST NOT make assumptions about the particular arrangement of descriptors": a header is what the first 16
 * bytes are, and the status is the last byte, wherever one descriptor ends and the next begins. */
int vu_blk_parse(const struct vu_buffers *b, struct vu_blk *out, struct err *err)
{
	struct virtio_blk_outhdr header;
	const struct iovec *last;

	if (b->out.len < sizeof(header) || b->in.len < 1)
		return err_set(
			err, -EPROTO, "a request of %zu bytes to be read and %zu to be written", b->out.len, b->in.len);
	iov_copy_out(b->out, &header, sizeof(header));
	shared_settle();
	last = &b->in.v[b->in.n - 1];
	*out = (struct vu_blk){
		.type = le32toh(header.type),
		.sector = le64toh(header.sector),
		.out = iov_slice(b->out, sizeof(header), b->out.len - sizeof(header)),
		.in = iov_slice(b->in, 0, b->in.len - 1),
		.status = (uint8_t *)last->iov_base + last->iov_len - 1,
	};
	return 0;
}
