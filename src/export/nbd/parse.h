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

/* NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. False: malformed. */
struct nbd_meta_query {
	struct nbd_string name;
	uint32_t queries;
	bool allocation; /* some query is "base:allocation" */
	bool base_all;   /* some query is "base:", which lists but doesn't select */
};
bool nbd_parse_meta(const void *data, size_t len, struct nbd_meta_query *out) ATTR_MUST_USE;

struct nbd_request {
	be64 cookie; /* opaque */
	uint16_t flags, type;
	uint32_t len;
	uint64_t offset;
};
/* False: wrong magic, after which nothing in the stream can be trusted. */
bool nbd_parse_request(const struct nbd_request_wire *wire, struct nbd_request *out) ATTR_MUST_USE;

struct nbd_terms { /* what a connection has agreed on */
	uint64_t size;
	bool read_only;
	bool structured;
	bool allocation; /* base:allocation was selected */
};
/*
 * Whether the request is permitted: flags, bounds, length, read-only. It is safe to carry out if this says
 * NBD_SUCCESS.
 */
enum nbd_error nbd_check_request(const struct nbd_terms *terms, const struct nbd_request *req) ATTR_MUST_USE;

/* How an errno (0 or negative) is told to a client. */
enum nbd_error nbd_error_of(int r);

#endif
