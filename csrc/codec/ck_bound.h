/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What an encrypted payload is bound to: its associated data.
 * DESIGN    A list of pieces that borrows everything, so binding copies and allocates
 *           nothing. Every part is preceded by its length, so no two different lists of
 *           parts have the same bytes.
 *
 *             ours      u32 length + bytes of each, little-endian:
 *                       the whole header of the frame (from "CK" to the last byte before
 *                       the payload: version, flags, serializer, lifetimes, versions,
 *                       tags, fingerprint), the tenant, the store key
 *             version 3 the byte 03, then u32 length + bytes of each, big-endian:
 *                       tenant, store key, format, "True" or "False" (compressed),
 *                       original type; under interop the last is left out
 *
 *           Tenant and store key are UTF-8. The tenant is always the reader's own, never
 *           one that an entry names.
 * THREADING Values only.
 */
#ifndef CK_CODEC_BOUND_H
#define CK_CODEC_BOUND_H

#include "codec/ck_aead.h"

#define CK_BOUND_PARTS 5

/* Points into itself: it is filled where it is used, and not copied. */
struct ck_bound {
    struct ck_piece pieces[1 + 2 * CK_BOUND_PARTS];
    size_t count;
    uint8_t lengths[CK_BOUND_PARTS][4];
};

/* Of an entry of ours. Borrows all three. */
void
ck_bound_entry(struct ck_bound *bound, struct ck_piece header, struct ck_piece tenant,
               struct ck_piece key);

/* Of an entry of version 3. Borrows `count` parts, at most CK_BOUND_PARTS. */
void
ck_bound_version3(struct ck_bound *bound, const struct ck_piece *parts, size_t count);

#endif
