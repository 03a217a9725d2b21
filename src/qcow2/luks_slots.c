/* SPDX-License-Identifier: MIT */
/*
 * Adding and removing passphrases: changing key slots of an image that nobody else has open for writing. At every moment
 * each slot that is marked active either opens the disk, or is being removed.
 *
 *     add       the key material, while the slot is not in use; flush
 *               slot 6 alone, whose entry lies in two sectors: the second of them; flush
 *               the sector of the entry that says "active"; flush
 *     remove    the key material becomes random; flush
 *               the entry: "inactive" and no salt, in as many steps; flush
 *
 * So a removal that was cut off is seen to be unfinished: the slot is active still, and opens nothing. The last active
 * slot is removed only by force: without the key nobody reads the disk any more.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/crypt.h"

struct change {
	struct node *file;
	const struct qcow2_luks_change *how;
	struct qcow2_header *header; /* the next three: owned */
	struct luks *l;
	void *material;
	size_t material_bytes;
};

/* ---- writing ---- */

static int write_durable(struct co *co, struct change *c, uint64_t off, const void *bytes, size_t len, struct err *err)
{
	int rc = node_write(co, c->file, c->header->crypto.off + off, IOV_BUF(bytes, len), 0);

	if (rc == 0)
		rc = node_flush(co, c->file);
	return rc < 0 ? err_set(err, rc, "the encryption header can't be written: %s", strerror(-rc)) : 0;
}

/* The entry of one slot; all else of the header stays as it is on disk. "active" is the first thing in it. */
static int entry_write(struct co *co, struct change *c, unsigned slot, struct err *err)
{
	uint64_t at = LUKS_SLOT_AT(slot);
	size_t first = MIN(align_up(at + 1, QCOW2_SECTOR) - at, (uint64_t)LUKS_SLOT_BYTES);
	char bytes[LUKS_HEADER_BYTES];
	int rc = 0;

	luks_format(c->l, bytes);
	if (first < LUKS_SLOT_BYTES && c->l->slot[slot].active)
		rc = write_durable(co, c, at + first, bytes + at + first, LUKS_SLOT_BYTES - first, err);
	if (rc == 0)
		rc = write_durable(co, c, at, bytes + at, first, err);
	if (rc == 0 && first < LUKS_SLOT_BYTES && !c->l->slot[slot].active)
		rc = write_durable(co, c, at + first, bytes + at + first, LUKS_SLOT_BYTES - first, err);
	return rc;
}

static int material_need(struct change *c, unsigned slot, struct err *err)
{
	crypto_free(c->material, c->material_bytes);
	c->material_bytes = luks_material_bytes(c->l, &c->l->slot[slot]);
	c->material = malloc(c->material_bytes);
	return c->material ? 0 : err_set(err, -ENOMEM, "no memory for key material");
}

static int slot_remove(struct co *co, struct change *c, unsigned slot, struct err *err)
{
	struct luks_slot *s = &c->l->slot[slot];
	int rc = material_need(c, slot, err);

	if (rc < 0)
		return rc;
	rc = crypto_random(c->material, c->material_bytes);
	if (rc < 0)
		return err_set(err, rc, "no random numbers: %s", strerror(-rc));
	rc = write_durable(co, c, s->offset, c->material, c->material_bytes, err);
	if (rc < 0)
		return rc;
	s->active = false;
	s->iterations = 0;
	memset(s->salt, 0, sizeof(s->salt));
	return entry_write(co, c, slot, err);
}

/* ---- adding ---- */

static int slot_choose(const struct change *c, unsigned *slot, struct err *err)
{
	if (c->how->slot >= LUKS_SLOTS)
		return err_set(err, -EINVAL, "Invalid keyslot %d specified, must be between 0 and %d", c->how->slot,
			LUKS_SLOTS - 1);
	if (c->how->slot >= 0) {
		*slot = (unsigned)c->how->slot;
		if (c->l->slot[*slot].active && !c->how->force)
			return err_set(
				err, -EEXIST, "Refusing to overwrite active keyslot %u - please erase it first", *slot);
		return 0;
	}
	for (*slot = 0; *slot < LUKS_SLOTS; ++*slot) {
		if (!c->l->slot[*slot].active)
			return 0;
	}
	return err_set(err, -ENOSPC, "Can't add a keyslot - all keyslots are in use");
}

static int slot_fill(struct co *co, struct change *c, unsigned slot, const uint8_t *key, struct err *err)
{
	int rc = luks_slot_check(c->l, slot, c->header->crypto_bytes, err);

	if (rc == 0 && c->l->slot[slot].active)
		rc = slot_remove(co, c, slot, err);
	if (rc == 0)
		rc = material_need(c, slot, err);
	if (rc == 0)
		rc = qcow2_luks_lock(co, c->l, slot, c->how->passphrase, c->how->iter_ms, key, c->material, err);
	if (rc == 0)
		rc = write_durable(co, c, c->l->slot[slot].offset, c->material, c->material_bytes, err);
	c->l->slot[slot].active = true;
	return rc < 0 ? rc : entry_write(co, c, slot, err);
}

static int add(struct co *co, struct change *c, struct err *err)
{
	uint8_t key[CRYPTO_MOST_KEY_BYTES];
	unsigned slot = 0;
	int rc = slot_choose(c, &slot, err);

	if (rc < 0)
		return rc;
	rc = qcow2_luks_unlock(co, c->file, c->header, c->l, c->how->unlock, key, err);
	if (rc < 0)
		return rc;
	rc = slot_fill(co, c, slot, key, err);
	crypto_wipe(key, sizeof(key));
	return rc;
}

/* ---- removing ---- */

static unsigned active_count(const struct luks *l)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		n += l->slot[i].active;
	return n;
}

/* Marks the slots that the passphrase opens. */
static int slots_match(struct co *co, struct change *c, bool match[LUKS_SLOTS], unsigned *count, struct err *err)
{
	uint8_t key[CRYPTO_MOST_KEY_BYTES];
	int rc = 0;

	*count = 0;
	for (unsigned i = 0; rc == 0 && i < LUKS_SLOTS; i++) {
		match[i] = false;
		if (!c->l->slot[i].active || (c->how->slot >= 0 && i != (unsigned)c->how->slot))
			continue;
		rc = qcow2_luks_try(co, c->file, c->header, c->l, i, c->how->passphrase, key, err);
		match[i] = rc == 0;
		*count += match[i];
		rc = rc == -EACCES ? 0 : rc;
	}
	crypto_wipe(key, sizeof(key));
	return rc;
}

static int remove_by_passphrase(struct co *co, struct change *c, struct err *err)
{
	bool match[LUKS_SLOTS];
	unsigned count;
	int rc = slots_match(co, c, match, &count, err);

	if (rc < 0)
		return rc;
	if (count == 0 && c->how->slot >= 0)
		return err_set(err, -EACCES,
			"Given keyslot %d doesn't contain the given old password for erase operation", c->how->slot);
	if (count == 0)
		return err_set(err, -EACCES, "No keyslots match given (old) password for erase operation");
	if (count == active_count(c->l) && !c->how->force)
		return err_set(err, -EPERM,
			"All the active keyslots match the (old) password that was given and erasing them will erase all "
			"the data in the image irreversibly - refusing operation");
	for (unsigned i = 0; rc == 0 && i < LUKS_SLOTS; i++) {
		if (match[i])
			rc = slot_remove(co, c, i, err);
	}
	return rc;
}

static int remove_by_number(struct co *co, struct change *c, struct err *err)
{
	unsigned slot = (unsigned)c->how->slot;

	if (slot >= LUKS_SLOTS)
		return err_set(err, -EINVAL, "Invalid keyslot %d specified, must be between 0 and %d", c->how->slot,
			LUKS_SLOTS - 1);
	if (c->l->slot[slot].active && active_count(c->l) == 1 && !c->how->force)
		return err_set(err, -EPERM,
			"Attempt to erase the only active keyslot %u which will erase all the data in the image "
			"irreversibly - refusing operation",
			slot);
	if (!c->l->slot[slot].active && !c->how->force)
		return err_set(err, -EINVAL, "Given keyslot %u is already erased (inactive) ", slot);
	if (!c->l->slot[slot].active) {
		int rc = luks_slot_check(c->l, slot, c->header->crypto_bytes, err);

		if (rc < 0)
			return rc;
	}
	return slot_remove(co, c, slot, err);
}

/* ---- both ---- */

static int change_load(struct co *co, struct change *c, struct err *err)
{
	int rc;

	c->header = malloc(sizeof(*c->header));
	c->l = malloc(sizeof(*c->l));
	if (!c->header || !c->l)
		return err_set(err, -ENOMEM, "no memory for the headers");
	rc = qcow2_header_load(co, c->file, ~UINT64_C(0), c->header, err);
	if (rc < 0)
		return rc;
	if (c->header->crypt_method != QCOW2_CRYPT_LUKS)
		return err_set(err, -EINVAL, "the image is not encrypted with LUKS, so it has no passphrases");
	rc = qcow2_luks_load(co, c->file, c->header, c->l, err);
	return rc < 0 ? rc : crypto_spec_check(&c->l->spec, err);
}

static void change_fini(struct change *c)
{
	crypto_free(c->material, c->material_bytes);
	free(c->header);
	free(c->l);
}

int qcow2_luks_add(struct co *co, struct node *file, const struct qcow2_luks_change *how, struct err *err)
{
	struct change c = {.file = file, .how = how};
	int rc = change_load(co, &c, err);

	if (rc == 0 && how->iter_ms == 0)
		rc = err_set(err, -EINVAL, "iteration time must be non-zero");
	if (rc == 0)
		rc = add(co, &c, err);
	change_fini(&c);
	return rc;
}

int qcow2_luks_remove(struct co *co, struct node *file, const struct qcow2_luks_change *how, struct err *err)
{
	struct change c = {.file = file, .how = how};
	int rc = change_load(co, &c, err);

	if (rc == 0)
		rc = how->passphrase.bytes ? remove_by_passphrase(co, &c, err) : remove_by_number(co, &c, err);
	change_fini(&c);
	return rc;
}
