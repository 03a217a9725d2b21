/* SPDX-License-Identifier: MIT */
/* Any bytes as messages of a front end of vhost-user: a header, then as much payload as it takes for one that is allowed. */
#include <assert.h>
#include <string.h>

#include "base/math.h"
#include "export/vhost_user/message.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	while (size >= sizeof(struct vu_header) + 1) {
		struct vu_header header;
		struct vu_message m;
		struct err err;
		unsigned fds = data[0];

		memcpy(&header, data + 1, sizeof(header));
		data += sizeof(header) + 1;
		size -= sizeof(header) + 1;
		if (vu_message_begin(&header, &m, &err) < 0)
			continue;
		assert(m.size <= sizeof(m.payload));
		size_t n = MIN(size, (size_t)m.size);

		memcpy(&m.payload, data, n);
		data += n;
		size -= n;
		if (vu_message_check(&m, fds & 15, fds & 16, &err) == 0) {
			assert(vu_request_name(m.request));
			assert(m.request != VU_SET_MEM_TABLE || m.payload.table.n <= VU_TABLE_REGIONS);
			assert((m.request != VU_GET_CONFIG && m.request != VU_SET_CONFIG) ||
				m.payload.config.offset + m.payload.config.size <= VU_CONFIG_BYTES);
		}
	}
	return 0;
}
