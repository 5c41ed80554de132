/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   BLAKE2b-256, plain or keyed: names in the shared store, identities of long
 *           argument lists.
 * DESIGN    libb2 behind a state of fixed size, so that its header stays out of ours.
 * THREADING A state has one owner; the one-shot form is free of state.
 */
#ifndef CK_CODEC_DIGEST_H
#define CK_CODEC_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define CK_DIGEST_SIZE 32
#define CK_DIGEST_KEY_MAX 64

struct ck_digest {
    _Alignas(8) uint8_t opaque[384];
};

/* BLAKE2b-256 of `len` bytes into `out`. `key_len` 0 is the plain form; a key longer
 * than CK_DIGEST_KEY_MAX stands for its own plain digest. `data` may be NULL when `len`
 * is 0. Cannot fail. */
void
ck_digest(uint8_t out[CK_DIGEST_SIZE], const void *key, size_t key_len,
          const void *data, size_t len);

/* The same in pieces: init, any number of updates, one final (which wipes the state). */
void
ck_digest_init(struct ck_digest *state, const void *key, size_t key_len);
/* Take in the key that the state was just begun with, so that copies of the state have
 * it behind them: half the work for a short text. At least one byte must follow. */
void
ck_digest_settle(struct ck_digest *state);
void
ck_digest_update(struct ck_digest *state, const void *data, size_t len);
void
ck_digest_final(struct ck_digest *state, uint8_t out[CK_DIGEST_SIZE]);

#endif
