/* SPDX-License-Identifier: MIT */
/*
 * The handshake: fixed newstyle negotiation ("Fixed newstyle negotiation", "Option types"). Each option is one entry
 * of a table; what it is given lies in the receive buffer and was read whole. An option that we don't know, that is
 * malformed or too large gets an error reply and the haggling goes on; only where no reply is possible the connection
 * ends.
 */
#include "export/nbd/conn.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/math.h"

enum { NEXT_OPTION, TRANSMISSION }; /* what a handler returns, or a negative errno: the end */

struct option {
	uint32_t type, len;
	const void *data; /* NULL: it was too large, and is skipped */
};

/* ---- replies ---- */

#define REPLY_PARTS 3

static struct nbd_string part_text(const char *text) { return (struct nbd_string){text, text ? strlen(text) : 0}; }
static struct nbd_string part_bytes(const void *bytes, size_t len) { return (struct nbd_string){bytes, len}; }

/* The data of the reply are the parts, one after the other. */
static int option_reply_parts(struct co *co, struct nbd_conn *c, const struct option *o, uint32_t type,
	const struct nbd_string *parts, unsigned n)
{
	struct nbd_option_reply_wire head = {
		.magic = be64_of(NBD_REP_MAGIC),
		.option = be32_of(o->type),
		.type = be32_of(type),
	};
	struct iovec v[1 + REPLY_PARTS] = {{.iov_base = &head, .iov_len = sizeof(head)}};
	size_t len = 0;

	assert(n <= REPLY_PARTS);
	for (unsigned i = 0; i < n; i++) {
		v[1 + i] = (struct iovec){.iov_base = (void *)parts[i].text, .iov_len = parts[i].len};
		len += parts[i].len;
	}
	head.len = be32_of(len);
	return nbd_channel_send(co, &c->channel, iov_of(v, 1 + n));
}

static int option_reply(
	struct co *co, struct nbd_conn *c, const struct option *o, uint32_t type, const void *data, size_t len)
{
	return option_reply_parts(co, c, o, type, (struct nbd_string[]){part_bytes(data, len)}, 1);
}

static int option_ack(struct co *co, struct nbd_conn *c, const struct option *o)
{
	return option_reply(co, c, o, NBD_REP_ACK, NULL, 0);
}

/* An error with a sentence for whoever sits in front of the client. */
static int option_refuse(struct co *co, struct nbd_conn *c, const struct option *o, uint32_t type, const char *why)
{
	return option_reply(co, c, o, type, why, strlen(why));
}

static int option_malformed(struct co *co, struct nbd_conn *c, const struct option *o)
{
	return option_refuse(co, c, o, NBD_REP_ERR_INVALID, "malformed option");
}

/* ---- the export ---- */

/* The disk of that name; the only one also answers to the empty name. NULL: there is none. */
static const struct export_disk *disk_find(const struct nbd_server *s, struct nbd_string name)
{
	for (unsigned i = 0; i < s->disks_n; i++) {
		const char *its = s->disks[i]->name;

		if (name.len == strlen(its) && memcmp(name.text, its, name.len) == 0)
			return s->disks[i];
	}
	return name.len == 0 && s->disks_n == 1 ? s->disks[0] : NULL;
}

/*
 * MULTI_CONN holds because a flush of the node covers whatever has completed, on whichever connection; and nothing is
 * cached above the node. Where there is one client at a time, a second connection of his would wait for ever.
 */
static uint16_t export_flags(const struct nbd_conn *c)
{
	uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;

	if (c->server->most_conns > 1)
		flags |= NBD_FLAG_CAN_MULTI_CONN;
	if (c->terms.structured)
		flags |= NBD_FLAG_SEND_DF;
	if (c->terms.extended)
		flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	if (c->terms.read_only)
		return flags | NBD_FLAG_READ_ONLY;
	if (!c->disk->no_discard)
		flags |= NBD_FLAG_SEND_TRIM;
	return flags | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
}

static bool disk_choose(struct nbd_conn *c, struct nbd_string name)
{
	c->disk = disk_find(c->server, name);
	if (!c->disk)
		return false;
	c->terms.size = c->disk->node->size;
	c->terms.read_only = !export_disk_writable(c->disk);
	return true;
}

/* ---- options ---- */

static int opt_export_name(struct co *co, struct nbd_conn *c, const struct option *o)
{
	bool no_zeroes = c->client_flags & NBD_FLAG_NO_ZEROES;
	struct nbd_string name;

	/* "NBD_OPT_EXPORT_NAME": there is no way to say no but to hang up. */
	if (!nbd_parse_name(o->data, o->len, &name) || !disk_choose(c, name))
		return -ENOENT;

	struct nbd_export_wire wire = {.size = be64_of(c->terms.size), .flags = be16_of(export_flags(c))};
	int r = nbd_channel_send(co, &c->channel, IOV_BUF(&wire, no_zeroes ? NBD_EXPORT_SHORT_BYTES : sizeof(wire)));

	return r < 0 ? r : TRANSMISSION;
}

static int opt_abort(struct co *co, struct nbd_conn *c, const struct option *o)
{
	int r = option_ack(co, c, o);

	return r < 0 ? r : -ECONNABORTED;
}

static int list_disk(struct co *co, struct nbd_conn *c, const struct option *o, const struct export_disk *d)
{
	be32 len = be32_of(strlen(d->name));
	const struct nbd_string entry[] = {
		part_bytes(&len, sizeof(len)), part_text(d->name), part_text(d->description)};

	return option_reply_parts(co, c, o, NBD_REP_SERVER, entry, ARRAY_ENTRIES(entry));
}

static int opt_list(struct co *co, struct nbd_conn *c, const struct option *o)
{
	if (o->len > 0)
		return option_malformed(co, c, o);
	for (unsigned i = 0; i < c->server->disks_n; i++) {
		int r = list_disk(co, c, o, c->server->disks[i]);

		if (r < 0)
			return r;
	}
	return option_ack(co, c, o);
}

/*
 * What was said before counts no more, for somebody between us may have said it; and what came after the option, before
 * our answer, is not taken for a part of what is encrypted.
 */
static int tls_begin(struct co *co, struct nbd_conn *c)
{
	struct nbd_tls *tls;
	struct err err;
	char text[160];
	int r = nbd_stream_empty(&c->stream) ? nbd_tls_new(c->server->tls, &tls) : -EPROTO;

	if (r < 0)
		return r;
	r = nbd_tls_handshake(co, tls, c->channel.sock, &err);
	if (r < 0) {
		nbd_conn_log(c, LOG_LEVEL_WARNING, "no TLS: %s", err.text);
		nbd_tls_free(tls);
		return -ECONNABORTED;
	}
	nbd_tls_describe(tls, text, sizeof(text));
	nbd_conn_log(c, LOG_LEVEL_DEBUG, "%s", text);
	c->channel.tls = tls;
	c->terms = (struct nbd_terms){0};
	c->disk = c->meta_disk = NULL;
	return NEXT_OPTION;
}

static int opt_starttls(struct co *co, struct nbd_conn *c, const struct option *o)
{
	if (o->len > 0)
		return option_malformed(co, c, o);
	if (!c->server->tls)
		return option_refuse(co, c, o, NBD_REP_ERR_UNSUP, "this server has no TLS");
	if (c->channel.tls)
		return option_refuse(co, c, o, NBD_REP_ERR_INVALID, "TLS has begun already");
	int r = option_ack(co, c, o);

	return r < 0 ? r : tls_begin(co, c);
}

static int info_string(struct co *co, struct nbd_conn *c, const struct option *o, uint16_t type, const char *text)
{
	be16 wire = be16_of(type);

	const struct nbd_string parts[] = {part_bytes(&wire, sizeof(wire)), part_text(text)};

	return option_reply_parts(co, c, o, NBD_REP_INFO, parts, ARRAY_ENTRIES(parts));
}

static int info_export(struct co *co, struct nbd_conn *c, const struct option *o)
{
	struct nbd_info_export_wire wire = {
		.type = be16_of(NBD_INFO_EXPORT),
		.size = be64_of(c->terms.size),
		.flags = be16_of(export_flags(c)),
	};

	return option_reply(co, c, o, NBD_REP_INFO, &wire, sizeof(wire));
}

/* Any alignment is served, for the node pads; but whole clusters are what it likes. */
static int info_block_size(struct co *co, struct nbd_conn *c, const struct option *o)
{
	const struct node *n = export_disk_image(c->disk);
	uint32_t unit = MAX(n->cluster, n->align);
	struct nbd_info_block_size_wire wire = {
		.type = be16_of(NBD_INFO_BLOCK_SIZE),
		.minimum = be32_of(1),
		.preferred = be32_of(MAX(unit, UINT32_C(4096))),
		.maximum = be32_of(NBD_PAYLOAD_BYTES),
	};

	return option_reply(co, c, o, NBD_REP_INFO, &wire, sizeof(wire));
}

static int info_all(struct co *co, struct nbd_conn *c, const struct option *o, const struct nbd_info_query *q)
{
	int r = info_export(co, c, o);

	if (r == 0 && q->wants_name)
		r = info_string(co, c, o, NBD_INFO_NAME, c->disk->name);
	if (r == 0 && q->wants_description && c->disk->description)
		r = info_string(co, c, o, NBD_INFO_DESCRIPTION, c->disk->description);
	if (r == 0 && q->wants_block_size)
		r = info_block_size(co, c, o);
	return r == 0 ? option_ack(co, c, o) : r;
}

static int opt_info(struct co *co, struct nbd_conn *c, const struct option *o)
{
	struct nbd_info_query q;

	if (!nbd_parse_info(o->data, o->len, &q))
		return option_malformed(co, c, o);
	if (!disk_choose(c, q.name))
		return option_refuse(co, c, o, NBD_REP_ERR_UNKNOWN, "no export of that name");

	int r = info_all(co, c, o, &q);

	return r < 0 ? r : o->type == NBD_OPT_GO ? TRANSMISSION : NEXT_OPTION;
}

static int opt_structured_reply(struct co *co, struct nbd_conn *c, const struct option *o)
{
	if (o->len > 0)
		return option_malformed(co, c, o);
	if (c->terms.extended)
		return option_refuse(co, c, o, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers are agreed on already");
	c->terms.structured = true;
	return option_ack(co, c, o);
}

static int opt_extended_headers(struct co *co, struct nbd_conn *c, const struct option *o)
{
	if (o->len > 0)
		return option_malformed(co, c, o);
	if (c->terms.extended)
		return option_refuse(co, c, o, NBD_REP_ERR_INVALID, "extended headers are agreed on already");
	c->terms.extended = c->terms.structured = true;
	return option_ack(co, c, o);
}

/* ---- metadata contexts ---- */

static int meta_context(struct co *co, struct nbd_conn *c, const struct option *o, uint32_t id, const char *name)
{
	be32 wire = be32_of(id);
	const struct nbd_string parts[] = {part_bytes(&wire, sizeof(wire)), part_text(name)};

	return option_reply_parts(co, c, o, NBD_REP_META_CONTEXT, parts, ARRAY_ENTRIES(parts));
}

/* The contexts that a query means. */
static uint64_t meta_match(const struct export_disk *disk, struct nbd_string query, bool lists)
{
	uint64_t found = 0;

	for (unsigned i = 0; i < NBD_CONTEXTS && nbd_context_name(disk, i); i++) {
		if (nbd_context_matches(nbd_context_name(disk, i), query, lists))
			found |= UINT64_C(1) << i;
	}
	return found;
}

/* Those that any query means; to list without a query is to list all. */
static uint64_t meta_match_all(const struct export_disk *disk, struct nbd_meta_query *q, bool lists)
{
	uint64_t found = 0;
	struct nbd_string query;

	for (unsigned i = 0; lists && q->queries == 0 && i < NBD_CONTEXTS && nbd_context_name(disk, i); i++)
		found |= UINT64_C(1) << i;
	while (nbd_parse_meta_next(q, &query))
		found |= meta_match(disk, query, lists);
	return found;
}

/* Ids mean something in a selection only. */
static int meta_reply(struct co *co, struct nbd_conn *c, const struct option *o, const struct export_disk *disk,
	uint64_t contexts, bool set)
{
	for (uint64_t left = contexts; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);
		int r = meta_context(co, c, o, set ? i + 1 : 0, nbd_context_name(disk, i));

		if (r < 0)
			return r;
	}
	return option_ack(co, c, o);
}

static int opt_meta_context(struct co *co, struct nbd_conn *c, const struct option *o)
{
	bool set = o->type == NBD_OPT_SET_META_CONTEXT;
	const struct export_disk *disk;
	struct nbd_meta_query q;
	uint64_t found;

	if (set)
		c->terms.contexts = 0; /* also when it fails */
	if (!nbd_parse_meta(o->data, o->len, &q))
		return option_malformed(co, c, o);
	if (!c->terms.structured)
		return option_refuse(co, c, o, NBD_REP_ERR_INVALID, "structured replies must be negotiated first");
	disk = disk_find(c->server, q.name);
	if (!disk)
		return option_refuse(co, c, o, NBD_REP_ERR_UNKNOWN, "no export of that name");
	found = meta_match_all(disk, &q, !set);
	if (set) {
		c->terms.contexts = found;
		c->meta_disk = disk;
	}
	return meta_reply(co, c, o, disk, found, set);
}

static const struct {
	uint32_t type;
	int (*serve)(struct co *co, struct nbd_conn *c, const struct option *o);
} options[] = {
	{NBD_OPT_EXPORT_NAME, opt_export_name},
	{NBD_OPT_ABORT, opt_abort},
	{NBD_OPT_LIST, opt_list},
	{NBD_OPT_STARTTLS, opt_starttls},
	{NBD_OPT_INFO, opt_info},
	{NBD_OPT_GO, opt_info},
	{NBD_OPT_STRUCTURED_REPLY, opt_structured_reply},
	{NBD_OPT_EXTENDED_HEADERS, opt_extended_headers},
	{NBD_OPT_LIST_META_CONTEXT, opt_meta_context},
	{NBD_OPT_SET_META_CONTEXT, opt_meta_context},
};

/* ---- haggling ---- */

static int option_receive(struct co *co, struct nbd_conn *c, struct option *o)
{
	const void *p;
	int r = nbd_stream_need(co, &c->stream, sizeof(struct nbd_option_wire), &p);

	if (r < 0)
		return r;
	const struct nbd_option_wire *wire = p;

	if (be64_get(wire->magic) != NBD_OPTION_MAGIC)
		return -EPROTO;
	*o = (struct option){.type = be32_get(wire->option), .len = be32_get(wire->len)};
	if (o->len > NBD_OPTION_BYTES)
		return nbd_stream_skip(co, &c->stream, o->len);
	return nbd_stream_need(co, &c->stream, o->len, &o->data);
}

static int option_too_big(struct co *co, struct nbd_conn *c, const struct option *o)
{
	if (o->type == NBD_OPT_EXPORT_NAME)
		return -EPROTO;
	if (o->type == NBD_OPT_SET_META_CONTEXT)
		c->terms.contexts = 0;
	return option_refuse(co, c, o, NBD_REP_ERR_TOO_BIG, "the option is too long");
}

/* "TLS versions": FORCEDTLS. */
static int option_needs_tls(struct co *co, struct nbd_conn *c, const struct option *o)
{
	if (o->type != NBD_OPT_EXPORT_NAME)
		return option_refuse(co, c, o, NBD_REP_ERR_TLS_REQD, "TLS is needed first");
	nbd_conn_log(c, LOG_LEVEL_WARNING, "wants an export without TLS");
	return -ECONNABORTED;
}

static int option_serve(struct co *co, struct nbd_conn *c, const struct option *o)
{
	if (c->server->tls && !c->channel.tls && o->type != NBD_OPT_STARTTLS && o->type != NBD_OPT_ABORT)
		return option_needs_tls(co, c, o);
	for (size_t i = 0; i < ARRAY_ENTRIES(options); i++) {
		if (options[i].type == o->type)
			return o->data ? options[i].serve(co, c, o) : option_too_big(co, c, o);
	}
	return option_refuse(co, c, o, NBD_REP_ERR_UNSUP, "unknown option");
}

static int greet(struct co *co, struct nbd_conn *c)
{
	struct nbd_greeting_wire wire = {
		.magic = be64_of(NBD_MAGIC),
		.option_magic = be64_of(NBD_OPTION_MAGIC),
		.flags = be16_of(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
	};
	const void *flags;
	int r = nbd_channel_send(co, &c->channel, IOV_BUF(&wire, sizeof(wire)));

	if (r == 0)
		r = nbd_stream_need(co, &c->stream, sizeof(be32), &flags);
	if (r < 0)
		return r;
	c->client_flags = be32_get(*(const be32 *)flags);
	/* "Client flags": one that we don't know must end the connection. */
	return c->client_flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) ? -EPROTO : 0;
}

/* "NBD_OPT_SET_META_CONTEXT": a selection is of one export, and void for another. */
static void meta_settle(struct nbd_conn *c)
{
	if (c->meta_disk != c->disk)
		c->terms.contexts = 0;
}

int nbd_handshake(struct co *co, struct nbd_conn *c)
{
	int r = greet(co, c);

	while (r == 0) {
		struct option o;

		r = option_receive(co, c, &o);
		if (r == 0)
			r = option_serve(co, c, &o);
	}
	meta_settle(c);
	return r == TRANSMISSION ? 0 : r;
}
