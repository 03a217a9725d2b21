/* SPDX-License-Identifier: MIT */
/* The limits as options give them, and whether they agree with each other. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/math.h"
#include "filter/throttle.h"

static const char *const kind_names[THROTTLE_KINDS] = {
	[THROTTLE_BPS_TOTAL] = "bps-total",
	[THROTTLE_BPS_READ] = "bps-read",
	[THROTTLE_BPS_WRITE] = "bps-write",
	[THROTTLE_IOPS_TOTAL] = "iops-total",
	[THROTTLE_IOPS_READ] = "iops-read",
	[THROTTLE_IOPS_WRITE] = "iops-write",
};

static int set_part(struct throttle_limit *limit, const char *suffix, uint64_t value)
{
	if (suffix[0] == '\0')
		limit->avg = value;
	else if (strcmp(suffix, "-max") == 0)
		limit->max = value;
	else if (strcmp(suffix, "-max-length") == 0)
		limit->length = value;
	else
		return -ENOENT;
	return 0;
}

int throttle_set(struct throttle_limits *limits, const char *name, uint64_t value)
{
	if (strcmp(name, "iops-size") == 0) {
		limits->iops_size = value;
		return 0;
	}
	for (unsigned i = 0; i < THROTTLE_KINDS; i++) {
		size_t len = strlen(kind_names[i]);

		if (strncmp(name, kind_names[i], len) == 0)
			return set_part(&limits->of[i], name + len, value);
	}
	return -ENOENT;
}

static int check_one(const struct throttle_limit *l, const char *name, struct err *err)
{
	uint64_t burst;

	if (l->avg > THROTTLE_MOST || l->max > THROTTLE_MOST)
		return err_set(err, -EINVAL, "bps/iops/max values must be within [0, %" PRIu64 "]", THROTTLE_MOST);
	if (l->max != 0 && l->avg == 0)
		return err_set(err, -EINVAL, "%s-max needs %s, the limit that it goes beyond", name, name);
	if (l->max != 0 && l->max < l->avg)
		return err_set(err, -EINVAL, "%s-max is lower than %s", name, name);
	if (l->length > 1 && l->max == 0)
		return err_set(err, -EINVAL, "%s-max-length needs %s-max, the rate of the burst", name, name);
	if (mul_overflows(l->max, l->length, &burst) || burst > THROTTLE_MOST)
		return err_set(err, -EINVAL, "%s-max-length is too long for such a burst", name);
	return 0;
}

static bool is_used(const struct throttle_limit *l) { return l->avg != 0 || l->max != 0; }

/* of: the limit of both together, which those of reads and writes follow. */
static int check_three(const struct throttle_limit *of, const char *what, struct err *err)
{
	if (is_used(&of[0]) && (is_used(&of[1]) || is_used(&of[2])))
		return err_set(
			err, -EINVAL, "%s-total can't be used together with %s-read or %s-write", what, what, what);
	return 0;
}

int throttle_check(const struct throttle_limits *limits, struct err *err)
{
	const struct throttle_limit *of = limits->of;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < THROTTLE_KINDS; i++)
		rc = check_one(&of[i], kind_names[i], err);
	if (rc == 0)
		rc = check_three(&of[THROTTLE_BPS_TOTAL], "bps", err);
	if (rc == 0)
		rc = check_three(&of[THROTTLE_IOPS_TOTAL], "iops", err);
	if (rc == 0 && limits->iops_size != 0 && of[THROTTLE_IOPS_TOTAL].avg == 0 && of[THROTTLE_IOPS_READ].avg == 0 &&
		of[THROTTLE_IOPS_WRITE].avg == 0)
		rc = err_set(err, -EINVAL, "iops-size needs a limit of iops");
	return rc;
}
