/* SPDX-License-Identifier: MIT */
/*
 * What a client's bytes mean. Everything here is pure: it takes bytes or numbers and gives a value or an NBD error,
 * reads nothing beyond the length it is given, allocates nothing. Names are windows on the bytes that were parsed.
 */
#ifndef CORRAL_EXPORT_NBD_PARSE_H
#define CORRAL_EXPORT_NBD_PARSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "export/nbd/proto.h"

/* The most bytes of an option's data that are looked at: a name and as much again. Longer ones are skipped. */
#define NBD_OPTION_BYTES (2 * NBD_STRING_BYTES)

/* "Block size constraints": the longest payload of a read or write. */
#define NBD_PAYLOAD_BYTES (UINT32_C(32) << 20)

struct nbd_string { /* not terminated */
	const char *text;
	size_t len;
};

/*
 * Takes the bytes as the name of an export. One NUL at the end is dropped: the NBD client of blktap sends it. False:
 * too long, or a NUL elsewhere.
 */
bool nbd_parse_name(const void *data, size_t len, struct nbd_string *out) ATTR_MUST_USE;

/* NBD_OPT_INFO and NBD_OPT_GO. False: malformed. */
struct nbd_info_query {
	struct nbd_string name;
	bool wants_name, wants_description, wants_block_size; /* what is unknown is ignored */
};
bool nbd_parse_info(const void *data, size_t len, struct nbd_info_query *out) ATTR_MUST_USE;

/* NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT: the name, then queries, which are taken one by one. */
struct nbd_meta_query {
	struct nbd_string name;
	uint32_t queries;
	const uint8_t *at; /* of those that weren't taken yet */
	size_t left;
};
bool nbd_parse_meta(const void *data, size_t len, struct nbd_meta_query *out) ATTR_MUST_USE; /* false: malformed */
bool nbd_parse_meta_next(struct nbd_meta_query *q, struct nbd_string *out) ATTR_MUST_USE;    /* false: that was all */
/*
 * Whether the query means the context. lists: what ends with a colon means all that begin so ("Metadata querying": the
 * wildcards of the namespaces base and qemu), which doesn't select anything.
 */
bool nbd_context_matches(const char *context, struct nbd_string query, bool lists) ATTR_MUST_USE;

#define NBD_CONTEXTS 64 /* of a disk; they are bits of a mask, and ids are their numbers from 1 on */

struct nbd_request {
	be64 cookie; /* opaque */
	uint16_t flags, type;
	uint64_t len; /* of the range */
	uint64_t offset;
	uint64_t payload;  /* bytes that follow the request */
	uint64_t contexts; /* BLOCK_STATUS: which are asked for */
};
/* False: wrong magic, after which nothing in the stream can be trusted. */
bool nbd_parse_request(const struct nbd_request_wire *wire, struct nbd_request *out) ATTR_MUST_USE;
bool nbd_parse_extended_request(const struct nbd_extended_request_wire *wire, struct nbd_request *out) ATTR_MUST_USE;

struct nbd_terms { /* what a connection has agreed on */
	uint64_t size;
	uint64_t contexts; /* that were selected */
	bool read_only;
	bool structured; /* implied by extended */
	bool extended;
};

/* The payload of a BLOCK_STATUS, which sets its length and contexts. False: malformed, or contexts that weren't selected. */
bool nbd_parse_status_payload(const struct nbd_terms *terms, const void *data, size_t len, struct nbd_request *req)
	ATTR_MUST_USE;
#define NBD_STATUS_PAYLOAD_BYTES (8 + 4 * NBD_CONTEXTS) /* at most */

/*
 * Whether the request is permitted: flags, bounds, length, read-only. It is safe to carry out if this says
 * NBD_SUCCESS.
 */
enum nbd_error nbd_check_request(const struct nbd_terms *terms, const struct nbd_request *req) ATTR_MUST_USE;

/* How an errno (0 or negative) is told to a client. */
enum nbd_error nbd_error_of(int r);

#endif
