/* SPDX-License-Identifier: MIT */
#include "codec/ck_canon.h"

#include "base/ck_alloc.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

void
ck_canon_text(struct ck_buf *out, const void *characters, size_t count, unsigned width)
{
    ck_canon_tag(out, width == 1 ? 's' : width == 2 ? 'u' : 'U');
    ck_canon_count(out, count);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    ck_buf_put(out, characters, count * width);
#else
    const uint8_t *from = characters;
    for (size_t i = 0; i < count; i++)
        for (unsigned byte = width; byte-- > 0;)
            ck_buf_put_u8(out, from[i * width + byte]);
#endif
}

static void
put_double(struct ck_buf *out, double value)
{
    uint64_t bits;
    uint8_t bytes[8];
    if (isnan(value))
        bits = UINT64_C(0x7ff8000000000000);
    else
        memcpy(&bits, &value, 8);
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(bits >> (8 * i));
    ck_buf_put(out, bytes, 8);
}

void
ck_canon_float(struct ck_buf *out, double value)
{
    ck_canon_tag(out, 'f');
    put_double(out, value);
}

void
ck_canon_complex(struct ck_buf *out, double real, double imaginary)
{
    ck_canon_tag(out, 'z');
    put_double(out, real);
    put_double(out, imaginary);
}

/* An item together with where its bytes lie, so that qsort needs no context. */
struct sortable {
    const uint8_t *bytes;
    size_t len;
};

static int
by_bytes(const void *left, const void *right)
{
    const struct sortable *a = left, *b = right;
    size_t common = a->len < b->len ? a->len : b->len;
    int order = memcmp(a->bytes, b->bytes, common);
    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

static bool
in_order(const uint8_t *data, const struct ck_canon_item *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct sortable a = {data + items[i - 1].start, items[i - 1].len};
        struct sortable b = {data + items[i].start, items[i].len};
        if (by_bytes(&a, &b) > 0)
            return false;
    }
    return true;
}

void
ck_canon_sort(struct ck_buf *out, struct ck_canon_item *items, size_t count)
{
    if (out->status != CK_OK || in_order(out->data, items, count))
        return;
    size_t first = items[0].start, total = out->len - first;
    struct sortable space[64], *order = space; /* arguments are small: no allocation */
    if (count * sizeof *order + total > sizeof space)
        order = ck_malloc(count * sizeof *order + total);
    if (order == NULL) {
        out->status = CK_ERR_NOMEM;
        return;
    }
    uint8_t *copy = (uint8_t *)(order + count);
    memcpy(copy, out->data + first, total);
    for (size_t i = 0; i < count; i++)
        order[i] = (struct sortable){copy + (items[i].start - first), items[i].len};
    qsort(order, count, sizeof *order, by_bytes);
    uint8_t *at = out->data + first;
    for (size_t i = 0; i < count; i++) {
        memcpy(at, order[i].bytes, order[i].len);
        at += order[i].len;
    }
    if (order != space)
        ck_free(order);
}
