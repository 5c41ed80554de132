/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Nonces that never repeat.
 * DESIGN    12 bytes: a random prefix of 64 bits and a counter of 32 bits that starts
 *           at random. Both are drawn anew, straight from the kernel, when the counter
 *           runs out, in a forked child, and after an hour. Two sources under one key
 *           meet when they draw the same prefix and their counters overlap: after a
 *           million draws the chance is below 2^-25.
 * THREADING Any thread, and a forked child. `now` is the caller's monotonic clock.
 */
#ifndef CK_CODEC_NONCE_H
#define CK_CODEC_NONCE_H

#include "codec/ck_latch.h"

#include <stdbool.h>

#define CK_NONCE_SIZE 12
#define CK_NONCE_LIFE (INT64_C(3600) * 1000000000) /* ns under one prefix */

/* Fill `out` with unpredictable bytes; false when there are none to be had. */
typedef bool
ck_nonce_entropy(void *out, size_t size);

struct ck_nonce {
    ck_nonce_entropy *entropy; /* immutable after init */
    struct ck_latch latch;
    /* guarded by latch, and drawn anew in each generation */
    bool drawn;
    uint64_t generation; /* of the fork that the rest was drawn in */
    int64_t until;       /* ns; the prefix is not used from then on */
    uint8_t prefix[8];
    uint32_t counter; /* of the next nonce */
    bool spent;       /* the counter has run out */
};

/* `entropy` NULL: the kernel's. Draws nothing yet. */
void
ck_nonce_init(struct ck_nonce *source, ck_nonce_entropy *entropy);

/* The next nonce into `out`. CK_OK, or CK_ERR_IO when a prefix was due and there is no
 * entropy. */
enum ck_status
ck_nonce_next(struct ck_nonce *source, int64_t now, uint8_t out[CK_NONCE_SIZE])
    CK_NODISCARD;

#endif
