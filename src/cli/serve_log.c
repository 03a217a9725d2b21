/* SPDX-License-Identifier: MIT */
/* Writing log lines; see serve_log.h. */
#include "cli/serve_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void line_write(struct serve_log *l, enum log_level level, const struct timespec *now, const char *line)
{
	static const int priorities[LOG_LEVELS] = {
		[LOG_LEVEL_ERROR] = 3, [LOG_LEVEL_WARNING] = 4, [LOG_LEVEL_INFO] = 6, [LOG_LEVEL_DEBUG] = 7};
	char stamp[32] = "";
	struct tm tm;

	if (l->journal) {
		fprintf(l->to, "<%d>%s\n", priorities[level], line);
	} else {
		if (localtime_r(&now->tv_sec, &tm))
			strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
		fprintf(l->to, "corral: %s.%03ld %s: %s\n", stamp, now->tv_nsec / 1000000, log_level_name(level), line);
	}
	fflush(l->to);
}

static void second_begin(struct serve_log *l, const struct timespec *now)
{
	char text[64];

	snprintf(text, sizeof(text), "%u lines were left out here", l->left_out);
	if (l->left_out > 0)
		line_write(l, LOG_LEVEL_WARNING, now, text);
	l->second = now->tv_sec;
	l->lines = l->left_out = 0;
}

static void log_write(struct log *log, enum log_level level, const char *line)
{
	struct serve_log *l = container_of(log, struct serve_log, log);
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != l->second)
		second_begin(l, &now);
	if (l->lines == SERVE_LOG_LINES && level > LOG_LEVEL_ERROR) {
		l->left_out++;
		return;
	}
	l->lines++;
	line_write(l, level, &now, line);
}

int serve_log_open(struct serve_log *l, const char *path, struct err *err)
{
	tzset(); /* while its file can still be read */
	l->log.write = log_write;
	l->to = stderr;
	l->journal = !path && getenv("JOURNAL_STREAM");
	if (!path)
		return 0;
	l->to = fopen(path, "ae");
	return l->to ? 0 : err_set(err, -errno, "can't write the log '%s': %s", path, strerror(errno));
}

void serve_log_close(struct serve_log *l)
{
	if (l->to && l->to != stderr)
		fclose(l->to);
	l->to = NULL;
}
