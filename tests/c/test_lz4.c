/* SPDX-License-Identifier: MIT */
#include "codec/ck_lz4.h"

#include "base/ck_alloc.h"
#include "ck_test.h"

/* Bytes that do not compress, the same in every run. */
static void
fill_noise(uint8_t *bytes, size_t len)
{
    uint64_t state = UINT64_C(88172645463325252);
    for (size_t i = 0; i < len; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[i] = (uint8_t)(state >> 32);
    }
}

TEST(what_was_compressed_comes_back)
{
    uint8_t data[5000], back[sizeof data];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i / 50);
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    ck_buf_put(&out, "head", 4);
    CHECK_EQ(ck_lz4_compress(&out, data, sizeof data), CK_OK);
    CHECK_MEM(out.data, "head", 4);
    CHECK_LT(out.len, sizeof data / 2);
    CHECK_EQ(ck_lz4_decompress(back, sizeof back, out.data + 4, out.len - 4), CK_OK);
    CHECK_MEM(back, data, sizeof data);
    ck_buf_fini(&out);
}

TEST(what_does_not_shrink_by_an_eighth_is_skipped_and_leaves_no_trace)
{
    uint8_t noise[1024];
    fill_noise(noise, sizeof noise);
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    ck_buf_put(&out, "head", 4);
    CHECK_EQ(ck_lz4_compress(&out, noise, sizeof noise), CK_SKIP);
    CHECK_EQ(ck_lz4_compress(&out, "", 0), CK_SKIP);
    CHECK_EQ(ck_lz4_compress(&out, "a", 1), CK_SKIP);
    CHECK_EQ(ck_lz4_compress(&out, noise, CK_LZ4_RAW_MAX + 1), CK_SKIP);
    CHECK_EQ(out.len, 4);
    CHECK_EQ(out.status, CK_OK);
    ck_buf_fini(&out);
}

TEST(a_block_is_never_larger_than_seven_eighths)
{
    uint8_t data[600];
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    fill_noise(data, sizeof data);
    for (size_t zeros = 0; zeros <= sizeof data; zeros += 10) {
        memset(data, 0, zeros);
        out.len = 0;
        enum ck_status status = ck_lz4_compress(&out, data, sizeof data);
        if (status == CK_OK)
            CHECK_LE(out.len * 8, sizeof data * 7);
        else
            CHECK_EQ(status, CK_SKIP);
    }
    CHECK_LT(out.len, 100); /* the last one is all zeros */
    ck_buf_fini(&out);
}

TEST(limits_are_asked_before_memory_is_taken)
{
    CHECK_EQ(ck_lz4_check(1000, 1), CK_OK);
    CHECK_EQ(ck_lz4_check(1001, 1), CK_ERR_LIMIT);
    CHECK_EQ(ck_lz4_check(0, 1), CK_ERR_LIMIT);
    CHECK_EQ(ck_lz4_check(1, 0), CK_ERR_LIMIT);
    CHECK_EQ(ck_lz4_check(CK_LZ4_RAW_MAX, CK_LZ4_RAW_MAX / 1000 + 1), CK_OK);
    CHECK_EQ(ck_lz4_check(CK_LZ4_RAW_MAX, CK_LZ4_RAW_MAX / 1000), CK_ERR_LIMIT);
    CHECK_EQ(ck_lz4_check(CK_LZ4_RAW_MAX + 1, CK_LZ4_RAW_MAX), CK_ERR_LIMIT);
    CHECK_EQ(ck_lz4_check(SIZE_MAX, SIZE_MAX), CK_ERR_LIMIT);
    uint8_t byte = 0;
    CHECK_EQ(ck_lz4_decompress(&byte, SIZE_MAX, "x", 1), CK_ERR_LIMIT);
}

TEST(a_length_that_is_not_exact_is_corrupt)
{
    uint8_t data[400] = {0}, back[500];
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    CHECK_EQ(ck_lz4_compress(&out, data, sizeof data), CK_OK);
    CHECK_EQ(ck_lz4_decompress(back, 401, out.data, out.len), CK_ERR_CORRUPT);
    CHECK_EQ(ck_lz4_decompress(back, 399, out.data, out.len), CK_ERR_CORRUPT);
    CHECK_EQ(ck_lz4_decompress(back, 400, out.data, out.len - 1), CK_ERR_CORRUPT);
    ck_buf_fini(&out);
}

TEST(garbage_never_writes_outside)
{
    uint8_t noise[64], *back = malloc(300); /* exact, so a sanitizer sees its edge */
    REQUIRE(back != NULL);
    for (int round = 0; round < 2000; round++) {
        fill_noise(noise, sizeof noise);
        noise[0] = (uint8_t)round;
        noise[1] = (uint8_t)(round >> 4);
        enum ck_status status = ck_lz4_decompress(back, 300, noise, sizeof noise);
        CHECK(status == CK_OK || status == CK_ERR_CORRUPT);
    }
    free(back);
}

TEST(running_out_of_memory_is_reported)
{
    uint8_t data[4000] = {0};
    struct ck_buf out;
    int64_t live = ck_alloc_live();
    ck_buf_init(&out, NULL, 0);
    ck_alloc_fail_after(0);
    CHECK_EQ(ck_lz4_compress(&out, data, sizeof data), CK_ERR_NOMEM);
    ck_alloc_fail_after(-1);
    ck_buf_fini(&out);
    CHECK_EQ(ck_alloc_live(), live);
}
