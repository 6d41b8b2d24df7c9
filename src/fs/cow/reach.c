/* SPDX-License-Identifier: Apache-2.0 */
/* Where the steps of a commit, and of a rollback, reach things: see apply.h. One thread. */
#include <linux/openat2.h>
#include <stdio.h>

#include "fs/cow/apply.h"

#include "fs/cow/fault.h"

#define BENEATH (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)

/* ---- the limbo ---- */

static void limbo_name(const struct cow_layer *l, char name[40])
{
    snprintf(name, 40, ".sandlock-%s", l->id);
}

int cow_limbo_open(struct cow_layer *l, bool make)
{
    int in_fd = l->same_fs ? l->storage_fd : l->lower_fd, fd;
    char name[40] = "limbo";

    if (!l->same_fs)
        limbo_name(l, name);
    if (make && mkdirat(in_fd, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    fd = openat(in_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* The root's times stay. */
int cow_limbo_remove(struct cow_layer *l)
{
    struct cow_attr a;
    char name[40];
    int e;

    if (l->same_fs)
        return 0; /* goes with the layer */
    limbo_name(l, name);
    if (cow_attr_at(l->lower_fd, name, &a) == -ENOENT)
        return 0;
    e = cow_attr_fd(l->lower_fd, &a);
    if (e == 0)
        e = cow_remove_tree(l->lower_fd, name);
    return e < 0 ? e : cow_set_times(l->lower_fd, &a);
}

/* ---- paths ---- */

static int base_fd(struct apply *a, char base)
{
    switch (base) {
    case 'S': return a->p->l->storage_fd;
    case 'X': return a->limbo_fd;
    default: return a->p->l->lower_fd;
    }
}

static int dup_fd(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    return copy < 0 ? -errno : copy;
}

/* The directory that holds the path, and the last component. Descriptor or -errno. */
static int open_parent(struct apply *a, char base, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    char dir[PATH_MAX];
    int fd;

    *ret_name = slash ? slash + 1 : path;
    if (!n)
        return dup_fd(base_fd(a, base));
    if (n >= sizeof(dir))
        return -ENAMETOOLONG;
    memcpy(dir, path, n);
    dir[n] = '\0';
    if (base == 'L' && a->dir_fd >= 0 && strcmp(a->dir, dir) == 0)
        return dup_fd(a->dir_fd);
    fd = sys_openat2(base_fd(a, base), dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, BENEATH);
    if (fd >= 0 && base == 'L') {
        if (a->dir_fd >= 0)
            util_close(a->dir_fd);
        a->dir_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        strcpy(a->dir, dir);
    }
    return fd;
}

void apply_forget(struct apply *a)
{
    if (a->dir_fd >= 0)
        a->dir_fd = util_close(a->dir_fd);
}

int apply_place(struct apply *a, char base, const char *path, struct place *ret)
{
    ret->fd = open_parent(a, base, path, &ret->name);
    return ret->fd < 0 ? ret->fd : 0;
}

int apply_move(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    int e = sys_renameat2(from_fd, from, to_fd, to, flags);
    struct cow_attr a;

    if (e != -EACCES || cow_attr_at(from_fd, from, &a) < 0 || !S_ISDIR(a.mode) ||
        (a.mode & 0700) == 0700 || fchmodat(from_fd, from, (a.mode & 07777) | 0700, 0) < 0)
        return e;
    return sys_renameat2(from_fd, from, to_fd, to, flags);
}

int apply_object(struct apply *a, const char *path)
{
    _cleanup_place_ struct place at = {-1, NULL};
    int e;

    if (!*path)
        return dup_fd(a->p->l->lower_fd);
    e = apply_place(a, 'L', path, &at);
    return e < 0 ? e : sys_open_path(at.fd, at.name, O_NOFOLLOW);
}

int apply_open_up(struct apply *a, char base, const char *path)
{
    char dir[PATH_MAX];
    struct cow_attr attr;
    mode_t need;
    int e = 0;

    for (const char *slash = strchr(path, '/'); slash && e == 0; slash = strchr(slash + 1, '/')) {
        _cleanup_close_ int fd = -1;

        /* No more than that: of those above nothing may follow that closes them again. */
        need = strchr(slash + 1, '/') ? 0100 : 0300;
        if ((size_t)(slash - path) >= sizeof(dir))
            return -ENAMETOOLONG;
        memcpy(dir, path, (size_t)(slash - path));
        dir[slash - path] = '\0';
        fd = sys_openat2(base_fd(a, base), dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, BENEATH);
        e = fd < 0 ? fd : cow_attr_fd(fd, &attr);
        if (e == 0 && (attr.mode & need) != need)
            e = sys_chmod_fd(fd, (attr.mode & 07777) | need);
    }
    return e;
}

void apply_note_owner(struct apply *a, const char *path, uid_t uid, gid_t gid)
{
    buf_add_quoted(&a->report->notes, "", path);
    buf_addf(&a->report->notes, ": the owner could not be set to %u:%u\n", uid, gid);
}

void apply_backup_name(char kind, const struct cow_step *s, const struct cow_plan *p, char name[24])
{
    snprintf(name, 24, "%c%zu", kind, (size_t)(s - p->v));
}
