/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sorted directories: windows of any size show the same sequence, memory stays bounded, positions lead
 * to the right window after changes, drops and when numbers run out.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/dirs.h"
#include "fs/listing.h"

/* A record as the kernel makes it, in static storage. */
static const struct uapi_dirent *record(const char *name, uint64_t ino)
{
    static union {
        struct uapi_dirent e;
        uint8_t room[512];
    } r;

    memset(&r, 0xaa, sizeof(r)); /* what is behind the name is nobody's */
    r.e.ino = ino;
    r.e.type = 8;
    r.e.len = (uint16_t)((LISTING_NAME_OFFSET + strlen(name) + 8) / 8 * 8);
    strcpy(r.e.name, name);
    return &r.e;
}

/* Window of the numbered names that come after `after`. */
static struct dirs_window *window(size_t limit, const char *after, unsigned n, unsigned step)
{
    _cleanup_dirs_scan_ struct dirs_scan s;
    struct dirs_window *w;
    char name[32];

    dirs_scan_init(&s, limit, after);
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "n%05u", i * step % n);
        assert_int_equal(dirs_scan_add(&s, record(name, i)), 0);
        assert_true(s.cap <= 6 * limit + 3 * UINT16_MAX);
    }
    assert_int_equal(dirs_scan_add(&s, record("..", 2)), 0);
    assert_int_equal(dirs_scan_add(&s, record(".", 1)), 0);
    assert_int_equal(dirs_scan_finish(&s, &w), 0);
    return w;
}

static void test_order(void **state)
{
    static const char *const want[] = {".",        "..",        "\x01",     "!",        "...",
                                       "..a",      ".a",        "A",        "a",        "a b",
                                       "abcdefgh", "abcdefgh1", "abcdefgi", "\xc3\xa9", "\xff"};
    struct dirs_scan s;
    struct dirs_window *w;

    (void)state;
    dirs_scan_init(&s, 1 << 20, NULL);
    for (size_t i = ARRAY_SIZE(want); i-- > 0;)
        assert_int_equal(dirs_scan_add(&s, record(want[i], i)), 0);
    assert_int_equal(dirs_scan_finish(&s, &w), 0);
    assert_int_equal(w->count, ARRAY_SIZE(want));
    assert_int_equal(w->follow, 0);
    for (uint32_t i = 0; i < w->count; i++) {
        const struct uapi_dirent *e = (struct uapi_dirent *)(w->records + w->start[i]);

        assert_string_equal(e->name, want[i]);
        assert_int_equal(e->ino, i);
        assert_int_equal(e->off, i + 1);
        for (size_t at = strlen(e->name); at + LISTING_NAME_OFFSET < e->len; at++)
            assert_int_equal(e->name[at], 0);
    }
    dirs_window_free(w);
}

static void test_windows_join(void **state)
{
    static const size_t limits[] = {1, 32, 100, 1000, 4096, 1 << 20};
    const unsigned n = 700;

    (void)state;
    for (size_t l = 0; l < ARRAY_SIZE(limits); l++) {
        char *after = NULL, name[32];
        unsigned seen = 0;

        for (;;) {
            struct dirs_window *w = window(limits[l], after, n, 331);

            assert_true(w->count > 0 && (w->len <= limits[l] || w->count == 1));
            assert_int_equal(w->count + w->follow + seen, n + 2);
            for (uint32_t i = 0; i < w->count; i++, seen++) {
                const struct uapi_dirent *e = (struct uapi_dirent *)(w->records + w->start[i]);

                snprintf(name, sizeof(name), "n%05u", seen - 2);
                assert_string_equal(e->name, seen == 0 ? "." : seen == 1 ? ".." : name);
            }
            free(after);
            after = strdup(dirs_window_last(w));
            if (w->follow == 0) {
                dirs_window_free(w);
                break;
            }
            dirs_window_free(w);
        }
        free(after);
        assert_int_equal(seen, n + 2);
    }
}

static void test_copy(void **state)
{
    struct dirs_window *w = window(1 << 20, NULL, 10, 1);
    uint8_t buf[64];
    uint32_t next = 99;

    (void)state;
    assert_int_equal(dirs_window_copy(w, 2, 100, buf, 31, &next), -EINVAL);
    assert_int_equal(dirs_window_copy(w, 2, 100, buf, 32, &next), 32);
    assert_int_equal(next, 3);
    assert_int_equal(((struct uapi_dirent *)buf)->off, 103);
    assert_int_equal(dirs_window_copy(w, 0, 0, buf, 64, &next), 48);
    assert_int_equal(next, 2);
    assert_int_equal(dirs_window_copy(w, 11, 0, buf, 64, &next), 32);
    assert_int_equal(next, 12);
    dirs_window_free(w);
}

static struct dirs_read at(ino_t ino, uint32_t pos, uint8_t *buf, size_t size)
{
    return (struct dirs_read){.dev = 1, .ino = ino, .pos = pos, .buf = buf, .size = size};
}

static void test_positions(void **state)
{
    struct dirs_cache *c = dirs_cache_new();
    uint8_t buf[32];
    char *after;
    struct dirs_read d = at(7, 0, buf, sizeof(buf)), old;

    (void)state;
    /* The first is 1, 2, ...; an equal one shares it. */
    assert_int_equal(dirs_cache_add(c, 0, window(1 << 20, NULL, 5, 1), 0, &d), DIRS_COPIED);
    assert_int_equal(d.pos, 1);
    d = at(7, 0, buf, sizeof(buf));
    assert_int_equal(dirs_cache_add(c, 0, window(1 << 20, NULL, 5, 1), 3, &d), DIRS_COPIED);
    assert_int_equal(d.pos, 4);
    old = d;
    /* A changed one goes behind; both are served. */
    d = at(7, 0, buf, sizeof(buf));
    assert_int_equal(dirs_cache_add(c, 0, window(1 << 20, NULL, 4, 1), 0, &d), DIRS_COPIED);
    assert_int_equal(d.pos, 8);
    assert_int_equal(dirs_cache_read(c, &d, &after), DIRS_COPIED);
    assert_string_equal(((struct uapi_dirent *)buf)->name, "..");
    assert_int_equal(dirs_cache_read(c, &old, &after), DIRS_COPIED);
    assert_string_equal(((struct uapi_dirent *)buf)->name, "n00002");
    old.pos = 7;
    assert_int_equal(dirs_cache_read(c, &old, &after), DIRS_END);
    d.pos = 13;
    assert_int_equal(dirs_cache_read(c, &d, &after), DIRS_END);
    d.pos = 14;
    assert_int_equal(dirs_cache_read(c, &d, &after), DIRS_UNKNOWN);
    /* Another directory has its own. */
    d = at(8, 3, buf, sizeof(buf));
    assert_int_equal(dirs_cache_read(c, &d, &after), DIRS_UNKNOWN);
    dirs_cache_free(c);
}

static void test_chain(void **state)
{
    struct dirs_cache *c = dirs_cache_new();
    struct dirs_window *w = window(320, NULL, 30, 7);
    uint32_t first = w->count;
    uint8_t buf[320];
    char *after;
    struct dirs_read d = at(7, 0, buf, sizeof(buf));

    (void)state;
    assert_true(w->follow > 0);
    assert_int_equal(dirs_cache_add(c, 0, w, 0, &d), DIRS_COPIED);
    assert_int_equal(d.pos, first);
    assert_int_equal(dirs_cache_read(c, &d, &after), DIRS_CONTINUE);
    assert_string_equal(after, "n00007");
    assert_int_equal(dirs_cache_add(c, d.pos, window(320, after, 30, 7), 0, &d), DIRS_COPIED);
    assert_string_equal(((struct uapi_dirent *)buf)->name, "n00008");
    free(after);
    /* Back into the first, and over the seam without another scan. */
    d.pos = first;
    assert_int_equal(dirs_cache_read(c, &d, &after), DIRS_COPIED);
    assert_string_equal(((struct uapi_dirent *)buf)->name, "n00008");
    d.pos = first - 1;
    assert_int_equal(dirs_cache_read(c, &d, &after), DIRS_COPIED);
    assert_string_equal(((struct uapi_dirent *)buf)->name, "n00007");
    dirs_cache_free(c);
}

/* What was not used for longest goes; the rest stays. */
static void test_bounds(void **state)
{
    struct dirs_cache *c = dirs_cache_new();
    uint8_t buf[32];
    char *after;
    struct dirs_read d;

    (void)state;
    for (ino_t ino = 1; ino <= 2000; ino++) {
        d = at(ino, 0, buf, sizeof(buf));
        assert_int_equal(dirs_cache_add(c, 0, window(4096, NULL, 3, 1), 0, &d), DIRS_COPIED);
        d = at(1, 1, buf, sizeof(buf));
        assert_int_equal(dirs_cache_read(c, &d, &after), DIRS_COPIED);
    }
    d = at(2, 1, buf, sizeof(buf));
    assert_int_equal(dirs_cache_read(c, &d, &after), DIRS_UNKNOWN);
    d = at(2000, 1, buf, sizeof(buf));
    assert_int_equal(dirs_cache_read(c, &d, &after), DIRS_COPIED);
    dirs_cache_free(c);
}

/* The numbers of a directory that never stays the same run out: they begin again. */
static void test_numbers_run_out(void **state)
{
    struct dirs_cache *c = dirs_cache_new();
    uint8_t buf[32];
    struct dirs_read d;
    bool again = false;

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        struct dirs_window *w = window(4096, NULL, 3 + i, 1);

        w->follow = DIRS_POS_MAX / 4; /* claimed, not there */
        d = at(9, 0, buf, sizeof(buf));
        assert_int_equal(dirs_cache_add(c, 0, w, 0, &d), DIRS_COPIED);
        assert_true(d.pos > 0 && d.pos <= DIRS_POS_MAX);
        again |= i > 0 && d.pos == 1;
    }
    assert_true(again);
    d = at(9, 0, buf, sizeof(buf));
    struct dirs_window *w = window(4096, NULL, 3, 1);
    w->follow = DIRS_POS_MAX;
    assert_int_equal(dirs_cache_add(c, 0, w, 0, &d), -EOVERFLOW);
    dirs_cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_windows_join),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_numbers_run_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
