/* SPDX-License-Identifier: MIT */
/* What engine.h says. */
#include "engine.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "filter/null.h"

#define PIECE 65536u

static struct node *data_file_make(struct co *co, const struct qcow2_header *h)
{
	struct node *n = NULL;

	if (h->incompatible & QCOW2_INCOMPAT_DATA_FILE)
		assert(null_open(co, &(struct null_open){.size = h->size}, &n) == 0);
	return n;
}

struct node *engine_open(struct co *co, struct qcow2_options how)
{
	static const struct crypto_secret secret = {"secret", 6};
	struct node *file = fuzz_disk_open(co, how.write), *n;
	struct qcow2_header header;
	struct err err;

	how.locked = true;
	if (qcow2_header_load(co, file, QCOW2_INCOMPAT_KNOWN, &header, &err) == 0) {
		how.data_file = data_file_make(co, &header);
		how.secret = header.crypt_method == QCOW2_CRYPT_AES ? &secret : NULL;
	}
	if (qcow2_open(co, file, &how, &n, &err) == 0)
		return n;
	(void)!node_close(co, how.data_file);
	(void)!node_close(co, file);
	return NULL;
}

int engine_check(struct co *co, unsigned fix, struct qcow2_check *found)
{
	struct node *file = fuzz_disk_open(co, fix != 0);
	struct err err;
	int rc = qcow2_check_image(co, file, &(struct qcow2_check_how){.fix = fix}, found, &err);

	(void)!node_close(co, file);
	return rc;
}

void engine_read(struct co *co, struct node *n, struct script *script, unsigned pieces)
{
	char *buf = malloc(PIECE);

	assert(buf);
	for (unsigned i = 0; i < pieces && n->size > 0; i++) {
		uint64_t off = (uint64_t)script_u24(script) * FUZZ_SECTOR % n->size,
			 len = MIN(n->size - off, (uint64_t)PIECE);
		struct node_status status;

		if (node_status(co, n, off, n->size - off, script_byte(script) & 1, &status) == 0)
			assert(status.len > 0 && status.len <= n->size - off);
		(void)!node_read(co, n, off, IOV_BUF(buf, len));
	}
	free(buf);
}
