/* SPDX-License-Identifier: MIT */
/* Passphrases from files: see secret.h. Nothing of them goes through buffers that somebody else frees. */
#include "cli/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/math.h"
#include "cli/options.h"
#include "cli/tool.h"

#define SECRET_BYTES 65536u /* the most */

/* ---- reading ---- */

static int bytes_read(int fd, struct cli_secret *to)
{
	to->room = SECRET_BYTES + 1;
	to->bytes = malloc(to->room);
	if (!to->bytes)
		return -ENOMEM;
	while (to->len < to->room) {
		ssize_t n = read(fd, (char *)to->bytes + to->len, to->room - to->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		to->len += (size_t)n;
	}
	return -EFBIG;
}

static int file_read(const char *path, struct cli_secret *to)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = bytes_read(fd, to);
	close(fd);
	return ret;
}

/* QEMU's tools take it from the command line. */
static int data_read(const char *data, struct cli_secret *to)
{
	to->len = to->room = strlen(data);
	to->bytes = strdup(data);
	return to->bytes ? 0 : -ENOMEM;
}

/* ---- base64 (RFC 4648, section 4), in place; white space doesn't count ---- */

static int digit_of(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

static int base64_decode(struct cli_secret *s)
{
	unsigned char *bytes = s->bytes;
	size_t out = 0, digits = 0, pads = 0;
	uint32_t bits = 0;

	for (size_t i = 0; i < s->len; i++) {
		int digit = digit_of((char)bytes[i]);

		if (strchr(" \t\r\n", bytes[i]) && bytes[i])
			continue;
		pads += bytes[i] == '=';
		if (bytes[i] == '=')
			continue;
		if (digit < 0 || pads > 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)digit;
		if (++digits % 4 != 1)
			bytes[out++] = (unsigned char)(bits >> (6 - 2 * ((digits + 3) % 4)));
	}
	if ((digits + pads) % 4 != 0 || pads > 2)
		return -EINVAL;
	s->len = out;
	return 0;
}

/* ---- --object ---- */

struct object {
	const char *command;
	char *id, *file, *format, *data;
	bool is_secret;
};

static int text_set(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
	return *to ? 0 : -ENOMEM;
}

static int refuse(const struct object *o, const char *what, const char *name)
{
	if (!cli_is_qemu())
		return cli_usage(o->command, "%s%s", what, name);
	cli_complain("%s%s", what, name);
	return -EINVAL;
}

static int refuse_type(const struct object *o, const char *type)
{
	if (!cli_is_qemu())
		return cli_usage(o->command, "--object can only be secret,id=ID,file=PATH");
	cli_complain("Parameter 'qom-type' does not accept value '%s'", type);
	return -EINVAL;
}

static int object_option(void *arg, const char *name, const char *value)
{
	struct object *o = arg;

	if (strcmp(name, "secret") == 0 || (strcmp(name, "qom-type") == 0 && strcmp(value, "secret") == 0)) {
		o->is_secret = true;
		return 0;
	}
	if (!o->is_secret && (strcmp(name, "id") != 0 || strcmp(value, "on") == 0))
		return refuse_type(o, strcmp(name, "qom-type") == 0 ? value : name);
	if (strcmp(name, "id") == 0)
		return text_set(&o->id, value);
	if (strcmp(name, "file") == 0)
		return text_set(&o->file, value);
	if (strcmp(name, "format") == 0)
		return text_set(&o->format, value);
	if (strcmp(name, "data") == 0 && cli_is_qemu())
		return text_set(&o->data, value);
	if (strcmp(name, "data") == 0)
		return cli_usage(o->command,
			"a secret's data isn't taken from the command line, where everybody on this machine can read it: "
			"use file=PATH, or file=/dev/fd/N for an inherited descriptor");
	return cli_usage(o->command, "--object secret has id, file and format, not '%s'", name);
}

static int object_check(const struct object *o)
{
	if (!o->is_secret)
		return cli_usage(o->command, "--object can only be secret,id=ID,file=PATH");
	if (!o->id || !o->id[0])
		return refuse(o, "Parameter 'id' is missing", "");
	if (o->data && o->file)
		return cli_usage(o->command, "'file' and 'data' are mutually exclusive");
	if (!o->data && (!o->file || !o->file[0]))
		return refuse(o, "Either 'file' or 'data' must be provided", "");
	if (o->format && strcmp(o->format, "raw") != 0 && strcmp(o->format, "base64") != 0)
		return cli_usage(o->command, "Parameter 'format' does not accept value '%s'; there are raw and base64",
			o->format);
	return 0;
}

static int secret_load(struct cli_secrets *s, struct object *o)
{
	struct cli_secret *one = &s->v[s->n];
	struct crypto_secret there;
	int ret;

	if (cli_secret_find(s, o->id, &there))
		return cli_usage(o->command, "there are two secrets with id '%s'", o->id);
	if (s->n == CLI_SECRETS)
		return cli_usage(o->command, "more than %d secrets", CLI_SECRETS);
	s->n++;
	one->id = take(o->id);
	ret = o->data ? data_read(o->data, one) : file_read(o->file, one);
	if (ret < 0 && o->file) {
		cli_complain("Unable to read %s: %s", o->file, strerror(-ret));
		return ret;
	}
	if (o->format && strcmp(o->format, "base64") == 0 && base64_decode(one) < 0)
		return cli_usage(o->command, "'%s' doesn't hold base64", o->file ? o->file : "data");
	return 0;
}

int cli_secret_add(struct cli_secrets *s, const char *command, const char *object)
{
	struct object o = {.command = command};
	int ret = cli_options_parse(object, object_option, &o);

	if (ret == 0)
		ret = object_check(&o);
	if (ret == 0)
		ret = secret_load(s, &o);
	free(o.id);
	free(o.file);
	free(o.format);
	free(o.data);
	return ret;
}

/* ---- using them ---- */

int cli_secret_key(struct cli_secrets *s, const char *command, const char *id)
{
	if (s->keys_n == CLI_SECRETS)
		return cli_usage(command, "more than %d times --key-secret", CLI_SECRETS);
	s->key_ids[s->keys_n++] = id;
	return 0;
}

bool cli_secret_find(const struct cli_secrets *s, const char *id, struct crypto_secret *out)
{
	for (unsigned i = 0; i < s->n; i++) {
		if (strcmp(s->v[i].id, id) == 0) {
			*out = (struct crypto_secret){s->v[i].bytes, s->v[i].len};
			return true;
		}
	}
	return false;
}

int cli_secret_use(struct cli_secrets *s, const char *command, struct image_open *how)
{
	for (unsigned i = 0; i < s->keys_n; i++) {
		if (!cli_secret_find(s, s->key_ids[i], &s->keys[i]))
			return cli_usage(command, "No secret with id '%s'", s->key_ids[i]);
	}
	how->secrets = s->keys;
	how->secrets_n = s->keys_n;
	return 0;
}

unsigned cli_secret_objects(const struct cli_secrets *s, struct image_secret out[CLI_SECRETS])
{
	for (unsigned i = 0; i < s->n; i++)
		out[i] = (struct image_secret){s->v[i].id, {s->v[i].bytes, s->v[i].len}};
	return s->n;
}

void cli_secrets_fini(struct cli_secrets *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		free(s->v[i].id);
		crypto_free(s->v[i].bytes, s->v[i].room);
	}
	s->n = 0;
}
