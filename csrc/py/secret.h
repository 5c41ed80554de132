/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What keeps the entries of a function secret, and the tenants apart: names
 *           that are digests, and values that are sealed, in memory as in the store.
 * DESIGN    The key of an entry is the digest of identity and canonical arguments, keyed
 *           where a keyring is there; under each former master key it has another one.
 *           A key is written as these digests, current first, and then the tenant where
 *           each call has its own: so whatever holds the key knows all names of the
 *           entry, and whose it is. Memory knows it by the first digest.
 * THREADING Guarded by the GIL; the keyring's own functions are safe without it.
 */
#ifndef CKPY_SECRET_H
#define CKPY_SECRET_H

#include "py/ckpy.h"
#include "py/keyring.h"

#include "base/ck_buf.h"
#include "codec/ck_frame.h"

/* Immutable after configuration. */
struct ckpy_secret {
    struct ckpy_keyring *keyring; /* owned; NULL: not encrypted */
    PyObject *tenant;             /* owned str; whose entries all of them are */
    PyObject *tenant_of; /* owned callable of the arguments, in its place; or NULL */
    Py_ssize_t names;    /* digests in a key: 1, and one for each former master key */
    bool fail_closed;    /* an entry that is not authentic raises */
    /* where all entries are of one tenant: owned, else NULL */
    struct ck_key *name_keys[CK_KEYRING_MASTERS];
    struct ck_key *value_key;
};

/* Get the keys of the one tenant, once the fields above are set. 0, or -1 with an
 * exception. */
int
ckpy_secret_ready(struct ckpy_secret *secret);

/* Give everything back. */
void
ckpy_secret_clear(struct ckpy_secret *secret);

/* Whose entry this key is of. Borrows from both. */
struct ck_piece
ckpy_secret_tenant(const struct ckpy_secret *secret, const uint8_t *key, size_t len);

/* Replace the canonical bytes in `key` by its digests, and by `tenant` (str) where calls
 * have one of their own. 0, or -1 with an exception. */
int
ckpy_secret_name(const struct ckpy_secret *secret, PyObject *identity, PyObject *tenant,
                 struct ck_buf *key);

/* What memory holds for `data`: new bytes, or NULL with an exception. */
PyObject *
ckpy_secret_hold(const struct ckpy_secret *secret, struct ck_piece tenant,
                 const void *data, size_t len);

/* The way back, to `out` (initialised by the caller). 0, or -1 with an exception. */
int
ckpy_secret_open_held(const struct ckpy_secret *secret, PyObject *held,
                      struct ck_buf *out);

/* Append an encrypted frame around `payload`. CK_OK; otherwise the status says why, or,
 * where an exception is set, that. */
enum ck_status
ckpy_secret_write(const struct ckpy_secret *secret, struct ck_buf *out,
                  struct ck_frame *frame, struct ck_piece tenant, struct ck_piece name,
                  const void *payload, size_t len);

/* The payload of an encrypted frame, to `out`. CK_MISS: under no key of ours,
 * CK_ERR_CORRUPT: not authentic, CK_ERR_NOMEM. Raises nothing. */
enum ck_status
ckpy_secret_open(const struct ckpy_secret *secret, const struct ck_frame *frame,
                 struct ck_piece tenant, struct ck_piece name, struct ck_buf *out);

/* Free a buffer that held a plain value, and leave nothing of it behind. */
void
ckpy_secret_wipe(struct ck_buf *plain);

#endif
