/* SPDX-License-Identifier: Apache-2.0 */
/*
 * getdents and getdents64 on behalf (PV-02): the caller's own open description is read through a
 * duplicate, so that its position moves as natively, and processes outside the sandbox are left out.
 * Receiver threads. Lengths and descriptors are the child's.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/behalf.h"
#include "fs/procfs.h"
#include "fs/procview.h"
#include "fs/view.h"

#define LIST_MAX 65536u
#define LIST_MORE_MAX 8192u /* mount points in one directory */
#define LIST_LEAST 280u     /* the longest record */

/* struct linux_dirent64 of the kernel; the legacy record is as long: its type is the last byte. */
struct list_record {
    uint64_t ino;
    int64_t off;
    uint16_t len;
    uint8_t type;
    char name[];
};
#define LIST_NAME_OFFSET 19u
#define LIST_LEGACY_NAME_OFFSET 18u
_Static_assert(offsetof(struct list_record, name) == LIST_NAME_OFFSET, "struct linux_dirent64");

/* A number that is not a member's. */
static bool list_hides(const struct request *r, const char *name)
{
    long pid = 0;

    for (const char *p = name; *p; p++) {
        if (*p < '0' || *p > '9' || pid > 100000000)
            return false;
        pid = pid * 10 + (*p - '0');
    }
    return *name && !supervisor_is_member(r->sup, (pid_t)pid);
}

/* Removes hidden records in place; returns the new length. */
static size_t list_filter(const struct request *r, uint8_t *buf, size_t n)
{
    size_t from = 0, to = 0;

    while (from + LIST_NAME_OFFSET < n) {
        struct list_record *e = (struct list_record *)(buf + from);
        size_t len = e->len;

        if (len < LIST_NAME_OFFSET || from + len > n)
            break;
        from += len;
        if (list_hides(r, e->name))
            continue;
        memmove(buf + to, e, len);
        to += len;
    }
    return to;
}

/* The old layout in the same space: name one byte earlier, type at the end. */
static void list_to_legacy(uint8_t *buf, size_t n)
{
    for (size_t off = 0; off + LIST_NAME_OFFSET < n;) {
        struct list_record *e = (struct list_record *)(buf + off);
        size_t len = e->len;
        uint8_t type = e->type;

        memmove(buf + off + LIST_LEGACY_NAME_OFFSET, e->name, len - LIST_NAME_OFFSET);
        buf[off + len - 1] = type;
        off += len;
    }
}

/* Reads until something is left to show, or the end. */
static ssize_t list_read(const struct request *r, int fd, bool filter, uint8_t *buf, size_t size)
{
    for (;;) {
        ssize_t n = sys_getdents64(fd, buf, size);

        if (n <= 0 || !filter)
            return n;
        n = (ssize_t)list_filter(r, buf, (size_t)n);
        if (n > 0)
            return n;
    }
}

/* The records that this directory has besides the file system's: with the first of those, so that they
 * come again after a rewind. */
static ssize_t list_read_all(const struct request *r, int fd, const struct sys_ident *id,
                             bool filter, off_t before, uint8_t *buf, size_t size)
{
    uint8_t more[LIST_MORE_MAX];
    size_t extra, last = 0;
    ssize_t n = view_list_made(r, id, fd, buf, size);

    if (n != -ENODATA)
        return n;
    extra = before == 0 ? view_list(r, id, 0, more, 0, sizeof(more)) : 0;
    if (extra + LIST_LEAST > size)
        extra = 0; /* a buffer for one record at a time */
    n = list_read(r, fd, filter, buf, size - extra);
    if (n <= 0 || !extra)
        return n;
    for (size_t at = 0; at < (size_t)n; at += ((struct list_record *)(buf + at))->len)
        last = at;
    return (ssize_t)view_list(r, id, ((struct list_record *)(buf + last))->off, buf, (size_t)n,
                              size);
}

/* Delivers what was read; when that fails, nothing was. */
static struct verdict list_answer(const struct request *r, int fd, off_t before, uint8_t *buf,
                                  ssize_t n)
{
    int e;

    if (n <= 0)
        return verdict_result(n);
    if (r->call.variant == VARIANT_LEGACY)
        list_to_legacy(buf, (size_t)n);
    e = request_write(r, call_addr(&r->call, 1), buf, (size_t)n);
    if (e < 0) {
        (void)lseek(fd, before, SEEK_SET);
        return verdict_errno(e);
    }
    return verdict_value(n);
}

/* 1: the root of a procfs, 0: another directory. */
static int list_is_proc_root(int fd, struct sys_ident *id)
{
    struct procfs_place place;
    int e = sys_identify(fd, id);

    if (e < 0)
        return e;
    if (!S_ISDIR(id->mode))
        return -ENOTDIR;
    if (!procfs_is(fd, id))
        return 0;
    e = procfs_place(fd, id, &place);
    return e < 0 ? e : !*place.rest;
}

struct verdict procview_getdents(struct request *r)
{
    _cleanup_close_ int fd = -1;
    _cleanup_free_ uint8_t *buf = NULL;
    size_t size = MIN(call_u32(&r->call, 2), LIST_MAX);
    int got = request_fd(r, call_int(&r->call, 0)), root;
    struct sys_ident id;
    off_t before;

    if (got == -EPERM)
        return verdict_continue(
            "no descriptor of the root of a procfs can be had here: its open is "
            "refused on systems that refuse pidfd_getfd (procview_judge)");
    if (got < 0)
        return verdict_errno(got);
    fd = got;
    root = list_is_proc_root(fd, &id);
    if (root < 0)
        return verdict_errno(root);
    buf = malloc(size ? size : 1);
    if (!buf)
        return verdict_errno(ENOMEM);
    before = lseek(fd, 0, SEEK_CUR);
    return list_answer(r, fd, before, buf, list_read_all(r, fd, &id, root, before, buf, size));
}
