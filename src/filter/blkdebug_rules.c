/* SPDX-License-Identifier: MIT */
/* The options and rules of blkdebug, from text: single options, and a file of sections. */
#include "filter/blkdebug_rules.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"

#define SECTOR 512

static const char *const action_names[] = {
	[BLKDEBUG_INJECT_ERROR] = "inject-error",
	[BLKDEBUG_SET_STATE] = "set-state",
};

struct blkdebug_rule *blkdebug_rule_new(struct list *rules, enum blkdebug_action action, unsigned number)
{
	struct blkdebug_rule *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->action = action;
	r->number = number;
	r->io = BLKDEBUG_READ | BLKDEBUG_WRITE | BLKDEBUG_WRITE_ZEROES | BLKDEBUG_DISCARD | BLKDEBUG_FLUSH;
	r->error = EIO;
	r->everywhere = true;
	list_push(rules, &r->link);
	return r;
}

void blkdebug_rule_free(struct blkdebug_rule *r)
{
	list_remove(&r->link);
	free(r->tag);
	free(r);
}

static struct blkdebug_rule *rule_of(struct list *l) { return list_entry(l, struct blkdebug_rule, link); }

int blkdebug_rules_check(const struct list *rules, struct err *err)
{
	list_for_each(it, rules) {
		if (!rule_of(it)->has_event)
			return err_set(err, -EINVAL, "Missing event name for rule");
	}
	return 0;
}

void blkdebug_config_init(struct blkdebug_config *c)
{
	*c = (struct blkdebug_config){0};
	list_init(&c->rules);
}

void blkdebug_config_fini(struct blkdebug_config *c)
{
	list_for_each_safe(it, &c->rules) {
		blkdebug_rule_free(rule_of(it));
	}
}

/* ---- values ---- */

static int parse_number(const char *name, const char *value, int64_t *out, struct err *err)
{
	char *end;

	errno = 0;
	*out = strtoll(value, &end, 0);
	if (errno != 0 || end == value || *end != '\0')
		return err_set(err, -EINVAL, "Parameter '%s' expects a number", name);
	return 0;
}

static int parse_bool(const char *name, const char *value, bool *out, struct err *err)
{
	*out = strcmp(value, "on") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "true") == 0;
	if (!*out && strcmp(value, "off") != 0 && strcmp(value, "no") != 0 && strcmp(value, "false") != 0)
		return err_set(err, -EINVAL, "Parameter '%s' expects 'on' or 'off'", name);
	return 0;
}

static int parse_event(struct blkdebug_rule *r, const char *value, struct err *err)
{
	if (node_event_parse(value, &r->event) < 0)
		return err_set(err, -EINVAL, "Invalid event name \"%s\"", value);
	r->has_event = true;
	return 0;
}

static int parse_io(struct blkdebug_rule *r, const char *value, struct err *err)
{
	static const char *const names[] = {"read", "write", "write-zeroes", "discard", "flush", "block-status"};

	for (unsigned i = 0; i < ARRAY_ENTRIES(names); i++) {
		if (strcmp(value, names[i]) == 0) {
			r->io = 1u << i;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "Parameter 'iotype' does not accept value '%s'", value);
}

static int parse_sector(struct blkdebug_rule *r, const char *value, struct err *err)
{
	int64_t sector;
	int ret = parse_number("sector", value, &sector, err);

	if (ret < 0)
		return ret;
	if (sector < -1 || sector > INT64_MAX / SECTOR)
		return err_set(err, -EINVAL, "Parameter 'sector' is out of range");
	r->everywhere = sector == -1;
	r->off = r->everywhere ? 0 : (uint64_t)sector * SECTOR;
	return 0;
}

static int parse_errno(struct blkdebug_rule *r, const char *value, struct err *err)
{
	int64_t number;
	int ret = parse_number("errno", value, &number, err);

	if (ret < 0)
		return ret;
	if (number < 0 || number > 4095)
		return err_set(err, -EINVAL, "Parameter 'errno' is out of range");
	r->error = (int)number;
	return 0;
}

/* ---- the options of a rule ---- */

static int set_inject_error(struct blkdebug_rule *r, const char *name, const char *value, struct err *err)
{
	if (strcmp(name, "errno") == 0)
		return parse_errno(r, value, err);
	if (strcmp(name, "iotype") == 0)
		return parse_io(r, value, err);
	if (strcmp(name, "sector") == 0)
		return parse_sector(r, value, err);
	if (strcmp(name, "once") == 0)
		return parse_bool(name, value, &r->once, err);
	if (strcmp(name, "immediately") == 0)
		return parse_bool(name, value, &r->immediately, err);
	return err_set(err, -EINVAL, "Invalid parameter '%s'", name);
}

static int rule_set(struct blkdebug_rule *r, const char *name, const char *value, struct err *err)
{
	if (strcmp(name, "event") == 0)
		return parse_event(r, value, err);
	if (strcmp(name, "state") == 0)
		return parse_number(name, value, &r->state, err);
	if (r->action == BLKDEBUG_INJECT_ERROR)
		return set_inject_error(r, name, value, err);
	if (strcmp(name, "new_state") == 0)
		return parse_number(name, value, &r->new_state, err);
	return err_set(err, -EINVAL, "Invalid parameter '%s'", name);
}

/* The rule of that number, which is made where there is none. NULL: no memory. */
static struct blkdebug_rule *rule_get(struct blkdebug_config *c, enum blkdebug_action action, unsigned number)
{
	list_for_each(it, &c->rules) {
		if (rule_of(it)->action == action && rule_of(it)->number == number)
			return rule_of(it);
	}
	return blkdebug_rule_new(&c->rules, action, number);
}

/* rest: "0.event" */
static int rule_option(
	struct blkdebug_config *c, enum blkdebug_action action, const char *rest, const char *value, struct err *err)
{
	char *end;
	unsigned long number = strtoul(rest, &end, 10);
	struct blkdebug_rule *r;

	if (!isdigit((unsigned char)rest[0]) || *end != '.' || number > INT_MAX)
		return -ENOENT;
	r = rule_get(c, action, (unsigned)number);
	return r ? rule_set(r, end + 1, value, err) : err_set(err, -ENOMEM, "no memory for a rule");
}

/* ---- the options of the node ---- */

static int set_bytes(uint64_t *to, const char *name, const char *value, struct err *err)
{
	static const char units[] = "kMGTPE";
	char *end;
	unsigned long long number = strtoull(value, &end, 0);
	const char *unit = *end != '\0' ? strchr(units, *end == 'K' ? 'k' : *end) : NULL;
	unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;

	if (!isdigit((unsigned char)value[0]) || end[unit != NULL] != '\0' || number > (UINT64_MAX >> 1) >> shift)
		return err_set(err, -EINVAL, "Parameter '%s' expects a size", name);
	*to = (uint64_t)number << shift;
	return 0;
}

static uint64_t *limit_of(struct blkdebug_config *c, const char *name)
{
	const struct {
		const char *name;
		uint64_t *limit;
	} limits[] = {
		{"align", &c->align},
		{"max-transfer", &c->max_transfer},
		{"opt-write-zero", &c->opt_write_zero},
		{"max-write-zero", &c->max_write_zero},
		{"opt-discard", &c->opt_discard},
		{"max-discard", &c->max_discard},
	};

	for (unsigned i = 0; i < ARRAY_ENTRIES(limits); i++)
		if (strcmp(name, limits[i].name) == 0)
			return limits[i].limit;
	return NULL;
}

int blkdebug_config_set(struct blkdebug_config *c, const char *name, const char *value, struct err *err)
{
	uint64_t *limit = limit_of(c, name);

	if (limit != NULL)
		return set_bytes(limit, name, value, err);
	for (unsigned i = 0; i < ARRAY_ENTRIES(action_names); i++) {
		size_t len = strlen(action_names[i]);

		if (strncmp(name, action_names[i], len) == 0 && name[len] == '.')
			return rule_option(c, (enum blkdebug_action)i, name + len + 1, value, err);
	}
	return -ENOENT;
}

/* ---- the file ---- */

struct reader {
	struct blkdebug_config *config;
	struct blkdebug_rule *section; /* NULL: before the first one */
	unsigned line;
};

/* Rules of a file have numbers beyond those of options. */
static int section_begin(struct reader *r, const char *name, struct err *err)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(action_names); i++) {
		if (strcmp(name, action_names[i]) != 0)
			continue;
		r->section = blkdebug_rule_new(&r->config->rules, (enum blkdebug_action)i, UINT_MAX - r->line);
		return r->section ? 0 : err_set(err, -ENOMEM, "no memory for a rule");
	}
	return err_set(
		err, -EINVAL, "line %u: there are sections [inject-error] and [set-state], not [%s]", r->line, name);
}

static int file_option(struct reader *r, const char *name, const char *value, struct err *err)
{
	int ret;

	if (r->section == NULL)
		return err_set(err, -EINVAL, "line %u: no section has begun", r->line);
	ret = rule_set(r->section, name, value, err);
	return ret < 0 ? (err_prefix(err, "line %u", r->line), ret) : 0;
}

static int file_line(struct reader *r, const char *line, struct err *err)
{
	char name[64], value[256], rest;

	line += strspn(line, " \t\r");
	if (*line == '\0' || *line == '#')
		return 0;
	if (sscanf(line, "[%63[^]]%c", name, &rest) == 2 && rest == ']')
		return section_begin(r, name, err);
	if (sscanf(line, " %63[^= \t] = \"%255[^\"]%c", name, value, &rest) == 3 && rest == '"')
		return file_option(r, name, value, err);
	if (sscanf(line, " %63[^= \t] = %255[^\" \t\r]", name, value) == 2)
		return file_option(r, name, value, err);
	return err_set(err, -EINVAL, "line %u: neither [section] nor name = \"value\"", r->line);
}

int blkdebug_config_text(struct blkdebug_config *c, const char *text, struct err *err)
{
	AUTO_FREE char *copy = strdup(text);
	struct reader r = {.config = c};
	char *rest = copy, *line;
	int ret = 0;

	if (copy == NULL)
		return err_set(err, -ENOMEM, "no memory for the configuration");
	while (ret == 0 && (line = rest) != NULL) {
		rest = strchr(line, '\n');
		if (rest != NULL)
			*rest++ = '\0';
		r.line++;
		ret = file_line(&r, line, err);
	}
	return ret;
}
