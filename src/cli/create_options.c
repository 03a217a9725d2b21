/* SPDX-License-Identifier: MIT */
/* The command line of corral create: qemu-img's options, as far as there is support for them. */
#include "cli/create.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/options.h"
#include "base/math.h"
#include "cli/cli.h"
#include "cli/option_help.h"
#include "cli/options.h"
#include "cli/tool.h"

static const char help[] =
	"Usage: corral create [OPTIONS] FILE [SIZE]\n"
	"\n"
	"Makes a new disk image. SIZE is in bytes, or has a suffix k, M, G, T, P or E; without it the disk is as large as\n"
	"the backing file. An image that exists is overwritten, unless somebody has it open.\n"
	"\n"
	"  -f, --format FORMAT          qcow2 (default) or raw\n"
	"  -b, --backing FILE           what isn't written yet reads from FILE; a relative path is relative to the new image\n"
	"  -F, --backing-format FORMAT  of the backing file; required with -b\n"
	"  -u, --unsafe                 don't look whether the backing file is there\n"
	"  -q, --quiet                  print nothing\n"
	"  -o, --options NAME=VALUE,... options ('help' lists them); a comma in a value is written twice\n"
	"        size=SIZE              the same as the argument\n"
	"        cluster_size=SIZE      512 to 2M, a power of two (default 64k)\n"
	"        refcount_bits=N        1, 2, 4, 8, 16 (default), 32 or 64\n"
	"        compat=VERSION         1.1 (default) or 0.10\n"
	"        lazy_refcounts=on|off  postpone refcount updates (default off)\n"
	"        preallocation=MODE     off (default); metadata: every cluster is mapped from the start; falloc: and has its\n"
	"                               space on the host; full: and is written\n"
	"        extended_l2=on|off     clusters of 16k or more are mapped in 32 parts each (default off)\n"
	"        compression_type=TYPE  of compressed clusters: zlib (default) or zstd\n"
	"        data_file=FILE         the disk's data lies in FILE, which is emptied; a relative path is relative to the\n"
	"                               new image\n"
	"        data_file_raw=on|off   FILE alone is a raw image of the disk, at any time (default off)\n"
	"        encrypt.format=luks    the disk is encrypted, and\n"
	"        encrypt.key-secret=ID  opened with the secret of that name; further (default):\n"
	"        encrypt.cipher-alg     aes-128, -192, -256 (this), serpent-, twofish- of these sizes, cast5-128\n"
	"        encrypt.cipher-mode    xts (default), cbc, ctr, ecb\n"
	"        encrypt.ivgen-alg      plain64 (default), plain, essiv with encrypt.ivgen-hash-alg (sha256)\n"
	"        encrypt.hash-alg       sha256 (default), sha1, sha224, sha384, sha512, ripemd160, md5\n"
	"        encrypt.iter-time=MS   that a guess at the passphrase is to cost (default 2000)\n"
	"        backing_file=FILE      the same as -b\n"
	"        backing_fmt=FORMAT     the same as -F\n" CLI_SECRET_HELP "  -h, --help                   print this\n"
	"\n"
	"Examples:\n"
	"  corral create vm1.qcow2 20G\n"
	"  corral create -b base.qcow2 -F qcow2 vm2.qcow2\n"
	"  corral create --object secret,id=k,file=pass -o encrypt.format=luks,encrypt.key-secret=k safe.qcow2 20G\n"
	"  corral create -o cluster_size=2M,preallocation=metadata fast.qcow2 100G\n";

/* ---- the command line ---- */

enum { OPT_OBJECT = 256 };

static const struct option long_options[] = {
	{"format", required_argument, NULL, 'f'},
	{"backing", required_argument, NULL, 'b'},
	{"backing-format", required_argument, NULL, 'F'},
	{"unsafe", no_argument, NULL, 'u'},
	{"quiet", no_argument, NULL, 'q'},
	{"options", required_argument, NULL, 'o'},
	{"object", required_argument, NULL, OPT_OBJECT},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int set_text(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
	return *to ? 0 : -ENOMEM;
}

int create_refuse(const struct create *c, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (!cli_is_qemu())
		return cli_usage(c->command ? c->command : "create", "%s", text);
	if (c->command || !c->path)
		cli_complain("%s", text);
	else
		cli_complain("%s: %s", c->path, text);
	return -EINVAL;
}

static int set_bytes(const struct create *c, uint64_t *to, const char *name, const char *value)
{
	if (cli_size_parse(value, to) < 0)
		return create_refuse(c,
			"Parameter '%s' expects a non-negative number below 2^64\n"
			"Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
			"and exabytes, respectively.",
			name);
	return 0;
}

static int set_number(const struct create *c, uint64_t *to, const char *name, const char *value)
{
	if (value[strspn(value, "0123456789")] || cli_size_parse(value, to) < 0)
		return create_refuse(c, "Parameter '%s' expects a number", name);
	return 0;
}

static int size_once(struct create *c)
{
	if (c->has_size)
		return create_refuse(c, "The image size must be specified only once");
	c->has_size = true;
	return 0;
}

/* The argument. */
static int set_size(struct create *c, const char *value)
{
	int ret = cli_number_parse("image size", value, &c->size);

	return ret < 0 ? ret : size_once(c);
}

static int set_switch(const struct create *c, bool *to, const char *name, const char *value)
{
	*to = strcmp(value, "on") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "true") == 0 ||
		strcmp(value, "y") == 0;
	if (!*to && strcmp(value, "off") != 0 && strcmp(value, "no") != 0 && strcmp(value, "false") != 0 &&
		strcmp(value, "n") != 0)
		return create_refuse(c, "Parameter '%s' expects 'on' or 'off'", name);
	return 0;
}

static int set_data_option(struct create *c, const char *name, const char *value)
{
	if (strcmp(name, "data_file") == 0)
		return set_text(&c->data_file, value);
	c->has_data_raw = true;
	return set_switch(c, &c->how.data_raw, name, value);
}

/* 1: it isn't one of qcow2 alone. */
static int set_qcow2_option(struct create *c, const char *name, const char *value)
{
	if (strcmp(name, "cluster_size") == 0)
		return set_bytes(c, &c->cluster_bytes, name, value);
	if (strcmp(name, "refcount_bits") == 0)
		return set_number(c, &c->refcount_bits, name, value);
	if (strcmp(name, "compat") == 0)
		return set_text(&c->compat, value);
	if (strcmp(name, "lazy_refcounts") == 0)
		return set_switch(c, &c->how.lazy_refcounts, name, value);
	if (strcmp(name, "compression_type") == 0)
		return set_text(&c->compression, value);
	if (strcmp(name, "extended_l2") == 0)
		return set_switch(c, &c->how.extended_l2, name, value);
	if (strcmp(name, "data_file") == 0 || strcmp(name, "data_file_raw") == 0)
		return set_data_option(c, name, value);
	return create_encrypt_set(&c->encrypt, name, value);
}

static int set_option(void *arg, const char *name, const char *value)
{
	struct create *c = arg;
	int ret = set_qcow2_option(c, name, value);

	if (ret <= 0 && !c->of_qcow2[0])
		snprintf(c->of_qcow2, sizeof(c->of_qcow2), "%s", name);
	if (ret <= 0)
		return ret;
	if (strcmp(name, "size") == 0)
		return set_bytes(c, &c->size, name, value) < 0 ? -EINVAL : size_once(c);
	if (strcmp(name, "preallocation") == 0)
		return set_text(&c->preallocation, value);
	if (strcmp(name, "backing_file") == 0)
		return set_text(&c->backing, value);
	if (strcmp(name, "backing_fmt") == 0)
		return set_text(&c->backing_format, value);
	if (strcmp(name, "nocow") == 0 || strcmp(name, "extent_size_hint") == 0)
		return 0; /* advice to the host's file system */
	return create_refuse(c, "Invalid parameter '%s'", name);
}

int create_options_add(struct create *c, const char *list) { return cli_options_parse(list, set_option, c); }

int create_options_note(struct create *c, const char *list)
{
	size_t len = strlen(list);

	if (len == 0 || list[0] == ',' || (list[len - 1] == ',' && (len < 2 || list[len - 2] != ','))) {
		cli_complain("Invalid option list: %s", list);
		return -EINVAL;
	}
	if (c->lists_n == CREATE_LISTS)
		return cli_usage("create", "more than %d times -o", CREATE_LISTS);
	c->lists[c->lists_n++] = list;
	return 0;
}

static int parse_one(struct create *c, int option, const char *culprit)
{
	switch (option) {
	case 'f': c->format = optarg; return 0;
	case 'b': return set_text(&c->backing, optarg);
	case 'F': return set_text(&c->backing_format, optarg);
	case 'u': c->unsafe = true; return 0;
	case 'q': c->quiet = true; return 0;
	case 'o': return create_options_note(c, optarg);
	case OPT_OBJECT: return cli_secret_add(c->secrets, "create", optarg);
	case ':': return cli_usage("create", "missing argument for option '%s'", culprit);
	default: return cli_usage("create", "unrecognized option '%s'", culprit);
	}
}

static int parse_positional(struct create *c, int argc, char **argv)
{
	if (optind == argc)
		return cli_usage("create", "Expecting image file name");
	if (optind + 2 < argc)
		return cli_usage("create", "Unexpected argument: %s", argv[optind + 2]);
	c->path = argv[optind];
	return optind + 1 < argc ? set_size(c, argv[optind + 1]) : 0;
}

int create_lists_take(struct create *c)
{
	int ret = 0;

	for (unsigned i = 0; i < c->lists_n && ret == 0; i++)
		ret = create_options_add(c, c->lists[i]);
	return ret;
}

static int help_find(void *arg, const char *name, const char *value ATTR_UNUSED)
{
	*(bool *)arg |= strcmp(name, "help") == 0 || strcmp(name, "?") == 0;
	return 0;
}

bool create_help_wanted(const struct create *c)
{
	bool wanted = false;

	for (unsigned i = 0; i < c->lists_n; i++)
		(void)!cli_options_parse(c->lists[i], help_find, &wanted);
	return wanted;
}

/* ---- what was asked, in the engine's terms ---- */

static int version_take(struct create *c, struct err *err)
{
	const char *compat = c->compat ? c->compat : "1.1";

	c->how.version = 3;
	if (strcmp(compat, "0.10") == 0 || strcmp(compat, "v2") == 0)
		c->how.version = 2;
	else if (strcmp(compat, "1.1") != 0 && strcmp(compat, "v3") != 0)
		return err_set(err, -EINVAL, "Parameter 'version' does not accept value '%s'", compat);
	return 0;
}

static int widths_take(struct create *c, struct err *err)
{
	if (!is_power_of_two(c->cluster_bytes) || c->cluster_bytes < 512 || c->cluster_bytes > 2 * MiB)
		return err_set(err, -EINVAL, "Cluster size must be a power of two between 512 and 2048k");
	if (!is_power_of_two(c->refcount_bits) || c->refcount_bits > 64)
		return err_set(err, -EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
	c->how.cluster_bits = (unsigned)__builtin_ctzll(c->cluster_bytes);
	c->how.refcount_order = (unsigned)__builtin_ctzll(c->refcount_bits);
	return 0;
}

/* The place of value in a list of names, NULL being the first. */
static int choose(const char *name, const char *value, const char *const *names, struct err *err)
{
	for (int i = 0; names[i]; i++) {
		if (!value || strcmp(value, names[i]) == 0)
			return i;
	}
	return err_set(err, -EINVAL, "Parameter '%s' does not accept value '%s'", name, value);
}

static int preallocation_take(struct create *c, struct err *err)
{
	static const char *const modes[] = {"off", "metadata", "falloc", "full", NULL};
	int mode = choose("preallocation", c->preallocation, modes, err);

	if (mode < 0)
		return mode;
	if (c->raw && mode == QCOW2_PREALLOCATE_METADATA)
		return err_set(err, -EINVAL, "Unsupported preallocation mode: metadata");
	c->how.preallocation = (enum qcow2_preallocation)mode;
	return 0;
}

static int compression_take(struct create *c, struct err *err)
{
	static const char *const types[] = {"zlib", "zstd", NULL};
	int type = choose("compression-type", c->compression, types, err);

	if (type < 0)
		return type;
	c->how.compression_type = (unsigned)type;
	return 0;
}

static int data_take(struct create *c, struct err *err)
{
	if (!c->data_file)
		return 0;
	if (!c->data_file[0] || image_has_protocol(c->data_file))
		return err_set(err, -EINVAL, "data_file is the path of a local file");
	c->how.data_name = c->data_file;
	return 0;
}

int create_values_check(struct create *c, struct err *err)
{
	int ret = version_take(c, err);

	if (ret == 0 && !c->raw && c->backing_format && !c->how.backing_name)
		ret = err_set(err, -EINVAL, "Backing format cannot be used without backing file");
	if (ret == 0)
		ret = widths_take(c, err);
	if (ret == 0)
		ret = preallocation_take(c, err);
	if (ret == 0)
		ret = compression_take(c, err);
	if (ret == 0)
		ret = data_take(c, err);
	if (ret == 0)
		ret = create_encrypt_take(&c->encrypt, c->secrets, &c->how.luks, err);
	if (ret == 0 && c->raw && c->how.luks)
		ret = err_set(err, -EINVAL, "Encryption not supported for file format 'raw'");
	return ret;
}

/* ---- what can be told without it ---- */

/* qemu-img knows the protocol as a format, too: what it makes is raw. */
static int format_take(struct create *c)
{
	c->raw = strcmp(c->format, "raw") == 0 || (cli_is_qemu() && strcmp(c->format, "file") == 0);
	if (c->raw || strcmp(c->format, "qcow2") == 0)
		return 0;
	return create_refuse(
		c, "Unknown file format '%s'%s", c->format, cli_is_qemu() ? "" : "; there are qcow2 and raw");
}

static int backing_take(struct create *c)
{
	const char *error = cli_is_qemu() ? "Error: " : "";

	if (!c->backing || !c->backing[0])
		return 0;
	if (c->raw)
		return create_refuse(c, "Backing file not supported for file format '%s'", c->format);
	if (strcmp(c->backing, c->path) == 0)
		return create_refuse(
			c, "%sTrying to create an image with the same filename as the backing file", error);
	if (!c->backing_format && (c->unsafe || !cli_is_qemu()))
		return create_refuse(c, "Backing file specified without backing format%s",
			cli_is_qemu() ? "" : "; say which with -F");
	c->how.backing_name = c->backing;
	c->how.backing_format = c->backing_format;
	return 0;
}

/* Which file the name means: "file:x" is x. */
static int name_take(struct create *c)
{
	struct err err = {0};
	json_t *tree = NULL;
	const char *driver, *file;
	int ret = strncmp(c->path, "json:", 5) == 0 ? err_set(&err, -EINVAL, "Unknown protocol 'json'")
						    : options_of_name(c->path, &tree, &err);

	if (ret < 0)
		return create_refuse(c, "%s", err.text);
	driver = options_text(tree, "driver");
	file = options_text(tree, "filename");
	if (file && (strcmp(driver, "file") == 0 || strcmp(driver, "host_device") == 0))
		ret = set_text(&c->file, file);
	else if (strcmp(driver, "nbd") != 0)
		ret = create_refuse(c, "Protocol driver '%s' does not support image creation", driver);
	json_decref(tree);
	return ret;
}

static int names_check(struct create *c)
{
	int ret = 0;

	if (c->raw && c->of_qcow2[0])
		ret = create_refuse(c, "Invalid parameter '%s'", c->of_qcow2);
	if (ret == 0)
		ret = backing_take(c);
	if (ret == 0 && !c->has_size && (!c->how.backing_name || c->unsafe))
		ret = create_refuse(c, "Image creation needs a size parameter");
	return ret;
}

int create_options_check(struct create *c)
{
	struct err err = {0};
	int ret = format_take(c);

	if (ret == 0 && c->path[0])
		ret = name_take(c);
	if (ret == 0)
		ret = names_check(c);
	if (ret == 0 && !c->check_late && create_values_check(c, &err) < 0)
		ret = create_refuse(c, "%s", err.text);
	return ret;
}

/* ---- all of it ---- */

void create_init(struct create *c, struct cli_secrets *secrets)
{
	*c = (struct create){.format = cli_is_qemu() ? "raw" : "qcow2",
		.cluster_bytes = 64 * KiB,
		.refcount_bits = 16,
		.secrets = secrets};
}

void create_free(struct create *c)
{
	free(c->backing);
	free(c->backing_format);
	free(c->compat);
	free(c->preallocation);
	free(c->data_file);
	free(c->compression);
	free(c->file);
	create_encrypt_fini(&c->encrypt);
}

int create_help_print(struct create *c, bool with_file)
{
	int ret = format_take(c);

	if (ret < 0)
		return ret;
	option_help_print(stdout, c->raw ? "raw" : "qcow2", with_file);
	return 1;
}

static int parse_rest(struct create *c, int argc, char **argv)
{
	int ret;

	if (create_help_wanted(c))
		return create_help_print(c, optind < argc);
	ret = parse_positional(c, argc, argv);
	if (ret == 0)
		ret = create_lists_take(c);
	return ret < 0 ? ret : create_options_check(c);
}

int create_parse(struct create *c, struct cli_secrets *secrets, int argc, char **argv)
{
	int option, ret = 0;

	create_init(c, secrets);
	c->check_late = cli_is_qemu();
	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":F:b:f:ho:qu", long_options, NULL)) != -1) {
		if (option == 'h') {
			if (cli_is_qemu())
				cli_help_print(stdout);
			else
				fputs(help, stdout);
			return 1;
		}
		ret = parse_one(c, option, argv[optind - 1]);
	}
	return ret < 0 ? ret : parse_rest(c, argc, argv);
}
