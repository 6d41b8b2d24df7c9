/* SPDX-License-Identifier: Apache-2.0 */
/* src/base: buffers, string vectors, error objects. Runs in the test's only thread. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/strv.h"

static void test_buf_grows(void **state)
{
    _cleanup_buf_ struct buf b = {0};

    (void)state;
    assert_string_equal(buf_cstr(&b), "");
    for (int i = 0; i < 10000; i++)
        buf_addf(&b, "%d,", i % 10);
    assert_int_equal(b.len, 20000);
    assert_int_equal(buf_error(&b), 0);
    assert_memory_equal(buf_cstr(&b), "0,1,2,3,", 8);
}

static void test_buf_json_escapes(void **state)
{
    _cleanup_buf_ struct buf b = {0};

    (void)state;
    assert_false(buf_add_json(&b, "a\"\\\n\x01\xff", 6));
    assert_string_equal(buf_cstr(&b), "\"a\\\"\\\\\\u000a\\u0001\\ufffd\"");
}

static void test_buf_quoted(void **state)
{
    static const char *const cases[][2] = {
        {"plain", "a/plain"},
        {"", "a/"},
        {"with space", "a/with space"},
        {"\xc3\xa4\xe2\x82\xac", "a/\xc3\xa4\xe2\x82\xac"},
        {"n\n+++ b/etc/passwd", "\"a/n\\n+++ b/etc/passwd\""},
        {"\t\r\x1b[2J\x7f", "\"a/\\t\\r\\033[2J\\177\""},
        {"q\"b\\", "\"a/q\\\"b\\\\\""},
        {"\xff\xc3\xa4", "\"a/\\377\xc3\xa4\""},
        {"\xc2\x9b", "\"a/\\302\\233\""}, /* CSI */
        {"\xe2\x82", "\"a/\\342\\202\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        _cleanup_buf_ struct buf b = {0};

        buf_add_quoted(&b, "a/", cases[i][0]);
        assert_string_equal(buf_cstr(&b), cases[i][1]);
    }
}

static void test_buf_steal_empties(void **state)
{
    _cleanup_buf_ struct buf b = {0};
    _cleanup_free_ char *s = NULL;

    (void)state;
    buf_adds(&b, "text");
    s = buf_steal(&b);
    assert_string_equal(s, "text");
    assert_int_equal(b.len, 0);
    assert_string_equal(buf_cstr(&b), "");
}

static void test_strv_owns(void **state)
{
    struct strv v = {0};

    (void)state;
    assert_int_equal(strv_add(&v, "one"), 0);
    assert_int_equal(strv_take(&v, strdup("two")), 0);
    assert_int_equal(v.n, 2);
    assert_string_equal(v.v[1], "two");
    assert_null(v.v[2]);
    strv_fini(&v);
}

static void test_error_always_fails(void **state)
{
    struct error e = {0};
    char where[400];

    (void)state;
    assert_int_equal(error_set(NULL, ERROR_SETUP, 0, "x", "y"), -EINVAL);
    memset(where, 'w', sizeof(where) - 1);
    where[sizeof(where) - 1] = '\0';
    assert_int_equal(error_set(&e, ERROR_POLICY, -ENOENT, where, "no %s", "file"), -ENOENT);
    assert_int_equal(e.kind, ERROR_POLICY);
    assert_int_equal(strlen(e.where), sizeof(e.where) - 1);
    assert_string_equal(e.message, "no file");
    assert_string_equal(error_text(-ENOENT), error_text(ENOENT));
    assert_non_null(error_text(123456));
}

static int by_number(const void *a, const void *b)
{
    const int *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void test_grow_keeps(void **state)
{
    int *v = NULL, *more, *same;
    size_t n = 0, room = 0;

    (void)state;
    util_sort(v, n, sizeof(*v), by_number); /* nothing, of which there is none */
    while (n < 1000) {
        more = util_grow(v, n, &room, sizeof(*v));
        assert_non_null(more);
        assert_true(room > n);
        v = more;
        v[n] = (int)(1000 - n);
        n++;
    }
    util_sort(v, n, sizeof(*v), by_number);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(v[i], i + 1);
    /* Where there is room nothing moves; where there is no memory nothing is lost. */
    same = util_grow(v, room - 1, &room, sizeof(*v));
    assert_ptr_equal(same, v);
    room = SIZE_MAX / 2 / sizeof(*v);
    assert_null(util_grow(v, room, &room, sizeof(*v)));
    assert_int_equal(room, SIZE_MAX / 2 / sizeof(*v));
    assert_int_equal(v[999], 1000);
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_grows),  cmocka_unit_test(test_buf_json_escapes),
        cmocka_unit_test(test_buf_quoted), cmocka_unit_test(test_buf_steal_empties),
        cmocka_unit_test(test_strv_owns),  cmocka_unit_test(test_error_always_fails),
        cmocka_unit_test(test_grow_keeps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
