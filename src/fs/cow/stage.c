/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-up: from an untouched object of lower to a node with an object in the storage. Any thread; two
 * that want the same object wait for one copy on the node's latch, and nobody else does.
 */
#include <linux/openat2.h>
#include <stdio.h>

#include "fs/cow/internal.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

#define LOWER_RESOLVE \
    (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)

bool cow_is_layered(const struct cow_layer *l, const struct cow_attr *a)
{
    return a->dev == l->lower.dev && a->mnt == l->lower.mnt;
}

int cow_lower_name(struct cow_layer *l, int dir_fd, const char *name, char path[PATH_MAX])
{
    char top[PATH_MAX], at[PATH_MAX];
    ssize_t n = fd_location(l->lower_fd, top, sizeof(top)), m;
    const char *rest;
    int len;

    if (n < 0)
        return (int)n;
    m = fd_location(dir_fd, at, sizeof(at));
    if (m < 0)
        return (int)m;
    if (n == 1)
        n = 0; /* "/" */
    if (strncmp(at, top, (size_t)n) != 0 || (at[n] != '/' && at[n] != '\0'))
        return -EXDEV;
    rest = at + n;
    while (*rest == '/')
        rest++;
    len = snprintf(path, PATH_MAX, "%s%s%s", rest, *rest && name ? "/" : "", name ? name : "");
    return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int cow_lower_open_path(struct cow_layer *l, const char *path, int flags)
{
    return sys_openat2(l->lower_fd, *path ? path : ".", (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
                       0, LOWER_RESOLVE);
}

int cow_lower_open(struct cow_layer *l, const struct cow_node *n, int flags)
{
    int fd = cow_lower_open_path(l, n->path, flags);
    struct cow_attr a;
    int e;

    if (fd < 0)
        return fd;
    e = cow_attr_fd(fd, &a);
    if (e == 0 && !cow_attr_same(&a, &n->origin))
        e = -ESTALE;
    if (e < 0) {
        util_close(fd);
        return e;
    }
    return fd;
}

#define OBJECT_NAME_MAX 12
static void object_name(const struct cow_node *n, char name[OBJECT_NAME_MAX])
{
    snprintf(name, OBJECT_NAME_MAX, "%u", n->id);
}

/* Under the lock: whoever removes the directory closes the descriptor, and its number may be another's. */
static int object_moved(struct cow_layer *l, const struct cow_node *n)
{
    int fd = -ENOENT;

    pthread_rwlock_rdlock(&l->lock);
    if (n->fd >= 0) {
        fd = fcntl(n->fd, F_DUPFD_CLOEXEC, 0);
        fd = fd < 0 ? -errno : fd;
    }
    pthread_rwlock_unlock(&l->lock);
    return fd;
}

int cow_object_open(struct cow_layer *l, const struct cow_node *n, int flags)
{
    char name[OBJECT_NAME_MAX];
    int fd;

    if (n->moved)
        return object_moved(l, n);
    object_name(n, name);
    fd = openat(l->objects_fd, name, flags | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

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

static int mark_beneath_path(struct cow_layer *l, const char *path)
{
    char dir[PATH_MAX];
    char *slash;
    int fd, e;

    snprintf(dir, sizeof(dir), "%s", path);
    slash = strrchr(dir, '/');
    if (slash)
        *slash = '\0';
    fd = sys_openat2(l->lower_fd, slash ? dir : ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                     LOWER_RESOLVE);
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

static void drop_object(struct cow_layer *l, const struct cow_attr *a, const char *name)
{
    unlinkat(l->objects_fd, name, S_ISDIR(a->mode) ? AT_REMOVEDIR : 0);
}

/* The object is there: the node becomes staged. */
static int stage_done(struct cow_layer *l, struct cow_node *n, const struct cow_attr *made,
                      bool light, bool owner)
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
    char name[OBJECT_NAME_MAX];
    struct cow_attr made;
    bool owner;
    int fd, e;

    object_name(n, name);
    fd = make_object(l, lower_fd, a, name);
    if (fd == -EEXIST) { /* left by an attempt that could not even clean up */
        drop_object(l, a, name);
        fd = make_object(l, lower_fd, a, name);
    }
    if (fd < 0) {
        drop_object(l, a, name);
        return fd;
    }
    e = cow_attr_fd(fd, &made);
    if (e == 0)
        e = cow_copy_attrs_to(lower_fd, a, fd, &made, true, &owner);
    util_close(fd);
    if (e == 0)
        e = stage_done(l, n, &made, S_ISREG(a->mode) && a->size > 0, owner);
    if (e < 0)
        drop_object(l, a, name);
    return e;
}

static void stage_origin(struct cow_layer *l, struct cow_node *n, const struct cow_attr *a)
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
            e = mark_beneath_path(l, path);
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

/* Where a directory of lower that has a node was when it was staged is where its changes are committed. The
 * work directory is where the descriptor is from which the path is walked. */
static int stage_path(struct cow_layer *l, const struct cow_pos *dir, const char *name,
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

/* ---- at once ---- */

#define WHOLE_MAX (64u << 10)
/* What the descriptor that wrote the copy may have. */
#define WHOLE_FLAGS                                                                            \
    (O_ACCMODE | O_TRUNC | O_CREAT | O_EXCL | O_NOCTTY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | \
     O_APPEND | SYS_O_EITHER)

static bool whole_can(struct cow_layer *l, const struct cow_attr *a, int flags)
{
    /* A hole would be filled. Set-id bits go when somebody writes: by the kernel, step by step. */
    return S_ISREG(a->mode) && !(a->mode & 06000) && a->nlink > 0 && cow_is_layered(l, a) &&
           (flags & O_TRUNC || (a->size <= WHOLE_MAX && a->blocks * 512 >= a->size));
}

/* Descriptor of the object, complete and with the attributes of n->origin. */
static int whole_make(struct cow_layer *l, struct cow_node *n, int from_fd, const char *name,
                      int flags)
{
    bool cut = flags & O_TRUNC, owner;
    struct cow_attr as = n->origin, made;
    int e, fd = openat(l->objects_fd, name,
                       (flags & ~(O_TRUNC | O_NOFOLLOW)) | O_CREAT | O_EXCL | O_CLOEXEC,
                       as.mode & 0777);

    if (fd < 0)
        return -errno;
    e = cut ? 0 : cow_copy_small(from_fd, fd, as.size, &l->no_clone);
    if (e == 0)
        e = cow_attr_fd(fd, &made);
    if (e == 0) {
        /* To cut sets the time. */
        as.mtime = cut ? made.mtime : as.mtime;
        e = cow_copy_attrs_to(from_fd, &as, fd, &made, true, &owner);
    }
    if (e == 0)
        e = stage_done(l, n, &made, false, owner);
    if (e < 0) {
        util_close(fd);
        drop_object(l, &n->origin, name);
        return e;
    }
    return fd;
}

static int whole_locked(struct cow_layer *l, struct cow_node *n, int from_fd,
                        const struct cow_attr *now, int flags)
{
    uint64_t bytes = flags & O_TRUNC ? 0 : now->blocks * 512;
    char name[OBJECT_NAME_MAX];
    int fd;

    if (n->dead || n->staged)
        return -EAGAIN;
    stage_origin(l, n, now);
    if (cow_quota_reserve(l, COW_NAME_COST + bytes) < 0)
        return -ENOSPC;
    object_name(n, name);
    fd = whole_make(l, n, from_fd, name, flags);
    /* What it really took is counted where the descriptor is handed out. */
    cow_quota_release(l, fd < 0 ? COW_NAME_COST + bytes : bytes);
    return fd == -EEXIST ? -EAGAIN : fd; /* left by an attempt that could not even clean up */
}

int cow_stage_whole(struct cow_layer *l, struct cow_pos *dir, const char *name,
                    const struct sys_ident *id, int flags)
{
    char path[PATH_MAX];
    struct cow_attr now;
    struct cow_node *n;
    int from_fd, e;

    /* For neither reading nor writing (3) asks for both rights: there would be no descriptor to copy with. */
    if (flags & ~WHOLE_FLAGS || (flags & O_ACCMODE) == O_ACCMODE || !S_ISREG(id->mode) ||
        stage_path(l, dir, name, path) < 0)
        return -EAGAIN;
    /* By the path that is recorded, as the commit will look for it. What cannot be read, or is under
     * somebody's lease, is done step by step. */
    from_fd =
        sys_openat2(l->lower_fd, path,
                    (flags & O_TRUNC ? O_PATH : O_RDONLY | O_NONBLOCK) | O_NOFOLLOW | O_CLOEXEC, 0,
                    LOWER_RESOLVE);
    if (from_fd < 0)
        return -EAGAIN;
    e = cow_attr_fd(from_fd, &now);
    /* Held open, so the number is still that object's. */
    if (e == 0 && (now.ino != id->ino || now.dev != id->dev || !whole_can(l, &now, flags)))
        e = -EAGAIN;
    if (e == 0)
        e = cow_node_get(l, &now, path, &n);
    if (e == 0) {
        pthread_mutex_lock(&n->latch);
        e = cow_beneath_has(l, dir->ino) ? 0 : mark_beneath_path(l, path);
        if (e == 0)
            e = whole_locked(l, n, from_fd, &now, flags);
        pthread_mutex_unlock(&n->latch);
    }
    util_close(from_fd);
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
    path_fd = sys_openat2(l->lower_fd, *path ? path : ".", O_PATH | O_NOFOLLOW | O_CLOEXEC, 0,
                          LOWER_RESOLVE);
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

/* ---- names of lower that go ---- */

int cow_whiteout(struct cow_layer *l, struct cow_pos *dir, const char *name)
{
    struct cow_attr a;
    int e = cow_attr_at(dir->lower_fd, name, &a);

    return e < 0 ? e : cow_whiteout_of(l, dir, name, &a);
}

int cow_whiteout_of(struct cow_layer *l, struct cow_pos *dir, const char *name,
                    const struct cow_attr *a)
{
    struct buf *b;
    int e = cow_name_add(l, dir->node, name, NAME_WHITEOUT, a);

    if (e < 0)
        return e;
    b = cow_log_begin(l);
    cow_put_u32(b, dir->node->id);
    cow_put_attr(b, a);
    cow_put_str(b, name);
    e = cow_log_end(l, REC_WHITEOUT);
    if (e < 0)
        cow_name_del(l, dir->node, name, NAME_WHITEOUT);
    return e;
}

void cow_unwhite(struct cow_layer *l, struct cow_pos *dir, const char *name)
{
    _cleanup_buf_ struct buf b = {0};

    cow_put_u32(&b, dir->node->id);
    cow_put_str(&b, name);
    /* A record that cannot be taken back: what is on disk is not what the run saw. */
    if (cow_log(l, REC_UNWHITE, &b) < 0)
        l->broken = true;
    cow_name_del(l, dir->node, name, NAME_WHITEOUT);
}

void cow_maybe_dead(struct cow_layer *l, struct cow_node *n)
{
    char name[OBJECT_NAME_MAX];
    struct cow_attr a;
    int hold_fd;

    if (!n->staged || S_ISDIR(n->origin.mode))
        return;
    object_name(n, name);
    pthread_mutex_lock(&n->latch);
    if (!n->dead && cow_attr_at(l->objects_fd, name, &a) == 0 && a.nlink == 1 &&
        cow_gone(l, n->origin.ino) >= n->origin.nlink) {
        cow_node_dead(l, n);
        hold_fd = cow_quota_hold(l, l->objects_fd, name, &a);
        if (unlinkat(l->objects_fd, name, 0) == 0)
            cow_quota_forget(l, &a, hold_fd);
        else
            util_closep(&hold_fd);
    }
    pthread_mutex_unlock(&n->latch);
}
