/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both sides of a node: the object of lower by the path that was recorded, never through a link, and its
 * object in the storage. Any thread.
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

void cow_parent_path(const char *path, char dir[PATH_MAX])
{
    char *slash;

    snprintf(dir, PATH_MAX, "%s", path);
    slash = strrchr(dir, '/');
    *(slash ? slash : dir) = '\0';
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

void cow_object_name(const struct cow_node *n, char name[COW_OBJECT_NAME_MAX])
{
    snprintf(name, COW_OBJECT_NAME_MAX, "%u", n->id);
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
    char name[COW_OBJECT_NAME_MAX];
    int fd;

    if (n->moved)
        return object_moved(l, n);
    cow_object_name(n, name);
    fd = openat(l->objects_fd, name, flags | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
