/* SPDX-License-Identifier: MIT */
/* Messages of a front end: a table of what each must look like; see message.h. */
#include "export/vhost_user/message.h"

#include <errno.h>
#include <stddef.h>

#include "base/math.h"

struct shape {
	const char *name;
	uint16_t least, most; /* bytes of the payload */
	uint8_t fds_least, fds_most;
	bool has_reply;
};

#define U64 8, 8
#define STATE sizeof(struct vu_vring_state), sizeof(struct vu_vring_state)
#define REGION sizeof(struct vu_single_region_wire), sizeof(struct vu_single_region_wire)
#define CONFIG offsetof(struct vu_config_wire, data), sizeof(struct vu_config_wire)
#define INFLIGHT VU_INFLIGHT_BYTES, sizeof(struct vu_inflight_wire)

static const struct shape shapes[VU_REQUESTS] = {
	[VU_GET_FEATURES] = {"GET_FEATURES", 0, 0, 0, 0, true},
	[VU_SET_FEATURES] = {"SET_FEATURES", U64, 0, 0, false},
	[VU_SET_OWNER] = {"SET_OWNER", 0, 0, 0, 0, false},
	[VU_RESET_OWNER] = {"RESET_OWNER", 0, 0, 0, 0, false},
	[VU_SET_MEM_TABLE] = {"SET_MEM_TABLE", 8, sizeof(struct vu_table_wire), 0, VU_TABLE_REGIONS, false},
	[VU_SET_LOG_BASE] = {"SET_LOG_BASE", sizeof(struct vu_log_wire), sizeof(struct vu_log_wire), 1, 1, true},
	[VU_SET_LOG_FD] = {"SET_LOG_FD", 0, 8, 0, 1, false},
	[VU_SET_VRING_NUM] = {"SET_VRING_NUM", STATE, 0, 0, false},
	[VU_SET_VRING_ADDR] = {"SET_VRING_ADDR", sizeof(struct vu_vring_addr), sizeof(struct vu_vring_addr), 0, 0,
		false},
	[VU_SET_VRING_BASE] = {"SET_VRING_BASE", STATE, 0, 0, false},
	[VU_GET_VRING_BASE] = {"GET_VRING_BASE", STATE, 0, 0, true},
	[VU_SET_VRING_KICK] = {"SET_VRING_KICK", U64, 0, 1, false},
	[VU_SET_VRING_CALL] = {"SET_VRING_CALL", U64, 0, 1, false},
	[VU_SET_VRING_ERR] = {"SET_VRING_ERR", U64, 0, 1, false},
	[VU_GET_PROTOCOL_FEATURES] = {"GET_PROTOCOL_FEATURES", 0, 0, 0, 0, true},
	[VU_SET_PROTOCOL_FEATURES] = {"SET_PROTOCOL_FEATURES", U64, 0, 0, false},
	[VU_GET_QUEUE_NUM] = {"GET_QUEUE_NUM", 0, 0, 0, 0, true},
	[VU_SET_VRING_ENABLE] = {"SET_VRING_ENABLE", STATE, 0, 0, false},
	[VU_SET_BACKEND_REQ_FD] = {"SET_BACKEND_REQ_FD", 0, 8, 1, 1, false},
	[VU_GET_CONFIG] = {"GET_CONFIG", CONFIG, 0, 0, true},
	[VU_SET_CONFIG] = {"SET_CONFIG", CONFIG, 0, 0, false},
	[VU_GET_INFLIGHT_FD] = {"GET_INFLIGHT_FD", INFLIGHT, 0, 0, true},
	[VU_SET_INFLIGHT_FD] = {"SET_INFLIGHT_FD", INFLIGHT, 1, 1, false},
	[VU_RESET_DEVICE] = {"RESET_DEVICE", 0, 0, 0, 0, false},
	[VU_GET_MAX_MEM_SLOTS] = {"GET_MAX_MEM_SLOTS", 0, 0, 0, 0, true},
	[VU_ADD_MEM_REG] = {"ADD_MEM_REG", REGION, 1, 1, false},
	[VU_REM_MEM_REG] = {"REM_MEM_REG", REGION, 0, 1, false},
	[VU_SET_STATUS] = {"SET_STATUS", U64, 0, 0, false},
	[VU_GET_STATUS] = {"GET_STATUS", 0, 0, 0, 0, true},
};

static const struct shape *shape_of(uint32_t request)
{
	return request < VU_REQUESTS && shapes[request].name ? &shapes[request] : NULL;
}

const char *vu_request_name(enum vu_request request) { return shapes[request].name; }
bool vu_request_has_reply(enum vu_request request) { return shapes[request].has_reply; }

int vu_message_begin(const struct vu_header *wire, struct vu_message *out, struct err *err)
{
	const struct shape *shape = shape_of(wire->request);

	if ((wire->flags & VU_VERSION_MASK) != VU_VERSION || (wire->flags & VU_REPLY))
		return err_set(
			err, -EPROTO, "what came is no request of vhost-user version 1 (flags %#x)", wire->flags);
	if (!shape)
		return err_set(err, -EPROTO, "request %u isn't known here, and wasn't offered", wire->request);
	if (wire->size < shape->least || wire->size > shape->most)
		return err_set(err, -EPROTO, "%s has %u bytes of payload, and not %u to %u", shape->name, wire->size,
			shape->least, shape->most);
	*out = (struct vu_message){
		.request = wire->request, .need_reply = wire->flags & VU_NEED_REPLY, .size = wire->size};
	return 0;
}

static int check_table(const struct vu_message *m, unsigned fds, struct err *err)
{
	uint32_t n = m->payload.table.n;

	if (n > VU_TABLE_REGIONS ||
		m->size < offsetof(struct vu_table_wire, region) + n * sizeof(struct vu_region_wire))
		return err_set(err, -EPROTO, "SET_MEM_TABLE speaks of %u regions in %u bytes", n, m->size);
	if (fds != n)
		return err_set(err, -EPROTO, "SET_MEM_TABLE has %u regions and %u descriptors", n, fds);
	return 0;
}

static int check_config(const struct vu_message *m, struct err *err)
{
	const struct vu_config_wire *c = &m->payload.config;
	uint32_t carried = m->size - offsetof(struct vu_config_wire, data);

	if (c->offset > VU_CONFIG_BYTES || c->size > VU_CONFIG_BYTES - c->offset || c->size > carried)
		return err_set(err, -EPROTO, "%s of %u bytes at %u, with room for %u", vu_request_name(m->request),
			c->size, c->offset, carried);
	return 0;
}

/* The number says itself whether a descriptor comes with it. */
static int check_vring_fd(const struct vu_message *m, unsigned fds, struct err *err)
{
	bool none = m->payload.u64 & VU_VRING_NO_FD;

	if (m->payload.u64 & ~(uint64_t)(VU_VRING_INDEX | VU_VRING_NO_FD) || fds != !none)
		return err_set(err, -EPROTO, "%s %#llx came with %u descriptors", vu_request_name(m->request),
			(unsigned long long)m->payload.u64, fds);
	return 0;
}

int vu_message_check(const struct vu_message *m, unsigned fds, bool cut, struct err *err)
{
	const struct shape *shape = &shapes[m->request];

	if (cut)
		return err_set(err, -EPROTO,
			"%s came with more descriptors than %u: more than are permitted, or than this process may have (ulimit -n)",
			shape->name, fds);
	if (fds < shape->fds_least || fds > shape->fds_most)
		return err_set(err, -EPROTO, "%s came with %u descriptors, and not %u to %u", shape->name, fds,
			shape->fds_least, shape->fds_most);
	switch (m->request) {
	case VU_SET_MEM_TABLE: return check_table(m, fds, err);
	case VU_GET_CONFIG:
	case VU_SET_CONFIG: return check_config(m, err);
	case VU_SET_VRING_KICK:
	case VU_SET_VRING_CALL:
	case VU_SET_VRING_ERR: return check_vring_fd(m, fds, err);
	default: return 0;
	}
}
