/* SPDX-License-Identifier: MIT */
/* The header of an image that isn't opened as one: for info, check and the tools. */
#include "qcow2/qcow2.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"

/* How much of the file belongs to the first cluster; what the header claims is checked later, by the parser. */
static uint64_t first_cluster_bytes(const void *sector, size_t len, uint64_t file_bytes)
{
	struct qcow2_disk_header disk = {0};
	uint32_t bits;

	memcpy(&disk, sector, MIN(len, sizeof(disk)));
	bits = be32_get(disk.cluster_bits);
	if (!qcow2_header_probe(sector, len) || bits < QCOW2_MIN_CLUSTER_BITS || bits > QCOW2_MAX_CLUSTER_BITS)
		return len;
	return MIN(file_bytes, UINT64_C(1) << bits);
}

typedef int parse_fn(const void *bytes, size_t len, uint64_t file_bytes, struct qcow2_header *out, struct err *err);

static int header_load(
	struct co *co, struct node *file, parse_fn *parse, uint64_t known, struct qcow2_header *out, struct err *err)
{
	char sector[QCOW2_HEADER_SECTOR];
	AUTO_FREE char *cluster = NULL;
	size_t len = MIN(file->size, sizeof(sector));
	int ret = node_read(co, file, 0, IOV_BUF(sector, len));

	if (ret < 0)
		return err_set(err, ret, "the header can't be read: %s", strerror(-ret));
	len = first_cluster_bytes(sector, len, file->size);
	cluster = node_alloc(len);
	if (!cluster)
		return err_set(err, -ENOMEM, "no memory for the header");
	ret = node_read(co, file, 0, IOV_BUF(cluster, len));
	if (ret < 0)
		return err_set(err, ret, "the header can't be read: %s", strerror(-ret));
	ret = qcow2_header_check_features(known, cluster, len, err);
	return ret < 0 ? ret : parse(cluster, len, file->size, out, err);
}

int qcow2_header_load(struct co *co, struct node *file, uint64_t known, struct qcow2_header *out, struct err *err)
{
	return header_load(co, file, qcow2_header_parse, known, out, err);
}

int qcow2_header_load_damaged(
	struct co *co, struct node *file, uint64_t known, struct qcow2_header *out, struct err *err)
{
	return header_load(co, file, qcow2_header_parse_damaged, known, out, err);
}
