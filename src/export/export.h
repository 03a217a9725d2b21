/* SPDX-License-Identifier: MIT */
/*
 * Exports: ways for others to reach disks. A disk is a node with what its users are told of it; an export is a server
 * that offers one disk or several. Each kind (a folder each) starts with a function and options of its own, and is from
 * then on what `struct export_ops` says.
 *
 * Disks outlive their exports, and exports stop before their nodes close.
 */
#ifndef CORRAL_EXPORT_EXPORT_H
#define CORRAL_EXPORT_EXPORT_H

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "export/state.h"
#include "export/stats.h"
#include "io/io.h"
#include "node/node.h"

/* Something else that can be told of a disk's ranges, under a name: a dirty bitmap. */
struct export_context {
	const char *name; /* of the NBD protocol, "qemu:dirty-bitmap:NAME" */
	/* What holds at off: flags, and for how many bytes, at least 1 and at most len. 0 or a negative errno. */
	int (*status)(struct co *co, const struct export_context *c, uint64_t off, uint64_t len, uint32_t *flags,
		uint64_t *run);
};

struct export_disk {
	const char *name;        /* "" is the default one */
	const char *description; /* NULL: none */
	struct node *node;
	struct node
		*image; /* below the filters that it goes through: who knows what lies where; NULL: the node itself */
	bool read_only;
	bool writethrough; /* every write is FUA */
	bool no_discard;   /* a discard does nothing, written zeros keep their space */
	const struct export_context *const *contexts;
	unsigned contexts_n;
};
#define EXPORT_CONTEXTS 32

static inline struct node *export_disk_image(const struct export_disk *d) { return d->image ? d->image : d->node; }
/* Whether it may be changed through an export. */
static inline bool export_disk_writable(const struct export_disk *d) { return !d->read_only && !d->node->read_only; }

struct export
{
	const struct export_ops *ops;
	struct export_stats stats;
	struct log *log;
	bool full; /* the last client couldn't be let in */
};

/* No client can be let in, and whoever comes waits: it is said once, until one can. */
static inline void export_accept_failed(struct export *e, const char *where, int r)
{
	if (!e->full)
		log_line(e->log, LOG_LEVEL_WARNING, "%s: no more clients can be let in for now: %s%s", where,
			r == -EMFILE ? "too many open files" : strerror(-r), r == -EMFILE ? " (ulimit -n)" : "");
	e->full = true;
}

struct export_ops {
	const char *kind; /* for messages: "NBD" */
	/* Where clients find the disk: a URI, or what takes its place. On the heap; NULL: no memory. */
	char *(*where)(const struct export *e, const struct export_disk *disk);
	unsigned (*clients)(const struct export *e, const struct export_disk *disk); /* that have it open now */
	/* The disk's node has another size now: whoever can be told is. */
	void (*resized)(struct export *e, const struct export_disk *disk);
	/* No new clients; requests that were received are answered, then every connection ends. Frees the export. */
	void (*stop)(struct co *co, struct export *e);

	/*
	 * Handing over (docs/handover.md). freeze: nothing more is taken off a client, what was received whole is answered, and
	 * nobody is sent away. *state, empty before, is filled; its descriptors stay the export's. From then on it can only be
	 * thawed, which goes on as if nothing had been, or released: somebody else has what it had; nothing is told to clients,
	 * no path is removed, it is freed. -ENOMEM, explained: it goes on already.
	 * One that was started from a state is frozen, too.
	 */
	int (*freeze)(struct co *co, struct export *e, struct export_state *state, struct err *err);
	void (*thaw)(struct co *co, struct export *e);
	void (*release)(struct co *co, struct export *e);
};

/* ---- NBD (protocol: doc/proto.md of the NetworkBlockDevice project) ---- */

struct nbd_tls_options {
	const char
		*dir; /* with server-cert.pem, server-key.pem, ca-cert.pem, and ca-crl.pem if there is one; or NULL */
	const char *psk_file; /* lines of NAME:KEY, as psktool writes them; or NULL */
	const char *priority; /* of GnuTLS; NULL: NORMAL, and what shared keys need */
	bool verify_peer;     /* clients need a certificate of the authority in ca-cert.pem */
};
struct nbd_tls_creds;
/* Reads the files, and so is called before there are coroutines. -ENOTSUP: built without TLS. */
int nbd_tls_creds_new(const struct nbd_tls_options *o, struct nbd_tls_creds **out, struct err *err) ATTR_MUST_USE;
void nbd_tls_creds_free(struct nbd_tls_creds *c); /* after the exports have stopped; NULL is fine */

struct nbd_options {
	const char *address; /* as io_listen takes it */
	struct io_sock
		*listener; /* instead of the address, or NULL; the server's own from the start on, whatever comes */
	struct export_state *state; /* instead of both, or NULL; its descriptors are taken over, whatever comes */
	const struct export_disk *const *disks;
	unsigned
		disks_n; /* at least 1; their names differ. A client that asks for "" gets the one of this name, or the only one */
	struct log *log;                           /* may be NULL */
	const struct nbd_tls_creds *tls;           /* nothing is told without TLS; NULL: there is no TLS */
	unsigned connections;                      /* the most at once, further ones are closed; 0: 100 */
	bool patient;                              /* further ones wait instead, until there is room for them */
	void (*left)(void *arg, unsigned clients); /* or NULL: one that had got its disk has gone; so many are there */
	void *left_arg;
	uint64_t handshake_ns; /* a client that isn't through with the handshake by then is closed; 0: 10 s */
	uint64_t patience_ns;  /* a client that takes less than 256 KiB of its replies in it is closed; 0: 30 s */
	uint64_t grace_ns;     /* how long a stop waits for clients to take their replies; 0: 5 s */
};

/* Listens when it returns. */
int nbd_export_start(struct co *co, const struct nbd_options *options, struct export **out, struct err *err)
	ATTR_MUST_USE;
const char *nbd_export_address(const struct export *e);

/* ---- vhost-user-blk (docs/interop/vhost-user.rst of QEMU; virtio 1.2, section 5.2) ---- */

struct vhost_user_options {
	const char *address;      /* "unix:PATH" */
	struct io_sock *listener; /* as with NBD, and so is the state */
	struct export_state *state;
	bool hands_over; /* it may have to be frozen: descriptors of memory are kept for that */
	const struct export_disk *disk;
	struct log *log;     /* may be NULL */
	const char *serial;  /* at most 20 bytes; NULL: none */
	unsigned queues;     /* the most that a front end may use; 0: 64 */
	unsigned queue_size; /* entries of one at most, a power of two; 0: 1024 */
	unsigned block_size; /* of the disk: 512 or 4096; 0: 512 */
	uint64_t poll_ns;    /* how long a queue is watched, at most, before we wait to be told; 0: not at all */
};

/*
 * Listens when it returns, for one front end at a time. When it stops, nothing more is taken from the guest; what was
 * taken is done and given back. A front end that connects again, to whoever serves then, goes on where it was.
 */
int vhost_user_export_start(
	struct co *co, const struct vhost_user_options *options, struct export **out, struct err *err) ATTR_MUST_USE;
const char *vhost_user_export_address(const struct export *e);

#endif
