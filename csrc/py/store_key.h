/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Names of entries in a shared store: a readable prefix and 64 hex digits, the
 *           BLAKE2b-256 of function identity and canonical arguments.
 * THREADING Holds the GIL.
 */
#ifndef CKPY_STORE_KEY_H
#define CKPY_STORE_KEY_H

#include "py/ckpy.h"

#include "codec/ck_keyring.h"

/* The digest that names an entry: of `identity` (bytes) and canonical bytes, keyed
 * unless `key` is NULL; of `tenant`, too, where that is not NULL. */
void
ckpy_store_key_digest(uint8_t out[CK_DIGEST_SIZE], const struct ck_key *key,
                      struct ck_piece tenant, PyObject *identity,
                      struct ck_piece canonical);

/* `prefix` and the digits of a digest. */
PyObject *
ckpy_store_key_of_digest(PyObject *prefix, const uint8_t digest[CK_DIGEST_SIZE]);

/* `prefix` (str, ends in ":") and the digits of `identity` and `key` (bytes). A new str,
 * or NULL with an exception. */
PyObject *
ckpy_store_key_make(PyObject *prefix, PyObject *identity, PyObject *key);

/* Adds the functions `canonical` and `generate_store_key`. */
int
ckpy_store_key_exec(PyObject *module, struct ckpy_state *state);

#endif
