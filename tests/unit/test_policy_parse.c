/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text parsers of the policy: numbers, times, sizes, signals, paths, ports, suggestions.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/internal.h"
#include "policy/suggest.h"

static void test_u32(void **state)
{
    static const char *const bad[] = {"",    " 1", "1 ", "+1",  "-1",          "0x10",
                                      "1.0", "a",  "1a", "1e3", "99999999999x"};
    uint32_t v = 7;

    (void)state;
    assert_int_equal(parse_u32("0", &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(parse_u32("4294967295", &v), 0);
    assert_int_equal(v, UINT32_MAX);
    assert_int_equal(parse_u32("007", &v), 0);
    assert_int_equal(v, 7);
    assert_int_equal(parse_u32("4294967296", &v), -ERANGE);
    assert_int_equal(parse_u32("18446744073709551616", &v), -ERANGE);
    assert_int_equal(parse_u32("99999999999999999999999999", &v), -ERANGE);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_u32(bad[i], &v), -EINVAL);
    assert_int_equal(v, 7);
}

static void test_seconds(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {
        {"0", 0},
        {"1", 1000000000},
        {"1.5", 1500000000},
        {".5", 500000000},
        {"0.25", 250000000},
        {"0.000000001", 1},
        {"0.0000000001", 1}, /* never rounded down to "no limit" */
        {"2.0000000000", 2000000000},
        {"1000000000", 1000000000000000000},
    };
    static const char *const bad[] = {"",    ".",   "1.",  "-1", "+1", "1s",   "1,5",
                                      "1e3", "inf", "nan", " 1", "1 ", "1.5.", "0x1"};
    uint64_t ns = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(parse_seconds(good[i].text, &ns), 0);
        assert_true(ns == good[i].ns);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_seconds(bad[i], &ns), -EINVAL);
    assert_int_equal(parse_seconds("1000000001", &ns), -ERANGE);
    assert_int_equal(parse_seconds("99999999999999999999999999", &ns), -ERANGE);
}

static void test_size(void **state)
{
    static const char *const bad[] = {"", "0", "0K", "K", "-1", "1T", "1KB", "1.5G", " 1", "1 M"};
    static const char *const large[] = {"18446744073709551616", "17179869184G",
                                        "18014398509481984K", "99999999999999999999999G"};
    uint64_t v = 0;

    (void)state;
    assert_int_equal(parse_size("512", &v), 0);
    assert_true(v == 512);
    assert_int_equal(parse_size("64K", &v), 0);
    assert_true(v == 65536);
    assert_int_equal(parse_size("512m", &v), 0);
    assert_true(v == 536870912);
    assert_int_equal(parse_size("2G", &v), 0);
    assert_true(v == 2147483648);
    assert_int_equal(parse_size("17179869183G", &v), 0);
    assert_int_equal(parse_size("18446744073709551615", &v), 0);
    assert_true(v == UINT64_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_size(bad[i], &v), -EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(large); i++)
        assert_int_equal(parse_size(large[i], &v), -ERANGE);
}

static void test_signal(void **state)
{
    (void)state;
    assert_int_equal(parse_signal("TERM"), 15);
    assert_int_equal(parse_signal("SIGTERM"), 15);
    assert_int_equal(parse_signal("sigint"), 2);
    assert_int_equal(parse_signal("9"), 9);
    assert_int_equal(parse_signal("64"), 64);
    assert_int_equal(parse_signal("0"), -EINVAL);
    assert_int_equal(parse_signal("65"), -EINVAL);
    assert_int_equal(parse_signal(""), -EINVAL);
    assert_int_equal(parse_signal("SIG"), -EINVAL);
    assert_int_equal(parse_signal("SIGSIGTERM"), -EINVAL);
    assert_int_equal(parse_signal("9x"), -EINVAL);
    assert_int_equal(parse_signal("99999999999999"), -EINVAL);
}

static void check_path(const char *path, const char *expected)
{
    char *s = path_absolute(path);

    assert_non_null(s);
    assert_string_equal(s, expected);
    free(s);
}

static void test_path(void **state)
{
    (void)state;
    assert_int_equal(chdir("/usr"), 0);
    check_path("/a/../b/./", "/a/../b/./");
    check_path("bin", "/usr/bin");
    check_path("./bin", "/usr/bin");
    check_path(".//./bin", "/usr/bin");
    check_path(".", "/usr");
    check_path("./", "/usr");
    check_path("..", "/usr/..");
    check_path("../etc", "/usr/../etc");
    check_path(".hidden", "/usr/.hidden");
    assert_int_equal(chdir("/"), 0);
    check_path("bin", "/bin");
    check_path(".", "/");
}

static void test_ports(void **state)
{
    struct port_set s = {0};
    struct error err = {0};

    (void)state;
    assert_true(port_set_is_empty(&s));
    assert_int_equal(port_set_parse(&s, "443,80,8000-8010,8005-8020,81", false, "--f", &err), 0);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.ranges[0].lo, 80);
    assert_int_equal(s.ranges[0].hi, 81);
    assert_int_equal(s.ranges[2].lo, 8000);
    assert_int_equal(s.ranges[2].hi, 8020);
    assert_true(port_set_has(&s, 443));
    assert_false(port_set_has(&s, 442));
    assert_false(port_set_has(&s, 0));
    assert_false(port_set_is_empty(&s));
    /* Another option adds; a failing one changes nothing. */
    assert_int_equal(port_set_parse(&s, "65535", false, "--f", &err), 0);
    assert_int_equal(s.n, 4);
    assert_int_equal(port_set_parse(&s, "1,2,x", false, "--f", &err), -EINVAL);
    assert_int_equal(s.n, 4);
    assert_false(port_set_has(&s, 1));
    assert_int_equal(port_set_parse(&s, "*", false, "--f", &err), 0);
    assert_true(port_set_has(&s, 1));
    port_set_fini(&s);
    assert_int_equal(port_set_parse(&s, "0", true, "--f", &err), 0);
    assert_true(port_set_has(&s, 0));
    assert_int_equal(port_set_parse(&s, "1-65535", true, "--f", &err), 0);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.ranges[0].hi, 65535);
    port_set_fini(&s);
}

static void test_ports_bad(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } bad[] = {
        {"", "the port is missing"},
        {"*,80", "mixes * with numbers"},
        {"80,*", "mixes * with numbers"},
        {"80,", "has an empty element"},
        {",", "has an empty element"},
        {"80-", "\"80-\" is not a port"},
        {"-80", "is not a port"},
        {"90-80", "\"90-80\" runs backwards"},
        {"65536", "beyond port 65535"},
        {"80,99999999999", "\"99999999999\" is beyond"},
        {"0", "names port 0"},
        {"0-5", "names port 0"},
        {"http", "\"http\" is not a port"},
        {" 80", "is not a port"},
        {"80 ", "is not a port"},
        {"1-2-3", "is not a port"},
        {"+80", "is not a port"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct port_set s = {0};
        struct error err = {0};

        assert_int_equal(port_set_parse(&s, bad[i].text, false, "--net-allow-bind", &err), -EINVAL);
        assert_int_equal(err.kind, ERROR_USAGE);
        assert_string_equal(err.where, "--net-allow-bind");
        if (!strstr(err.message, bad[i].says))
            fail_msg("%s: %s", bad[i].text, err.message);
        assert_non_null(strstr(err.message, "accepted: "));
        assert_true(port_set_is_empty(&s));
    }
}

static const char *nearest(const char *word)
{
    struct suggestion s = {.word = word};

    suggest_offer(&s, "fs-read");
    suggest_offer(&s, "fs-write");
    suggest_offer(&s, "timeout");
    return s.best;
}

static void test_suggest(void **state)
{
    char longest[200];

    (void)state;
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(suggest_distance("abc", "abc"), 0);
    assert_int_equal(suggest_distance("abc", "acb"), 1);
    assert_int_equal(suggest_distance("abc", ""), 3);
    assert_int_equal(suggest_distance("kitten", "sitting"), 3);
    assert_int_equal(suggest_distance(longest, "a"), UINT32_MAX);
    assert_string_equal(nearest("fs-raed"), "fs-read");
    assert_string_equal(nearest("fs-wirte"), "fs-write");
    assert_string_equal(nearest("timout"), "timeout");
    assert_null(nearest("chroot"));
    assert_null(nearest(""));
    assert_null(nearest(longest));
}

static void test_time(void **state)
{
    static const struct {
        const char *text;
        int64_t s, ns;
    } good[] = {
        {"0", 0, 0},
        {"2024", 2024, 0},
        {"1700000000.5", 1700000000, 500000000},
        {"1.0000000019", 1, 1},
        {"1970-01-01T00:00:00Z", 0, 0},
        {"2000-02-29T12:34:56Z", 951827696, 0},
        {"2000-02-29t12:34:56.25z", 951827696, 250000000},
        {"2024-12-31 23:59:59+01:30", 1735684199, 0},
        {"1970-01-01T00:30:00-23:59", 88140, 0},
        {"2016-12-31T23:59:60Z", 1483228800, 0},
        {"2199-12-31T23:59:59.999999999Z", 7258118399, 999999999},
        {"7258118399", 7258118399, 0},
    };
    static const char *const bad[] = {
        "",
        "x",
        "-1",
        "+1",
        "1.",
        ".5",
        "1e3",
        "0x10",
        " 1",
        "1 ",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-1-01T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2024-01-32T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T00:00:61Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00Zz",
        "2024-01-01T00:00:00+1:00",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00Z",
    };
    int64_t v;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(parse_time(good[i].text, &v), 0);
        assert_int_equal(v, good[i].s * 1000000000 + good[i].ns);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(parse_time(bad[i], &v), -EINVAL);
    }
    assert_int_equal(parse_time("1969-12-31T23:59:59Z", &v), -ERANGE);
    assert_int_equal(parse_time("2200-01-01T00:00:00Z", &v), -ERANGE);
    assert_int_equal(parse_time("99999999999999999999", &v), -ERANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_u32),       cmocka_unit_test(test_seconds),
        cmocka_unit_test(test_size),      cmocka_unit_test(test_signal),
        cmocka_unit_test(test_path),      cmocka_unit_test(test_ports),
        cmocka_unit_test(test_ports_bad), cmocka_unit_test(test_suggest),
        cmocka_unit_test(test_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
