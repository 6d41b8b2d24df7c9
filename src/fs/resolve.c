/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path resolution: the kernel's own walk when it cannot have met procfs, otherwise walk_path().
 * Receiver threads; path bytes are the child's and were copied once.
 */
#include "fs/resolve.h"

#include <errno.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

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

/* Where the descriptor of fd_directory() is kept, plus 1: a page that is empty in a forked copy of us, which
 * must not look at its parent's descriptors. NULL: the kernel gave none. */
static _Atomic int *fd_directory_cell(void)
{
    static _Atomic(_Atomic int *) cell;
    _Atomic int *seen = atomic_load_explicit(&cell, memory_order_acquire), *page;
    const size_t size = sizeof(*page);

    if (seen)
        return seen;
    page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, size, MADV_WIPEONFORK) < 0 ||
        !atomic_compare_exchange_strong(&cell, &seen, page)) {
        munmap(page, size);
        return seen;
    }
    return page;
}

/* /proc/self/fd of this process, opened once: walking there costs more than what is done there. */
static int fd_directory(void)
{
    _Atomic int *cell = fd_directory_cell();
    int seen = cell ? atomic_load_explicit(cell, memory_order_relaxed) : 0;
    int fd;

    if (seen)
        return seen - 1;
    if (!cell)
        return -ENOMEM;
    fd = sys_open_path(AT_FDCWD, "/proc/self/fd", O_DIRECTORY);
    if (fd < 0)
        return fd;
    if (!atomic_compare_exchange_strong(cell, &seen, fd + 1)) {
        util_close(fd);
        fd = seen - 1;
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

size_t place_unmarked(const char *path, size_t len)
{
    const size_t n = sizeof(PLACE_MARK) - 1;

    return len > n && memcmp(path + len - n, PLACE_MARK, n) == 0 ? len - n : len;
}

static int resolve_identify(int fd, unsigned flags, struct resolved *ret)
{
    if (!(flags & WALK_ATTRIBUTES))
        return sys_identify(fd, &ret->id);
    ret->has_attributes = sys_identify_all(fd, &ret->id, &ret->attributes) == 0;
    return ret->has_attributes ? 0 : -EIO;
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
    e = resolve_identify(ret->fd, flags, ret);
    if (e == 0 && (flags & WALK_DIRECTORY) && !S_ISDIR(ret->id.mode))
        e = -ENOTDIR;
    if (e < 0) {
        resolved_fini(ret);
        return e;
    }
    ret->on_proc = procfs_is(ret->fd, &ret->id);
    return 0;
}

/* Could any component of the path be covered by a mount? Without links nothing else can be met. */
static bool names_mount(const struct root *root, const char *path)
{
    char name[NAME_MAX + 1];

    for (size_t n; *path; path += n) {
        path += strspn(path, "/");
        n = strcspn(path, "/");
        if (n >= sizeof(name))
            return true;
        memcpy(name, path, n);
        name[n] = '\0';
        if (root_has_name(root, name))
            return true;
    }
    return false;
}

/* What a walk by the kernel starts from and is told. */
struct kernel_walk {
    const struct root *root;
    int base_fd;
    const char *path;
    uint64_t how, resolve;
    /* More of `resolve`: so it cannot meet what is not the same for us and the command. */
    uint64_t strict;
};

/*
 * Which top directories lead to another file system, or are links: there the strict walk is tried last.
 * By a hash of the name, for the process: it only decides which of two right ways is tried first.
 */
static _Atomic uint64_t resolve_crossings;

static uint64_t crossing_bit(const char *path)
{
    unsigned h = 0;

    for (path++; *path && *path != '/'; path++)
        h = h * 31 + (unsigned char)*path;
    return 1ull << (h ^ h >> 6) % 64;
}

static bool is_same_for_all(uint64_t magic)
{
    return magic != 0 && magic != PROC_SUPER_MAGIC && magic != SYSFS_MAGIC;
}

/*
 * May "nothing is there", said to a strict walk, be the command's answer? It stays on the file system
 * where it starts, which is not procfs; it meets no place of a mount, since no name of the path covers one
 * and it follows no link where there are any; and nobody tells the caller something else about the
 * directory it ended in (fs-deny, a layer; proc-view only does below /proc and /sys).
 */
static bool walk_is_decisive(const struct request *r, const struct kernel_walk *k)
{
    const struct root *root = k->root;
    struct sys_ident id;
    struct statfs fs;

    if (!k->strict || supervisor_plan(r->sup)->policy->fs_deny.n > 0)
        return false;
    if (*k->path == '/' && root)
        return root->ordinary;
    if (*k->path == '/')
        return statfs("/", &fs) == 0 && is_same_for_all((uint64_t)fs.f_type);
    return sys_identify(k->base_fd, &id) == 0 &&
           (root_holds(root, &id) || is_same_for_all(sys_fs_magic(k->base_fd)));
}

static bool says_nothing_there(int e)
{
    return e == -ENOENT || e == -ENOTDIR;
}

/* O_PATH descriptor; -ENOENT and -ENOTDIR when that is final; -EAGAIN: by hand. */
static int kernel_walk(const struct request *r, const struct kernel_walk *k)
{
    bool first =
        *k->path == '/' && k->root &&
        !(atomic_load_explicit(&resolve_crossings, memory_order_relaxed) & crossing_bit(k->path)) &&
        walk_is_decisive(r, k);
    int fd = -EAGAIN, again;

    if (first) {
        fd = sys_openat2(k->base_fd, k->path, k->how, 0, k->resolve | k->strict);
        if (fd >= 0 || says_nothing_there(fd))
            return fd;
        if (fd != -EXDEV && fd != -ELOOP)
            return -EAGAIN;
        atomic_fetch_or(&resolve_crossings, crossing_bit(k->path));
    }
    fd = sys_openat2(k->base_fd, k->path, k->how, 0, k->resolve);
    if (fd >= 0)
        return fd;
    if (!says_nothing_there(fd) || first || !walk_is_decisive(r, k))
        return -EAGAIN;
    again = sys_openat2(k->base_fd, k->path, k->how, 0, k->resolve | k->strict);
    if (again >= 0)
        util_close(again);
    return again == fd ? fd : -EAGAIN;
}

/* The kernel's walk. 1: found. -ENOENT, -ENOTDIR: that is the answer. 0 when it may be about the
 * supervisor instead of the task, or about what a mount of ours hides: then nothing was decided. In a tree
 * of our own it never leaves the root, or the directory it starts from: what lies above is walked by hand.
 * Ordinary links of procfs ("self") are evaluated for us, and every path that starts there ends on procfs,
 * in an error, or outside by "..", where both agree. */
static int resolve_with(const struct request *r, int base_fd, const char *path, uint64_t how,
                        unsigned flags, struct resolved *ret)
{
    const struct root *root = supervisor_plan(r->sup)->root;
    struct kernel_walk k = {.root = root,
                            .base_fd = base_fd,
                            .path = path,
                            .how = how | O_CLOEXEC,
                            .resolve = RESOLVE_NO_MAGICLINKS,
                            .strict = RESOLVE_NO_XDEV};
    int fd;

    if (root && root->n && names_mount(root, path)) {
        if (!root->plain)
            return 0;
        k.strict = 0;
    } else if (root && root->n) {
        /* Without links it meets no place of a mount. */
        k.strict |= RESOLVE_NO_SYMLINKS;
        if (!root->plain)
            k.resolve |= RESOLVE_NO_SYMLINKS;
    }
    /* Nor about what a layer changes: without links a path beside the work directory does not meet it. */
    if (root && root->layer) {
        bool beside = root_passes_beside(root, path), clean = cow_is_clean(root->layer);

        if (!beside && !clean)
            return 0;
        if (!clean)
            k.resolve |= RESOLVE_NO_SYMLINKS;
        k.strict = beside && k.strict ? k.strict | RESOLVE_NO_SYMLINKS : 0;
    }
    if (root)
        k.resolve |= *path == '/' ? RESOLVE_IN_ROOT : RESOLVE_BENEATH;
    if (root && *path == '/')
        k.base_fd = root->fd;

    if (!(flags & WALK_FOLLOW))
        k.how |= O_NOFOLLOW;
    if (flags & WALK_DIRECTORY)
        k.how |= O_DIRECTORY;
    fd = kernel_walk(r, &k);
    if (fd < 0)
        return fd == -EAGAIN ? 0 : fd;
    if (resolve_identify(fd, flags, ret) < 0 ||
        (!root_holds(root, &ret->id) && procfs_is(fd, &ret->id)) ||
        (root && root_is_hidden(root, &ret->id)) ||
        (root && root->layer && cow_stores(root->layer, fd, &ret->id))) {
        util_close(fd);
        ret->has_attributes = false;
        return 0;
    }
    ret->fd = fd;
    return 1;
}

static int resolve_fast(const struct request *r, int base_fd, const char *path, unsigned flags,
                        struct resolved *ret)
{
    return resolve_with(r, base_fd, path, O_PATH, flags, ret);
}

int resolve_open(const struct request *r, const char *path, int how, unsigned flags,
                 struct resolved *ret)
{
    *ret = (struct resolved)RESOLVED_INIT;
    return *path == '/' && resolve_with(r, -1, path, (uint64_t)how, flags, ret) > 0 ? 0 : -EAGAIN;
}

/* Opens all but the last component with the kernel's walk; -1 when the complete path must be walked
 * by hand. *ret_last points at the last component within path. */
static int resolve_parent(const struct request *r, int base_fd, const char *path,
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
    if (resolve_fast(r, base_fd, prefix, WALK_FOLLOW | WALK_DIRECTORY, &dir) <= 0)
        return -1;
    *ret_last = path + start;
    return steal_fd(&dir.fd);
}

int resolve_path(const struct request *r, int dirfd, const char *path, unsigned flags,
                 struct resolved *ret)
{
    _cleanup_close_ int base_fd = -1, parent_fd = -1;
    const char *last = path;
    int e;

    *ret = (struct resolved)RESOLVED_INIT;
    if (!*path)
        return flags & WALK_EMPTY_OK ? resolve_self(r, dirfd, flags, ret) : -ENOENT;
    if (*path == '/' && (flags & WALK_BENEATH))
        return -EXDEV;
    if (*path != '/' && staged_layer(r) && !(flags & WALK_LIMITS)) {
        e = staged_resolve_known(r, dirfd, path, flags, ret);
        if (e != 0)
            return e > 0 ? 0 : e;
    }
    if (*path != '/' || (flags & WALK_IN_ROOT)) {
        base_fd = request_fd_path(r, dirfd);
        if (base_fd < 0) {
            e = base_fd;
            base_fd = -1;
            return e;
        }
    }
    if (flags & WALK_LIMITS)
        return walk_path(r, base_fd, path, flags, ret);
    if (staged_layer(r)) {
        e = staged_resolve(r, base_fd, path, flags, ret);
        if (e != 0)
            return e > 0 ? 0 : e;
    }
    if (!(flags & WALK_PARENT)) {
        e = resolve_fast(r, base_fd, path, flags, ret);
        if (e != 0)
            return e > 0 ? 0 : e;
    }
    parent_fd = resolve_parent(r, base_fd, path, &last);
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
