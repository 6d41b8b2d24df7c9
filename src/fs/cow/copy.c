/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of content and attributes (BD-5): reflink, else copy_file_range, else read and write; holes
 * stay holes. Bounded memory. The files are lower's: they may shrink or grow meanwhile.
 */
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#include "fs/cow/internal.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

#define COPY_CHUNK (256u << 10)
#define COPY_PIECE (64 << 20)  /* bytes between two words about progress */
#define XATTR_ROOM (64u << 10) /* XATTR_LIST_MAX and XATTR_SIZE_MAX of the kernel */

static int copy_slow(int from_fd, int to_fd, off_t at, off_t end)
{
    _cleanup_free_ char *chunk = malloc(COPY_CHUNK);

    if (!chunk)
        return -ENOMEM;
    while (at < end) {
        ssize_t n = pread(from_fd, chunk, MIN((size_t)(end - at), (size_t)COPY_CHUNK), at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        for (ssize_t done = 0; done < n;) {
            ssize_t w = pwrite(to_fd, chunk + done, (size_t)(n - done), at + done);

            if (w < 0 && errno == EINTR)
                continue;
            if (w < 0)
                return -errno;
            done += w;
        }
        at += n;
    }
    return 0;
}

static bool copy_is_unsupported(int e)
{
    /* EXDEV before 5.19 and between some file systems; EINVAL and EBADF for odd ones. */
    return e == EXDEV || e == EOPNOTSUPP || e == EINVAL || e == ENOSYS || e == EBADF ||
           e == EPERM || e == ETXTBSY;
}

static int copy_range(int from_fd, int to_fd, off_t at, off_t end, const struct cow_telling *t,
                      uint64_t size)
{
    off_t in = at, out = at;

    while (in < end) {
        size_t some = (size_t)MIN(end - in, (off_t)COPY_PIECE);
        ssize_t n = copy_file_range(from_fd, &in, to_fd, &out, some, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && copy_is_unsupported(errno))
            return copy_slow(from_fd, to_fd, in, end);
        if (n < 0)
            return -errno;
        if (n == 0) /* shrunk; or procfs and the like, which say 0 for what can be read */
            return copy_slow(from_fd, to_fd, in, end);
        if (t && t->progress)
            t->progress(t->arg, "copying", (uint64_t)in, size);
    }
    return 0;
}

/* EINVAL is not remembered: it may be about this one file (its checksums, its alignment). */
static bool copy_cloned(int from_fd, int to_fd, _Atomic bool *no_clone)
{
    if (no_clone && *no_clone)
        return false;
    if (ioctl(to_fd, FICLONE, from_fd) == 0)
        return true;
    if (no_clone && (errno == EOPNOTSUPP || errno == EXDEV || errno == ENOTTY || errno == ENOSYS))
        *no_clone = true;
    return false;
}

static int fill_hole(int from_fd, int to_fd, off_t at, off_t end)
{
    if (fallocate(to_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, end - at) == 0)
        return 0;
    return copy_slow(from_fd, to_fd, at, end); /* zeros */
}

/* Not new: there may be bytes where `from` has a hole. */
static int copy_extents(int from_fd, int to_fd, off_t end, bool fresh, const struct cow_telling *t)
{
    int e = 0;

    for (off_t at = 0, data, hole; at < end && e == 0; at = hole) {
        data = lseek(from_fd, at, SEEK_DATA);
        if (data < 0)
            data = errno == ENXIO ? end : at; /* a hole is left; or it is not known what is one */
        data = MIN(data, end);
        if (!fresh && data > at)
            e = fill_hole(from_fd, to_fd, at, data);
        hole = data < end ? lseek(from_fd, data, SEEK_HOLE) : end;
        if (hole < data || hole > end)
            hole = end;
        if (e == 0 && data < end)
            e = copy_range(from_fd, to_fd, data, hole, t, (uint64_t)end);
    }
    return e == 0 && ftruncate(to_fd, end) < 0 ? -errno : e;
}

int cow_copy_data(int from_fd, int to_fd, uint64_t size, _Atomic bool *no_clone,
                  const struct cow_telling *t)
{
    if (size > 0 && copy_cloned(from_fd, to_fd, no_clone))
        return 0;
    return copy_extents(from_fd, to_fd, (off_t)size, true, t);
}

int cow_copy_over(int from_fd, int to_fd, uint64_t size)
{
    if (copy_cloned(from_fd, to_fd, NULL)) /* which cuts nothing off */
        return ftruncate(to_fd, (off_t)size) < 0 ? -errno : 0;
    return copy_extents(from_fd, to_fd, (off_t)size, false, NULL);
}

#define SMALL_CHUNK (16u << 10)

/* With a buffer: for so few bytes that is quicker than what the kernel does to copy a range. */
int cow_copy_small(int from_fd, int to_fd, uint64_t size, _Atomic bool *no_clone)
{
    char chunk[SMALL_CHUNK];
    off_t at = 0, end = (off_t)size;

    if (copy_cloned(from_fd, to_fd, no_clone))
        return 0;
    while (at < end) {
        ssize_t n = pread(from_fd, chunk, MIN((size_t)(end - at), sizeof(chunk)), at), w;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) /* shrunk */
            return ftruncate(to_fd, end) < 0 ? -errno : 0;
        w = pwrite(to_fd, chunk, (size_t)n, at);
        if (w < 0 && errno != EINTR)
            return -errno;
        at += MAX(w, 0);
    }
    return 0;
}

/* ---- attributes ---- */

/* Names of all attributes; the caller frees. Length or -errno; 0 where there are none. */
static ssize_t xattr_names(const char *path, char **ret)
{
    ssize_t n = listxattr(path, NULL, 0);
    char *list;

    if (n <= 0)
        return n < 0 && errno != EOPNOTSUPP ? -errno : 0;
    list = malloc(XATTR_ROOM);
    if (!list)
        return -ENOMEM;
    n = listxattr(path, list, XATTR_ROOM);
    if (n <= 0) {
        free(list);
        return n < 0 && errno != EOPNOTSUPP ? -errno : 0;
    }
    *ret = list;
    return n;
}

/* What the kernel or a security module keeps for itself may fail to follow (CW-06). */
static bool xattr_must_follow(const char *name)
{
    return strncmp(name, "user.", 5) == 0 || strncmp(name, "system.posix_acl", 16) == 0;
}

static bool has_xattr(const char *path, const char *name, const char *value, size_t size)
{
    _cleanup_free_ char *there = malloc(XATTR_ROOM);

    return there && getxattr(path, name, there, XATTR_ROOM) == (ssize_t)size &&
           memcmp(there, value, size) == 0;
}

/* How many bytes of names there were, or -errno. */
static ssize_t copy_xattrs(const char *from, const char *to)
{
    _cleanup_free_ char *names = NULL, *value = NULL;
    ssize_t n = xattr_names(from, &names);
    int e;

    if (n <= 0)
        return n;
    value = malloc(XATTR_ROOM);
    if (!value)
        return -ENOMEM;
    for (const char *name = names; name < names + n; name += strlen(name) + 1) {
        ssize_t size = getxattr(from, name, value, XATTR_ROOM);

        if (size >= 0 && setxattr(to, name, value, (size_t)size, 0) == 0)
            continue;
        e = -errno;
        if (size >= 0 && e == -EPERM && has_xattr(to, name, value, (size_t)size))
            continue; /* an ACL is its owner's to set */
        if (xattr_must_follow(name) && e != -ENODATA)
            return e;
    }
    return n;
}

/* Those of `to` that `from` has not. */
static int drop_xattrs(const char *from, const char *to)
{
    _cleanup_free_ char *names = NULL;
    ssize_t n = xattr_names(to, &names);

    if (n <= 0)
        return (int)n;
    for (const char *name = names; name < names + n; name += strlen(name) + 1) {
        if (getxattr(from, name, NULL, 0) < 0 && errno == ENODATA && removexattr(to, name) < 0 &&
            xattr_must_follow(name))
            return -errno;
    }
    return 0;
}

int cow_set_times(int fd, const struct cow_attr *a)
{
    struct timespec t[2] = {cow_time(a->atime), cow_time(a->mtime)};
    struct cow_attr now;
    int e;

    if (utimensat(fd, "", t, AT_EMPTY_PATH) == 0)
        return 0;
    e = -errno;
    /* Who may only write to what is somebody else's cannot say when: it has the times that writing gave. */
    if (e == -EPERM && cow_attr_fd(fd, &now) == 0 && now.uid != geteuid())
        return 0;
    return e;
}

int cow_copy_attrs(int from_fd, const struct cow_attr *a, int to_fd, bool fresh, bool *ret_owner)
{
    struct cow_attr now;
    int e = cow_attr_fd(to_fd, &now);

    return e < 0 ? e : cow_copy_attrs_to(from_fd, a, to_fd, &now, fresh, ret_owner);
}

int cow_copy_attrs_to(int from_fd, const struct cow_attr *a, int to_fd, const struct cow_attr *now,
                      bool fresh, bool *ret_owner)
{
    char from[FD_PATH_MAX], to[FD_PATH_MAX];
    bool same_owner = a->uid == now->uid && a->gid == now->gid;
    struct cow_attr then = *now;
    ssize_t copied;
    int e = 0;

    fd_path(from_fd, from);
    fd_path(to_fd, to);
    *ret_owner = true;
    if (!same_owner && fchownat(to_fd, "", a->uid, a->gid, AT_EMPTY_PATH) < 0) {
        if (errno != EPERM)
            return -errno;
        *ret_owner = false;
        /* The group may be one of ours; what is made in a directory with its set-id bit gets it. */
        if (a->gid != now->gid && fchownat(to_fd, "", (uid_t)-1, a->gid, AT_EMPTY_PATH) < 0 &&
            errno != EPERM)
            return -errno;
    }
    if (!S_ISLNK(a->mode)) {
        copied = copy_xattrs(from, to);
        e = copied < 0 ? (int)copied : 0;
        if (e == 0 && !fresh)
            e = drop_xattrs(from, to);
        /* chown clears set-id bits; the ACL's mask is the group's. What is as it shall be is left alone: chmod
         * would clear the bit of a group that its owner is not in. */
        if (e == 0 && (!fresh || !same_owner || copied > 0))
            e = cow_attr_fd(to_fd, &then);
        if (e == 0 && (a->mode ^ then.mode) & 07777)
            e = sys_chmod_fd(to_fd, a->mode & 07777);
        if (e < 0)
            return e;
    }
    return cow_set_times(to_fd, a);
}

bool cow_xattrs_same(int a_fd, int b_fd)
{
    char a[FD_PATH_MAX], b[FD_PATH_MAX];
    _cleanup_free_ char *names = NULL, *other = NULL, *va = NULL, *vb = NULL;
    ssize_t n, m;

    fd_path(a_fd, a);
    fd_path(b_fd, b);
    n = xattr_names(a, &names);
    m = xattr_names(b, &other);
    if (n != m)
        return false;
    if (n <= 0)
        return n == 0;
    va = malloc(XATTR_ROOM);
    vb = malloc(XATTR_ROOM);
    if (!va || !vb)
        return false;
    for (const char *name = names; name < names + n; name += strlen(name) + 1) {
        ssize_t i = getxattr(a, name, va, XATTR_ROOM), j = getxattr(b, name, vb, XATTR_ROOM);

        if (i != j || (i > 0 && memcmp(va, vb, (size_t)i) != 0))
            return false;
    }
    return true;
}

static int same_from(int a_fd, int b_fd, char *a, char *b)
{
    for (off_t at = 0;;) {
        ssize_t n = pread(a_fd, a, COPY_CHUNK, at), m;

        if (n <= 0)
            return n < 0 ? -errno : 1;
        m = pread(b_fd, b, (size_t)n, at);
        if (m != n || memcmp(a, b, (size_t)n) != 0)
            return m < 0 ? -errno : 0;
        at += n;
    }
}

int cow_same_content(int a_fd, int b_fd)
{
    struct cow_attr a, b;
    char *chunks;
    int e = cow_attr_fd(a_fd, &a);

    if (e < 0)
        return e;
    e = cow_attr_fd(b_fd, &b);
    if (e < 0 || a.size != b.size)
        return e;
    chunks = malloc(2 * (size_t)COPY_CHUNK);
    if (!chunks)
        return -ENOMEM;
    e = same_from(a_fd, b_fd, chunks, chunks + COPY_CHUNK);
    free(chunks);
    return e;
}
