/* SPDX-License-Identifier: MIT */
/* Parsing of what clients send; see parse.h. Each field is taken off a cursor that can't leave its bytes. */
#include "export/nbd/parse.h"

#include <errno.h>
#include <string.h>

struct cursor {
	const uint8_t *at;
	size_t left;
};

static bool cursor_take(struct cursor *c, size_t len, const void **out)
{
	if (len > c->left)
		return false;
	*out = c->at;
	c->at += len;
	c->left -= len;
	return true;
}

static bool cursor_u16(struct cursor *c, uint16_t *out)
{
	const void *p;

	if (!cursor_take(c, sizeof(be16), &p))
		return false;
	*out = be16_get(*(const be16 *)p);
	return true;
}

static bool cursor_u32(struct cursor *c, uint32_t *out)
{
	const void *p;

	if (!cursor_take(c, sizeof(be32), &p))
		return false;
	*out = be32_get(*(const be32 *)p);
	return true;
}

/* A length of 32 bits, then as many bytes. */
static bool cursor_string(struct cursor *c, struct nbd_string *out)
{
	uint32_t len;
	const void *p;

	if (!cursor_u32(c, &len) || len > NBD_STRING_BYTES || !cursor_take(c, len, &p))
		return false;
	*out = (struct nbd_string){.text = p, .len = len};
	return true;
}

static bool cursor_name(struct cursor *c, struct nbd_string *out)
{
	struct nbd_string raw;

	return cursor_string(c, &raw) && nbd_parse_name(raw.text, raw.len, out);
}

bool nbd_parse_name(const void *data, size_t len, struct nbd_string *out)
{
	const char *text = data;

	if (len > 0 && text[len - 1] == '\0')
		len--;
	if (len > NBD_STRING_BYTES || (len > 0 && memchr(text, '\0', len)))
		return false;
	*out = (struct nbd_string){.text = text, .len = len};
	return true;
}

bool nbd_parse_info(const void *data, size_t len, struct nbd_info_query *out)
{
	struct cursor c = {.at = data, .left = len};
	uint16_t wants, type;

	*out = (struct nbd_info_query){0};
	if (!cursor_name(&c, &out->name) || !cursor_u16(&c, &wants) || c.left != wants * sizeof(be16))
		return false;
	while (cursor_u16(&c, &type)) {
		out->wants_name |= type == NBD_INFO_NAME;
		out->wants_description |= type == NBD_INFO_DESCRIPTION;
		out->wants_block_size |= type == NBD_INFO_BLOCK_SIZE;
	}
	return true;
}

bool nbd_parse_meta(const void *data, size_t len, struct nbd_meta_query *out)
{
	struct cursor c = {.at = data, .left = len};
	struct nbd_string query;

	*out = (struct nbd_meta_query){0};
	if (!cursor_name(&c, &out->name) || !cursor_u32(&c, &out->queries))
		return false;
	out->at = c.at;
	out->left = c.left;
	/* Each query takes four bytes at least, so that a huge count runs dry rather than long. */
	for (uint32_t i = 0; i < out->queries; i++) {
		if (!cursor_string(&c, &query))
			return false;
	}
	return c.left == 0;
}

bool nbd_parse_meta_next(struct nbd_meta_query *q, struct nbd_string *out)
{
	struct cursor c = {.at = q->at, .left = q->left};

	if (!cursor_string(&c, out))
		return false;
	q->at = c.at;
	q->left = c.left;
	return true;
}

bool nbd_context_matches(const char *context, struct nbd_string query, bool lists)
{
	size_t len = strlen(context);

	if (query.len == len && memcmp(context, query.text, len) == 0)
		return true;
	return lists && query.len > 0 && query.len < len && query.text[query.len - 1] == ':' &&
		memcmp(context, query.text, query.len) == 0;
}

bool nbd_parse_request(const struct nbd_request_wire *wire, struct nbd_request *out)
{
	*out = (struct nbd_request){
		.cookie = wire->cookie,
		.flags = be16_get(wire->flags),
		.type = be16_get(wire->type),
		.len = be32_get(wire->len),
		.offset = be64_get(wire->offset),
	};
	if (out->type == NBD_CMD_WRITE)
		out->payload = out->len;
	return be32_get(wire->magic) == NBD_REQUEST_MAGIC;
}

/* A write has a payload even if its client forgot to say so. */
bool nbd_parse_extended_request(const struct nbd_extended_request_wire *wire, struct nbd_request *out)
{
	*out = (struct nbd_request){
		.cookie = wire->cookie,
		.flags = be16_get(wire->flags),
		.type = be16_get(wire->type),
		.len = be64_get(wire->len),
		.offset = be64_get(wire->offset),
	};
	if (out->type == NBD_CMD_WRITE || out->flags & NBD_CMD_FLAG_PAYLOAD_LEN)
		out->payload = out->len;
	return be32_get(wire->magic) == NBD_EXTENDED_REQUEST_MAGIC;
}

bool nbd_parse_status_payload(const struct nbd_terms *terms, const void *data, size_t len, struct nbd_request *req)
{
	struct cursor c = {.at = data, .left = len};
	const void *p;
	uint32_t id;

	if (!cursor_take(&c, sizeof(struct nbd_status_payload_wire), &p))
		return false;
	req->len = be64_get(((const struct nbd_status_payload_wire *)p)->len);
	req->contexts = 0;
	while (cursor_u32(&c, &id)) {
		uint64_t bit = id >= 1 && id <= NBD_CONTEXTS ? UINT64_C(1) << (id - 1) : 0;

		if (!(terms->contexts & bit) || req->contexts & bit)
			return false;
		req->contexts |= bit;
	}
	return c.left == 0;
}

static const struct command {
	bool known;
	bool writes;
	bool ranged;            /* offset and length mean something */
	bool data;              /* its data is in the request or the reply: bounded */
	bool payload;           /* bytes may follow it */
	uint16_t flags;         /* permitted besides FUA, which every command must accept */
	enum nbd_error outside; /* for a range that is not inside the export */
} commands[] = {
	[NBD_CMD_READ] = {.known = true, .ranged = true, .data = true, .flags = NBD_CMD_FLAG_DF, .outside = NBD_EINVAL},
	[NBD_CMD_WRITE] =
		{.known = true, .writes = true, .ranged = true, .data = true, .payload = true, .outside = NBD_ENOSPC},
	[NBD_CMD_DISC] = {.known = true},
	[NBD_CMD_FLUSH] = {.known = true},
	[NBD_CMD_TRIM] = {.known = true, .writes = true, .ranged = true, .outside = NBD_EINVAL},
	[NBD_CMD_CACHE] = {.known = true, .ranged = true, .outside = NBD_EINVAL},
	[NBD_CMD_WRITE_ZEROES] = {.known = true,
		.writes = true,
		.ranged = true,
		.outside = NBD_ENOSPC,
		.flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO},
	[NBD_CMD_BLOCK_STATUS] =
		{.known = true, .ranged = true, .payload = true, .flags = NBD_CMD_FLAG_REQ_ONE, .outside = NBD_EINVAL},
};

static uint16_t command_flags(const struct nbd_terms *terms, const struct command *cmd)
{
	uint16_t flags = cmd->flags | NBD_CMD_FLAG_FUA;

	if (cmd->payload && terms->extended)
		flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	/* "Transmission flags": DF is offered only along with structured replies. */
	return terms->structured ? flags : flags & ~NBD_CMD_FLAG_DF;
}

enum nbd_error nbd_check_request(const struct nbd_terms *terms, const struct nbd_request *req)
{
	if (req->type >= ARRAY_ENTRIES(commands) || !commands[req->type].known)
		return NBD_EINVAL;

	const struct command *cmd = &commands[req->type];

	if (req->flags & ~command_flags(terms, cmd))
		return NBD_EINVAL;
	if (cmd->writes && terms->read_only)
		return NBD_EPERM;
	if (cmd->data && req->len > NBD_PAYLOAD_BYTES)
		return NBD_EINVAL;
	if (cmd->ranged && (req->offset > terms->size || req->len > terms->size - req->offset))
		return cmd->outside;
	/* A descriptor can't have a length of 0, so there is no way to answer a question about nothing. */
	if (req->type == NBD_CMD_BLOCK_STATUS && (req->contexts == 0 || req->len == 0))
		return NBD_EINVAL;
	return NBD_SUCCESS;
}

/* "Error values". ENOTSUP and EOVERFLOW have narrow meanings there; whoever means them says so himself. */
enum nbd_error nbd_error_of(int r)
{
	switch (-r) {
	case 0: return NBD_SUCCESS;
	case EPERM:
	case EACCES:
	case EROFS: return NBD_EPERM;
	case ENOMEM: return NBD_ENOMEM;
	case EINVAL:
	case EOPNOTSUPP: return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG: return NBD_ENOSPC;
	case ESHUTDOWN: return NBD_ESHUTDOWN;
	default: return NBD_EIO;
	}
}
