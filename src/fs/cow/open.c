/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens in the merged view. Any thread. A descriptor that can change anything is always of the layer;
 * a failed copy is an errno, never lower's own file (CW-14). Flags are the child's, checked by the
 * kernel in the real open.
 */
#include "fs/cow/internal.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

#define OPEN_TRIES 8 /* a name that others create and remove all the time */
#define OPEN_MAKES (O_CREAT | O_EXCL)

static bool open_writes(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

static int open_access(int flags)
{
    switch (flags & O_ACCMODE) {
    case O_RDONLY: return flags & O_TRUNC ? R_OK | W_OK : R_OK;
    case O_WRONLY: return W_OK;
    default: return R_OK | W_OK;
    }
}

/* Counts what can grow from now on. Takes fd over. */
static int open_done(struct cow_layer *l, int fd, int flags)
{
    int e = fd >= 0 && open_writes(flags) ? cow_quota_open(l, fd) : 0;

    if (e < 0) {
        util_close(fd);
        return e;
    }
    return fd;
}

static int open_at(int dir_fd, const char *name, int flags)
{
    int fd = openat(dir_fd, name, (flags & ~OPEN_MAKES) | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

/* A file of lower that is staged. own_fd: the staged object as it was found, or -1: opened through it, the
 * file keeps the name that was used, which watches of its directory tell. */
static int open_node(struct cow_layer *l, struct cow_node *n, int own_fd, int flags)
{
    int e = cow_node_may(l, n, open_access(flags), AT_EACCESS);

    if (e < 0)
        return e;
    if (open_writes(flags)) {
        if (cow_quota_room(l) == 0)
            return -ENOSPC;
        e = cow_complete(l, n, flags & O_TRUNC);
        if (e < 0)
            return e;
    } else if (n->light) {
        return cow_lower_open(l, n, flags & ~OPEN_MAKES);
    }
    flags &= ~OPEN_MAKES;
    return open_done(l, own_fd >= 0 ? fd_reopen(own_fd, flags, 0) : cow_object_open(l, n, flags),
                     flags);
}

/* The first write to a file of lower, which fd is. -EAGAIN: step by step. */
static int open_first(struct cow_layer *l, struct cow_pos *dir, const char *name, int fd,
                      const struct sys_ident *id, int flags)
{
    int e = sys_access_fd(fd, open_access(flags), AT_EACCESS);

    if (e == 0 && cow_quota_room(l) == 0)
        e = -ENOSPC;
    if (e == 0)
        e = cow_stage_whole(l, dir, name, id, flags);
    return e < 0 ? e : open_done(l, e, flags);
}

static int open_lower(struct cow_layer *l, struct cow_pos *dir, const char *name, int flags)
{
    struct sys_ident id;
    struct cow_node *n;
    struct cow_attr a;
    int fd, e;

    if (!open_writes(flags))
        return open_at(dir->lower_fd, name, flags);
    if (dir->foreign)
        return -EROFS;
    fd = sys_open_path(dir->lower_fd, name, O_NOFOLLOW);
    if (fd < 0)
        return fd;
    e = cow_attr_fd(fd, &a);
    if (e == 0) {
        id = cow_attr_ident(&a);
        e = open_first(l, dir, name, fd, &id, flags & ~OPEN_MAKES);
    }
    if (e != -EAGAIN) {
        util_close(fd);
        return e;
    }
    e = cow_stage_found(l, dir, name, fd, &a, &n);
    util_close(fd);
    return e < 0 ? (e == -EXDEV ? -EROFS : e) : open_node(l, n, -1, flags);
}

static int open_dir(struct cow_layer *l, struct cow_pos *dir, const char *name, int flags)
{
    _cleanup_cow_pos_ struct cow_pos p = COW_POS_INIT;
    int e;

    if (open_writes(flags) || flags & O_CREAT)
        return -EISDIR;
    e = cow_enter(l, dir, name, &p);
    if (e < 0)
        return e;
    return open_at(p.upper_fd >= 0 ? p.upper_fd : p.lower_fd, ".", flags);
}

static int open_new_locked(struct cow_layer *l, struct cow_pos *dir, const char *name, int flags,
                           mode_t mode)
{
    int e = cow_name_check(name), fd;

    if (e == 0)
        e = cow_may_name(l, dir);
    if (e < 0)
        return e;
    fd = openat(dir->upper_fd, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    e = fd < 0 ? -errno : cow_named(l, dir, name);
    if (e < 0) {
        if (fd >= 0) {
            unlinkat(dir->upper_fd, name, 0);
            util_close(fd);
        }
        cow_quota_release(l, COW_NAME_COST);
        return e;
    }
    return open_done(l, fd, flags);
}

int cow_open_new(struct cow_layer *l, struct cow_pos *dir, const char *name, int flags, mode_t mode)
{
    pthread_mutex_t *lock = cow_dir_lock(l, dir);
    int fd;

    if (flags & O_DIRECTORY)
        return -EINVAL;
    pthread_mutex_lock(lock);
    fd = open_new_locked(l, dir, name, flags, mode);
    pthread_mutex_unlock(lock);
    return fd;
}

static int open_tmpfile(struct cow_layer *l, struct cow_pos *dir, int flags, mode_t mode)
{
    int e = cow_may_create(l, dir), fd;

    if (e == 0)
        e = cow_writable_dir(l, dir);
    if (e == 0 && cow_quota_room(l) < COW_NAME_COST)
        e = -ENOSPC;
    if (e < 0)
        return e;
    fd = openat(dir->upper_fd, ".", flags | O_CLOEXEC, mode);
    return fd < 0 ? -errno : open_done(l, fd, flags);
}

static int open_entry(struct cow_layer *l, struct cow_pos *dir, const char *name,
                      const struct cow_entry *en, int flags)
{
    if ((flags & OPEN_MAKES) == OPEN_MAKES)
        return -EEXIST;
    if (S_ISLNK(en->id.mode))
        return -ELOOP;
    if (S_ISDIR(en->id.mode))
        return open_dir(l, dir, name, flags);
    if (flags & O_DIRECTORY)
        return -ENOTDIR;
    if (!S_ISREG(en->id.mode))
        return -ENXIO;
    switch (en->where) {
    case COW_LOWER: return open_lower(l, dir, name, flags);
    case COW_STAGED: return open_node(l, en->node, -1, flags);
    default: return open_done(l, open_at(dir->upper_fd, name, flags), flags);
    }
}

int cow_open(struct cow_layer *l, struct cow_pos *dir, const char *name, int flags, mode_t mode)
{
    struct cow_entry en;
    int e;

    if ((flags & O_TMPFILE) == O_TMPFILE)
        return open_tmpfile(l, dir, flags, mode);
    for (int i = 0; i < OPEN_TRIES; i++) {
        e = cow_lookup(l, dir, name, &en);
        if (e < 0)
            return e;
        if (cow_exists(&en)) {
            e = open_entry(l, dir, name, &en, flags);
            if (e != -ENOENT || !(flags & O_CREAT))
                return e;
            continue; /* removed meanwhile */
        }
        if (!(flags & O_CREAT))
            return -ENOENT;
        e = cow_open_new(l, dir, name, flags, mode);
        if (e != -EEXIST || flags & O_EXCL)
            return e;
    }
    return -EAGAIN;
}

int cow_open_own(struct cow_layer *l, int fd, int flags)
{
    if (open_writes(flags) && cow_quota_room(l) == 0)
        return -ENOSPC;
    return open_done(l, fd_reopen(fd, flags & ~OPEN_MAKES, 0), flags);
}

int cow_open_found(struct cow_layer *l, struct cow_pos *dir, const char *name, int fd,
                   const struct sys_ident *id, int flags)
{
    int e;

    flags &= ~OPEN_MAKES;
    if (!open_writes(flags) || dir->foreign || id->dev != l->lower.dev || id->mnt != l->lower.mnt ||
        cow_node_by_upper(l, id->dev, id->ino))
        return cow_open_fd(l, fd, flags);
    e = open_first(l, dir, name, fd, id, flags);
    return e == -EAGAIN ? cow_open_fd(l, fd, flags) : e;
}

int cow_open_fd(struct cow_layer *l, int fd, int flags)
{
    struct cow_attr a;
    struct cow_node *n;
    int e = cow_attr_fd(fd, &a);

    if (e < 0)
        return e;
    n = cow_node_of(l, &a);
    flags &= ~OPEN_MAKES;
    if (S_ISREG(a.mode) && n)
        return open_node(l, n, n->upper_ino == a.ino && cow_fd_is_ours(l, fd) ? fd : -1, flags);
    if (!S_ISREG(a.mode) || !open_writes(flags) || cow_fd_is_ours(l, fd))
        return open_done(l, fd_reopen(fd, flags, 0), flags);
    e = sys_access_fd(fd, open_access(flags), AT_EACCESS);
    if (e == 0)
        e = cow_stage_fd(l, fd, &n);
    return e < 0 ? e : open_node(l, n, -1, flags);
}
