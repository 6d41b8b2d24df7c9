/* SPDX-License-Identifier: Apache-2.0 */
/*
 * getdents and getdents64 on behalf (PV-02): the caller's own open description is read through a
 * duplicate, so that its position moves as natively, and processes outside the sandbox are left out.
 * Receiver threads. Lengths and descriptors are the child's.
 */
#include <errno.h>
#include <string.h>

#include "fs/behalf.h"
#include "fs/fs.h"
#include "fs/listing.h"
#include "fs/procview.h"
#include "fs/view.h"

#define LIST_MORE_MAX 8192u /* mount points in one directory */
#define LIST_LEAST 280u     /* the longest record */

/* Removes hidden records in place; returns the new length. */
static size_t list_filter(const struct request *r, uint8_t *buf, size_t n)
{
    struct uapi_dirent *e;
    size_t from = 0, to = 0;

    while ((e = listing_next(buf, n, &from))) {
        size_t len = e->len;

        if (listing_hides(r, e->name))
            continue;
        memmove(buf + to, e, len);
        to += len;
    }
    return to;
}

/* The kernel leaves the bytes behind a name as they were: not what an earlier record, hidden or
 * of another task, had there. */
static void list_clear_padding(uint8_t *buf, size_t n)
{
    struct uapi_dirent *e;
    size_t off = 0;

    while ((e = listing_next(buf, n, &off))) {
        size_t room = e->len - LISTING_NAME_OFFSET, used = strnlen(e->name, room);

        memset(e->name + used, 0, room - used);
    }
}

/* Reads until something is left to show, or the end. */
static ssize_t list_read(const struct request *r, int fd, bool filter, uint8_t *buf, size_t size)
{
    for (;;) {
        ssize_t n = sys_getdents64(fd, buf, size);

        if (n > 0 && filter)
            n = (ssize_t)list_filter(r, buf, (size_t)n);
        else if (n <= 0)
            return n;
        if (n > 0) {
            list_clear_padding(buf, (size_t)n);
            return n;
        }
    }
}

/* The records that this directory has besides the file system's: with the first of those, so that they
 * come again after a rewind. */
static ssize_t list_read_all(const struct request *r, int fd, const struct sys_ident *id,
                             bool filter, off_t before, uint8_t *buf, size_t size)
{
    uint8_t more[LIST_MORE_MAX];
    struct uapi_dirent *e;
    int64_t last = 0;
    size_t extra;
    ssize_t n = view_list_made(r, id, fd, buf, size);

    if (n != -ENODATA)
        return n;
    extra = before == 0 ? view_list(r, id, 0, more, 0, sizeof(more)) : 0;
    if (extra + LIST_LEAST > size)
        extra = 0; /* a buffer for one record at a time */
    n = list_read(r, fd, filter, buf, size - extra);
    if (n <= 0 || !extra)
        return n;
    for (size_t at = 0; (e = listing_next(buf, (size_t)n, &at));)
        last = e->off;
    return (ssize_t)view_list(r, id, last, buf, (size_t)n, size);
}

/* Delivers what was read; when that fails, nothing was. */
static struct verdict list_answer(const struct request *r, int fd, off_t before, uint8_t *buf,
                                  ssize_t n)
{
    int e;

    if (n <= 0)
        return verdict_result(n);
    e = listing_write(r, buf, (size_t)n);
    if (e < 0) {
        (void)lseek(fd, before, SEEK_SET);
        return verdict_errno(e);
    }
    return verdict_value(n);
}

struct verdict procview_getdents(struct request *r)
{
    const struct procview *v = supervisor_state(r->sup, &fs_procview_feature);
    _cleanup_close_ int fd = -1;
    _cleanup_free_ uint8_t *buf = NULL;
    size_t size = MIN(call_u32(&r->call, 2), LISTING_MAX);
    int got = request_fd(r, call_int(&r->call, 0)), root;
    struct sys_ident id;
    off_t before;

    if (got == -EPERM && v && !procview_can_list(v))
        return verdict_continue(
            "no descriptor of the root of a procfs can be had here: its open is "
            "refused on systems that refuse pidfd_getfd (procview_judge)");
    if (got < 0)
        return verdict_errno(got); /* also EPERM for a program that may not be looked into: it can
                                      have inherited the root of a procfs */
    fd = got;
    root = listing_is_proc_root(fd, &id);
    if (root < 0)
        return verdict_errno(root);
    buf = malloc(size ? size : 1);
    if (!buf)
        return verdict_errno(ENOMEM);
    before = lseek(fd, 0, SEEK_CUR);
    return list_answer(r, fd, before, buf, list_read_all(r, fd, &id, root, before, buf, size));
}
