/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path resolution: the kernel's own walk when it cannot have met procfs, otherwise walk_path().
 * Receiver threads; path bytes are the child's and were copied once.
 */
#include "fs/resolve.h"

#include <errno.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/procfs.h"
#include "fs/staged.h"
#include "fs/walk.h"
#include "plan/plan.h"
#include "plan/root.h"

void resolved_fini(struct resolved *r)
{
    if (r->staged)
        cow_pos_fini(&r->dir);
    else
        util_close(r->parent_fd);
    r->parent_fd = -1;
    r->staged = false;
    r->fd = util_close(r->fd);
}

static void fd_number(int fd, char *to)
{
    char digits[12];
    size_t n = 0;

    /* By hand: this is on the way of every open. */
    do {
        digits[n++] = (char)('0' + fd % 10);
        fd /= 10;
    } while (fd > 0);
    while (n > 0)
        *to++ = digits[--n];
    *to = '\0';
}

void fd_path(int fd, char buf[FD_PATH_MAX])
{
    static const char prefix[] = "/proc/self/fd/";

    memcpy(buf, prefix, sizeof(prefix) - 1);
    fd_number(fd, buf + sizeof(prefix) - 1);
}

/* /proc/self/fd of this process, opened once: walking there costs more than what is done there. A
 * forked copy of us opens its own. */
static int fd_directory(void)
{
    static _Atomic uint64_t opened; /* pid << 32 | descriptor */
    uint64_t seen = atomic_load_explicit(&opened, memory_order_relaxed);
    uint32_t pid = (uint32_t)getpid();
    int fd;

    if (seen >> 32 == pid)
        return (int)(uint32_t)seen;
    fd = sys_open_path(AT_FDCWD, "/proc/self/fd", O_DIRECTORY);
    if (fd < 0)
        return fd;
    if (!atomic_compare_exchange_strong(&opened, &seen, (uint64_t)pid << 32 | (uint32_t)fd)) {
        util_close(fd);
        fd = seen >> 32 == pid ? (int)(uint32_t)seen : -EAGAIN;
    }
    return fd;
}

int fd_reopen(int fd, int flags, mode_t mode)
{
    char name[12];
    int dir_fd = fd_directory();

    fd_number(fd, name);
    return dir_fd < 0 ? dir_fd : sys_openat(dir_fd, name, flags | O_CLOEXEC | O_NOCTTY, mode);
}

ssize_t fd_location(int fd, char *buf, size_t size)
{
    char name[12];
    int dir_fd = fd_directory();
    ssize_t n;

    if (dir_fd < 0)
        return dir_fd;
    fd_number(fd, name);
    n = readlinkat(dir_fd, name, buf, size - 1);
    if (n < 0)
        return -errno;
    if ((size_t)n >= size - 1)
        return -ENAMETOOLONG;
    buf[n] = '\0';
    return n;
}

/* dirfd itself (AT_EMPTY_PATH). */
static int resolve_self(const struct request *r, int dirfd, unsigned flags, struct resolved *ret)
{
    int e;

    ret->fd = request_fd_path(r, dirfd);
    if (ret->fd < 0) {
        e = ret->fd;
        ret->fd = -1;
        return e;
    }
    e = sys_identify(ret->fd, &ret->id);
    if (e == 0 && (flags & WALK_DIRECTORY) && !S_ISDIR(ret->id.mode))
        e = -ENOTDIR;
    if (e < 0) {
        resolved_fini(ret);
        return e;
    }
    ret->on_proc = procfs_is(ret->fd, &ret->id);
    return 0;
}

/* Can a path without links on its way not meet the work directory? */
static bool passes_beside(const struct root *root, const char *path)
{
    size_t n = strlen(root->workdir);

    if (*path != '/' || strstr(path, "//") || strstr(path, "/."))
        return false;
    return strncmp(path, root->workdir, n) != 0 || (path[n] != '/' && path[n] != '\0');
}

/* The kernel's walk: 1, -ENOENT, or 0 when its answer may be about the supervisor instead of the task, or about
 * what a mount of ours hides: then nothing was decided. In a tree of our own it never leaves the root,
 * or the directory it starts from: what lies above is walked by hand. Ordinary links of procfs ("self") are evaluated for us, and every path that
 * starts there ends on procfs, in an error, or outside by "..", where both agree. */
static int resolve_fast(const struct root *root, int base_fd, const char *path, unsigned flags,
                        struct resolved *ret)
{
    bool beside = false;
    uint64_t how = O_PATH | O_CLOEXEC, resolve = RESOLVE_NO_MAGICLINKS;
    int fd;

    if (root && !root->plain)
        return 0;
    /* Nor about what a layer changes. */
    if (root && root->layer && !cow_is_clean(root->layer)) {
        if (!passes_beside(root, path))
            return 0;
        beside = true;
        resolve |= RESOLVE_NO_SYMLINKS;
    }
    if (root)
        resolve |= *path == '/' ? RESOLVE_IN_ROOT : RESOLVE_BENEATH;
    if (root && *path == '/')
        base_fd = root->fd;

    if (!(flags & WALK_FOLLOW))
        how |= O_NOFOLLOW;
    if (flags & WALK_DIRECTORY)
        how |= O_DIRECTORY;
    fd = sys_openat2(base_fd, path, how, 0, resolve);
    /* No link was met before the name that is missing: searches along a list of directories end here. */
    if (fd < 0)
        return beside && fd == -ENOENT ? fd : 0;
    if (sys_identify(fd, &ret->id) < 0 || procfs_is(fd, &ret->id) ||
        (root && root_is_hidden(root, &ret->id)) ||
        (root && root->layer && cow_stores(root->layer, fd, &ret->id))) {
        util_close(fd);
        return 0;
    }
    ret->fd = fd;
    return 1;
}

/* Opens all but the last component with the kernel's walk; -1 when the complete path must be walked
 * by hand. *ret_last points at the last component within path. */
static int resolve_parent(const struct root *root, int base_fd, const char *path,
                          const char **ret_last)
{
    _cleanup_resolved_ struct resolved dir = RESOLVED_INIT;
    char prefix[PATH_MAX];
    size_t end = strlen(path), start;

    while (end > 0 && path[end - 1] == '/')
        end--;
    start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    if (start == 0 || start == end || start >= sizeof(prefix))
        return -1;
    memcpy(prefix, path, start);
    prefix[start] = '\0';
    if (resolve_fast(root, base_fd, prefix, WALK_FOLLOW | WALK_DIRECTORY, &dir) <= 0)
        return -1;
    *ret_last = path + start;
    return steal_fd(&dir.fd);
}

int resolve_path(const struct request *r, int dirfd, const char *path, unsigned flags,
                 struct resolved *ret)
{
    const struct root *root = supervisor_plan(r->sup)->root;
    _cleanup_close_ int base_fd = -1, parent_fd = -1;
    const char *last = path;

    *ret = (struct resolved)RESOLVED_INIT;
    if (!*path)
        return flags & WALK_EMPTY_OK ? resolve_self(r, dirfd, flags, ret) : -ENOENT;
    if (*path == '/' && (flags & WALK_BENEATH))
        return -EXDEV;
    if (*path != '/' || (flags & WALK_IN_ROOT)) {
        base_fd = request_fd_path(r, dirfd);
        if (base_fd < 0) {
            int e = base_fd;

            base_fd = -1;
            return e;
        }
    }
    if (flags & WALK_LIMITS)
        return walk_path(r, base_fd, path, flags, ret);
    if (root && root->layer) {
        int e = staged_resolve(r, base_fd, path, flags, ret);

        if (e != 0)
            return e < 0 ? e : 0;
    }
    if (!(flags & WALK_PARENT)) {
        int e = resolve_fast(root, base_fd, path, flags, ret);

        /* Beneath a denied directory even that is not told: the walk says where it ended. */
        if (e > 0 || (e < 0 && supervisor_policy(r->sup)->fs_deny.n == 0))
            return e < 0 ? e : 0;
    }
    parent_fd = resolve_parent(root, base_fd, path, &last);
    return walk_path(r, parent_fd >= 0 ? parent_fd : base_fd, last, flags, ret);
}

int resolve_child_path(const struct request *r, int dirfd, child_addr addr, unsigned flags,
                       char path[PATH_MAX], struct resolved *ret)
{
    ssize_t n;

    *ret = (struct resolved)RESOLVED_INIT;
    path[0] = '\0';
    /* A null path with AT_EMPTY_PATH means the same as an empty one (6.11). */
    if (!(flags & WALK_EMPTY_OK) || addr.addr != 0) {
        n = request_read_path(r, addr, path);
        if (n < 0) {
            path[0] = '\0';
            return (int)n;
        }
    }
    return resolve_path(r, dirfd, path, flags, ret);
}
