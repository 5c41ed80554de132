/* SPDX-License-Identifier: MIT */
#include "codec/ck_nonce.h"

#include "base/ck_clock.h"

#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static bool
kernel_entropy(void *out, size_t size)
{
    return getentropy(out, size) == 0;
}

void
ck_nonce_init(struct ck_nonce *source, ck_nonce_entropy *entropy)
{
    memset(source, 0, sizeof *source);
    source->entropy = entropy != NULL ? entropy : kernel_entropy;
    ck_latch_init(&source->latch);
}

static bool
is_due(const struct ck_nonce *source, uint64_t generation, int64_t now)
{
    return !source->drawn || source->spent || source->generation != generation ||
           now >= source->until;
}

static enum ck_status
draw(struct ck_nonce *source, uint64_t generation, int64_t now)
{
    uint8_t fresh[CK_NONCE_SIZE];
    if (!source->entropy(fresh, sizeof fresh))
        return CK_ERR_IO;
    memcpy(source->prefix, fresh, sizeof source->prefix);
    memcpy(&source->counter, fresh + sizeof source->prefix, sizeof source->counter);
    source->generation = generation;
    source->until = ck_clock_add(now, CK_NONCE_LIFE);
    source->spent = false;
    source->drawn = true;
    return CK_OK;
}

enum ck_status
ck_nonce_next(struct ck_nonce *source, int64_t now, uint8_t out[CK_NONCE_SIZE])
{
    enum ck_status status = CK_OK;
    uint64_t generation = ck_latch_lock(&source->latch);
    if (CK_UNLIKELY(is_due(source, generation, now)))
        status = draw(source, generation, now);
    if (CK_LIKELY(status == CK_OK)) {
        uint32_t counter = source->counter++;
        source->spent = counter == UINT32_MAX;
        memcpy(out, source->prefix, sizeof source->prefix);
        for (size_t i = 0; i < 4; i++)
            out[8 + i] = (uint8_t)(counter >> (24 - 8 * i));
    }
    ck_latch_unlock(&source->latch);
    return status;
}
