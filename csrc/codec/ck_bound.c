/* SPDX-License-Identifier: MIT */
#include "codec/ck_bound.h"

_Static_assert(CK_AEAD_BOUND_MAX < UINT32_MAX,
               "a length that is cut is refused anyway");

void
ck_bound_entry(struct ck_bound *bound, struct ck_piece header, struct ck_piece tenant,
               struct ck_piece key)
{
    const struct ck_piece parts[] = {header, tenant, key};
    bound->count = 0;
    for (size_t i = 0; i < 3; i++) {
        for (size_t byte = 0; byte < 4; byte++)
            bound->lengths[i][byte] = (uint8_t)(parts[i].len >> (8 * byte));
        bound->pieces[bound->count++] = (struct ck_piece){bound->lengths[i], 4};
        bound->pieces[bound->count++] = parts[i];
    }
}

void
ck_bound_version3(struct ck_bound *bound, const struct ck_piece *parts, size_t count)
{
    static const uint8_t version = 3;
    bound->pieces[0] = (struct ck_piece){&version, 1};
    bound->count = 1;
    for (size_t i = 0; i < count && i < CK_BOUND_PARTS; i++) {
        for (size_t byte = 0; byte < 4; byte++)
            bound->lengths[i][byte] = (uint8_t)(parts[i].len >> (24 - 8 * byte));
        bound->pieces[bound->count++] = (struct ck_piece){bound->lengths[i], 4};
        bound->pieces[bound->count++] = parts[i];
    }
}
