/* SPDX-License-Identifier: MIT */
/*
 * Encrypted images: created, opened with the passphrase and not without, resized, their passphrases added and removed; and
 * wherever a change of passphrases is cut off, one that is to stay opens the disk still.
 */
#include "ram.h"

#include "qcow2/qcow2.h"

#define DISK (UINT64_C(2) << 20)

static const struct crypto_secret first = {"first", 5}, second = {"second\n", 7}, third = {"", 0};

static struct qcow2_create_luks quick(void)
{
	struct qcow2_create_luks luks = QCOW2_LUKS_DEFAULT;

	luks.iter_ms = 1;
	luks.secret = first;
	return luks;
}

static struct ram *image_new(struct co *co, struct qcow2_create how, const struct qcow2_create_luks *luks)
{
	struct ram *r = ram_new(co);
	struct err err = {0};

	how.luks = luks;
	how.size = how.size ? how.size : DISK;
	how.version = how.version ? how.version : 3;
	how.cluster_bits = how.cluster_bits ? how.cluster_bits : 16;
	how.refcount_order = 4;
	if (qcow2_create(co, &r->node, &how, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return r;
}

/* The file stays open when the image is closed: it is a copy. */
static struct ram *ram_copy(struct co *co, const struct ram *from, uint64_t bytes)
{
	struct ram *r = ram_new(co);

	CHECK_INT(node_resize(co, &r->node, bytes), 0);
	memcpy(r->data, from->data, bytes);
	return r;
}

static int open_with(struct co *co, const struct ram *r, const struct crypto_secret *secret, struct node **out)
{
	struct qcow2_options options = {.write = true, .secret = secret};
	struct ram *copy = ram_copy(co, r, r->node.size);
	struct err err = {0};
	int rc = qcow2_open(co, &copy->node, &options, out, &err);

	if (rc < 0) {
		CHECK(err.text[0]);
		CHECK_INT(node_close(co, &copy->node), 0);
	}
	return rc;
}

static bool opens(struct co *co, const struct ram *r, struct crypto_secret secret)
{
	struct node *n;
	int rc = open_with(co, r, &secret, &n);

	CHECK(rc == 0 || rc == -EACCES);
	if (rc == 0)
		CHECK_INT(node_close(co, n), 0);
	return rc == 0;
}

static void sound(struct co *co, struct ram *r)
{
	struct qcow2_check found;
	struct err err = {0};

	CHECK_INT(qcow2_check_run(co, &r->node, NULL, NULL, &found, &err), 0);
	CHECK_INT(found.corruptions + found.leaks + found.check_errors, 0);
}

/* ---- images ---- */

static void every_shape(struct co *co, void *arg)
{
	struct qcow2_create_luks luks = quick();

	(void)arg;
	for (unsigned bits = 9; bits <= 21; bits++) {
		for (unsigned how = 0; how < 6; how++) {
			struct qcow2_create c = {.cluster_bits = bits,
				.version = how == 5 ? 2 : 3,
				.preallocation = how < 4 ? (enum qcow2_preallocation)how : QCOW2_PREALLOCATE_OFF,
				.extended_l2 = how == 4 && bits >= 14};
			struct ram *r = image_new(co, c, &luks);
			char data[4096];
			struct node *n;

			sound(co, r);
			CHECK_INT(open_with(co, r, &first, &n), 0);
			CHECK_INT(node_read(co, n, 70000, IOV_BUF(data, sizeof(data))), 0);
			CHECK(mem_is_zero(data, sizeof(data)));
			CHECK_INT(node_write(co, n, 70100, IOV_BUF("text", 4), 0), 0);
			CHECK_INT(node_read(co, n, 70000, IOV_BUF(data, sizeof(data))), 0);
			CHECK(memcmp(data + 100, "text", 4) == 0 && mem_is_zero(data, 100));
			CHECK(mem_is_zero(data + 104, sizeof(data) - 104));
			sound(co, ram_of(n->file));
			CHECK_INT(node_close(co, n), 0);
			CHECK_INT(node_close(co, &r->node), 0);
		}
	}
}

static void refused(struct co *co, void *arg)
{
	struct qcow2_create_luks luks = quick();
	struct ram *r = image_new(co, (struct qcow2_create){0}, &luks);
	struct qcow2_options locked = {.locked = true};
	struct node *n;
	char data[512];

	(void)arg;
	CHECK_INT(open_with(co, r, NULL, &n), -ENOKEY);
	CHECK_INT(open_with(co, r, &second, &n), -EACCES);
	CHECK_INT(open_with(co, r, &third, &n), -EACCES);
	CHECK_INT(open_with(co, r, &first, &n), 0);
	CHECK_INT(node_write(co, n, 0, IOV_BUF("data", 4), 0), 0);
	CHECK_INT(node_close(co, n), 0);

	/* Without the key: what isn't data. */
	CHECK_INT(qcow2_open(co, &r->node, &locked, &n, NULL), 0);
	CHECK_INT(node_read(co, n, DISK / 2, IOV_BUF(data, sizeof(data))), 0);
	CHECK(mem_is_zero(data, sizeof(data)));
	CHECK_INT(node_close(co, n), 0);
}

/* Nothing of the disk is to be found in the file. */
static void hidden(struct co *co, void *arg)
{
	struct qcow2_create_luks luks = quick();
	struct ram *r = image_new(co, (struct qcow2_create){.cluster_bits = 12}, &luks);
	struct qcow2_options options = {.write = true, .secret = &first};
	static char data[20000];
	struct node_status status;
	struct node *n;

	(void)arg;
	memset(data, 'x', sizeof(data));
	CHECK_INT(qcow2_open(co, &r->node, &options, &n, NULL), 0);
	CHECK_INT(node_write(co, n, 3000, IOV_BUF(data, sizeof(data)), 0), 0);
	CHECK_INT(node_status(co, n, 4096, 4096, true, &status), 0);
	CHECK(status.allocated && !status.zero && !status.has_host);
	CHECK(memmem(r->data, r->node.size, "xxxxxxxx", 8) == NULL);
	CHECK(memmem(r->data, r->node.size, "first", 5) == NULL);
	CHECK_INT(node_close(co, n), 0);
}

/* What a resize adds reads zeros, in the last cluster too. */
static void resized(struct co *co, void *arg)
{
	struct qcow2_create_luks luks = quick();
	static char data[200000];

	(void)arg;
	for (unsigned bits = 9; bits <= 16; bits += 7) {
		struct qcow2_create how = {.size = 70000 / 512 * 512, .cluster_bits = bits};
		struct ram *r = image_new(co, how, &luks);
		struct node *n;

		memset(data, 'y', sizeof(data));
		CHECK_INT(open_with(co, r, &first, &n), 0);
		CHECK_INT(node_write(co, n, 0, IOV_BUF(data, n->size), 0), 0);
		CHECK_INT(node_resize(co, n, sizeof(data) / 512 * 512), 0);
		CHECK_INT(node_read(co, n, 0, IOV_BUF(data, n->size)), 0);
		for (size_t i = 0; i < n->size; i++)
			CHECK_INT(data[i], i < how.size ? 'y' : 0);
		CHECK_INT(node_close(co, n), 0);
		CHECK_INT(node_close(co, &r->node), 0);
	}
}

/* The old kind: sectors are encrypted by their place on the disk, with the passphrase as the key; and only read. */
static void old_kind(struct co *co, void *arg)
{
	const struct crypto_spec spec = {.alg = CRYPTO_AES_128, .mode = CRYPTO_CBC, .ivgen = CRYPTO_PLAIN64};
	const uint64_t cluster = 65536, first_data = 5 * cluster; /* header, refcount table, block, L1, L2 */
	struct qcow2_create how = {.preallocation = QCOW2_PREALLOCATE_METADATA};
	struct ram *r = image_new(co, how, NULL);
	struct qcow2_options options = {.secret = &first};
	static char data[DISK], got[DISK];
	char key[16] = "first";
	struct crypto_cipher *c;
	struct node *n;
	struct err err = {0};

	(void)arg;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 + i / 512);
	CHECK_INT(crypto_cipher_new(&spec, key, &c), 0);
	memcpy(r->data + first_data, data, sizeof(data));
	CHECK_INT(crypto_encrypt(c, 0, r->data + first_data, sizeof(data)), 0);
	crypto_cipher_free(c);
	r->data[35] = QCOW2_CRYPT_AES;

	CHECK_INT(open_with(co, r, &first, &n), -EROFS);
	CHECK_INT(qcow2_open(co, &r->node, &(struct qcow2_options){0}, &n, &err), -ENOKEY);
	CHECK_INT(qcow2_open(co, &r->node, &options, &n, &err), 0);
	CHECK_INT(node_read(co, n, 0, IOV_BUF(got, sizeof(got))), 0);
	CHECK(memcmp(got, data, sizeof(data)) == 0);
	for (size_t at = 0; at < 3000; at += 37) {
		CHECK_INT(node_read(co, n, 64000 + at, IOV_BUF(got, 1 + at)), 0);
		CHECK(memcmp(got, data + 64000 + at, 1 + at) == 0);
	}
	CHECK_INT(node_write(co, n, 0, IOV_BUF(data, 512), 0), -EROFS);
	CHECK_INT(node_close(co, n), 0);
}

/* ---- passphrases ---- */

static int change(struct co *co, struct ram *r, bool add, int slot, struct crypto_secret pass, bool force)
{
	struct qcow2_luks_change how = {
		.unlock = first, .passphrase = pass, .slot = slot, .iter_ms = 1, .force = force};
	struct err err = {0};
	int rc = add ? qcow2_luks_add(co, &r->node, &how, &err) : qcow2_luks_remove(co, &r->node, &how, &err);

	CHECK_INT(rc, err.code);
	return rc;
}

static void slots(struct co *co, void *arg)
{
	const struct crypto_secret none = {NULL, 0};
	struct qcow2_create_luks luks = quick();
	struct ram *r = image_new(co, (struct qcow2_create){0}, &luks);

	(void)arg;
	CHECK_INT(change(co, r, true, -1, second, false), 0);
	CHECK(opens(co, r, first) && opens(co, r, second) && !opens(co, r, third));
	CHECK_INT(change(co, r, true, 6, third, false), 0);
	CHECK(opens(co, r, first) && opens(co, r, second) && opens(co, r, third));
	CHECK_INT(change(co, r, true, 6, second, false), -EEXIST);
	CHECK_INT(change(co, r, true, 8, second, false), -EINVAL);
	CHECK_INT(change(co, r, false, 8, none, false), -EINVAL);
	CHECK_INT(change(co, r, false, -1, (struct crypto_secret){"nobody's", 8}, false), -EACCES);

	CHECK_INT(change(co, r, false, -1, second, false), 0);
	CHECK(opens(co, r, first) && !opens(co, r, second) && opens(co, r, third));
	CHECK_INT(change(co, r, false, 1, none, false), -EINVAL);
	CHECK_INT(change(co, r, false, 1, none, true), 0); /* once more: its material is wiped again */
	CHECK_INT(change(co, r, true, 6, second, true), 0);
	CHECK(opens(co, r, first) && opens(co, r, second) && !opens(co, r, third));
	CHECK_INT(change(co, r, false, 6, first, false), -EACCES);
	CHECK_INT(change(co, r, false, 6, none, false), 0);
	CHECK(opens(co, r, first) && !opens(co, r, second));

	CHECK_INT(change(co, r, false, 0, none, false), -EPERM);
	CHECK_INT(change(co, r, false, -1, first, false), -EPERM);
	CHECK(opens(co, r, first));
	for (unsigned i = 1; i < LUKS_SLOTS; i++)
		CHECK_INT(change(co, r, true, -1, second, false), 0);
	CHECK_INT(change(co, r, true, -1, third, false), -ENOSPC);
	CHECK_INT(change(co, r, false, -1, second, false), 0);
	CHECK_INT(change(co, r, false, -1, first, true), 0);
	CHECK(!opens(co, r, first) && !opens(co, r, second));
	CHECK_INT(change(co, r, true, -1, second, false), -EACCES);
	CHECK_INT(node_close(co, &r->node), 0);
}

static void done(struct co *co, struct ram *r, bool added)
{
	CHECK(opens(co, r, first));
	CHECK_INT(opens(co, r, second), added);
}

static bool active(struct co *co, struct ram *r, int slot)
{
	struct qcow2_header h;
	struct luks l;

	CHECK_INT(qcow2_header_load(co, &r->node, 0, &h, NULL), 0);
	CHECK_INT(qcow2_luks_load(co, &r->node, &h, &l, NULL), 0);
	return l.slot[slot].active;
}

/* What a power cut leaves: of the sectors written since the last flush some, and some not. */
static void torn(struct co *co, const struct ram *r, int slot, bool add)
{
	uint32_t dice = 1;

	for (unsigned i = 0; i < 6; i++) {
		struct ram *left = ram_copy(co, r, r->node.size);

		for (uint64_t at = 0; at < r->node.size; at += 512) {
			uint64_t n = MIN(r->node.size - at, UINT64_C(512));

			if (memcmp(r->data + at, r->durable + at, n) == 0)
				continue;
			dice = dice * 1103515245 + 12345;
			if (i == 0 || (i > 1 && dice >> 31))
				memcpy(left->data + at, r->durable + at, n);
		}
		CHECK(opens(co, left, first));
		if (add && active(co, left, slot))
			CHECK(opens(co, left, second));
		CHECK_INT(node_close(co, &left->node), 0);
	}
}

/* The at-th request fails. What is left opens with the passphrase that stays, and the change can be made again. */
static bool cut_off_at(struct co *co, struct ram *r, int slot, bool add, unsigned at)
{
	const struct crypto_secret pass = add ? second : (struct crypto_secret){0};
	struct ram *copy = ram_copy(co, r, r->node.size), *again;
	int rc;

	copy->durable = malloc(r->node.size);
	CHECK(copy->durable != NULL);
	memcpy(copy->durable, r->data, r->node.size);
	copy->fail_at = copy->requests + at;
	rc = change(co, copy, add, slot, pass, false);
	CHECK(rc == 0 || rc == -EIO);
	torn(co, copy, slot, add);
	again = ram_copy(co, copy, copy->node.size);
	if (rc != 0)
		CHECK_INT(change(co, again, add, slot, pass, true), 0);
	done(co, again, add);
	if (rc == 0)
		memcpy(r->data, again->data, r->node.size);
	CHECK_INT(node_close(co, &again->node), 0);
	copy->fail_at = 0;
	(void)!node_close(co, &copy->node);
	return rc == 0;
}

/* Slot 6's entry lies in two sectors. */
static void cut_off(struct co *co, void *arg)
{
	struct qcow2_create_luks luks = quick();
	struct ram *r = image_new(co, (struct qcow2_create){.size = 65536}, &luks);
	const int where[] = {1, 6};

	(void)arg;
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned add = 2; add-- > 0;) {
			unsigned at = 1;

			while (!cut_off_at(co, r, where[i], add, at))
				at++;
			CHECK(at > 6);
		}
	}
	CHECK_INT(node_close(co, &r->node), 0);
}

/* An image that isn't encrypted has none. */
static void no_slots(struct co *co, void *arg)
{
	struct ram *r = image_new(co, (struct qcow2_create){0}, NULL);

	(void)arg;
	CHECK_INT(change(co, r, true, -1, second, false), -EINVAL);
	CHECK_INT(change(co, r, false, -1, second, false), -EINVAL);
	CHECK_INT(node_close(co, &r->node), 0);
}

static void run(void **state) { engine_run((co_entry *)*state, NULL); }

#define CASE(body)                                                                                                     \
	{                                                                                                              \
#body, run, NULL, NULL, (void *)(body)                                                                 \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(every_shape), CASE(refused), CASE(hidden), CASE(resized),
		CASE(old_kind), CASE(slots), CASE(cut_off), CASE(no_slots)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
