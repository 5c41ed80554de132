/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.Keyring`: the master keys of a configuration, for Python and for the
 *           calls of the binding.
 * DESIGN    ck_keyring inside an object. The text of a key is read where it stands and
 *           never repeated: not by repr, not by an exception; it is neither pickled nor
 *           copied, and the bytes are wiped when the object goes.
 * THREADING The object is immutable. The GIL is released for CKPY_KEYRING_DETACH bytes
 *           and more: the caller keeps input and output where they are meanwhile.
 */
#ifndef CKPY_KEYRING_H
#define CKPY_KEYRING_H

#include "py/ckpy.h"

#include "codec/ck_bound.h"
#include "codec/ck_keyring.h"

/* From this many bytes on, about 15 microseconds of work, two threads take little more
 * than half the time of one after the other. Below, beside a thread that computes in
 * Python, waiting for the lock again costs a thousand times what it lets happen. */
#define CKPY_KEYRING_DETACH 65536

struct ckpy_keyring {
    PyObject_HEAD
    struct ckpy_state *state; /* borrowed: lives as long as our type */
    struct ck_keyring ring;   /* owned, when `made` */
    enum ck_purpose purpose;  /* of encryption, as `wire` said */
    PyObject *weak;           /* owned by the interpreter */
    bool made;
};

int
ckpy_keyring_exec(PyObject *module, struct ckpy_state *state);

/* A key of `tenant` into `*out` [out-own: ck_key_release]. 0, or -1 with an exception. */
int
ckpy_keyring_key(struct ckpy_keyring *self, unsigned master, enum ck_purpose purpose,
                 struct ck_piece tenant, struct ck_key **out);

/* ck_keyring_seal, `len` + CK_AEAD_OVERHEAD bytes to `out`. 0, or -1 with an
 * exception. */
int
ckpy_keyring_seal(struct ckpy_keyring *self, struct ck_key *key, uint8_t *out,
                  const struct ck_bound *bound, const void *data, size_t len);

/* ck_keyring_open, `len` - CK_AEAD_OVERHEAD bytes to `out`. Raises nothing. */
enum ck_status
ckpy_keyring_open(struct ckpy_keyring *self, enum ck_purpose purpose,
                  struct ck_piece tenant, const uint8_t *fingerprint, uint8_t *out,
                  const struct ck_bound *bound, const uint8_t *sealed, size_t len);

#endif
