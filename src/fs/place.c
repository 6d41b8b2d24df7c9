/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ancestors and parents by descriptor. Receiver threads; the tree may be rearranged at any time by
 * others: each step is identified on the descriptor it opened.
 */
#include "fs/place.h"

#include <errno.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fs/resolve.h"

/* Deeper than any path the kernel lets a task name at once; a bound, not a rule. */
#define PLACE_MAX_DEPTH 4096

int place_ascend(int dir_fd, int (*visit)(int dir_fd, const struct sys_ident *id, void *arg),
                 void *arg)
{
    _cleanup_close_ int cur_fd = -1;
    struct sys_ident id, up;
    int fd = dir_fd, e = sys_identify(dir_fd, &id);

    for (unsigned depth = 0; e == 0 && depth < PLACE_MAX_DEPTH; depth++) {
        e = visit(fd, &id, arg);
        if (e != 0)
            return e;
        int up_fd = sys_open_path(fd, "..", O_DIRECTORY);
        if (up_fd < 0)
            return up_fd;
        util_close(cur_fd);
        fd = cur_fd = up_fd;
        e = sys_identify(fd, &up);
        /* The root is its own parent; the mount tells it from a directory mounted on its child. */
        if (e == 0 && sys_ident_same(&id, &up) && id.mnt == up.mnt)
            return 0;
        id = up;
    }
    return e < 0 ? e : -ELOOP;
}

/* The directory of a path when the name there is this very object. */
static int place_confirm(char *path, const struct sys_ident *id)
{
    _cleanup_close_ int parent_fd = -1;
    struct sys_ident there;
    char *slash = strrchr(path, '/');

    if (path[0] != '/' || !slash[1])
        return -ENOENT;
    *slash = '\0';
    parent_fd = sys_openat2(AT_FDCWD, slash == path ? "/" : path, O_PATH | O_DIRECTORY | O_CLOEXEC,
                            0, RESOLVE_NO_SYMLINKS);
    if (parent_fd < 0)
        return -ENOENT;
    if (sys_identify_at(parent_fd, slash + 1, &there) < 0 || !sys_ident_same(&there, id))
        return -ENOENT;
    return steal_fd(&parent_fd);
}

/*
 * The kernel forgets the names of /proc/<pid>/net at each look-up (proc_net_d_revalidate) and calls
 * what is open deleted, though it is there: whether it is, the identity tells.
 */
int place_parent(int fd, const struct sys_ident *id)
{
    char path[PATH_MAX], again[PATH_MAX];
    ssize_t n = fd_location(fd, path, sizeof(path));
    size_t unmarked;
    int parent_fd;

    if (n < 0)
        return (int)n;
    memcpy(again, path, (size_t)n + 1);
    parent_fd = place_confirm(path, id);
    unmarked = place_unmarked(again, (size_t)n);
    if (parent_fd >= 0 || unmarked == (size_t)n)
        return parent_fd;
    again[unmarked] = '\0';
    return place_confirm(again, id);
}
