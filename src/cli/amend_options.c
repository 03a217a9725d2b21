/* SPDX-License-Identifier: MIT */
/* The options of corral amend -o: qemu-img's, in its words. */
#include "cli/amend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/options.h"
#include "cli/tool.h"

enum kind { TEXT, NUMBER, SIZE, SWITCH };

static const char *const shapes[] = {
	[TEXT] = "<str>", [NUMBER] = "<num>", [SIZE] = "<size>", [SWITCH] = "<bool (on/off)>"};

static const struct {
	const char *name, *what;
	enum kind kind;
} known[AMEND_OPTIONS] = {
	[AMEND_BACKING_FILE] = {"backing_file", "File name of a base image", TEXT},
	[AMEND_BACKING_FMT] = {"backing_fmt", "Image format of the base image", TEXT},
	[AMEND_COMPAT] = {"compat", "Compatibility level (v2 [0.10] or v3 [1.1])", TEXT},
	[AMEND_DATA_FILE] = {"data_file", "File name of an external data file", TEXT},
	[AMEND_DATA_FILE_RAW] = {"data_file_raw", "The external data file must stay valid as a raw image", SWITCH},
	[AMEND_ITER_TIME] = {"encrypt.iter-time", "Time to spend in PBKDF in milliseconds", NUMBER},
	[AMEND_KEYSLOT] = {"encrypt.keyslot", "Select a single keyslot to modify explicitly", NUMBER},
	[AMEND_NEW_SECRET] = {"encrypt.new-secret", "New secret to set in the matching keyslots. Empty string to erase",
		TEXT},
	[AMEND_OLD_SECRET] = {"encrypt.old-secret", "Select all keyslots that match this password", TEXT},
	[AMEND_STATE] = {"encrypt.state", "Select new state of affected keyslots (active/inactive)", TEXT},
	[AMEND_LAZY_REFCOUNTS] = {"lazy_refcounts", "Postpone refcount updates", SWITCH},
	[AMEND_REFCOUNT_BITS] = {"refcount_bits", "Width of a reference count entry in bits", NUMBER},
	[AMEND_SIZE] = {"size", "Virtual disk size", SIZE},
};

static const char *const only_for_creation[] = {"cluster_size", "compression_type", "encrypt.cipher-alg",
	"encrypt.cipher-mode", "encrypt.format", "encrypt.hash-alg", "encrypt.ivgen-alg", "encrypt.ivgen-hash-alg",
	"encrypt.key-secret", "encryption", "extended_l2", "preallocation"};

void amend_options_help(FILE *to)
{
	fputs("Amend options for 'qcow2':\n", to);
	for (unsigned i = 0; i < AMEND_OPTIONS; i++) {
		char left[64];

		snprintf(left, sizeof(left), "  %s=%s", known[i].name, shapes[known[i].kind]);
		fprintf(to, "%-24s - %s\n", left, known[i].what);
	}
}

/* One line or more on stderr; -EINVAL. */
#define complain(...) (cli_complain(__VA_ARGS__), -EINVAL)

/* ---- values ---- */

/* As QEMU reads numbers: a sign counts modulo 2^64. */
static int number_parse(const char *name, const char *value, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(value, &end, 0);
	if (errno != 0 || end == value || *end != '\0')
		return complain("Parameter '%s' expects a number", name);
	return 0;
}

static int size_parse(const char *name, const char *value, uint64_t *out)
{
	if (cli_size_parse(value, out) == 0)
		return 0;
	return complain("Parameter '%s' expects a non-negative number below 2^64\n"
			"Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
			"and exabytes, respectively.",
		name);
}

static int switch_parse(const char *name, const char *value, uint64_t *out)
{
	static const char *const words[] = {"off", "on", "no", "yes", "false", "true", "n", "y"};

	for (unsigned i = 0; i < ARRAY_ENTRIES(words); i++) {
		if (strcmp(value, words[i]) == 0) {
			*out = i % 2;
			return 0;
		}
	}
	return complain("Parameter '%s' expects 'on' or 'off'", name);
}

static int value_parse(enum amend_option i, const char *value, uint64_t *out)
{
	switch (known[i].kind) {
	case NUMBER: return number_parse(known[i].name, value, out);
	case SIZE: return size_parse(known[i].name, value, out);
	case SWITCH: return switch_parse(known[i].name, value, out);
	case TEXT: break;
	}
	return 0;
}

static int unknown(const char *name)
{
	for (unsigned i = 0; i < ARRAY_ENTRIES(only_for_creation); i++) {
		if (strcmp(name, only_for_creation[i]) == 0)
			return complain(
				"Invalid parameter '%s'\nThis option is only supported for image creation", name);
	}
	return complain("Invalid parameter '%s'", name);
}

static int option_set(void *arg, const char *name, const char *value)
{
	struct amend_options *o = arg;
	unsigned i = 0;

	while (i < AMEND_OPTIONS && strcmp(name, known[i].name) != 0)
		i++;
	if (i == AMEND_OPTIONS)
		return unknown(name);
	free(o->given[i]);
	o->given[i] = strdup(value);
	return o->given[i] ? value_parse((enum amend_option)i, value, &o->number[i]) : -ENOMEM;
}

static int help_look(void *arg, const char *name, const char *value ATTR_UNUSED)
{
	struct amend_options *o = arg;

	o->help |= strcmp(name, "help") == 0 || strcmp(name, "?") == 0;
	return 0;
}

int amend_options_add(struct amend_options *o, const char *list)
{
	size_t len = strlen(list);
	char *lists;

	if (len == 0 || list[0] == ',' || list[len - 1] == ',')
		return complain("Invalid option list: %s", list);
	if (asprintf(&lists, "%s%s%s", o->lists ? o->lists : "", o->lists ? "," : "", list) < 0)
		return -ENOMEM;
	free(o->lists);
	o->lists = lists;
	return cli_options_parse(list, help_look, o);
}

int amend_options_parse(struct amend_options *o) { return cli_options_parse(o->lists, option_set, o); }

void amend_options_fini(struct amend_options *o)
{
	free(o->lists);
	for (unsigned i = 0; i < AMEND_OPTIONS; i++)
		free(o->given[i]);
}

/* ---- key slots ---- */

static int secret_find(const struct cli_secrets *secrets, const char *id, struct crypto_secret *out)
{
	return cli_secret_find(secrets, id, out) ? 0 : complain("No secret with id '%s'", id);
}

static int slot_take(struct amend_options *o)
{
	uint64_t slot = o->number[AMEND_KEYSLOT];

	o->luks.slot = -1;
	o->luks.force = o->force;
	if (!o->given[AMEND_KEYSLOT])
		return 0;
	if (slot >= LUKS_SLOTS)
		return complain(
			"Invalid keyslot %u specified, must be between 0 and %u", (unsigned)slot, LUKS_SLOTS - 1);
	o->luks.slot = (int)slot;
	return 0;
}

static int active_take(struct amend_options *o, const struct cli_secrets *secrets)
{
	uint64_t ms = o->given[AMEND_ITER_TIME] ? o->number[AMEND_ITER_TIME] : 2000;
	int ret;

	if (!o->given[AMEND_NEW_SECRET])
		return complain("'%s' is required to activate a keyslot", "new-secret");
	if (o->given[AMEND_OLD_SECRET])
		return complain("'%s' must not be given when activating keyslots", "old-secret");
	ret = slot_take(o);
	o->luks.iter_ms = (uint32_t)MIN(MAX(ms, UINT64_C(1)), (uint64_t)UINT32_MAX);
	return ret < 0 ? ret : secret_find(secrets, o->given[AMEND_NEW_SECRET], &o->luks.passphrase);
}

static int inactive_take(struct amend_options *o, const struct cli_secrets *secrets)
{
	int ret;

	if (o->given[AMEND_NEW_SECRET])
		return complain("'%s' must not be given when erasing keyslots", "new-secret");
	if (o->given[AMEND_ITER_TIME])
		return complain("'%s' must not be given when erasing keyslots", "iter-time");
	if (!o->given[AMEND_OLD_SECRET] && !o->given[AMEND_KEYSLOT])
		return complain(
			"To erase keyslot(s), either explicit keyslot index or the password currently contained "
			"in them must be given");
	ret = slot_take(o);
	if (ret < 0 || !o->given[AMEND_OLD_SECRET])
		return ret;
	return secret_find(secrets, o->given[AMEND_OLD_SECRET], &o->luks.passphrase);
}

static int encryption_take(
	struct amend_options *o, const struct cli_secrets *secrets, bool luks, struct qcow2_amend *out)
{
	const char *state = o->given[AMEND_STATE];
	bool any = false;

	for (unsigned i = AMEND_ITER_TIME; i <= AMEND_STATE; i++)
		any |= o->given[i] != NULL;
	if (!any)
		return 0;
	out->luks_add = &o->luks;
	if (!luks) /* it will be refused for that */
		return 0;
	if (!state)
		return complain("Parameter '%s' is missing", "state");
	if (strcmp(state, "active") == 0)
		return active_take(o, secrets);
	if (strcmp(state, "inactive") != 0)
		return complain("Parameter 'state' does not accept value '%s'", state);
	out->luks_add = NULL;
	out->luks_remove = &o->luks;
	return inactive_take(o, secrets);
}

/* ---- the others ---- */

static int version_take(const char *compat, unsigned *version)
{
	if (!compat)
		return 0;
	if (strcmp(compat, "0.10") == 0 || strcmp(compat, "v2") == 0)
		*version = 2;
	else if (strcmp(compat, "1.1") == 0 || strcmp(compat, "v3") == 0)
		*version = 3;
	else
		return complain("Unknown compatibility level %s", compat);
	return 0;
}

static enum qcow2_switch switch_of(const struct amend_options *o, enum amend_option i)
{
	return !o->given[i] ? QCOW2_AS_IT_IS : o->number[i] ? QCOW2_ON : QCOW2_OFF;
}

/* What no width can be stays so: 0 would mean none was asked for. */
static unsigned bits_of(const struct amend_options *o)
{
	uint64_t bits = o->number[AMEND_REFCOUNT_BITS];

	return !o->given[AMEND_REFCOUNT_BITS] ? 0 : bits == 0 || bits > 64 ? 3 : (unsigned)bits;
}

/* Named must be both, as they are: another backing file is a matter of rebase. */
static int backing_check(const struct amend_options *o, const struct qcow2_header *h)
{
	const char *name = o->given[AMEND_BACKING_FILE], *format = o->given[AMEND_BACKING_FMT];

	if ((!name && !format) ||
		(h->backing_name[0] && strcmp(name ? name : "", h->backing_name) == 0 &&
			strcmp(format ? format : "", h->backing_format) == 0))
		return 0;
	return complain("Cannot amend the backing file\nYou can use '%s rebase' instead.", cli_tool_name());
}

int amend_options_take(struct amend_options *o, const struct cli_secrets *secrets, struct crypto_secret unlock,
	const struct qcow2_header *h, struct qcow2_amend *out)
{
	int ret = version_take(o->given[AMEND_COMPAT], &out->version);

	o->luks.unlock = unlock;
	out->refcount_bits = bits_of(o);
	out->lazy_refcounts = switch_of(o, AMEND_LAZY_REFCOUNTS);
	out->data_raw = switch_of(o, AMEND_DATA_FILE_RAW);
	out->data_name = o->given[AMEND_DATA_FILE];
	out->size = o->number[AMEND_SIZE];
	if (ret == 0)
		ret = encryption_take(o, secrets, h->crypt_method == QCOW2_CRYPT_LUKS, out);
	return ret == 0 ? backing_check(o, h) : ret;
}
