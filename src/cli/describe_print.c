/* SPDX-License-Identifier: MIT */
/* The properties of an image for people, in qemu-img's words. Text that came out of the image can't control the terminal. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/describe.h"
#include "cli/options.h"

static const char *text_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : "";
}

static uint64_t number_of(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

/* Prints text filled up to width columns; control characters as question marks. */
static void text_print(const char *text, int width)
{
	int printed = 0;

	for (; *text; text++, printed++)
		putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
	for (; printed < width; printed++)
		putchar(' ');
}

static void line_print(const char *label, const char *text)
{
	printf("%s: ", label);
	text_print(text, 0);
	putchar('\n');
}

/* ---- snapshots ---- */

static void snapshot_print(const json_t *s)
{
	uint64_t seconds = number_of(s, "vm-clock-sec"), nanoseconds = number_of(s, "vm-clock-nsec");
	time_t when = (time_t)number_of(s, "date-sec");
	char date[32] = "", clock[64], icount[32] = "", size[CLI_SIZE_TEXT];
	struct tm tm;

	if (localtime_r(&when, &tm))
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(clock, sizeof(clock), "%02u:%02u:%02u.%03u", (unsigned)(seconds / 3600), (unsigned)(seconds / 60 % 60),
		(unsigned)(seconds % 60), (unsigned)(nanoseconds / 1000000));
	if (json_object_get(s, "icount"))
		snprintf(icount, sizeof(icount), "%lld", (long long)number_of(s, "icount"));
	text_print(text_of(s, "id"), 9);
	putchar(' ');
	text_print(text_of(s, "name"), 16);
	printf(" %8s%20s%13s%11s\n", cli_size_text(number_of(s, "vm-state-size"), size), date, clock, icount);
}

void describe_snapshots_print(const json_t *snapshots)
{
	const json_t *one;
	size_t i;

	printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
	json_array_foreach(snapshots, i, one) snapshot_print(one);
}

/* ---- what only this format has ---- */

static void scalar_print(const json_t *value)
{
	putchar(' ');
	if (json_is_string(value))
		text_print(json_string_value(value), 0);
	else if (json_is_boolean(value))
		fputs(json_is_true(value) ? "true" : "false", stdout);
	else
		printf("%lld", (long long)json_integer_value(value));
	putchar('\n');
}

static void tree_print(const json_t *value, int depth);

static void branch_print(const json_t *value, int depth)
{
	if (json_is_object(value) || json_is_array(value)) {
		putchar('\n');
		tree_print(value, depth + 1);
	} else {
		scalar_print(value);
	}
}

/* The objects here are four levels deep at most: they were made by describe.c, nothing of their shape comes from outside. */
static void tree_print(const json_t *value, int depth)
{
	const json_t *child;
	const char *key;
	size_t i;

	json_array_foreach(value, i, child)
	{
		printf("%*s[%zu]:", 4 * depth, "", i);
		branch_print(child, depth);
	}
	json_object_foreach((json_t *)value, key, child)
	{
		printf("%*s", 4 * depth, "");
		for (const char *p = key; *p; p++)
			putchar(*p == '-' ? ' ' : *p);
		putchar(':');
		branch_print(child, depth);
	}
}

void describe_specific_print(const json_t *image)
{
	if (!json_object_get(image, "format-specific"))
		return;
	puts("Format specific information:");
	tree_print(json_object_get(json_object_get(image, "format-specific"), "data"), 1);
}

/* ---- all of it ---- */

static void backing_print(const json_t *image)
{
	const char *full = text_of(image, "full-backing-filename");

	if (!json_object_get(image, "backing-filename"))
		return;
	fputs("backing file: ", stdout);
	text_print(text_of(image, "backing-filename"), 0);
	if (strcmp(full, text_of(image, "backing-filename")) != 0) {
		fputs(" (actual path: ", stdout);
		text_print(full, 0);
		putchar(')');
	}
	putchar('\n');
	if (json_object_get(image, "backing-filename-format"))
		line_print("backing file format", text_of(image, "backing-filename-format"));
}

void describe_print(const json_t *image)
{
	uint64_t size = number_of(image, "virtual-size");
	char text[CLI_SIZE_TEXT];

	line_print("image", text_of(image, "filename"));
	printf("file format: %s\n", text_of(image, "format"));
	printf("virtual size: %s (%" PRIu64 " bytes)\n", cli_size_text(size, text), size);
	printf("disk size: %s\n",
		json_object_get(image, "actual-size") ? cli_size_text(number_of(image, "actual-size"), text)
						      : "unavailable");
	if (json_is_true(json_object_get(image, "encrypted")))
		puts("encrypted: yes");
	if (json_object_get(image, "cluster-size"))
		printf("cluster_size: %" PRIu64 "\n", number_of(image, "cluster-size"));
	if (json_is_true(json_object_get(image, "dirty-flag")))
		puts("cleanly shut down: no");
	backing_print(image);
	if (json_object_get(image, "snapshots"))
		describe_snapshots_print(json_object_get(image, "snapshots"));
	describe_specific_print(image);
}
