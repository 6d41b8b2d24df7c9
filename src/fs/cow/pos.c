/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Positions: directories of the merged view as pairs of descriptors. Any thread; a position belongs to
 * one.
 */
#include <linux/openat2.h>

#include "fs/cow/internal.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

void cow_pos_fini(struct cow_pos *p)
{
    if (p->shared)
        cow_dir_unref(p->shared);
    else if (p->lower_fd >= 0)
        util_close(p->lower_fd);
    if (!p->shared && p->upper_fd >= 0)
        util_close(p->upper_fd);
    *p = (struct cow_pos)COW_POS_INIT;
}

int cow_pos_copy(const struct cow_pos *from, struct cow_pos *ret)
{
    struct cow_pos p = *from;

    if (from->shared) {
        cow_dir_ref(from->shared);
        *ret = p;
        return 0;
    }
    if (from->lower_fd >= 0 && (p.lower_fd = fcntl(from->lower_fd, F_DUPFD_CLOEXEC, 0)) < 0)
        return -errno;
    if (from->upper_fd >= 0 && (p.upper_fd = fcntl(from->upper_fd, F_DUPFD_CLOEXEC, 0)) < 0) {
        int e = -errno;

        util_close(p.lower_fd);
        return e;
    }
    *ret = p;
    return 0;
}

pthread_mutex_t *cow_dir_lock(struct cow_layer *l, const struct cow_pos *p)
{
    return &l->dirs[p->ino % COW_DIR_LOCKS];
}

int cow_pos_update(struct cow_layer *l, struct cow_pos *p)
{
    struct cow_node *n;
    int fd;

    if (p->upper_fd >= 0 || p->lower_fd < 0 || p->foreign || !l->any)
        return 0;
    pthread_rwlock_rdlock(&l->lock);
    n = cow_map_get(&l->by_lower, p->ino);
    pthread_rwlock_unlock(&l->lock);
    if (!n || !(n->staged || n->dead))
        return 0;
    p->node = n;
    if (n->dead)
        return 0;
    fd = cow_object_open(l, n, O_PATH | O_DIRECTORY);
    if (fd < 0)
        return n->dead ? 0 : fd;
    cow_dir_staged(l, p, fd);
    return 0;
}

/* 1 when the directory was met before, 0, or -errno. */
static int pos_known(struct cow_layer *l, const struct cow_attr *a, struct cow_pos *ret)
{
    int e = cow_dir_find(l, a, ret);

    if (e <= 0)
        return e;
    e = cow_pos_update(l, ret);
    if (e < 0)
        cow_pos_fini(ret);
    return e < 0 ? e : 1;
}

/* Takes lower_fd over. `a`: its attributes. */
static int pos_of_lower(struct cow_layer *l, int lower_fd, const struct cow_attr *a,
                        struct cow_pos *ret)
{
    struct cow_pos p = {.lower_fd = lower_fd, .upper_fd = -1, .ino = a->ino};
    int e = pos_known(l, a, ret);

    if (e != 0) {
        util_close(lower_fd);
        return e < 0 ? e : 0;
    }
    p.foreign = !cow_is_layered(l, a);
    e = cow_pos_update(l, &p);
    if (e < 0) {
        util_close(lower_fd);
        return e;
    }
    cow_dir_add(l, a, &p);
    *ret = p;
    return 0;
}

/* Takes upper_fd over: a new directory, or one of lower with a name in the layer. */
static int pos_of_upper(struct cow_layer *l, int upper_fd, const struct cow_attr *a,
                        struct cow_pos *ret)
{
    struct cow_pos p = {.lower_fd = -1, .upper_fd = upper_fd, .ino = a->ino};

    int e = cow_dir_find(l, a, ret);

    if (e != 0) {
        util_close(upper_fd);
        return e < 0 ? e : 0;
    }
    p.node = cow_node_by_upper(l, a->dev, a->ino);
    if (p.node) {
        p.ino = p.node->origin.ino;
        p.lower_fd = cow_lower_open(l, p.node, O_PATH | O_DIRECTORY);
        if (p.lower_fd < 0) {
            util_close(upper_fd);
            return p.lower_fd;
        }
    }
    cow_dir_add(l, a, &p);
    *ret = p;
    return 0;
}

int cow_pos_of(struct cow_layer *l, int fd, bool in_upper, struct cow_pos *ret)
{
    struct cow_attr a;
    int e = cow_attr_fd(fd, &a);

    if (e < 0) {
        util_close(fd);
        return e;
    }
    return in_upper ? pos_of_upper(l, fd, &a, ret) : pos_of_lower(l, fd, &a, ret);
}

int cow_root(struct cow_layer *l, struct cow_pos *ret)
{
    int fd, e = pos_known(l, &l->lower, ret);

    if (e != 0)
        return e < 0 ? e : 0;
    fd = fcntl(l->lower_fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? -errno : cow_pos_of(l, fd, false, ret);
}

int cow_enter(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_pos *ret)
{
    struct cow_entry en;
    int e = cow_find(l, dir, name, &en), fd;

    if (e < 0)
        return e;
    if (!S_ISDIR(en.id.mode))
        return -ENOTDIR;
    fd = sys_open_path(en.in_upper ? dir->upper_fd : dir->lower_fd, name, O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0)
        return fd;
    return cow_pos_of(l, fd, en.in_upper, ret);
}

/* Without a call that could fail: who misses the top walks on above it. */
bool cow_pos_is_root(const struct cow_layer *l, const struct cow_pos *p)
{
    return p->lower_fd >= 0 && !p->foreign && p->ino == l->lower.ino;
}

int cow_parent(struct cow_layer *l, struct cow_pos *dir, struct cow_pos *ret)
{
    bool by_upper = dir->lower_fd < 0 || (dir->node && dir->node->moved);
    struct cow_attr a;
    struct cow_node *n;
    int fd, e;

    if (cow_pos_is_root(l, dir))
        return -EXDEV;
    fd = sys_open_path(by_upper ? dir->upper_fd : dir->lower_fd, "..", O_DIRECTORY);
    if (fd < 0)
        return fd;
    if (!by_upper)
        return cow_pos_of(l, fd, false, ret);
    e = cow_attr_fd(fd, &a);
    if (e == 0) {
        n = cow_node_by_upper(l, a.dev, a.ino);
        /* The object of a directory that keeps its place: lower knows what is above. */
        if (a.ino == l->storage.ino || (!n && a.nlink == 0))
            e = -ENOENT;
    }
    if (e < 0) {
        util_close(fd);
        return e;
    }
    return pos_of_upper(l, fd, &a, ret);
}

/* Is the descriptor something below the storage directory? By the kernel's spelling: nobody but us
 * can put names there. */
bool cow_fd_is_ours(struct cow_layer *l, int fd)
{
    char top[PATH_MAX], at[PATH_MAX];
    ssize_t n = fd_location(l->storage_fd, top, sizeof(top));

    return n > 0 && fd_location(fd, at, sizeof(at)) > n && strncmp(at, top, (size_t)n) == 0 &&
           at[n] == '/';
}

int cow_pos_of_fd(struct cow_layer *l, int fd, struct cow_pos *ret)
{
    char path[PATH_MAX];
    struct cow_attr a;
    struct cow_node *n;
    int e = cow_attr_fd(fd, &a), own_fd;

    if (e < 0)
        return e;
    if (!S_ISDIR(a.mode))
        return -ENOTDIR;
    e = pos_known(l, &a, ret);
    if (e != 0)
        return e < 0 ? e : 0;
    own_fd = sys_open_path(fd, ".", O_DIRECTORY);
    if (own_fd < 0)
        return own_fd;
    n = cow_node_by_upper(l, a.dev, a.ino);
    if (n || cow_fd_is_ours(l, own_fd))
        return pos_of_upper(l, own_fd, &a, ret);
    n = cow_node_by_lower(l, &a);
    /* A directory without a name is nowhere, whatever its old one says. */
    e = n ? 0 : a.nlink == 0 ? -EXDEV : cow_lower_name(l, own_fd, NULL, path);
    if (e < 0) {
        if (e == -EXDEV)
            cow_dir_add_outside(l, &a, own_fd);
        else
            util_close(own_fd);
        return e;
    }
    return pos_of_lower(l, own_fd, &a, ret);
}

int cow_pos_known(struct cow_layer *l, const char *path, struct cow_pos *ret)
{
    struct cow_attr a;

    return cow_attr_path(path, &a) == 0 && S_ISDIR(a.mode) && pos_known(l, &a, ret) > 0;
}

struct cow_node *cow_node_of_fd(struct cow_layer *l, int fd)
{
    struct cow_attr a;

    return cow_attr_fd(fd, &a) < 0 ? NULL : cow_node_of(l, &a);
}

struct cow_node *cow_node_of(struct cow_layer *l, const struct cow_attr *a)
{
    struct cow_node *n = cow_node_by_upper(l, a->dev, a->ino);

    if (!n)
        n = cow_node_by_lower(l, a);
    return n && n->staged ? n : NULL;
}

int cow_writable_dir(struct cow_layer *l, struct cow_pos *dir)
{
    char path[PATH_MAX];
    struct cow_attr a;
    struct cow_node *n;
    int e = cow_pos_update(l, dir);

    if (e < 0)
        return e;
    if (dir->node && dir->node->dead)
        return -ENOENT;
    if (dir->upper_fd >= 0)
        return 0;
    if (dir->foreign)
        return -EROFS;
    e = cow_attr_fd(dir->lower_fd, &a);
    if (e == 0)
        e = cow_lower_name(l, dir->lower_fd, NULL, path);
    if (e == 0)
        e = cow_stage(l, dir->lower_fd, &a, 0, path, &n);
    return e < 0 ? e : cow_pos_update(l, dir);
}

int cow_node_may(struct cow_layer *l, const struct cow_node *n, int mode, int at_flags)
{
    _cleanup_close_ int fd = -1;

    if (!n->has_owner || n->origin.uid == geteuid())
        return 0;
    fd = cow_lower_open(l, n, O_PATH);
    return fd < 0 ? -EACCES : sys_access_fd(fd, mode, at_flags);
}

int cow_access(struct cow_layer *l, int fd, int mode, int at_flags)
{
    const struct cow_node *n = cow_node_of_fd(l, fd);
    int e = n ? cow_node_may(l, n, mode, at_flags) : 0;

    return e < 0 ? e : sys_access_fd(fd, mode, at_flags);
}

int cow_may_create(struct cow_layer *l, struct cow_pos *dir)
{
    int e = cow_pos_update(l, dir);

    if (e < 0)
        return e;
    if (dir->foreign)
        return -EROFS;
    if (dir->node && dir->node->dead)
        return -ENOENT;
    /* Who does not own it cannot have changed its mode, and the object may be ours. */
    if (dir->lower_fd >= 0 && (dir->upper_fd < 0 || dir->node->origin.uid != geteuid()))
        return sys_access_fd(dir->lower_fd, W_OK | X_OK, AT_EACCESS);
    return 0;
}

int cow_may_write_dir(struct cow_layer *l, struct cow_pos *dir)
{
    struct cow_attr a;
    int e = cow_may_create(l, dir);

    if (e < 0 || dir->upper_fd < 0)
        return e;
    e = sys_access_fd(dir->upper_fd, W_OK | X_OK, AT_EACCESS);
    if (e == 0 && dir->lower_fd < 0)
        e = cow_attr_fd(dir->upper_fd, &a) < 0 || a.nlink == 0 ? -ENOENT : 0;
    return e;
}

int cow_touch(struct cow_pos *dir)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};

    return utimensat(dir->upper_fd, "", t, AT_EMPTY_PATH) < 0 ? -errno : 0;
}
