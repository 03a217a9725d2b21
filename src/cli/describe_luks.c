/* SPDX-License-Identifier: MIT */
/* How an image is encrypted: what QEMU's QCryptoBlockInfoLUKS (qapi/crypto.json) says. It needs no passphrase. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/describe.h"

static json_t *slot_json(const struct luks_slot *slot)
{
	json_t *o = json_object();

	json_object_set_new(o, "active", json_boolean(slot->active));
	if (slot->active)
		json_object_set_new(o, "iters", json_integer(slot->iterations));
	json_object_set_new(o, "key-offset", json_integer((json_int_t)slot->offset));
	if (slot->active)
		json_object_set_new(o, "stripes", json_integer(slot->stripes));
	return o;
}

/* People see it in this order, as with qemu-img. */
static json_t *luks_json(const struct luks *l)
{
	json_t *o = json_object(), *slots = json_array();

	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		json_array_append_new(slots, slot_json(&l->slot[i]));
	json_object_set_new(o, "ivgen-alg", json_string(crypto_ivgen_name(l->spec.ivgen)));
	json_object_set_new(o, "hash-alg", json_string(crypto_hash_name(l->hash)));
	json_object_set_new(o, "cipher-alg", json_string(crypto_alg_name(l->spec.alg)));
	json_object_set_new(o, "uuid", describe_text(l->uuid));
	if (l->spec.ivgen == CRYPTO_ESSIV && l->spec.has_iv_hash)
		json_object_set_new(o, "ivgen-hash-alg", json_string(crypto_hash_name(l->spec.iv_hash)));
	json_object_set_new(o, "format", json_string("luks"));
	json_object_set_new(o, "cipher-mode", json_string(crypto_mode_name(l->spec.mode)));
	json_object_set_new(o, "slots", slots);
	json_object_set_new(o, "payload-offset", json_integer((json_int_t)l->payload_offset));
	json_object_set_new(o, "master-key-iters", json_integer(l->iterations));
	return o;
}

int describe_encryption(struct co *co, json_t *data, struct node *file, const struct qcow2_header *h, struct err *err)
{
	AUTO_FREE struct luks *l = NULL;
	int ret;

	if (h->crypt_method == QCOW2_CRYPT_AES)
		json_object_set_new(data, "encrypt", json_pack("{s:s}", "format", "aes"));
	if (h->crypt_method != QCOW2_CRYPT_LUKS)
		return 0;
	l = malloc(sizeof(*l));
	if (!l)
		return err_set(err, -ENOMEM, "no memory");
	ret = qcow2_luks_load(co, file, h, l, err);
	if (ret == 0)
		json_object_set_new(data, "encrypt", luks_json(l));
	return ret;
}
