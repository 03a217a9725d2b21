/* SPDX-License-Identifier: MIT */
/* Messages of a front end: what they must look like. Pure: no I/O, nothing is trusted. */
#ifndef CORRAL_EXPORT_VHOST_USER_MESSAGE_H
#define CORRAL_EXPORT_VHOST_USER_MESSAGE_H

#include <stdbool.h>

#include "base/err.h"
#include "export/vhost_user/proto.h"

struct vu_message {
	enum vu_request request;
	bool need_reply;
	uint32_t size;            /* of the payload as it came */
	union vu_payload payload; /* zeros after what came */
};

/* -EPROTO: no request that we know, a wrong version, or a payload of the wrong size; explained. */
int vu_message_begin(const struct vu_header *wire, struct vu_message *out, struct err *err) ATTR_MUST_USE;
/* With the payload in place: whether it is well-formed, and came with the right number of descriptors. */
int vu_message_check(const struct vu_message *m, unsigned fds, bool cut, struct err *err) ATTR_MUST_USE;
const char *vu_request_name(enum vu_request request);
/* Whether the protocol has a reply for it, whatever was negotiated. */
bool vu_request_has_reply(enum vu_request request);

#endif
