/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of /proc made by us (PV-04): tables of mounts, load averages, and the reading of stat lines
 * whose names are hostile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/mount_table.h"
#include "identity/census.h"
#include "identity/load.h"

static const char info[] =
    "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
    "30 27 0:40 / /data rw,nosuid shared:7 master:2 - tmpfs none ro,size=4k\n"
    "31 30 0:41 /sub /data/in\\040side ro - tmpfs a\\040b rw\n"
    "32 31 0:42 / /data/in\\040side/deep rw - proc  rw\n"
    "33 27 0:43 / /database rw - tmpfs x rw\n"
    "34 27 0:44 / /private rw - tmpfs x rw\n"
    "garbage\n"
    "35 27 0:45 / /short rw\n"
    "36 x 0:45 / /bad rw - tmpfs x rw\n"
    "37 27 0:45 / /nodash rw shared:1 tmpfs x rw\n";

static char *rendered(struct mount_table *t, enum mount_format format)
{
    struct buf out = {0};

    assert_int_equal(mount_table_render(t, format, &out), 0);
    return out.data ? buf_steal(&out) : strdup("");
}

static void expect(struct mount_table *t, enum mount_format format, const char *want)
{
    char *text = rendered(t, format);

    assert_string_equal(text, want);
    free(text);
}

static void test_mounts(void **state)
{
    struct mount_table t = {0};
    char *text = strdup(info);

    (void)state;
    mount_table_parse(&t, text);
    assert_int_equal(t.n, 6);
    expect(&t, MOUNTINFO, "");
    mount_table_show(&t, 27);
    mount_table_show(&t, 99);
    mount_table_show_beneath(&t, "/data"); /* not at it, and not /database */
    expect(&t, MOUNTS,
           "/dev/vda / ext4 rw,relatime,discard 0 0\n"
           "a\\040b /data/in\\040side tmpfs ro 0 0\n"
           " /data/in\\040side/deep proc rw 0 0\n");
    /* The parent of 31 is not shown: its own parent is. */
    expect(&t, MOUNTINFO,
           "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
           "31 27 0:41 /sub /data/in\\040side ro - tmpfs a\\040b rw\n"
           "32 31 0:42 / /data/in\\040side/deep rw - proc  rw\n");
    mount_table_show(&t, 30);
    mount_table_hide_beneath(&t, "/data/in side");
    expect(&t, MOUNTINFO,
           "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
           "30 27 0:40 / /data rw,nosuid shared:7 master:2 - tmpfs none ro,size=4k\n");
    /* Read-only by mount or by file system. */
    expect(&t, MOUNTS,
           "/dev/vda / ext4 rw,relatime,discard 0 0\nnone /data tmpfs ro,nosuid,size=4k 0 0\n");
    expect(&t, MOUNTSTATS,
           "device /dev/vda mounted on / with fstype ext4\n"
           "device none mounted on /data with fstype tmpfs\n");
    mount_table_show_beneath(&t, "/");
    assert_true(t.rows[2].shown && t.rows[3].shown && t.rows[4].shown && t.rows[5].shown);
    mount_table_fini(&t);
    free(text);
}

/* Rows of a feature's own, and parents in a circle. */
static void test_added_rows(void **state)
{
    struct mount_table t = {0};
    struct mount_row row = {
        .id = 1,
        .parent = 2,
        .dev = "0:1",
        .root = "/",
        .point = "/v",
        .options = "ro",
        .tags = "",
        .type = "t",
        .source = "s",
        .super = "rw",
        .shown = true,
    };

    (void)state;
    mount_table_add(&t, &row);
    row.id = 2;
    row.parent = 2;
    row.shown = false;
    mount_table_add(&t, &row);
    expect(&t, MOUNTINFO, "1 2 0:1 / /v ro - t s rw\n");
    expect(&t, MOUNTS, "s /v t ro 0 0\n");
    mount_table_fini(&t);
}

static void test_load(void **state)
{
    uint64_t a[3] = {0};

    (void)state;
    /* What the kernel says after a minute of one busy thread: 1 - 1/e. */
    load_advance(a, 1, 12);
    assert_in_range(a[0] * 100 / LOAD_ONE, 62, 65);
    assert_in_range(a[1] * 100 / LOAD_ONE, 17, 20);
    assert_in_range(a[2] * 100 / LOAD_ONE, 6, 8);
    load_advance(a, 3, 100000000);
    for (int k = 0; k < 3; k++)
        assert_int_equal(a[k], 3 * LOAD_ONE);
    load_advance(a, 0, UINT64_MAX);
    assert_int_equal(a[0], 0);
    load_advance(a, 5, 0);
    assert_int_equal(a[0], 0);
}

static void test_stat_lines(void **state)
{
    static const char good[] =
        "7 (a) R 3 (b)) S 42 1 1 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 5 0 99 1 1";
    struct census_stat st;

    (void)state;
    assert_true(census_parse(good, &st));
    assert_int_equal(st.state, 'S');
    assert_int_equal(st.ppid, 42);
    assert_int_equal(st.ticks, 30);
    assert_int_equal(st.child_ticks, 70);
    assert_int_equal(st.threads, 5);
    assert_false(census_parse("7 (a", &st));
    assert_false(census_parse("7 (a) R 1 2", &st));
    assert_false(census_parse("", &st));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mounts),
        cmocka_unit_test(test_added_rows),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_stat_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
