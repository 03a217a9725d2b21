/* SPDX-License-Identifier: MIT */
/*
 * The encryption header where it lies in an image, and its key slots: reading and unlocking. What takes long runs on a
 * helper thread; keys and what they could be made from are wiped.
 */
#include "crypto/luks.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/math.h"
#include "qcow2/crypt.h"

#define MEASURE_FIRST 4096u /* iterations */
#define MEASURE_LAST (1u << 22)
#define MEASURE_MOST_NS (UINT64_C(100) * 1000 * 1000)

int qcow2_luks_load(struct co *co, struct node *file, const struct qcow2_header *h, struct luks *out, struct err *err)
{
	char bytes[LUKS_HEADER_BYTES];
	int rc;

	if (h->crypto_bytes < sizeof(bytes))
		return err_set(err, -EINVAL, "the encryption header has only %" PRIu64 " bytes", h->crypto_bytes);
	rc = node_read(co, file, h->crypto.off, IOV_BUF(bytes, sizeof(bytes)));
	if (rc < 0)
		return err_set(err, rc, "the encryption header can't be read: %s", strerror(-rc));
	return luks_parse(bytes, h->crypto_bytes, out, err);
}

/* ---- unlocking ---- */

struct attempt {
	const struct luks *l;
	const struct luks_slot *slot;
	struct crypto_secret secret;
	void *material;
	uint8_t *key;
	int rc;
};

static void attempt_do(void *arg)
{
	struct attempt *a = arg;

	a->rc = luks_unlock(a->l, a->slot, a->secret, a->material, a->key);
}

int qcow2_luks_try(struct co *co, struct node *file, const struct qcow2_header *h, const struct luks *l, unsigned slot,
	struct crypto_secret secret, uint8_t key[CRYPTO_MOST_KEY_BYTES], struct err *err)
{
	struct attempt a = {.l = l, .slot = &l->slot[slot], .secret = secret, .key = key};
	size_t bytes = luks_material_bytes(l, a.slot);
	int rc;

	a.material = node_alloc(bytes);
	if (!a.material)
		return err_set(err, -ENOMEM, "no memory for the key material");
	rc = node_read(co, file, h->crypto.off + a.slot->offset, IOV_BUF(a.material, bytes));
	if (rc < 0) {
		err_set(err, rc, "the key material can't be read: %s", strerror(-rc));
	} else {
		co_offload(co, attempt_do, &a);
		rc = a.rc;
		if (rc < 0 && rc != -EACCES)
			err_set(err, rc, "the key material can't be decrypted: %s", strerror(-rc));
	}
	crypto_free(a.material, bytes);
	return rc;
}

int qcow2_luks_unlock(struct co *co, struct node *file, const struct qcow2_header *h, const struct luks *l,
	struct crypto_secret secret, uint8_t key[CRYPTO_MOST_KEY_BYTES], struct err *err)
{
	int rc = -EACCES;

	for (unsigned i = 0; rc == -EACCES && i < LUKS_SLOTS; i++) {
		if (l->slot[i].active)
			rc = qcow2_luks_try(co, file, h, l, i, secret, key, err);
	}
	return rc == -EACCES ? err_set(err, rc, "Invalid password, cannot unlock any keyslot") : rc;
}

/* ---- how many iterations? ---- */

struct derivation {
	enum crypto_hash hash;
	struct crypto_secret secret;
	const uint8_t *salt;
	uint32_t iterations;
	size_t bytes;
	int rc;
};

static void derive(void *arg)
{
	struct derivation *d = arg;
	uint8_t out[CRYPTO_MOST_KEY_BYTES];

	d->rc = crypto_pbkdf2(d->hash, d->secret, d->salt, LUKS_SALT_BYTES, d->iterations, out, d->bytes);
	crypto_wipe(out, sizeof(out));
}

/*
 * Iterations that take a second: of several measurements, up to one that takes `most` nanoseconds, the one that was
 * disturbed least, as somebody else may use the processor too. 0: an error, in d->rc.
 */
static uint64_t per_second(struct co *co, struct derivation *d, uint64_t most)
{
	uint64_t best = 0, ns = 0;

	for (d->iterations = MEASURE_FIRST; ns < most && d->iterations <= MEASURE_LAST; d->iterations *= 2) {
		uint64_t begin = co_now(co);

		co_offload(co, derive, d);
		if (d->rc < 0)
			return 0;
		ns = MAX(co_now(co) - begin, UINT64_C(1));
		best = MAX(best, d->iterations * UINT64_C(1000000000) / ns);
	}
	return best;
}

/* Iterations that take so many milliseconds, divided by `share`. */
static int iterations_find(
	struct co *co, struct derivation *d, uint32_t ms, unsigned share, uint32_t *out, struct err *err)
{
	uint64_t rate = per_second(co, d, MIN(ms * UINT64_C(1000000), MEASURE_MOST_NS));
	uint64_t wanted;

	if (rate == 0)
		return err_set(err, d->rc, "PBKDF2 with %s isn't to be had here: %s", crypto_hash_name(d->hash),
			strerror(-d->rc));
	rate = MIN(rate, UINT64_C(1) << 31);
	wanted = rate * ms / 1000 / share;
	*out = (uint32_t)MIN(MAX(wanted, (uint64_t)LUKS_LEAST_ITERATIONS), (uint64_t)LUKS_MOST_ITERATIONS);
	return 0;
}

/* ---- locking ---- */

struct locking {
	struct luks *l;
	unsigned slot;
	struct crypto_secret secret;
	const uint8_t *key;
	void *material; /* NULL: the digest */
	int rc;
};

static void locking_do(void *arg)
{
	struct locking *k = arg;

	k->rc = k->material ? luks_lock(k->l, &k->l->slot[k->slot], k->secret, k->key, k->material)
			    : luks_digest(k->l, k->key, k->l->digest);
}

static int lock_with(struct co *co, struct locking *k, struct derivation *d, uint8_t *salt, uint32_t *iterations,
	uint32_t iter_ms, unsigned share, struct err *err)
{
	int rc = crypto_random(salt, LUKS_SALT_BYTES);

	if (rc < 0)
		return err_set(err, rc, "no random numbers: %s", strerror(-rc));
	d->salt = salt;
	rc = iterations_find(co, d, iter_ms, share, iterations, err);
	if (rc < 0)
		return rc;
	co_offload(co, locking_do, k);
	return k->rc < 0 ? err_set(err, k->rc, "the key can't be encrypted: %s", strerror(-k->rc)) : 0;
}

int qcow2_luks_lock(struct co *co, struct luks *l, unsigned slot, struct crypto_secret secret, uint32_t iter_ms,
	const uint8_t *key, void *material, struct err *err)
{
	struct locking k = {.l = l, .slot = slot, .secret = secret, .key = key, .material = material};
	struct derivation d = {.hash = l->hash, .secret = secret, .bytes = l->key_bytes};

	return lock_with(co, &k, &d, l->slot[slot].salt, &l->slot[slot].iterations, iter_ms, 1, err);
}

/* An eighth of the time, as cryptsetup and QEMU have it: it is spent for every slot that is tried. */
int qcow2_luks_digest(struct co *co, struct luks *l, uint32_t iter_ms, const uint8_t *key, struct err *err)
{
	struct locking k = {.l = l, .key = key};
	struct derivation d = {.hash = l->hash, .secret = {key, l->key_bytes}, .bytes = LUKS_DIGEST_BYTES};

	return lock_with(co, &k, &d, l->salt, &l->iterations, iter_ms, LUKS_SLOTS, err);
}
