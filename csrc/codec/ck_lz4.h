/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   LZ4 blocks: smaller where it pays, bounded on the way back.
 * DESIGN    A bare block with the raw length kept beside it (in the entry's header), so
 *           the length is compared with the limits before memory is taken for it.
 * THREADING Free of state. Both directions may run without the GIL.
 */
#ifndef CK_CODEC_LZ4_H
#define CK_CODEC_LZ4_H

#include "base/ck_buf.h"

#include <stdbool.h>

#define CK_LZ4_RAW_MAX ((size_t)512 << 20) /* bytes, before compression */
#define CK_LZ4_EXPANSION_MAX 1000          /* raw bytes for one stored byte */

/* Append the block of `len` bytes at `data` to `out`. CK_OK: appended. CK_SKIP: `out`
 * holds what it held, because the block would not be smaller by an eighth or `len` is
 * over CK_LZ4_RAW_MAX. CK_ERR_NOMEM, CK_ERR_LIMIT: as `out` says. */
enum ck_status
ck_lz4_compress(struct ck_buf *out, const void *data, size_t len) CK_NODISCARD;

/* May a block of `len` bytes claim to hold `raw_len`? To be asked before memory is
 * taken for it. CK_OK, or CK_ERR_LIMIT. */
enum ck_status
ck_lz4_check(size_t raw_len, size_t len) CK_NODISCARD;

/* Expand a block into exactly `raw_len` bytes at `out`. The input may be hostile.
 * CK_ERR_LIMIT: a claim that ck_lz4_check refuses. CK_ERR_CORRUPT: not a block, or not
 * of that length; `out` then holds anything. */
enum ck_status
ck_lz4_decompress(uint8_t *out, size_t raw_len, const void *data, size_t len)
    CK_NODISCARD;

#endif
