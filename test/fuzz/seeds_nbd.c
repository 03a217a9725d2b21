/* SPDX-License-Identifier: MIT */
/* Sessions of well-behaved NBD clients: every option, and every request, with each kind of header. */
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "export/nbd/proto.h"
#include "fuzz.h"

struct writer {
	uint8_t *at;
};

static void bytes(struct writer *w, const void *data, size_t len)
{
	if (len > 0)
		memcpy(w->at, data, len);
	w->at += len;
}

static void number(struct writer *w, uint64_t value, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		*w->at++ = (uint8_t)(value >> 8 * (n - 1 - i));
}

static void option(struct writer *w, uint32_t kind, const void *data, uint32_t len)
{
	number(w, NBD_OPTION_MAGIC, 8);
	number(w, kind, 4);
	number(w, len, 4);
	bytes(w, data, len);
}

static void go(struct writer *w, uint32_t kind, const char *name)
{
	uint8_t data[64];
	struct writer d = {data};

	number(&d, strlen(name), 4);
	bytes(&d, name, strlen(name));
	number(&d, 2, 2);
	number(&d, 3, 2);
	number(&d, 1, 2);
	option(w, kind, data, (uint32_t)(d.at - data));
}

static void contexts(struct writer *w, uint32_t kind, const char *name)
{
	static const char *const queries[] = {"base:allocation", "qemu:dirty-bitmap:b"};
	uint8_t data[128];
	struct writer d = {data};

	number(&d, strlen(name), 4);
	bytes(&d, name, strlen(name));
	number(&d, 2, 4);
	for (unsigned i = 0; i < 2; i++) {
		number(&d, strlen(queries[i]), 4);
		bytes(&d, queries[i], strlen(queries[i]));
	}
	option(w, kind, data, (uint32_t)(d.at - data));
}

static void request(struct writer *w, bool extended, unsigned type, unsigned flags, uint64_t offset, uint32_t len)
{
	static const uint8_t zeros[4096];
	bool payload = type == NBD_CMD_WRITE;

	number(w, extended ? UINT32_C(0x21e41c71) : UINT32_C(0x25609513), 4);
	number(w, flags | (extended && payload ? 1u << 5 : 0), 2);
	number(w, type, 2);
	number(w, UINT64_C(0x1122334455667788) + offset, 8);
	number(w, offset, 8);
	number(w, len, extended ? 8 : 4);
	if (payload)
		bytes(w, zeros, len);
}

static void requests(struct writer *w, bool extended)
{
	for (unsigned i = 0; i < 2; i++) {
		request(w, extended, NBD_CMD_WRITE, i, 4096 * i, 512 + i);
		request(w, extended, NBD_CMD_READ, i << 2, 0, 8192);
		request(w, extended, NBD_CMD_WRITE_ZEROES, i << 1, 65536, 4096);
		request(w, extended, NBD_CMD_TRIM, i, 8192, 4096);
		request(w, extended, NBD_CMD_CACHE, 0, 0, 4096);
		request(w, extended, NBD_CMD_BLOCK_STATUS, i << 3, 0, 262144);
		request(w, extended, NBD_CMD_FLUSH, 0, 0, 0);
	}
	request(w, extended, NBD_CMD_DISC, 0, 0, 0);
}

size_t fuzz_seed(unsigned n, uint8_t *out, size_t room)
{
	const char *name = n & 2 ? "disk" : "";
	struct writer w = {out};

	(void)room;
	if (n >= 32)
		return 0;
	*w.at++ = (uint8_t)n;
	number(&w, n & 4 ? 3 : 1, 4);
	if (n & 8)
		option(&w, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	if (n & 16)
		option(&w, NBD_OPT_EXTENDED_HEADERS, NULL, 0);
	if (n & 24)
		contexts(&w, NBD_OPT_SET_META_CONTEXT, name);
	if (n & 1) {
		option(&w, NBD_OPT_LIST, NULL, 0);
		option(&w, NBD_OPT_STARTTLS, NULL, 0);
		contexts(&w, NBD_OPT_LIST_META_CONTEXT, name);
		go(&w, NBD_OPT_INFO, name);
	}
	if (n & 1 && !(n & 24))
		option(&w, NBD_OPT_EXPORT_NAME, name, (uint32_t)strlen(name));
	else
		go(&w, NBD_OPT_GO, name);
	requests(&w, n & 16);
	return (size_t)(w.at - out);
}
