/* SPDX-License-Identifier: MIT */
/* The log of dirty pages: see log.h. */
#include "export/vhost_user/log.h"

#include "base/math.h"

#define PAGE 4096u

void vu_log_range(const struct vu_log *l, uint64_t guest, uint64_t len)
{
	uint64_t last;

	if (len == 0 || add_overflows(guest, len - 1, &last))
		return;
	for (uint64_t page = guest / PAGE; page <= last / PAGE && page / 8 < l->bytes; page++)
		__atomic_fetch_or(&l->bits[page / 8], (uint8_t)(1u << page % 8), __ATOMIC_RELEASE);
}

/* In one region of the guest's memory, as pieces and rings are. */
void vu_log_memory(const struct vu_log *l, const struct vu_memory *m, const void *at, uint64_t len)
{
	uint64_t guest = vu_memory_guest(m, at);

	if (guest != UINT64_MAX)
		vu_log_range(l, guest, len);
}

void vu_log_iov(const struct vu_log *l, const struct vu_memory *m, struct iov it)
{
	while (it.len > 0) {
		size_t len = MIN(it.v[0].iov_len - it.skip, it.len);

		vu_log_memory(l, m, (uint8_t *)it.v[0].iov_base + it.skip, len);
		it = iov_slice(it, len, it.len - len);
	}
}
