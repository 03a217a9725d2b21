/* SPDX-License-Identifier: MIT */
/*
 * Encryption. Data is encrypted and decrypted in a buffer of our own, in windows: the caller's memory may change under us
 * (a guest's), and what is written must not. These buffers have a budget of their own, since a request that was padded
 * holds one of the node's already.
 *
 * Whatever blocks the child must be accessed in, ours are sectors. What else lies in the child's block may be metadata,
 * which others write past us; that a block is read, changed and written without them in between is for the child to see to.
 *
 * A cipher is for one thread at a time. Small pieces are done at once, with a cipher that is only used here, between two
 * yields; large ones on helper threads, with the next one that is idle.
 */
#include "filter/crypt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/math.h"
#include "base/mutant.h"
#include "node/buffer.h"

#define CRYPT_WINDOW UINT64_C(1048576)
#define CRYPT_OFFLOAD_BYTES 65536u /* with AES some 20 us: about what it costs to ask a thread */
#define CRYPT_THREADS 4

struct crypt {
	struct node node; /* first; its file is the child if that is owned */
	struct node *child;
	struct crypto_cipher *here; /* NULL: there is no key */
	struct crypto_cipher *idle[CRYPT_THREADS];
	unsigned idle_count;
	struct co_sem idle_sem;
	struct node_buffers *windows;
};

static struct crypt *crypt_of(const struct node *n) { return container_of(n, struct crypt, node); }

/* ---- ciphers ---- */

struct work { /* a piece, at host address off */
	struct crypto_cipher *cipher;
	uint64_t off;
	char *buffer;
	size_t bytes;
	bool encrypt;
	int rc;
};

static int encrypt(const struct work *w)
{
	size_t half = MUTANT(88) ? align_down(w->bytes / 2, CRYPTO_SECTOR) : 0;
	int rc = crypto_encrypt(w->cipher, w->off / CRYPTO_SECTOR, w->buffer + half, w->bytes - half);

	return rc == 0 && half > 0 ? crypto_encrypt(w->cipher, w->off / CRYPTO_SECTOR, w->buffer, half) : rc;
}

static void work_do(void *arg)
{
	struct work *w = arg;

	w->rc = w->encrypt ? encrypt(w) : crypto_decrypt(w->cipher, w->off / CRYPTO_SECTOR, w->buffer, w->bytes);
}

static int transform(struct co *co, struct crypt *c, struct work *w)
{
	if (w->bytes < CRYPT_OFFLOAD_BYTES) {
		w->cipher = c->here;
		work_do(w);
		return w->rc;
	}
	co_sem_acquire(co, &c->idle_sem, 1);
	w->cipher = c->idle[--c->idle_count];
	co_offload(co, work_do, w);
	c->idle[c->idle_count++] = w->cipher;
	co_sem_release(&c->idle_sem, 1);
	return w->rc;
}

/* ---- requests ---- */

/* Beyond the child's end there are zeros, as in a file that is made longer. */
static int child_read(struct co *co, struct crypt *c, uint64_t off, char *to, size_t bytes)
{
	size_t there = off < c->child->size ? MIN(bytes, c->child->size - off) : 0;

	memset(to + there, 0, bytes - there);
	return there > 0 ? node_read(co, c->child, off, IOV_BUF(to, there)) : 0;
}

static int read_window(struct co *co, struct crypt *c, uint64_t off, struct iov to, char *buffer)
{
	struct work w = {.off = off, .buffer = buffer, .bytes = to.len};
	int rc = child_read(co, c, off, buffer, to.len);

	if (rc == 0)
		rc = transform(co, c, &w);
	if (rc == 0)
		iov_copy_in(to, buffer, to.len);
	return rc;
}

static int write_window(struct co *co, struct crypt *c, uint64_t off, struct iov from, char *buffer, unsigned flags)
{
	struct work w = {.off = off, .buffer = buffer, .bytes = from.len, .encrypt = true};
	int rc;

	iov_copy_out(from, buffer, from.len);
	rc = transform(co, c, &w);
	if (rc == 0 && off + from.len > c->child->size)
		rc = node_reach(co, c->child, off + from.len);
	return rc == 0 ? node_write(co, c->child, off, IOV_BUF(buffer, from.len), flags) : rc;
}

static int request(struct co *co, struct node *n, uint64_t off, struct iov it, bool write, unsigned flags)
{
	struct crypt *c = crypt_of(n);
	size_t bytes = MIN(it.len, CRYPT_WINDOW);
	void *buffer;
	int rc;

	if (!c->here)
		return -ENOKEY;
	rc = node_buffers_get(co, c->windows, bytes, &buffer);
	if (rc != 0)
		return rc;
	for (size_t at = 0; rc == 0 && at < it.len; at += bytes) {
		struct iov part = iov_slice(it, at, MIN(bytes, it.len - at));

		rc = write ? write_window(co, c, off + at, part, buffer, flags)
			   : read_window(co, c, off + at, part, buffer);
	}
	node_buffers_put(c->windows, buffer, bytes);
	return rc;
}

static int crypt_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	return request(co, n, off, to, false, 0);
}

static int crypt_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	return request(co, n, off, from, true, flags);
}

static int crypt_flush(struct co *co, struct node *n) { return node_flush(co, crypt_of(n)->child); }

static void crypt_free(struct crypt *c)
{
	crypto_cipher_free(c->here);
	for (unsigned i = 0; i < CRYPT_THREADS; i++)
		crypto_cipher_free(c->idle[i]);
	node_buffers_free(c->windows);
	free(c);
}

static int crypt_close(struct co *co ATTR_UNUSED, struct node *n)
{
	node_fini(n);
	crypt_free(crypt_of(n));
	return 0;
}

/* Zeros must be encrypted like anything else, so there is no zero; and a discard would show what zeros decrypt to. */
static const struct node_ops crypt_ops = {
	.name = "crypt",
	.close = crypt_close,
	.flush = crypt_flush,
	.read = crypt_read,
	.write = crypt_write,
};

/* ---- opening ---- */

static int ciphers_make(struct crypt *c, const struct crypto_spec *spec, const void *key)
{
	int rc = crypto_cipher_new(spec, key, &c->here);

	while (rc == 0 && c->idle_count < CRYPT_THREADS) {
		rc = crypto_cipher_new(spec, key, &c->idle[c->idle_count]);
		if (rc == 0)
			c->idle_count++;
	}
	return rc;
}

static void node_fill_in(struct node *n, struct node *child, bool own)
{
	*n = (struct node){
		.ops = &crypt_ops,
		.file = own ? child : NULL,
		.size = align_down(INT64_MAX, CRYPTO_SECTOR),
		.align = CRYPTO_SECTOR,
		.mem_align = 1,
		.cluster = 1,
		.read_only = child->read_only,
		.opaque = true,
	};
	snprintf(n->name, sizeof(n->name), "%s", child->name);
}

int crypt_open(
	struct co *co, struct node *child, bool own, const struct crypto_spec *spec, const void *key, struct node **out)
{
	struct crypt *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->child = child;
	co_sem_init(&c->idle_sem, CRYPT_THREADS);
	node_fill_in(&c->node, child, own);
	rc = key ? ciphers_make(c, spec, key) : 0;
	if (rc == 0)
		rc = node_buffers_new(&c->windows);
	if (rc == 0)
		rc = node_init(&c->node, co_sched_of(co));
	if (rc < 0) {
		crypt_free(c);
		return rc;
	}
	*out = &c->node;
	return 0;
}
