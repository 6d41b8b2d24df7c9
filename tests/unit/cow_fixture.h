/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees for the tests of the copy-on-write layer: made, walked in the merged view, and written out as
 * text, one line an object, so that two can be compared whatever they are.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "fs/cow/layer.h"
#include "fs/resolve.h"

/* ---- places ---- */

static char fix_top[64];           /* the test's own directory */
static bool fix_limbo_in_root;     /* its making and removal show in the root's change time */
_unused_ static bool fix_in_place; /* layers that are committed into the files of lower */
static bool fix_backup;            /* layers that are rolled back: their change times are new */
static int64_t fix_start;          /* times from here on are "now" */

_unused_ static int fix_rm_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st, (void)type, (void)f;
    return remove(path);
}

_unused_ static void fix_rm(const char *path)
{
    nftw(path, fix_rm_one, 64, FTW_DEPTH | FTW_PHYS);
}

_unused_ static void fix_begin(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(fix_top, sizeof(fix_top), "%.40s/cow-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(fix_top));
}

_unused_ static void fix_path(char path[PATH_MAX], const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", fix_top, name);
}

_unused_ static int fix_open_dir(const char *name)
{
    char path[PATH_MAX];
    int fd;

    fix_path(path, name);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Another file system, if there is one here. */
_unused_ static bool fix_other_fs(char path[PATH_MAX])
{
    struct stat a, b;

    if (stat(fix_top, &a) < 0 || stat("/dev/shm", &b) < 0 || a.st_dev == b.st_dev ||
        access("/dev/shm", W_OK) < 0)
        return false;
    snprintf(path, PATH_MAX, "/dev/shm/cow-test-%d", (int)getpid());
    return true;
}

_unused_ static struct cow_layer *fix_layer(int lower_fd, const char *storage, uint64_t quota)
{
    struct cow_config config = {.storage = storage,
                                .max_bytes = quota,
                                .command = "test",
                                .backup = fix_backup,
                                .in_place = fix_in_place};
    struct cow_layer *l = NULL;
    struct error err = {0};

    if (cow_create(lower_fd, &config, &l, &err) < 0)
        fail_msg("cow_create: %s: %s", err.where, err.message);
    return l;
}

/* ---- walking in the merged view: no links are followed ---- */

/* The directory of "a/b/c" and its last component. */
_unused_ static int fix_walk(struct cow_layer *l, const char *path, struct cow_pos *ret,
                             const char **ret_name)
{
    struct cow_pos p, next;
    int e = cow_root(l, &p);
    const char *slash;
    char name[NAME_MAX + 1];

    while (e == 0 && (slash = strchr(path, '/'))) {
        snprintf(name, sizeof(name), "%.*s", (int)(slash - path), path);
        e = cow_enter(l, &p, name, &next);
        cow_pos_fini(&p);
        if (e < 0)
            return e;
        p = next;
        path = slash + 1;
    }
    *ret = p;
    *ret_name = path;
    return e;
}

/* ---- by name, as the supervisor does it: what was looked up is gone on with by its descriptor ---- */

_unused_ static int fix_link(struct cow_layer *l, struct cow_pos *from, const char *old,
                             struct cow_pos *dir, const char *name)
{
    int fd = cow_open_path(l, from, old), e;
    struct cow_entry there;

    if (fd < 0)
        return fd;
    e = cow_lookup(l, dir, name, &there);
    if (e == 0 && there.where != COW_NONE && there.where != COW_WHITEOUT)
        e = -EEXIST;
    if (e == 0)
        e = cow_link_fd(l, fd, dir, name);
    close(fd);
    return e;
}

_unused_ static int fix_change(struct cow_layer *l, struct cow_pos *dir, const char *name,
                               enum cow_need need)
{
    int fd = cow_open_path(l, dir, name), own_fd;

    if (fd < 0)
        return fd;
    own_fd = cow_change_fd(l, fd, need);
    close(fd);
    return own_fd;
}

_unused_ static int fix_stat(struct cow_layer *l, struct cow_pos *dir, const char *name,
                             struct cow_stat *ret)
{
    int fd = cow_open_path(l, dir, name), e;

    if (fd < 0)
        return fd;
    e = cow_stat_fd(l, fd, ret);
    close(fd);
    return e;
}

/* ---- dumps ---- */

struct dump {
    struct buf *out;
    struct {
        uint64_t ino;
        int line;
    } seen[4096];
    int n_seen, line;
    bool exact; /* with inode numbers, ctimes and all times */
};

static void dump_time(struct dump *d, const char *what, const struct timespec *t)
{
    int64_t ns = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;

    if (!d->exact && ns >= fix_start)
        buf_addf(d->out, " %s=now", what);
    else
        buf_addf(d->out, " %s=%lld", what, (long long)ns);
}

static void dump_xattrs(struct dump *d, const char *path)
{
    char list[4096], value[256];
    ssize_t n = llistxattr(path, list, sizeof(list));

    for (const char *x = list; n > 0 && x < list + n; x += strlen(x) + 1) {
        ssize_t m = lgetxattr(path, x, value, sizeof(value));

        if (strncmp(x, "user.", 5) == 0)
            buf_addf(d->out, " %s=%.*s", x, (int)(m > 0 ? m : 0), value);
    }
}

static void dump_stat(struct dump *d, const char *path, const struct stat *st)
{
    int first = 0;

    d->line++;
    buf_addf(d->out, "%s %o %u:%u", *path ? path : ".", st->st_mode, st->st_uid, st->st_gid);
    dump_time(d, "m", &st->st_mtim);
    if (d->exact) {
        if ((*path || !fix_limbo_in_root) && !fix_backup)
            dump_time(d, "c", &st->st_ctim);
        buf_addf(d->out, " i%llu", (unsigned long long)st->st_ino);
    }
    if (S_ISDIR(st->st_mode))
        return;
    buf_addf(d->out, " n%u s%lld", (unsigned)st->st_nlink, (long long)st->st_size);
    if (st->st_nlink < 2)
        return;
    for (int i = 0; i < d->n_seen && !first; i++) {
        if (d->seen[i].ino == st->st_ino)
            first = d->seen[i].line;
    }
    if (!first && d->n_seen < (int)ARRAY_SIZE(d->seen)) {
        d->seen[d->n_seen].ino = st->st_ino;
        d->seen[d->n_seen++].line = first = d->line;
    }
    buf_addf(d->out, " same%d", first);
}

static void dump_bytes(struct dump *d, int fd)
{
    unsigned char chunk[4096];
    uint64_t h = 14695981039346656037u;
    ssize_t n;

    while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
        for (ssize_t i = 0; i < n; i++)
            h = (h ^ chunk[i]) * 1099511628211u;
    }
    buf_addf(d->out, " %016llx", (unsigned long long)h);
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

#define DUMP_NAMES 512

/* ---- of a real tree ---- */

_unused_ static void dump_real(struct dump *d, int dir_fd, const char *path)
{
    char *names[DUMP_NAMES], proc[FD_PATH_MAX], below[PATH_MAX], text[PATH_MAX];
    DIR *dir = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *e;
    size_t n = 0;

    assert_non_null(dir);
    while ((e = readdir(dir)) && n < DUMP_NAMES) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            names[n++] = strdup(e->d_name);
    }
    closedir(dir);
    if (n)
        qsort(names, n, sizeof(*names), name_order);
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        int fd;

        snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", names[i]);
        fd = openat(dir_fd, names[i], O_PATH | O_NOFOLLOW | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        fd_path(fd, proc);
        dump_stat(d, below, &st);
        dump_xattrs(d, proc);
        if (S_ISLNK(st.st_mode)) {
            ssize_t m = readlinkat(dir_fd, names[i], text, sizeof(text));

            buf_addf(d->out, " -> %.*s", (int)m, text);
        } else if (S_ISREG(st.st_mode)) {
            int data_fd = open(proc, O_RDONLY | O_NOATIME | O_CLOEXEC);

            assert_true(data_fd >= 0);
            dump_bytes(d, data_fd);
            close(data_fd);
        }
        buf_addc(d->out, '\n');
        if (S_ISDIR(st.st_mode))
            dump_real(d, fd, below);
        close(fd);
        free(names[i]);
    }
}

/* ---- of the merged view ---- */

struct view_entry {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

_unused_ static size_t view_names(struct cow_layer *l, struct cow_pos *p, char **names,
                                  uint64_t *inos, uint8_t *types)
{
    _Alignas(8) char chunk[300];
    struct cow_list *list;
    uint64_t at = 0;
    ssize_t got;
    size_t n = 0;
    int dots = 0;

    assert_int_equal(cow_list_new(l, p, &list), 0);
    while ((got = cow_list_read(list, chunk, sizeof(chunk), &at)) > 0) {
        for (ssize_t i = 0; i < got;) {
            struct view_entry *e = (struct view_entry *)(chunk + i);

            if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0) {
                dots++;
            } else {
                assert_true(n < DUMP_NAMES);
                inos[n] = e->ino;
                types[n] = e->type;
                names[n++] = strdup(e->name);
            }
            i += e->reclen;
        }
    }
    assert_int_equal(got, 0);
    assert_int_equal(dots, 2);
    cow_list_free(list);
    return n;
}

_unused_ static void dump_view(struct dump *d, struct cow_layer *l, struct cow_pos *p,
                               const char *path)
{
    char *names[DUMP_NAMES], *sorted[DUMP_NAMES], below[PATH_MAX], text[PATH_MAX],
        proc[FD_PATH_MAX];
    uint64_t inos[DUMP_NAMES];
    uint8_t types[DUMP_NAMES];
    size_t n = view_names(l, p, names, inos, types);

    memcpy(sorted, names, sizeof(names));
    if (n)
        qsort(sorted, n, sizeof(*sorted), name_order);
    for (size_t i = 0; i < n; i++) {
        struct cow_stat st;
        size_t k = 0;
        int fd, e;

        while (names[k] != sorted[i])
            k++;
        snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", sorted[i]);
        e = fix_stat(l, p, sorted[i], &st);
        if (e < 0)
            fail_msg("%s is listed, stat says %s", below, strerror(-e));
        if (st.st.st_ino != inos[k] || (st.st.st_mode & S_IFMT) >> 12 != types[k])
            fail_msg("%s: listed as %llu/%u, stat says %llu/%o", below, (unsigned long long)inos[k],
                     types[k], (unsigned long long)st.st.st_ino, st.st.st_mode);
        dump_stat(d, below, &st.st);
        fd = cow_open_path(l, p, sorted[i]);
        assert_true(fd >= 0);
        fd_path(fd, proc);
        dump_xattrs(d, proc);
        if (S_ISLNK(st.st.st_mode)) {
            ssize_t m = readlinkat(fd, "", text, sizeof(text));

            buf_addf(d->out, " -> %.*s", (int)m, text);
        }
        close(fd);
        if (S_ISREG(st.st.st_mode)) {
            fd = cow_open(l, p, sorted[i], O_RDONLY, 0);
            if (fd < 0)
                fail_msg("%s: open: %s", below, strerror(-fd));
            dump_bytes(d, fd);
            close(fd);
        }
        buf_addc(d->out, '\n');
        if (S_ISDIR(st.st.st_mode)) {
            struct cow_pos down;

            e = cow_enter(l, p, sorted[i], &down);
            if (e < 0)
                fail_msg("%s: enter: %s", below, strerror(-e));
            dump_view(d, l, &down, below);
            cow_pos_fini(&down);
        }
    }
    for (size_t i = 0; i < n; i++)
        free(names[i]);
}

_unused_ static void dump_of_view(struct cow_layer *l, struct buf *out)
{
    struct dump *d = calloc(1, sizeof(*d));
    struct cow_pos root;

    d->out = out;
    out->len = 0;
    assert_int_equal(cow_root(l, &root), 0);
    dump_view(d, l, &root, "");
    cow_pos_fini(&root);
    free(d);
}

_unused_ static void dump_of_real(int dir_fd, bool exact, struct buf *out)
{
    struct dump *d = calloc(1, sizeof(*d));
    struct stat st;

    d->out = out;
    d->exact = exact;
    out->len = 0;
    if (exact) {
        assert_int_equal(fstat(dir_fd, &st), 0);
        dump_stat(d, "", &st);
        buf_addc(out, '\n');
    }
    dump_real(d, dir_fd, "");
    free(d);
}

/* Fails with the first line in which they differ. */
_unused_ static void dump_compare(struct buf *want, struct buf *have, const char *when)
{
    const char *a = buf_cstr(want), *b = buf_cstr(have);

    if (want->len == have->len && memcmp(a, b, want->len) == 0)
        return;
    while (*a && *b) {
        size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");

        if (n != m || memcmp(a, b, n) != 0)
            break;
        a += n + 1;
        b += m + 1;
    }
    fail_msg("%s:\n  want %.*s\n  have %.*s", when, (int)strcspn(a, "\n"), a, (int)strcspn(b, "\n"),
             b);
}
