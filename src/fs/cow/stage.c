/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-up: from an untouched object of lower to a node with an object in the storage. Any thread; two
 * that want the same object wait for one copy on the node's latch, and nobody else does.
 */
#include <stdio.h>

#include "fs/cow/stage.h"

#include "fs/cow/fault.h"

/* ---- beneath ---- */

/* From a directory of lower up to the first that is known already. */
static int mark_beneath(struct cow_layer *l, int dir_fd)
{
    int fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0), up_fd, e;
    struct cow_attr a;
    bool fresh;

    if (fd < 0)
        return -errno;
    for (;;) {
        e = cow_attr_fd(fd, &a);
        if (e == 0)
            e = cow_beneath_add(l, a.ino, &fresh);
        if (e < 0 || !fresh || (a.ino == l->lower.ino && a.dev == l->lower.dev))
            break;
        up_fd = sys_open_path(fd, "..", O_DIRECTORY);
        util_close(fd);
        if (up_fd < 0)
            return up_fd;
        fd = up_fd;
    }
    util_close(fd);
    return e;
}

int stage_mark_beneath(struct cow_layer *l, const char *path)
{
    char dir[PATH_MAX];
    int fd, e;

    cow_parent_path(path, dir);
    fd = cow_lower_open_path(l, dir, O_PATH | O_DIRECTORY);
    if (fd < 0)
        return fd;
    e = mark_beneath(l, fd);
    util_close(fd);
    return e;
}

/* ---- objects ---- */

/* Empty, in a directory that is ours alone: attributes follow. Descriptor or -errno. */
static int make_object(struct cow_layer *l, int lower_fd, const struct cow_attr *a,
                       const char *name)
{
    int fd, e = 0;

    switch (a->mode & S_IFMT) {
    case S_IFDIR: e = mkdirat(l->objects_fd, name, 0700) < 0 ? -errno : 0; break;
    case S_IFLNK: e = cow_copy_link(lower_fd, l->objects_fd, name); break;
    case S_IFIFO: e = mknodat(l->objects_fd, name, S_IFIFO | 0600, 0) < 0 ? -errno : 0; break;
    case S_IFREG:
        fd = openat(l->objects_fd, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC,
                    a->mode & 0777);
        if (fd < 0)
            return -errno;
        if (a->size > 0 && ftruncate(fd, (off_t)a->size) < 0) {
            e = -errno;
            util_close(fd);
            return e;
        }
        return fd;
    default: return -EPERM;
    }
    return e < 0 ? e : sys_open_path(l->objects_fd, name, O_NOFOLLOW);
}

void stage_drop_object(struct cow_layer *l, const struct cow_attr *a, const char *name)
{
    unlinkat(l->objects_fd, name, S_ISDIR(a->mode) ? AT_REMOVEDIR : 0);
}

int stage_done(struct cow_layer *l, struct cow_node *n, const struct cow_attr *made, bool light,
               bool owner)
{
    int e;

    n->light = light;
    n->has_owner = !owner;
    n->uid = n->origin.uid;
    n->gid = n->origin.gid;
    n->upper_ino = made->ino;
    e = cow_log_node(l, n);
    return e < 0 ? e : cow_node_staged(l, n, made->ino);
}

static int stage_object(struct cow_layer *l, struct cow_node *n, int lower_fd)
{
    const struct cow_attr *a = &n->origin;
    char name[COW_OBJECT_NAME_MAX];
    struct cow_attr made;
    bool owner;
    int fd, e;

    cow_object_name(n, name);
    fd = make_object(l, lower_fd, a, name);
    if (fd == -EEXIST) { /* left by an attempt that could not even clean up */
        stage_drop_object(l, a, name);
        fd = make_object(l, lower_fd, a, name);
    }
    if (fd < 0) {
        stage_drop_object(l, a, name);
        return fd;
    }
    e = cow_attr_fd(fd, &made);
    if (e == 0)
        e = cow_copy_attrs_to(lower_fd, a, fd, &made, true, &owner);
    util_close(fd);
    if (e == 0)
        e = stage_done(l, n, &made, S_ISREG(a->mode) && a->size > 0, owner);
    if (e < 0)
        stage_drop_object(l, a, name);
    return e;
}

void stage_origin(struct cow_layer *l, struct cow_node *n, const struct cow_attr *a)
{
    pthread_rwlock_wrlock(&l->lock); /* lookups by inode compare with it */
    n->origin = *a;
    pthread_rwlock_unlock(&l->lock);
}

int cow_stage(struct cow_layer *l, int lower_fd, const struct cow_attr *a, uint64_t dir_ino,
              const char *path, struct cow_node **ret)
{
    struct cow_node *n;
    bool fresh;
    int e;

    if (!cow_is_layered(l, a) || S_ISSOCK(a->mode))
        return -EXDEV;
    if (S_ISCHR(a->mode) || S_ISBLK(a->mode))
        return -EPERM;
    if (a->nlink == 0)
        return -ENOENT;
    e = cow_node_get(l, a, path, &n);
    if (e < 0)
        return e;
    pthread_mutex_lock(&n->latch);
    if (n->dead)
        e = -ENOENT;
    else if (!n->staged) {
        stage_origin(l, n, a);
        if (!dir_ino || !cow_beneath_has(l, dir_ino))
            e = stage_mark_beneath(l, path);
        /* Those above it first, and by their path: its owner may not search what he closed. */
        if (e == 0 && S_ISDIR(a->mode))
            e = cow_beneath_add(l, a->ino, &fresh);
        if (e == 0)
            e = cow_quota_reserve(l, COW_NAME_COST);
        if (e == 0) {
            e = stage_object(l, n, lower_fd);
            if (e < 0)
                cow_quota_release(l, COW_NAME_COST);
        }
    }
    pthread_mutex_unlock(&n->latch);
    if (e == 0)
        *ret = n;
    return e;
}

static int complete_copy(struct cow_layer *l, struct cow_node *n, int to_fd)
{
    struct cow_attr before;
    int from_fd = cow_lower_open(l, n, O_RDONLY | O_NONBLOCK), e;
    uint64_t bytes = n->origin.blocks * 512;

    if (from_fd < 0)
        return from_fd;
    e = cow_attr_fd(to_fd, &before);
    if (e == 0)
        e = cow_quota_reserve(l, bytes);
    if (e == 0) {
        e = cow_copy_data(from_fd, to_fd, before.size, &l->no_clone, &l->telling);
        /* Writing has cleared set-id bits and set the time: nothing has been changed yet. */
        if (e == 0)
            e = sys_chmod_fd(to_fd, before.mode & 07777);
        if (e == 0)
            e = cow_set_times(to_fd, &before);
        /* What it really took is counted where the descriptor is handed out. */
        cow_quota_release(l, bytes);
    }
    util_close(from_fd);
    return e;
}

/* Back to a light copy: the room it took is given back, its bytes are still lower's. */
static void complete_undo(struct cow_layer *l, int fd, const struct cow_attr *before)
{
    if (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)before->size) < 0 ||
        sys_chmod_fd(fd, before->mode & 07777) < 0 || cow_set_times(fd, before) < 0)
        l->broken = true;
}

static int complete_locked(struct cow_layer *l, struct cow_node *n, bool truncate)
{
    _cleanup_buf_ struct buf b = {0};
    struct cow_attr before;
    int fd = cow_object_open(l, n, O_WRONLY | O_NONBLOCK), e;

    if (fd < 0)
        return fd;
    cow_put_u32(&b, n->id);
    e = cow_attr_fd(fd, &before);
    if (e == 0)
        e = cow_log_reserve(l);
    if (e == 0) {
        e = truncate ? (ftruncate(fd, 0) < 0 ? -errno : 0) : complete_copy(l, n, fd);
        if (e == 0)
            e = cow_log(l, REC_FULL, &b);
        if (e == 0)
            n->light = false;
        else
            complete_undo(l, fd, &before);
    }
    util_close(fd);
    return e;
}

int cow_complete(struct cow_layer *l, struct cow_node *n, bool truncate)
{
    int e;

    pthread_mutex_lock(&n->latch);
    e = n->light ? complete_locked(l, n, truncate) : 0;
    pthread_mutex_unlock(&n->latch);
    return e;
}

int stage_path(struct cow_layer *l, const struct cow_pos *dir, const char *name,
               char path[PATH_MAX])
{
    const char *at = cow_pos_is_root(l, dir)          ? ""
                     : dir->node && dir->node->staged ? dir->node->path
                                                      : NULL;
    int len;

    if (!at)
        return cow_lower_name(l, dir->lower_fd, name, path);
    len = snprintf(path, PATH_MAX, "%s%s%s", at, *at ? "/" : "", name);
    return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int cow_stage_found(struct cow_layer *l, struct cow_pos *dir, const char *name, int fd,
                    const struct cow_attr *a, struct cow_node **ret)
{
    char path[PATH_MAX];
    int e = stage_path(l, dir, name, path);

    return e < 0 ? e : cow_stage(l, fd, a, dir->ino, path, ret);
}

int cow_stage_name(struct cow_layer *l, struct cow_pos *dir, const char *name,
                   struct cow_node **ret)
{
    struct cow_attr a;
    int fd = sys_open_path(dir->lower_fd, name, O_NOFOLLOW), e;

    if (fd < 0)
        return fd;
    e = cow_attr_fd(fd, &a);
    if (e == 0)
        e = cow_stage_found(l, dir, name, fd, &a, ret);
    util_close(fd);
    return e;
}

int cow_stage_fd(struct cow_layer *l, int fd, struct cow_node **ret)
{
    char path[PATH_MAX];
    struct cow_attr a, there;
    int e = cow_attr_fd(fd, &a), path_fd;

    if (e == 0)
        e = cow_lower_name(l, fd, NULL, path);
    if (e < 0)
        return e;
    path_fd = cow_lower_open_path(l, path, O_PATH);
    if (path_fd < 0)
        return path_fd;
    e = cow_attr_fd(path_fd, &there);
    if (e == 0 && !cow_attr_same(&a, &there))
        e = -ESTALE;
    if (e == 0)
        e = cow_stage(l, path_fd, &there, 0, path, ret);
    util_close(path_fd);
    return e;
}
