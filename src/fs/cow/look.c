/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lookups in the merged view. Any thread; no locks are held over a call. A name in the upper directory
 * wins; without one lower's counts unless it has a whiteout.
 */
#include <sys/sysmacros.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

/* The search permission that was taken from a directory in the layer: lower would still grant it. */
static int look_may_search(struct cow_pos *dir)
{
    return dir->node && dir->node->attrs && dir->upper_fd >= 0
               ? sys_access_fd(dir->upper_fd, X_OK, AT_EACCESS)
               : 0;
}

/* The attributes of a name, and with ret_fd an O_PATH descriptor: then not one look at the name and another
 * at what is there by now. */
static int look_at(int dir_fd, const char *name, struct cow_attr *a, int *ret_fd)
{
    int fd, e;

    if (!ret_fd)
        return cow_attr_at(dir_fd, name, a);
    fd = sys_open_path(dir_fd, name, O_NOFOLLOW);
    if (fd < 0)
        return fd;
    e = cow_attr_fd(fd, a);
    if (e < 0)
        util_close(fd);
    else
        *ret_fd = fd;
    return e;
}

static int look_upper(struct cow_layer *l, struct cow_pos *dir, const char *name,
                      struct cow_entry *ret, struct cow_attr *a, int *ret_fd)
{
    int e = look_at(dir->upper_fd, name, a, ret_fd);

    if (e < 0)
        return e;
    ret->in_upper = true;
    if (l->any_placed)
        ret->node = cow_node_by_upper(l, a->dev, a->ino);
    ret->where = ret->node ? COW_STAGED : COW_UPPER;
    return 0;
}

static int look_lower(struct cow_layer *l, struct cow_pos *dir, const char *name,
                      struct cow_entry *ret, struct cow_attr *a, int *ret_fd)
{
    struct cow_node *n;
    int e = look_at(dir->lower_fd, name, a, ret_fd), fd;

    if (e < 0)
        return e;
    if (a->ino == l->holder.ino && a->dev == l->holder.dev)
        return -ENOENT; /* where layers are stored */
    ret->where = COW_LOWER;
    if (dir->foreign || !cow_is_layered(l, a))
        return 0;
    n = cow_node_by_lower(l, a);
    if (!n || !n->staged)
        return 0;
    if (n->dead)
        return -ENOENT; /* others have linked what is deleted here */
    ret->where = COW_STAGED;
    ret->node = n;
    fd = cow_object_open(l, n, O_PATH);
    if (fd < 0)
        return fd;
    e = cow_attr_fd(fd, a);
    if (e == 0 && ret_fd) {
        util_close(*ret_fd);
        *ret_fd = fd;
        return 0;
    }
    util_close(fd);
    return e;
}

/* The last fence: whatever a caller forgot, no name leads out of its directory. */
int cow_name_check(const char *name)
{
    size_t n = strlen(name);

    if (n > NAME_MAX)
        return -ENAMETOOLONG;
    if (n == 0 || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    return 0;
}

static int look(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_entry *ret,
                struct cow_attr *a, int *ret_fd)
{
    uint32_t flags;
    int e = cow_name_check(name);

    *ret = (struct cow_entry){0};
    if (e == 0)
        e = cow_pos_update(l, dir);
    if (e < 0)
        return e;
    if (dir->node && dir->node->dead)
        return 0;
    flags = dir->node ? cow_name_flags(l, dir->node, name) : 0;
    if (dir->upper_fd >= 0 && (!dir->node || flags & NAME_UPPER)) {
        e = look_upper(l, dir, name, ret, a, ret_fd);
        if (e != -ENOENT)
            return e;
    }
    e = look_may_search(dir);
    if (e < 0 || dir->lower_fd < 0)
        return e;
    if (flags & NAME_WHITEOUT) {
        ret->where = COW_WHITEOUT;
        return 0;
    }
    e = look_lower(l, dir, name, ret, a, ret_fd);
    if (e != -ENOENT)
        return e;
    *ret = (struct cow_entry){0};
    return 0;
}

int cow_lookup(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_entry *ret)
{
    struct cow_attr a = {0};
    int e = look(l, dir, name, ret, &a, NULL);

    if (e == 0)
        ret->id = cow_attr_ident(&a);
    return e;
}

int cow_find(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_entry *ret)
{
    int e = cow_lookup(l, dir, name, ret);

    return e == 0 && !cow_exists(ret) ? -ENOENT : e;
}

int cow_look(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_entry *ret,
             struct cow_attr *a, int *ret_fd)
{
    int fd = -1, e = look(l, dir, name, ret, a, ret_fd ? &fd : NULL);

    if (fd >= 0 && (e < 0 || ret->where == COW_NONE))
        fd = util_close(fd);
    if (ret_fd)
        *ret_fd = fd;
    if (e == 0)
        ret->id = cow_attr_ident(a);
    return e;
}

int cow_open_path(struct cow_layer *l, struct cow_pos *dir, const char *name)
{
    struct cow_entry en;
    struct cow_attr a = {0};
    int fd, e = cow_look(l, dir, name, &en, &a, &fd);

    return e < 0 ? e : fd < 0 ? -ENOENT : fd;
}

/* ---- attributes ---- */

/* On another file system the numbers of the layer must not meet lower's: the view is one device. */
uint64_t cow_show_ino(const struct cow_layer *l, uint64_t upper_ino)
{
    return l->storage.dev == l->lower.dev ? upper_ino : upper_ino | UINT64_C(1) << 62;
}

static uint32_t show_nlink(struct cow_layer *l, const struct cow_node *n, const struct cow_attr *a)
{
    uint32_t gone, links;

    if (S_ISDIR(a->mode)) {
        if (!n)
            return a->nlink;
        links = n->origin.nlink + a->nlink;
        return links > 2 ? links - 2 : 1;
    }
    if (n) {
        gone = cow_gone(l, n->origin.ino);
        links = a->nlink - 1 + n->origin.nlink;
    } else {
        gone = a->dev == l->lower.dev ? cow_gone(l, a->ino) : 0;
        links = a->nlink;
    }
    return links > gone ? links - gone : 0;
}

static void show(struct cow_layer *l, const struct cow_node *n, const struct cow_attr *a, bool ours,
                 struct cow_stat *ret)
{
    bool light = n && n->light;
    struct stat *st = &ret->st;

    *ret = (struct cow_stat){.btime = cow_time(n ? n->origin.btime : a->btime)};
    st->st_dev = ours ? l->lower.dev : a->dev;
    st->st_ino = n ? n->origin.ino : ours ? cow_show_ino(l, a->ino) : a->ino;
    st->st_mode = a->mode;
    st->st_nlink = show_nlink(l, n, a);
    st->st_uid = n && n->has_owner ? n->uid : a->uid;
    st->st_gid = n && n->has_owner ? n->gid : a->gid;
    st->st_rdev = a->rdev;
    st->st_size = (off_t)a->size;
    st->st_blksize = (blksize_t)a->blksize;
    st->st_blocks = (blkcnt_t)(light ? n->origin.blocks : a->blocks);
    st->st_atim = cow_time(a->atime);
    st->st_mtim = cow_time(a->mtime);
    st->st_ctim = cow_time(a->ctime);
}

int cow_stat_fd(struct cow_layer *l, int fd, struct cow_stat *ret)
{
    struct cow_attr a;
    struct cow_node *n;
    int e = cow_attr_fd(fd, &a), object_fd;
    bool ours;

    if (e < 0)
        return e;
    n = cow_node_by_upper(l, a.dev, a.ino);
    ours = n || a.dev == l->storage.dev;
    if (!n) {
        n = cow_node_by_lower(l, &a);
        if (n && (!n->staged || n->dead))
            n = NULL;
        if (n) {
            object_fd = cow_object_open(l, n, O_PATH);
            if (object_fd < 0)
                return object_fd;
            e = cow_attr_fd(object_fd, &a);
            util_close(object_fd);
            ours = true;
        }
    }
    if (e == 0)
        show(l, n, &a, ours, ret);
    return e;
}

int cow_stat_pos(struct cow_layer *l, struct cow_pos *dir, struct cow_stat *ret)
{
    struct cow_attr a;
    int e = cow_pos_update(l, dir);

    if (e == 0)
        e = cow_attr_fd(dir->upper_fd >= 0 ? dir->upper_fd : dir->lower_fd, &a);
    if (e == 0)
        show(l, dir->upper_fd >= 0 ? dir->node : NULL, &a, dir->upper_fd >= 0, ret);
    return e;
}
