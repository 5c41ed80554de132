/* SPDX-License-Identifier: MIT */
#include "codec/ck_canon.h"

#include "base/ck_alloc.h"

#include "ck_test.h"

#include <math.h>
#include <stdbool.h>

/* ---- expected bytes ------------------------------------------------------------ */

#define CHECK_BYTES(buf, expected)                                                     \
    do {                                                                               \
        CHECK_EQ((buf).len, sizeof(expected) - 1);                                     \
        if ((buf).len == sizeof(expected) - 1)                                         \
            CHECK_MEM((buf).data, (expected), sizeof(expected) - 1);                   \
    } while (0)

#define INT_HAS_BYTES(value, expected)                                                 \
    do {                                                                               \
        struct ck_buf int_out;                                                         \
        ck_buf_init(&int_out, NULL, 0);                                                \
        ck_canon_int(&int_out, (value));                                               \
        CHECK_BYTES(int_out, expected);                                                \
        ck_buf_fini(&int_out);                                                         \
    } while (0)

TEST(an_int_takes_as_few_bytes_as_hold_it)
{
    INT_HAS_BYTES(0, "\x80");
    INT_HAS_BYTES(127, "\xff");
    INT_HAS_BYTES(128, "\x02\x80\x00");
    INT_HAS_BYTES(-1, "\x01\xff");
    INT_HAS_BYTES(-128, "\x01\x80");
    INT_HAS_BYTES(-129, "\x02\x7f\xff");
    INT_HAS_BYTES(255, "\x02\xff\x00");
    INT_HAS_BYTES(32767, "\x02\xff\x7f");
    INT_HAS_BYTES(32768, "\x03\x00\x80\x00");
    INT_HAS_BYTES(-32768, "\x02\x00\x80");
    INT_HAS_BYTES(INT64_C(1) << 40, "\x06\x00\x00\x00\x00\x00\x01");
    INT_HAS_BYTES(INT64_MAX, "\x08\xff\xff\xff\xff\xff\xff\xff\x7f");
    INT_HAS_BYTES(INT64_MIN, "\x08\x00\x00\x00\x00\x00\x00\x00\x80");
}

TEST(ints_around_every_width_are_read_back)
{
    for (unsigned bits = 0; bits < 64; bits++)
        for (int64_t off = -2; off <= 2; off++)
            for (int negative = 0; negative < 2; negative++) {
                struct ck_buf out;
                uint64_t pattern = (UINT64_C(1) << bits) + (uint64_t)off;
                int64_t value = (int64_t)(negative ? ~pattern + 1 : pattern);
                ck_buf_init(&out, NULL, 0);
                ck_canon_int(&out, value);
                uint64_t back = 0;
                if (out.data[0] >= 0x80) {
                    back = out.data[0] & 0x7f;
                }
                else {
                    size_t width = out.data[0];
                    CHECK_EQ(out.len, width + 1);
                    back = out.data[width] & 0x80 ? UINT64_MAX : 0;
                    for (size_t i = width; i > 0; i--)
                        back = back << 8 | out.data[i];
                }
                CHECK_EQ((int64_t)back, value);
                ck_buf_fini(&out);
            }
}

TEST(counts_take_seven_bits_a_byte)
{
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    ck_canon_count(&out, 0);
    ck_canon_count(&out, 127);
    ck_canon_count(&out, 128);
    ck_canon_count(&out, 300);
    ck_canon_count(&out, SIZE_MAX);
    CHECK_BYTES(out, "\x00\x7f\x80\x01\xac\x02"
                     "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    ck_buf_fini(&out);
}

TEST(floats_are_their_bits_and_every_nan_is_one)
{
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    ck_canon_float(&out, 1.0);
    ck_canon_float(&out, -0.0);
    ck_canon_float(&out, 0.0);
    CHECK_BYTES(out, "f\0\0\0\0\0\0\xf0\x3f"
                     "f\0\0\0\0\0\0\0\x80"
                     "f\0\0\0\0\0\0\0\0");
    out.len = 0;
    uint64_t signalling = UINT64_C(0xfff0000000000123);
    double other;
    memcpy(&other, &signalling, sizeof other);
    ck_canon_float(&out, (double)NAN);
    ck_canon_float(&out, -(double)NAN);
    ck_canon_float(&out, other);
    CHECK_BYTES(out, "f\0\0\0\0\0\0\xf8\x7f"
                     "f\0\0\0\0\0\0\xf8\x7f"
                     "f\0\0\0\0\0\0\xf8\x7f");
    out.len = 0;
    ck_canon_complex(&out, 1.0, -0.0);
    CHECK_BYTES(out, "z\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x80");
    ck_buf_fini(&out);
}

TEST(text_tells_its_width)
{
    static const uint16_t two[] = {0x20ac, 0xd800};
    static const uint32_t four[] = {0x1f600};
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    ck_canon_text(&out, "ab", 2, 1);
    ck_canon_text(&out, two, 2, 2);
    ck_canon_text(&out, four, 1, 4);
    ck_canon_text(&out, "", 0, 1);
    CHECK_BYTES(out, "s\x02"
                     "abu\x02\xac\x20\x00\xd8U\x01\x00\xf6\x01\x00s\x00");
    ck_buf_fini(&out);
}

/* ---- random values ------------------------------------------------------------- */

static uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);

static uint32_t
below(uint32_t bound)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 33) % bound;
}

/* Values from so small a choice that one is often nearly another. */
static void
put_random(struct ck_buf *out, int depth);

static void
put_random_items(struct ck_buf *out, char tag, int depth)
{
    struct ck_canon_item items[4];
    size_t count = below(4);
    ck_canon_tag(out, tag);
    ck_canon_count(out, count);
    for (size_t i = 0; i < count; i++) {
        items[i].start = out->len;
        put_random(out, depth + 1);
        if (tag == '{')
            put_random(out, depth + 1);
        items[i].len = out->len - items[i].start;
    }
    if (tag != '(')
        ck_canon_sort(out, items, count);
}

static void
put_random(struct ck_buf *out, int depth)
{
    static const char text[] = "(\x01\x80s\x01N";
    static const int64_t ints[] = {0,   1,       127,       128,
                                   -1,  255,     1 << 20,   INT64_C(1) << 40,
                                   256, 1 << 28, INT64_MIN, INT64_C(0x3f)};
    switch (below(depth < 3 ? 12 : 8)) {
    case 0: ck_canon_tag(out, 'N'); break;
    case 1: ck_canon_tag(out, below(2) ? 'T' : 'F'); break;
    case 2: ck_canon_int(out, ints[below(sizeof ints / sizeof *ints)]); break;
    case 3: ck_canon_float(out, below(3) - 1.0); break;
    case 4: ck_canon_complex(out, below(2), below(2)); break;
    case 5: ck_canon_bytes(out, "yYL"[below(3)], text, below(sizeof text)); break;
    case 6: ck_canon_text(out, text, below(sizeof text), 1); break;
    case 7: ck_canon_text(out, text, below(2), 4); break;
    case 8:
    case 9: put_random_items(out, '(', depth); break;
    case 10: put_random_items(out, '{', depth); break;
    default: put_random_items(out, '<', depth); break;
    }
}

/* The end of the encoding that starts at `at`, found by its own tags and counts. */
static const uint8_t *
skip(const uint8_t *at)
{
    uint8_t tag = *at++;
    size_t count = 0;
    if (tag >= 0x80 || tag == 'N' || tag == 'T' || tag == 'F')
        return at;
    if (tag >= 1 && tag <= 8)
        return at + tag;
    if (tag == 'f')
        return at + 8;
    if (tag == 'z')
        return at + 16;
    for (unsigned shift = 0;; shift += 7) {
        count |= (size_t)(*at & 0x7f) << shift;
        if ((*at++ & 0x80) == 0)
            break;
    }
    switch (tag) {
    case 's':
    case 'y':
    case 'Y':
    case 'L': return at + count;
    case 'U': return at + 4 * count;
    case '{': count *= 2; /* fallthrough */
    case '(':
    case '<':
        while (count-- > 0)
            at = skip(at);
        return at;
    default: return NULL;
    }
}

TEST(an_encoding_tells_where_it_ends)
{
    for (int round = 0; round < 20000; round++) {
        struct ck_buf out;
        ck_buf_init(&out, NULL, 0);
        put_random(&out, 0);
        REQUIRE(out.status == CK_OK);
        const uint8_t *end = skip(out.data);
        CHECK(end == out.data + out.len);
        ck_buf_fini(&out);
    }
}

TEST(no_encoding_is_the_prefix_of_another)
{
    enum { VALUES = 600 };
    static struct ck_buf values[VALUES];
    unsigned long shared = 0;
    for (size_t i = 0; i < VALUES; i++) {
        ck_buf_init(&values[i], NULL, 0);
        put_random(&values[i], 0);
    }
    for (size_t i = 0; i < VALUES; i++)
        for (size_t j = 0; j < VALUES; j++) {
            if (values[i].len >= values[j].len)
                continue;
            shared += values[i].data[0] == values[j].data[0];
            CHECK(memcmp(values[i].data, values[j].data, values[i].len) != 0);
        }
    CHECK(shared > 1000); /* the choice is small enough to prove something */
    for (size_t i = 0; i < VALUES; i++)
        ck_buf_fini(&values[i]);
}

/* ---- order --------------------------------------------------------------------- */

/* Write the pairs (keys[i], i) in the order of `order`, sorted. */
static void
put_pairs(struct ck_buf *out, const char *const *keys, const size_t *order,
          size_t count)
{
    struct ck_canon_item items[16];
    for (size_t i = 0; i < count; i++) {
        items[i].start = out->len;
        ck_canon_text(out, keys[order[i]], strlen(keys[order[i]]), 1);
        ck_canon_int(out, (int64_t)order[i]);
        items[i].len = out->len - items[i].start;
    }
    ck_canon_sort(out, items, count);
}

TEST(order_of_insertion_leaves_no_trace)
{
    /* Among them prefixes of each other, and equal keys with different values. */
    static const char *const keys[] = {"", "a", "ab", "abc", "b", "ba", "a", "zz"};
    enum { COUNT = sizeof keys / sizeof *keys };
    size_t order[COUNT];
    struct ck_buf first, other;
    for (size_t i = 0; i < COUNT; i++)
        order[i] = i;
    ck_buf_init(&first, NULL, 0);
    put_pairs(&first, keys, order, COUNT);
    for (int round = 0; round < 500; round++) {
        for (uint32_t i = COUNT - 1; i > 0; i--) {
            uint32_t j = below(i + 1);
            size_t swap = order[i];
            order[i] = order[j];
            order[j] = swap;
        }
        ck_buf_init(&other, NULL, 0);
        put_pairs(&other, keys, order, COUNT);
        CHECK_EQ(other.len, first.len);
        CHECK_MEM(other.data, first.data, first.len);
        ck_buf_fini(&other);
    }
    ck_buf_fini(&first);
}

TEST(a_small_sort_allocates_nothing)
{
    static const char *const keys[] = {"d", "c", "b", "a"};
    static const size_t order[] = {0, 1, 2, 3};
    uint8_t space[128];
    struct ck_buf out;
    ck_buf_init(&out, space, sizeof space);
    ck_alloc_fail_after(0);
    put_pairs(&out, keys, order, 4);
    ck_alloc_fail_after(-1);
    CHECK_EQ(out.status, CK_OK);
    CHECK_BYTES(out, "s\x01"
                     "a\x83s\x01"
                     "b\x82s\x01"
                     "c\x81s\x01"
                     "d\x80");
    ck_buf_fini(&out);
}

TEST(what_stands_before_the_items_is_not_touched)
{
    struct ck_canon_item items[2];
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    ck_canon_tag(&out, '<');
    ck_canon_count(&out, 2);
    for (size_t i = 0; i < 2; i++) {
        items[i].start = out.len;
        ck_canon_int(&out, i == 0 ? 9 : 3);
        items[i].len = out.len - items[i].start;
    }
    ck_canon_sort(&out, items, 2);
    CHECK_BYTES(out, "<\x02\x83\x89");
    ck_canon_sort(&out, items, 0);
    CHECK_BYTES(out, "<\x02\x83\x89");
    ck_buf_fini(&out);
}

/* ---- lack of memory ------------------------------------------------------------ */

TEST(lack_of_memory_is_a_status)
{
    static char longest[2000];
    const char *const keys[] = {"cc", "b", "a", longest};
    static const size_t order[] = {3, 0, 1, 2};
    memset(longest, 'd', sizeof longest - 1);
    int64_t live = ck_alloc_live();
    bool passed = false;
    for (int64_t successes = 0; !passed; successes++) {
        struct ck_buf out;
        REQUIRE(successes < 100);
        ck_buf_init(&out, NULL, 0);
        ck_alloc_fail_after(successes);
        put_pairs(&out, keys, order, 4);
        ck_canon_float(&out, 1.0);
        ck_canon_bytes(&out, 'y', keys[3], strlen(keys[3]));
        ck_alloc_fail_after(-1);
        passed = out.status == CK_OK;
        CHECK(passed || out.status == CK_ERR_NOMEM);
        ck_buf_fini(&out);
        CHECK_EQ(ck_alloc_live(), live);
    }
}
