/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of open objects in the merged view (CW-20): where the storage is never shows. Any thread. The
 * kernel's spelling of a place is only used for a component at a time, or for what nobody but us names.
 */
#include <stdio.h>

#include "fs/cow/internal.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

bool cow_holds(struct cow_layer *l, int fd)
{
    char path[PATH_MAX];
    struct cow_attr a;

    if (cow_attr_fd(fd, &a) < 0)
        return false;
    if (cow_node_by_upper(l, a.dev, a.ino))
        return true;
    if (cow_is_layered(l, &a) &&
        (cow_node_by_lower(l, &a) || cow_lower_name(l, fd, NULL, path) == 0))
        return true;
    return a.dev == l->storage.dev && cow_fd_is_ours(l, fd);
}

bool cow_is_storage(struct cow_layer *l, const struct sys_ident *id)
{
    return (id->dev == l->storage.dev && id->ino == l->storage.ino) ||
           (id->dev == l->holder.dev && id->ino == l->holder.ino);
}

bool cow_stores(struct cow_layer *l, int fd, const struct sys_ident *id)
{
    char top[PATH_MAX], at[PATH_MAX];
    ssize_t n;

    if (id->dev != l->holder.dev)
        return false;
    n = fd_location(l->parent_fd, top, sizeof(top));
    return n < 0 || fd_location(fd, at, sizeof(at)) < 0 ||
           (strncmp(at, top, (size_t)n) == 0 && (at[n] == '/' || at[n] == '\0'));
}

bool cow_is_whole(struct cow_layer *l, int fd, const struct sys_ident *id)
{
    struct cow_node *n = cow_node_by_upper(l, id->dev, id->ino);

    return cow_stores(l, fd, id) && !(n && (n->light || S_ISDIR(id->mode)));
}

bool cow_is_top(const struct cow_layer *l, const struct sys_ident *id)
{
    return id->dev == l->lower.dev && id->ino == l->lower.ino;
}

/* Puts "/name" before what is there: the string begins at buf[*at]. */
static int place_prepend(char *buf, size_t *at, const char *name, size_t n)
{
    if (n + 1 > *at)
        return -ENAMETOOLONG;
    *at -= n;
    memcpy(buf + *at, name, n);
    buf[--*at] = '/';
    return 0;
}

static int place_component(const struct cow_pos *p, char name[PATH_MAX])
{
    bool by_upper = p->lower_fd < 0 || (p->node && p->node->moved);
    ssize_t n = fd_location(by_upper ? p->upper_fd : p->lower_fd, name, PATH_MAX);
    char *slash;

    if (n < 0)
        return (int)n;
    slash = strrchr(name, '/');
    if (!slash)
        return -ENOENT;
    memmove(name, slash + 1, strlen(slash + 1) + 1);
    return 0;
}

/* From a directory up to the work directory. */
static int place_climb(struct cow_layer *l, const struct cow_pos *from, char *buf, size_t *at)
{
    _cleanup_cow_pos_ struct cow_pos p = COW_POS_INIT;
    char name[PATH_MAX];
    int e = cow_pos_copy(from, &p);

    while (e == 0) {
        struct cow_pos up = COW_POS_INIT;

        e = p.node && p.node->dead ? -ENOENT : cow_parent(l, &p, &up);
        if (e == -EXDEV)
            return 0;
        if (e == 0)
            e = place_component(&p, name);
        if (e == 0)
            e = place_prepend(buf, at, name, strlen(name));
        cow_pos_fini(&p);
        p = up;
    }
    return e;
}

static ssize_t place_finish(struct cow_layer *l, const char *buf, size_t at, bool gone, char *out,
                            size_t size)
{
    char top[PATH_MAX];
    ssize_t n = fd_location(l->lower_fd, top, sizeof(top));
    int len;

    if (n < 0)
        return n;
    len = snprintf(out, size, "%s%s%s", n == 1 && buf[at] ? "" : top, buf + at,
                   gone ? PLACE_MARK : "");
    return (size_t)len < size ? len : -ENAMETOOLONG;
}

/* The directory in which something of the storage that is no directory has its name. */
static int place_of_file(struct cow_layer *l, char *where, char *buf, size_t *at)
{
    _cleanup_cow_pos_ struct cow_pos p = COW_POS_INIT;
    char *slash = strrchr(where, '/');
    int fd, e;

    if (!slash || slash == where)
        return -ENOENT;
    e = place_prepend(buf, at, slash + 1, strlen(slash + 1));
    if (e < 0)
        return e;
    *slash = '\0';
    fd = sys_open_path(AT_FDCWD, where, O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0)
        return fd;
    e = cow_pos_of_fd(l, fd, &p);
    util_close(fd);
    return e < 0 ? e : place_climb(l, &p, buf, at);
}

static int place_file(struct cow_layer *l, int fd, const struct cow_attr *a, char *buf, size_t *at,
                      bool *ret_gone)
{
    struct cow_node *n = cow_node_by_upper(l, a->dev, a->ino);
    char where[PATH_MAX], objects[PATH_MAX];
    ssize_t len = fd_location(fd, where, sizeof(where));

    if (len < 0)
        return (int)len;
    *ret_gone = a->nlink == 0;
    if (a->nlink == 0)
        where[place_unmarked(where, (size_t)len)] = '\0';
    len = fd_location(l->objects_fd, objects, sizeof(objects));
    if (len > 0 && n && strncmp(where, objects, (size_t)len) == 0 && where[len] == '/' &&
        !strchr(where + len + 1, '/'))
        return place_prepend(buf, at, n->path, strlen(n->path));
    return place_of_file(l, where, buf, at);
}

ssize_t cow_place(struct cow_layer *l, int fd, char *out, size_t size)
{
    _cleanup_cow_pos_ struct cow_pos p = COW_POS_INIT;
    char buf[PATH_MAX];
    size_t at = sizeof(buf) - 1;
    bool gone = false;
    struct cow_attr a;
    int e;

    if (cow_is_clean(l) || !cow_holds(l, fd))
        return -EXDEV;
    buf[at] = '\0';
    e = cow_attr_fd(fd, &a);
    if (e == 0 && S_ISDIR(a.mode)) {
        e = cow_pos_of_fd(l, fd, &p);
        if (e == 0)
            e = place_climb(l, &p, buf, &at);
    } else if (e == 0) {
        e = place_file(l, fd, &a, buf, &at, &gone);
    }
    return e < 0 ? e : place_finish(l, buf, at, gone, out, size);
}

int cow_objects_fd(const struct cow_layer *l)
{
    return l->objects_fd;
}

int cow_storage_fd(const struct cow_layer *l)
{
    return l->storage_fd;
}

uint64_t cow_mount(const struct cow_layer *l)
{
    return l->lower.mnt;
}
