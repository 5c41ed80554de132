/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A C test harness in one header: tests register themselves, checks print
 *           both values, the closing line counts.
 * USE       One file per topic:  TEST(empty_table_has_no_entries) { CHECK_EQ(n, 0); }
 *           The header supplies main(); `./test_x NAME` runs the tests whose name
 *           contains NAME.
 */
#ifndef CK_TEST_H
#define CK_TEST_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ck_test {
    const char *name;
    void (*run)(void);
    struct ck_test *next;
};

static struct ck_test *ck_test_first, **ck_test_last = &ck_test_first;
static int ck_test_failures; /* failed checks in the running test */

#define TEST(id)                                                                       \
    static void test_##id(void);                                                       \
    static struct ck_test ck_test_##id = {#id, test_##id, NULL};                       \
    __attribute__((constructor)) static void register_##id(void)                       \
    {                                                                                  \
        *ck_test_last = &ck_test_##id;                                                 \
        ck_test_last = &ck_test_##id.next;                                             \
    }                                                                                  \
    static void test_##id(void)

#define CK_TEST_FAIL(...)                                                              \
    do {                                                                               \
        ck_test_failures++;                                                            \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                \
        fprintf(stderr, __VA_ARGS__);                                                  \
        fputc('\n', stderr);                                                           \
    } while (0)

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition))                                                              \
            CK_TEST_FAIL("not true: %s", #condition);                                  \
    } while (0)

#define CHECK_INT(left, op, right)                                                     \
    do {                                                                               \
        intmax_t ck_l = (intmax_t)(left), ck_r = (intmax_t)(right);                    \
        if (!(ck_l op ck_r))                                                           \
            CK_TEST_FAIL("%s %s %s: %" PRIdMAX " and %" PRIdMAX, #left, #op, #right,   \
                         ck_l, ck_r);                                                  \
    } while (0)

#define CHECK_EQ(left, right) CHECK_INT(left, ==, right)
#define CHECK_NE(left, right) CHECK_INT(left, !=, right)
#define CHECK_LT(left, right) CHECK_INT(left, <, right)
#define CHECK_LE(left, right) CHECK_INT(left, <=, right)
#define CHECK_GE(left, right) CHECK_INT(left, >=, right)

#define CHECK_STR(left, right)                                                         \
    do {                                                                               \
        const char *ck_l = (left), *ck_r = (right);                                    \
        if (strcmp(ck_l, ck_r) != 0)                                                   \
            CK_TEST_FAIL("%s == %s: \"%s\" and \"%s\"", #left, #right, ck_l, ck_r);    \
    } while (0)

#define CHECK_MEM(left, right, size)                                                   \
    do {                                                                               \
        if (memcmp((left), (right), (size)) != 0)                                      \
            CK_TEST_FAIL("%s and %s differ in their %zu bytes", #left, #right,         \
                         (size_t)(size));                                              \
    } while (0)

/* A condition without which the rest of the test makes no sense. */
#define REQUIRE(condition)                                                             \
    do {                                                                               \
        if (!(condition)) {                                                            \
            CK_TEST_FAIL("required: %s", #condition);                                  \
            return;                                                                    \
        }                                                                              \
    } while (0)

int
main(int argc, char **argv)
{
    int passed = 0, failed = 0;
    for (struct ck_test *test = ck_test_first; test != NULL; test = test->next) {
        if (argc > 1 && strstr(test->name, argv[1]) == NULL)
            continue;
        ck_test_failures = 0;
        test->run();
        if (ck_test_failures != 0)
            fprintf(stderr, "FAILED %s\n", test->name);
        *(ck_test_failures != 0 ? &failed : &passed) += 1;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}

#endif
