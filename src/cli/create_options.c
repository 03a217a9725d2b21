/* SPDX-License-Identifier: MIT */
/* The command line of corral create: qemu-img's options, as far as there is support for them. */
#include "cli/create.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/options.h"

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
	"  -o NAME=VALUE,...            options; a comma in a value is written twice\n"
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

static int set_number(uint64_t *to, const char *name, const char *value)
{
	if (cli_size_parse(value, to) < 0)
		return cli_usage("create",
			"Parameter '%s' expects a non-negative number; you may use k, M, G, T, P or E suffixes", name);
	return 0;
}

static int set_size(struct create *c, const char *value)
{
	int ret = cli_size_parse(value, &c->size);

	if (c->has_size)
		return cli_usage("create", "The image size must be specified only once");
	if (ret == -ERANGE)
		return cli_usage(
			"create", "Invalid image size specified. Must be between 0 and %" PRId64 ".", INT64_MAX);
	if (ret < 0)
		return cli_usage("create",
			"Invalid image size '%s' specified. You may use k, M, G, T, P or E suffixes for kilobytes, "
			"megabytes, gigabytes, terabytes, petabytes and exabytes.",
			value);
	c->has_size = true;
	return 0;
}

static int set_switch(bool *to, const char *name, const char *value)
{
	*to = strcmp(value, "on") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "true") == 0 ||
		strcmp(value, "y") == 0;
	if (!*to && strcmp(value, "off") != 0 && strcmp(value, "no") != 0 && strcmp(value, "false") != 0 &&
		strcmp(value, "n") != 0)
		return cli_usage("create", "Parameter '%s' expects 'on' or 'off'", name);
	return 0;
}

static int set_data_option(struct create *c, const char *name, const char *value)
{
	if (strcmp(name, "data_file") == 0)
		return set_text(&c->data_file, value);
	c->has_data_raw = true;
	return set_switch(&c->how.data_raw, name, value);
}

static int set_option(void *arg, const char *name, const char *value)
{
	struct create *c = arg;
	int ret = create_encrypt_set(&c->encrypt, name, value);

	if (ret <= 0)
		return ret;
	if (strcmp(name, "size") == 0)
		return set_size(c, value);
	if (strcmp(name, "cluster_size") == 0)
		return set_number(&c->cluster_bytes, name, value);
	if (strcmp(name, "refcount_bits") == 0)
		return set_number(&c->refcount_bits, name, value);
	if (strcmp(name, "compat") == 0)
		return set_text(&c->compat, value);
	if (strcmp(name, "lazy_refcounts") == 0)
		return set_switch(&c->how.lazy_refcounts, name, value);
	if (strcmp(name, "preallocation") == 0)
		return set_text(&c->preallocation, value);
	if (strcmp(name, "backing_file") == 0)
		return set_text(&c->backing, value);
	if (strcmp(name, "backing_fmt") == 0)
		return set_text(&c->backing_format, value);
	if (strcmp(name, "compression_type") == 0)
		return set_text(&c->compression, value);
	if (strcmp(name, "extended_l2") == 0)
		return set_switch(&c->how.extended_l2, name, value);
	if (strcmp(name, "data_file") == 0 || strcmp(name, "data_file_raw") == 0)
		return set_data_option(c, name, value);
	return cli_usage("create", "Invalid parameter '%s'", name);
}

int create_options_add(struct create *c, const char *list) { return cli_options_parse(list, set_option, c); }

static int parse_one(struct create *c, int option, const char *culprit)
{
	switch (option) {
	case 'f': c->format = optarg; return 0;
	case 'b': return set_text(&c->backing, optarg);
	case 'F': return set_text(&c->backing_format, optarg);
	case 'u': c->unsafe = true; return 0;
	case 'q': c->quiet = true; return 0;
	case 'o': return create_options_add(c, optarg);
	case OPT_OBJECT: return cli_secret_add(&c->secrets, "create", optarg);
	case ':': return cli_usage("create", "an argument is missing after '%s'", culprit);
	default: return cli_usage("create", "unknown option '%s'", culprit);
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

/* ---- what was asked, in the engine's terms ---- */

static int version_take(struct create *c)
{
	const char *compat = c->compat ? c->compat : "1.1";

	c->how.version = 3;
	if (strcmp(compat, "0.10") == 0 || strcmp(compat, "v2") == 0)
		c->how.version = 2;
	else if (strcmp(compat, "1.1") != 0 && strcmp(compat, "v3") != 0)
		return cli_usage(
			"create", "Parameter 'compat' does not accept value '%s'; there are 1.1 and 0.10", compat);
	return 0;
}

static int widths_take(struct create *c)
{
	if (!is_power_of_two(c->cluster_bytes) || c->cluster_bytes < 512 || c->cluster_bytes > 2 * MiB)
		return cli_usage("create", "Cluster size must be a power of two between 512 and 2048k");
	if (!is_power_of_two(c->refcount_bits) || c->refcount_bits > 64)
		return cli_usage("create", "Refcount width must be a power of two and may not exceed 64 bits");
	c->how.cluster_bits = (unsigned)__builtin_ctzll(c->cluster_bytes);
	c->how.refcount_order = (unsigned)__builtin_ctzll(c->refcount_bits);
	return 0;
}

/* The place of value in a list of names; -EINVAL: it isn't there, which is told. NULL is the first. */
static int choose(const char *name, const char *value, const char *const *names)
{
	for (int i = 0; names[i]; i++) {
		if (!value || strcmp(value, names[i]) == 0)
			return i;
	}
	return cli_usage("create", "Parameter '%s' does not accept value '%s'", name, value);
}

static int preallocation_take(struct create *c)
{
	static const char *const modes[] = {"off", "metadata", "falloc", "full", NULL}, *const none[] = {"off", NULL};
	int mode = choose("preallocation", c->preallocation, c->raw ? none : modes);

	if (mode < 0)
		return mode;
	c->how.preallocation = (enum qcow2_preallocation)mode;
	return 0;
}

static int compression_take(struct create *c)
{
	static const char *const types[] = {"zlib", "zstd", NULL};
	int type = choose("compression_type", c->compression, types);

	if (type < 0)
		return type;
	c->how.compression_type = (unsigned)type;
	return 0;
}

static int data_take(struct create *c)
{
	if (!c->data_file)
		return 0;
	if (c->raw || !c->data_file[0] || c->data_file[strcspn(c->data_file, ":/")] == ':')
		return cli_usage("create", "data_file is the path of a local file, of a qcow2 image");
	c->how.data_name = c->data_file;
	return 0;
}

static bool is_format(const char *name) { return strcmp(name, "qcow2") == 0 || strcmp(name, "raw") == 0; }

static int backing_take(struct create *c)
{
	if (!c->backing || !c->backing[0])
		return 0;
	if (c->raw)
		return cli_usage("create", "Backing file not supported for file format 'raw'");
	if (!c->backing_format)
		return cli_usage("create", "Backing file specified without backing format; say which with -F");
	if (!is_format(c->backing_format))
		return cli_usage(
			"create", "Unknown backing file format '%s'; there are qcow2 and raw", c->backing_format);
	if (strcmp(c->backing, c->path) == 0)
		return cli_usage("create", "Trying to create an image with the same filename as the backing file");
	c->how.backing_name = c->backing;
	c->how.backing_format = c->backing_format;
	return 0;
}

int create_options_check(struct create *c)
{
	int ret = 0;

	if (!is_format(c->format))
		return cli_usage("create", "Unknown file format '%s'; there are qcow2 and raw", c->format);
	c->raw = strcmp(c->format, "raw") == 0;
	ret = version_take(c);
	if (ret == 0)
		ret = widths_take(c);
	if (ret == 0)
		ret = preallocation_take(c);
	if (ret == 0)
		ret = compression_take(c);
	if (ret == 0)
		ret = backing_take(c);
	if (ret == 0)
		ret = data_take(c);
	if (ret == 0)
		ret = create_encrypt_take(&c->encrypt, &c->secrets, &c->how.luks);
	if (ret == 0 && c->raw && c->how.luks)
		ret = cli_usage("create", "Encryption not supported for file format 'raw'");
	if (ret == 0 && !c->has_size && (!c->how.backing_name || c->unsafe))
		ret = cli_usage("create", "Image creation needs a size parameter");
	return ret;
}

void create_init(struct create *c)
{
	*c = (struct create){.format = "qcow2", .cluster_bytes = 64 * KiB, .refcount_bits = 16};
}

void create_free(struct create *c)
{
	free(c->backing);
	free(c->backing_format);
	free(c->compat);
	free(c->preallocation);
	free(c->data_file);
	free(c->compression);
	create_encrypt_fini(&c->encrypt);
	cli_secrets_fini(&c->secrets);
}

int create_parse(struct create *c, int argc, char **argv)
{
	int option, ret = 0;

	create_init(c);
	optind = 1;
	while (ret == 0 && (option = getopt_long(argc, argv, ":f:b:F:uqo:h", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 1;
		}
		ret = parse_one(c, option, argv[optind - 1]);
	}
	if (ret == 0)
		ret = parse_positional(c, argc, argv);
	return ret < 0 ? ret : create_options_check(c);
}
