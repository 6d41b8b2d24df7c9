/* SPDX-License-Identifier: Apache-2.0 */
/* One work directory with one layer over it, for test_cow and test_cow_view. */
#pragma once

#include "cow_fixture.h"

static char storage[PATH_MAX];

struct one {
    int fd; /* lower */
    struct cow_layer *l;
    struct cow_pos root;
};

_unused_ static void put(int dir_fd, const char *name, mode_t mode, const char *text)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

_unused_ static void lower_make(struct one *o)
{
    char path[PATH_MAX];

    fix_path(path, "work");
    fix_rm(path);
    assert_int_equal(mkdir(path, 0755), 0);
    o->fd = fix_open_dir("work");
    put(o->fd, "file", 0644, "one\ntwo\nthree\n");
    assert_int_equal(mkdirat(o->fd, "dir", 0755), 0);
    put(o->fd, "dir/inner", 0644, "inner\n");
}

_unused_ static void layer_make(struct one *o, uint64_t quota)
{
    o->l = fix_layer(o->fd, storage, quota);
    assert_int_equal(cow_root(o->l, &o->root), 0);
}

_unused_ static void one_make(struct one *o)
{
    lower_make(o);
    layer_make(o, 0);
}

_unused_ static void one_fini(struct one *o)
{
    cow_pos_fini(&o->root);
    cow_free(o->l);
    close(o->fd);
}

_unused_ static int write_to(struct one *o, struct cow_pos *p, const char *name, int flags,
                             const char *text)
{
    int fd = cow_open(o->l, p, name, O_WRONLY | flags, 0644);
    ssize_t n;

    if (fd < 0)
        return fd;
    n = write(fd, text, strlen(text));
    close(fd);
    return n < 0 ? -errno : 0;
}

_unused_ static void commit(struct one *o)
{
    struct cow_report report = {0};
    struct error err = {0};

    if (cow_commit(&o->l, 1, &report, &err) < 0)
        fail_msg("%s: %s\n%s%s", err.where, err.message, buf_cstr(&report.conflicts),
                 buf_cstr(&report.notes));
    cow_report_fini(&report);
}

_unused_ static int begin(void **state)
{
    (void)state;
    umask(022);
    fix_begin();
    fix_path(storage, "storage");
    return 0;
}

_unused_ static int end(void **state)
{
    (void)state;
    fix_rm(fix_top);
    return 0;
}
