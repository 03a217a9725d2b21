/* SPDX-License-Identifier: MIT */
/* Logs: levels, lines that clients can't forge, names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"

struct kept {
	struct log log;
	unsigned lines;
	enum log_level level;
	char last[LOG_LINE_BYTES];
};

static void keep(struct log *log, enum log_level level, const char *line)
{
	struct kept *kept = container_of(log, struct kept, log);

	kept->lines++;
	kept->level = level;
	strcpy(kept->last, line);
}

static void test_levels(void **state)
{
	struct kept kept = {.log = {.level = LOG_LEVEL_WARNING, .write = keep}};

	(void)state;
	log_line(&kept.log, LOG_LEVEL_INFO, "not said");
	assert_int_equal(kept.lines, 0);
	log_line(&kept.log, LOG_LEVEL_ERROR, "%d of %s", 1, "two");
	assert_string_equal(kept.last, "1 of two");
	assert_int_equal(kept.level, LOG_LEVEL_ERROR);
	kept.log.level = LOG_LEVEL_DEBUG;
	log_line(&kept.log, LOG_LEVEL_DEBUG, "said now");
	assert_int_equal(kept.lines, 2);
	log_line(NULL, LOG_LEVEL_ERROR, "to nobody");
}

static void test_lines_stay_lines(void **state)
{
	struct kept kept = {.log = {.level = LOG_LEVEL_INFO, .write = keep}};
	char text[2 * LOG_LINE_BYTES];

	(void)state;
	log_line(&kept.log, LOG_LEVEL_INFO, "export '%s'", "a\nerror: forged\x1b[2J\x7f");
	assert_string_equal(kept.last, "export 'a?error: forged?[2J?'");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_line(&kept.log, LOG_LEVEL_INFO, "%s", text);
	assert_int_equal(strlen(kept.last), LOG_LINE_BYTES - 1);
}

static void test_names(void **state)
{
	enum log_level level;

	(void)state;
	for (unsigned i = 0; i < LOG_LEVELS; i++) {
		assert_int_equal(log_level_parse(log_level_name((enum log_level)i), &level), 0);
		assert_int_equal(level, i);
	}
	assert_int_equal(log_level_parse("loud", &level), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_lines_stay_lines),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
