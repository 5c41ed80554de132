/* SPDX-License-Identifier: MIT */
#include "codec/ck_lz4.h"

#include <limits.h>
#include <lz4.h>

_Static_assert(CK_LZ4_RAW_MAX <= LZ4_MAX_INPUT_SIZE, "one block must hold it");

enum ck_status
ck_lz4_compress(struct ck_buf *out, const void *data, size_t len)
{
    /* What is left after taking an eighth, rounded up, away. LZ4 stops by itself when
     * the block would pass it, so data that does not shrink costs no more than that. */
    size_t room = len - len / 8 - (len % 8 != 0);
    if (len > CK_LZ4_RAW_MAX || room == 0)
        return CK_SKIP;
    uint8_t *at = ck_buf_reserve(out, room);
    if (at == NULL)
        return out->status;
    int size = LZ4_compress_default(data, (char *)at, (int)len, (int)room);
    if (size <= 0)
        return CK_SKIP;
    out->len += (size_t)size;
    return CK_OK;
}

enum ck_status
ck_lz4_check(size_t raw_len, size_t len)
{
    if (raw_len == 0 || raw_len > CK_LZ4_RAW_MAX || len > CK_LZ4_RAW_MAX)
        return CK_ERR_LIMIT;
    /* Within the bound above the product fits in 64 bits by far. */
    return (uint64_t)len * CK_LZ4_EXPANSION_MAX < raw_len ? CK_ERR_LIMIT : CK_OK;
}

enum ck_status
ck_lz4_decompress(uint8_t *out, size_t raw_len, const void *data, size_t len)
{
    enum ck_status status = ck_lz4_check(raw_len, len);
    if (status != CK_OK)
        return status;
    int size = LZ4_decompress_safe(data, (char *)out, (int)len, (int)raw_len);
    return size >= 0 && (size_t)size == raw_len ? CK_OK : CK_ERR_CORRUPT;
}
