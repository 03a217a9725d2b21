/* SPDX-License-Identifier: MIT */
/* The log of pages that we write, which a migration of the guest reads. Pure: a bit per 4 KiB of guest memory. */
#ifndef CORRAL_EXPORT_VHOST_USER_LOG_H
#define CORRAL_EXPORT_VHOST_USER_LOG_H

#include "base/iovec.h"
#include "export/vhost_user/memory.h"

struct vu_log {
	uint8_t *bits; /* NULL: there is none */
	uint64_t bytes;
};

/* Marks what was written: guest addresses, or our own. Beyond the log's end there is nothing to mark. */
void vu_log_range(const struct vu_log *l, uint64_t guest, uint64_t len);
void vu_log_memory(const struct vu_log *l, const struct vu_memory *m, const void *at, uint64_t len);
void vu_log_iov(const struct vu_log *l, const struct vu_memory *m, struct iov it);

#endif
