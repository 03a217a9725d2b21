/* SPDX-License-Identifier: MIT */
/*
 * The NBD protocol as bytes and numbers. Source: doc/proto.md of the NetworkBlockDevice project; the section that
 * defines each group is named beside it. Everything on the wire is big-endian and packed.
 */
#ifndef CORRAL_EXPORT_NBD_PROTO_H
#define CORRAL_EXPORT_NBD_PROTO_H

#include "base/endian.h"

/* Conventions: a string is UTF-8 without NUL, of at most this many bytes. */
#define NBD_STRING_BYTES 4096

/* ---- Newstyle negotiation, Fixed newstyle negotiation ---- */

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_REP_MAGIC UINT64_C(0x0003e889045565a9)

/* Handshake flags; the client's flags have the same two bits. */
enum {
	NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
	NBD_FLAG_NO_ZEROES = 1 << 1,
};

struct nbd_greeting_wire {
	be64 magic;
	be64 option_magic;
	be16 flags;
} __attribute__((packed));

struct nbd_option_wire {
	be64 magic;
	be32 option;
	be32 len;
} __attribute__((packed));

struct nbd_option_reply_wire {
	be64 magic;
	be32 option;
	be32 type;
	be32 len;
} __attribute__((packed));

/* The answer to NBD_OPT_EXPORT_NAME; without the zeros if NO_ZEROES was agreed. */
struct nbd_export_wire {
	be64 size;
	be16 flags;
	uint8_t zeros[124];
} __attribute__((packed));
#define NBD_EXPORT_SHORT_BYTES 10

/* ---- Transmission flags ---- */

enum {
	NBD_FLAG_HAS_FLAGS = 1 << 0,
	NBD_FLAG_READ_ONLY = 1 << 1,
	NBD_FLAG_SEND_FLUSH = 1 << 2,
	NBD_FLAG_SEND_FUA = 1 << 3,
	NBD_FLAG_SEND_TRIM = 1 << 5,
	NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
	NBD_FLAG_SEND_DF = 1 << 7,
	NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
	NBD_FLAG_SEND_CACHE = 1 << 10,
	NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
	NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12,
};

/* ---- Option types ---- */

enum {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
	NBD_OPT_EXTENDED_HEADERS = 11,
};

/* ---- Option reply types ---- */

#define NBD_REP_ERR(n) (UINT32_C(1) << 31 | (n))
#define NBD_REP_ACK UINT32_C(1)
#define NBD_REP_SERVER UINT32_C(2)
#define NBD_REP_INFO UINT32_C(3)
#define NBD_REP_META_CONTEXT UINT32_C(4)
#define NBD_REP_ERR_UNSUP NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID NBD_REP_ERR(3)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERR(6)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERR(10)

enum {
	NBD_INFO_EXPORT = 0,
	NBD_INFO_NAME = 1,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3,
};

struct nbd_info_export_wire {
	be16 type;
	be64 size;
	be16 flags;
} __attribute__((packed));

struct nbd_info_block_size_wire {
	be16 type;
	be32 minimum;
	be32 preferred;
	be32 maximum;
} __attribute__((packed));

/* ---- Request message, Request types, Command flags ---- */

#define NBD_REQUEST_MAGIC UINT32_C(0x25609513)
#define NBD_EXTENDED_REQUEST_MAGIC UINT32_C(0x21e41c71)

enum {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

enum {
	NBD_CMD_FLAG_FUA = 1 << 0,
	NBD_CMD_FLAG_NO_HOLE = 1 << 1,
	NBD_CMD_FLAG_DF = 1 << 2,
	NBD_CMD_FLAG_REQ_ONE = 1 << 3,
	NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
	NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5,
};

struct nbd_request_wire {
	be32 magic;
	be16 flags;
	be16 type;
	be64 cookie; /* "handle" in older editions */
	be64 offset;
	be32 len;
} __attribute__((packed));

struct nbd_extended_request_wire {
	be32 magic;
	be16 flags;
	be16 type;
	be64 cookie;
	be64 offset;
	be64 len; /* of the payload, if there is one, else of the range */
} __attribute__((packed));

/* The payload of a BLOCK_STATUS, then the 32-bit ids of the contexts that are wanted. */
struct nbd_status_payload_wire {
	be64 len;
} __attribute__((packed));

/* ---- Simple reply message, Structured reply chunk message, Extended reply chunk message ---- */

#define NBD_SIMPLE_REPLY_MAGIC UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)
#define NBD_EXTENDED_REPLY_MAGIC UINT32_C(0x6e8a278c)

struct nbd_simple_reply_wire {
	be32 magic;
	be32 error;
	be64 cookie;
} __attribute__((packed));

struct nbd_chunk_wire {
	be32 magic;
	be16 flags;
	be16 type;
	be64 cookie;
	be32 len;
} __attribute__((packed));

struct nbd_extended_chunk_wire {
	be32 magic;
	be16 flags;
	be16 type;
	be64 cookie;
	be64 offset; /* the request's */
	be64 len;
} __attribute__((packed));

#define NBD_REPLY_FLAG_DONE 1

enum {
	NBD_REPLY_TYPE_NONE = 0,
	NBD_REPLY_TYPE_OFFSET_DATA = 1,
	NBD_REPLY_TYPE_OFFSET_HOLE = 2,
	NBD_REPLY_TYPE_BLOCK_STATUS = 5,
	NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6,
	NBD_REPLY_TYPE_ERROR = 1 << 15 | 1,
};

struct nbd_data_wire { /* then the data */
	be64 offset;
} __attribute__((packed));

struct nbd_hole_wire {
	be64 offset;
	be32 len;
} __attribute__((packed));

struct nbd_error_wire {
	be32 error;
	be16 message_len;
} __attribute__((packed));

struct nbd_descriptor_wire { /* after the 32-bit id of the context */
	be32 len;
	be32 status;
} __attribute__((packed));

struct nbd_status_ext_wire {
	be32 context;
	be32 count; /* of the descriptors that follow */
} __attribute__((packed));

struct nbd_descriptor_ext_wire {
	be64 len;
	be64 status;
} __attribute__((packed));

/* ---- Metadata querying: base:allocation ---- */

enum {
	NBD_STATE_HOLE = 1 << 0,
	NBD_STATE_ZERO = 1 << 1,
};

/* ---- Error values ---- */

enum nbd_error {
	NBD_SUCCESS = 0,
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

#endif
