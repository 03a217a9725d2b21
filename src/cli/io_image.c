/* SPDX-License-Identifier: MIT */
/* corral io: what is done to an image as a whole, or asked about it. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/describe.h"
#include "cli/io.h"
#include "cli/options.h"
#include "io/io.h"

int cli_io_flush(struct co *co, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv ATTR_UNUSED)
{
	return node_flush(co, s->node);
}

/* ---- size ---- */

int cli_io_length(struct co *co ATTR_UNUSED, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv ATTR_UNUSED)
{
	char text[CLI_IO_TEXT];

	puts(cli_io_number_text((double)s->node->size, text));
	return 0;
}

static int preallocation_parse(const char *mode)
{
	static const char *const modes[] = {"metadata", "falloc", "full"};

	if (strcmp(mode, "off") == 0)
		return 0;
	for (unsigned i = 0; i < ARRAY_ENTRIES(modes); i++)
		if (strcmp(mode, modes[i]) == 0)
			return cli_complain("Preallocation can't be requested while the disk is open; say -m off"),
			       -ENOTSUP;
	return cli_complain("Invalid preallocation mode '%s'", mode), -EINVAL;
}

static int resize(struct co *co, struct cli_io_session *s, uint64_t size)
{
	int ret;

	if (node_is_qcow2(s->node) && size % 512 != 0)
		return cli_complain("The new size must be a multiple of 512"), -EINVAL;
	ret = node_resize(co, s->node, size);
	if (ret == -ENOTSUP && size < s->node->size)
		return cli_complain("Image format driver does not support resize to a smaller size"), ret;
	if (ret < 0)
		cli_complain("Failed to resize the disk: %s", strerror(-ret));
	return ret;
}

int cli_io_truncate(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	uint64_t size;
	int option, ret = 0;

	while (ret == 0 && (option = getopt(argc, argv, "m:")) != -1)
		ret = option == 'm' ? preallocation_parse(optarg) : cli_io_usage("truncate");
	if (ret == 0 && optind != argc - 1)
		ret = cli_io_usage("truncate");
	if (ret == 0)
		ret = cli_io_bytes_parse(argv[optind], &size);
	return ret < 0 ? ret : resize(co, s, size);
}

/* ---- info ---- */

static int specific_print(struct co *co, const struct cli_io_session *s, struct node *image)
{
	const struct qcow2_header *h = qcow2_node_header(image);
	struct err *err = calloc(1, sizeof(*err));
	json_t *what =
		err ? describe_image(co, s->settings.path ? s->settings.path : "", image->file, 0, h, err) : NULL;
	int ret = what ? 0 : -EIO;

	if (what)
		describe_specific_print(what);
	else
		cli_complain("%s", err ? err->text : "no memory");
	json_decref(what);
	free(err);
	return ret;
}

/* A VM's state lies behind what the L1 table maps of the disk. */
static uint64_t vm_state_offset(const struct node *image)
{
	const struct qcow2_header *h = qcow2_node_header(image);
	uint64_t entry = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? 16 : 8;

	return align_up(h->size, image->cluster / entry * image->cluster);
}

int cli_io_info(struct co *co, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv ATTR_UNUSED)
{
	struct node *image = image_qcow2_of(s->node);
	char cluster[CLI_IO_TEXT], state[CLI_IO_TEXT];

	printf("format name: %s\n", image ? "qcow2" : "raw");
	printf("cluster size: %s\n", cli_io_number_text(image ? image->cluster : 0, cluster));
	printf("vm state offset: %s\n", cli_io_number_text(image ? (double)vm_state_offset(image) : 0, state));
	return image ? specific_print(co, s, image) : 0;
}

/* ---- what lies where ---- */

/* Filters have nothing of their own. */
static struct node *holder(const struct cli_io_session *s)
{
	struct node *image = image_qcow2_of(s->node);

	return image ? image : s->node;
}

/* Bytes of [off, off + len) from its start on that are alike. */
static int run_find(struct co *co, struct node *n, uint64_t off, uint64_t len, bool *allocated, uint64_t *run)
{
	struct node_status st;
	int ret = node_status(co, n, off, len, false, &st);

	*allocated = st.allocated;
	*run = st.len;
	while (ret == 0 && *run < len && st.allocated == *allocated) {
		ret = node_status(co, n, off + *run, len - *run, false, &st);
		if (ret == 0 && st.allocated == *allocated)
			*run += st.len;
	}
	return ret;
}

static int allocated_sum(struct co *co, struct node *n, uint64_t off, uint64_t len, uint64_t *sum)
{
	int ret = 0;

	for (*sum = 0; ret == 0 && len > 0;) {
		bool allocated;
		uint64_t run;

		ret = run_find(co, n, off, len, &allocated, &run);
		if (ret == 0) {
			*sum += allocated ? run : 0;
			off += run;
			len -= run;
		}
	}
	return ret;
}

int cli_io_alloc(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	struct node *n = holder(s);
	char text[CLI_IO_TEXT];
	uint64_t off, len = 512, sum;
	int ret = cli_io_bytes_parse(argv[1], &off);

	if (ret == 0 && argc == 3)
		ret = cli_io_bytes_parse(argv[2], &len);
	if (ret < 0)
		return ret;
	len = MIN(len, n->size - MIN(off, n->size));
	ret = allocated_sum(co, n, off, len, &sum);
	if (ret < 0)
		printf("is_allocated failed: %s\n", strerror(-ret));
	else
		printf("%" PRIu64 "/%" PRIu64 " bytes allocated at offset %s\n", sum, len,
			cli_io_number_text((double)off, text));
	return ret;
}

static void run_print(uint64_t off, uint64_t run, bool allocated)
{
	char length[CLI_IO_TEXT], at[CLI_IO_TEXT];

	printf("%s (0x%" PRIx64 ") bytes %s at offset %s (0x%" PRIx64 ")\n", cli_io_number_text((double)run, length),
		run, allocated ? "    allocated" : "not allocated", cli_io_number_text((double)off, at), off);
}

int cli_io_map(struct co *co, struct cli_io_session *s, int argc ATTR_UNUSED, char **argv ATTR_UNUSED)
{
	struct node *n = holder(s);
	uint64_t run;
	int ret = 0;

	for (uint64_t off = 0; ret == 0 && off < n->size; off += run) {
		bool allocated;

		ret = run_find(co, n, off, n->size - off, &allocated, &run);
		if (ret == 0)
			run_print(off, run, allocated);
	}
	if (ret < 0)
		cli_complain("Failed to get allocation status: %s", strerror(-ret));
	return ret;
}

/* ---- discard ---- */

int cli_io_discard(struct co *co, struct cli_io_session *s, int argc, char **argv)
{
	struct cli_io_request r = {.kind = CLI_IO_DISCARD};
	struct cli_io_report report = {.op = "discard"};
	bool quiet = false;
	uint64_t began;
	int option, ret;

	while ((option = getopt(argc, argv, "Cq")) != -1) {
		if (option != 'C' && option != 'q')
			return cli_io_usage("discard");
		report.parsable |= option == 'C';
		quiet |= option == 'q';
	}
	if (optind != argc - 2)
		return cli_io_usage("discard");
	ret = cli_io_bytes_parse(argv[optind], &r.off);
	if (ret == 0)
		ret = cli_io_length_parse(argv[optind + 1], &r.bytes);
	if (ret < 0)
		return ret;
	began = co_now(co);
	ret = cli_io_request_do(co, s->node, &r);
	report.off = r.off;
	report.bytes = r.bytes;
	report.ns = co_now(co) - began;
	if (ret < 0)
		printf("discard failed: %s\n", strerror(-ret));
	else if (!quiet)
		cli_io_report_print(&report);
	return ret;
}
