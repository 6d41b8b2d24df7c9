/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing and copying whole trees by descriptor: of the layer, and of lower at commit. Never follows
 * a link, never leaves the file system. One thread.
 */
#include <dirent.h>
#include <stdio.h>

#include "fs/cow/internal.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

#define TREE_DEPTH_MAX 2000

struct remove_arg {
    int dir_fd;
    uint64_t mnt;
    unsigned depth;
};

static int remove_at(int dir_fd, const char *name, uint64_t mnt, unsigned depth);

static int remove_one(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct remove_arg *r = arg;

    (void)type, (void)ino;
    return remove_at(r->dir_fd, name, r->mnt, r->depth);
}

static int remove_dir(int dir_fd, const char *name, uint64_t mnt, unsigned depth)
{
    struct remove_arg r = {.mnt = mnt, .depth = depth + 1};
    struct cow_attr a;
    int e;

    if (depth > TREE_DEPTH_MAX)
        return -ELOOP;
    /* Most are empty: nothing to open and to list. */
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    r.dir_fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    /* Ours, but closed by its own mode. */
    if (r.dir_fd < 0 && errno == EACCES && fchmodat(dir_fd, name, 0700, 0) == 0)
        r.dir_fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r.dir_fd < 0)
        return -errno;
    e = cow_attr_fd(r.dir_fd, &a);
    if (e == 0 && a.mnt != mnt)
        e = -EBUSY;
    if (e == 0 && (a.mode & 0700) != 0700 && fchmod(r.dir_fd, 0700) < 0)
        e = -errno;
    if (e == 0)
        e = cow_each_name(r.dir_fd, remove_one, &r);
    util_close(r.dir_fd);
    if (e == 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        e = -errno;
    return e;
}

static int remove_at(int dir_fd, const char *name, uint64_t mnt, unsigned depth)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    return remove_dir(dir_fd, name, mnt, depth);
}

int cow_remove_tree(int dir_fd, const char *name)
{
    struct cow_attr a;
    int e = cow_attr_fd(dir_fd, &a);

    return e < 0 ? e : remove_at(dir_fd, name, a.mnt, 0);
}

int cow_remove_layer(struct cow_layer *l)
{
    /* The marker that says "go forward" goes last of all that matters. */
    static const char *const order[] = {"objects", "limbo", "index", "journal", "commit", "lock"};
    int e = 0;

    for (size_t i = 0; i < ARRAY_SIZE(order) && e == 0; i++)
        e = cow_remove_tree(l->storage_fd, order[i]);
    if (e == 0)
        e = cow_remove_tree(l->parent_fd, l->id);
    return e;
}

/* ---- what its own mode closes to its owner ---- */

int cow_open_closed(int path_fd, int flags, mode_t right)
{
    struct cow_attr now;
    int fd = fd_reopen(path_fd, flags, 0), e;

    if (fd != -EACCES)
        return fd;
    e = cow_attr_fd(path_fd, &now);
    if (e == 0)
        e = sys_chmod_fd(path_fd, (now.mode & 07777) | right);
    if (e < 0)
        return e;
    fd = fd_reopen(path_fd, flags, 0);
    e = sys_chmod_fd(path_fd, now.mode & 07777);
    if (e < 0 && fd >= 0)
        util_close(fd);
    return e < 0 ? e : fd;
}

int cow_each_closed_name(int dir_fd, cow_each_name_fn *each, void *arg)
{
    struct cow_attr a;
    bool opened;
    int e = cow_attr_fd(dir_fd, &a), closed = 0;

    if (e < 0)
        return e;
    opened = (a.mode & 0700) != 0700 && sys_chmod_fd(dir_fd, (a.mode & 07777) | 0700) == 0;
    e = cow_each_name(dir_fd, each, arg);
    if (opened)
        closed = sys_chmod_fd(dir_fd, a.mode & 07777);
    return e < 0 ? e : closed < 0 ? closed : e;
}

/* ---- copying (storage and lower on different file systems) ---- */

static int copy_file(int path_fd, const struct cow_attr *a, int to_dir, const char *to)
{
    int from_fd = cow_open_closed(path_fd, O_RDONLY | O_NONBLOCK, 0400), to_fd, e;

    if (from_fd < 0)
        return from_fd;
    to_fd = openat(to_dir, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    e = to_fd < 0 ? -errno : cow_copy_data(from_fd, to_fd, a->size, NULL, NULL);
    if (to_fd >= 0)
        util_close(to_fd);
    util_close(from_fd);
    return e;
}

int cow_copy_link(int path_fd, int to_dir, const char *to)
{
    char text[PATH_MAX];
    ssize_t n = readlinkat(path_fd, "", text, sizeof(text) - 1);

    if (n < 0)
        return -errno;
    text[n] = '\0';
    return symlinkat(text, to_dir, to) < 0 ? -errno : 0;
}

int cow_copy_tree_entry(int from_dir, const char *name, int to_dir, const char *to)
{
    _cleanup_close_ int from_fd = sys_open_path(from_dir, name, O_NOFOLLOW), to_fd = -1;
    struct cow_attr a;
    bool owner;
    int e = from_fd < 0 ? from_fd : cow_attr_fd(from_fd, &a);

    if (e < 0)
        return e;
    switch (a.mode & S_IFMT) {
    case S_IFREG: e = copy_file(from_fd, &a, to_dir, to); break;
    case S_IFLNK: e = cow_copy_link(from_fd, to_dir, to); break;
    case S_IFIFO: e = mknodat(to_dir, to, S_IFIFO | 0600, 0) < 0 ? -errno : 0; break;
    default: return -EPERM;
    }
    to_fd = e < 0 ? e : sys_open_path(to_dir, to, O_NOFOLLOW);
    return to_fd < 0 ? to_fd : cow_copy_attrs(from_fd, &a, to_fd, true, &owner);
}
