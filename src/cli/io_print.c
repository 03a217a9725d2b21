/* SPDX-License-Identifier: MIT */
/* The numbers of corral io: how they are read, and how they are shown. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/io.h"
#include "cli/options.h"

#define SECOND_NS 1000000000u

const char *cli_io_number_text(double value, char text[CLI_IO_TEXT])
{
	static const char *const units[] = {" bytes", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
	unsigned unit = 0;
	char *zeros;

	for (; unit + 1 < ARRAY_ENTRIES(units) && value >= 1024; unit++)
		value /= 1024;
	snprintf(text, CLI_IO_TEXT - 8, unit == 0 ? "%f" : "%.3f", value);
	zeros = strstr(text, ".000");
	strcpy(zeros ? zeros : text + strlen(text), units[unit]);
	return text;
}

static void time_text(uint64_t ns, bool always_long, char text[CLI_IO_TEXT])
{
	uint64_t seconds = ns / SECOND_NS;

	if (always_long || seconds > 0)
		snprintf(text, CLI_IO_TEXT, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%02" PRIu64, seconds / 3600,
			seconds / 60 % 60, seconds % 60, ns % SECOND_NS / (SECOND_NS / 100));
	else
		snprintf(text, CLI_IO_TEXT, "%05.2f sec", (double)ns / SECOND_NS);
}

void cli_io_report_print(const struct cli_io_report *r)
{
	char total[CLI_IO_TEXT], rate[CLI_IO_TEXT], time[CLI_IO_TEXT];
	double seconds = (double)MAX(r->ns, UINT64_C(1)) / SECOND_NS;

	time_text(r->ns, r->parsable, time);
	if (r->parsable) {
		printf("%" PRIu64 ",1,%s,%.3f,%.3f\n", r->bytes, time, (double)r->bytes / seconds, 1 / seconds);
		return;
	}
	printf("%s %" PRIu64 "/%" PRIu64 " bytes at offset %" PRIu64 "\n", r->op, r->bytes, r->bytes, r->off);
	printf("%s, 1 ops; %s (%s/sec and %.4f ops/sec)\n", cli_io_number_text((double)r->bytes, total), time,
		cli_io_number_text((double)r->bytes / seconds, rate), 1 / seconds);
}

void cli_io_dump(const uint8_t *data, uint64_t off, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes; i += 16) {
		uint64_t end = MIN(bytes, i + 16);

		printf("%08" PRIx64 ":  ", off + i);
		for (uint64_t j = i; j < end; j++)
			printf("%02x ", data[j]);
		putchar(' ');
		for (uint64_t j = i; j < end; j++)
			putchar(isalnum(data[j]) ? data[j] : '.');
		putchar('\n');
	}
}

int cli_io_bytes_parse(const char *text, uint64_t *out)
{
	int ret = cli_size_parse(text, out);

	if (ret == -ERANGE)
		printf("Parsing error: argument too large -- %s\n", text);
	else if (ret < 0)
		printf("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n", text);
	return ret < 0 ? -EINVAL : 0;
}

int cli_io_length_parse(const char *text, uint64_t *out)
{
	int ret = cli_io_bytes_parse(text, out);

	if (ret == 0 && *out > CLI_IO_MOST) {
		printf("length cannot exceed %" PRIu64 ", given %s\n", CLI_IO_MOST, text);
		ret = -EINVAL;
	}
	return ret;
}

int cli_io_pattern_parse(const char *text, int *out)
{
	char *end;
	long pattern = strtol(text, &end, 0);

	if (pattern < 0 || pattern > UINT8_MAX || *end != '\0') {
		printf("%s is not a valid pattern byte\n", text);
		return -EINVAL;
	}
	*out = (int)pattern;
	return 0;
}
