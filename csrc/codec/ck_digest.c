/* SPDX-License-Identifier: MIT */
#include "codec/ck_digest.h"

#include <blake2.h>
#include <string.h>

_Static_assert(sizeof(blake2b_state) <= sizeof(struct ck_digest), "state too small");

static blake2b_state *
inner(struct ck_digest *state)
{
    return (blake2b_state *)(void *)state->opaque;
}

/* A wipe that the compiler may not drop: the state holds the key's block. */
static void
wipe(void *memory, size_t size)
{
    memset(memory, 0, size);
    __asm__ __volatile__("" : : "r"(memory) : "memory");
}

void
ck_digest_init(struct ck_digest *state, const void *key, size_t key_len)
{
    uint8_t short_key[CK_DIGEST_SIZE];
    if (key_len == 0) {
        (void)blake2b_init(inner(state), CK_DIGEST_SIZE);
        return;
    }
    if (key_len > CK_DIGEST_KEY_MAX) {
        ck_digest(short_key, NULL, 0, key, key_len);
        key = short_key;
        key_len = sizeof short_key;
    }
    (void)blake2b_init_key(inner(state), CK_DIGEST_SIZE, key, key_len);
    wipe(short_key, sizeof short_key);
}

void
ck_digest_settle(struct ck_digest *state)
{
    /* The key is the first block. It is worked in once the library knows that another
     * follows; what made it know is then forgotten. */
    static const uint8_t zero[1];
    blake2b_state *b2 = inner(state);
    while (b2->t[0] < BLAKE2B_BLOCKBYTES)
        (void)blake2b_update(b2, zero, sizeof zero);
    b2->buflen = 0;
    wipe(b2->buf, sizeof b2->buf);
}

void
ck_digest_update(struct ck_digest *state, const void *data, size_t len)
{
    if (len != 0)
        (void)blake2b_update(inner(state), data, len);
}

void
ck_digest_final(struct ck_digest *state, uint8_t out[CK_DIGEST_SIZE])
{
    (void)blake2b_final(inner(state), out, CK_DIGEST_SIZE);
    wipe(state, sizeof *state);
}

void
ck_digest(uint8_t out[CK_DIGEST_SIZE], const void *key, size_t key_len,
          const void *data, size_t len)
{
    struct ck_digest state;
    ck_digest_init(&state, key, key_len);
    ck_digest_update(&state, data, len);
    ck_digest_final(&state, out);
}
