/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the operations on behalf and the layer. Receiver threads; descriptors are ours, decided about by
 * identity. The domain of the receivers gives no right to write to lower: what is overlooked here ends
 * in EACCES, never in a change.
 */
#include "fs/staged.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "plan/root.h"

#define STAGED_MAKES (O_CREAT | O_EXCL | O_NOFOLLOW)

struct cow_layer *staged_layer(const struct request *r)
{
    const struct root *root = supervisor_plan(r->sup)->root;

    return root ? root->layer : NULL;
}

/* Where the path begins in the view: 1 with the rest of it, 0, or -errno. */
static int staged_begin(const struct request *r, int base_fd, const char *path, struct cow_pos *pos,
                        const char **ret_rest)
{
    const struct root *root = supervisor_plan(r->sup)->root;
    const char *seen = root->workdir_seen[0];
    size_t n = seen ? strlen(seen) : 0;
    int e;

    *ret_rest = path;
    if (*path != '/') {
        e = cow_pos_of_fd(root->layer, base_fd, pos);
        return e == 0 ? 1 : e == -EXDEV || e == -ENOTDIR ? 0 : e;
    }
    /* Nothing above the work directory can be changed from inside (root_stage()): its name is what it
     * was at the start. */
    if (n <= 1 || strncmp(path, seen, n) != 0 || path[n] != '/')
        return 0;
    *ret_rest = path + n;
    e = cow_root(root->layer, pos);
    return e < 0 ? e : 1;
}

/* From where *w stands, which is given back unless the answer is 1. */
static int staged_walk(struct cow_layer *l, struct cow_path *w, const char *rest, unsigned flags,
                       struct resolved *ret)
{
    int e = cow_path(l, rest,
                     (flags & WALK_FOLLOW ? COW_PATH_FOLLOW : 0) |
                         (flags & WALK_PARENT ? COW_PATH_PARENT : 0) |
                         (flags & WALK_DIRECTORY ? COW_PATH_DIRECTORY : 0),
                     w);

    if (e <= 0) {
        cow_pos_fini(&w->dir);
        return e;
    }
    ret->staged = true;
    ret->in_upper = w->in_upper;
    ret->dir = w->dir;
    if (w->name[0])
        ret->parent_fd = w->dir.upper_fd >= 0 ? w->dir.upper_fd : w->dir.lower_fd;
    memcpy(ret->name, w->name, sizeof(w->name));
    ret->fd = w->fd;
    ret->id = w->id;
    return 1;
}

/* The walk by hand knows mounts, and says where it ended, which is part of the answer where places are denied. */
static bool staged_needs_hands(const struct request *r)
{
    return supervisor_plan(r->sup)->root->n > 0 || supervisor_policy(r->sup)->fs_deny.n > 0;
}

int staged_resolve(const struct request *r, int base_fd, const char *path, unsigned flags,
                   struct resolved *ret)
{
    struct cow_path w = {.dir = COW_POS_INIT};
    const char *rest;

    if (staged_needs_hands(r) || staged_begin(r, base_fd, path, &w.dir, &rest) <= 0)
        return 0;
    return staged_walk(staged_layer(r), &w, rest, flags, ret);
}

int staged_resolve_known(const struct request *r, int dirfd, const char *path, unsigned flags,
                         struct resolved *ret)
{
    struct cow_path w = {.dir = COW_POS_INIT};
    char begin[CHILD_FD_PATH_MAX];

    if ((dirfd < 0 && dirfd != AT_FDCWD) || staged_needs_hands(r))
        return 0;
    request_fd_name(r, dirfd, begin);
    if (cow_pos_known(staged_layer(r), begin, &w.dir) <= 0)
        return 0;
    /* Whose directory was it? The pid may have been given to another task. */
    if (!(flags & WALK_ALIVE) && !request_alive(r)) {
        cow_pos_fini(&w.dir);
        return -ESRCH;
    }
    return staged_walk(staged_layer(r), &w, path, flags, ret);
}

bool staged_holds(const struct request *r, int fd)
{
    struct cow_layer *l = staged_layer(r);

    return l && fd >= 0 && cow_holds(l, fd);
}

int staged_access(const struct request *r, int fd, int mode, int at_flags)
{
    struct cow_layer *l = staged_layer(r);

    return l && !cow_is_clean(l) ? cow_access(l, fd, mode, at_flags)
                                 : sys_access_fd(fd, mode, at_flags);
}

bool staged_is_own(const struct request *r, const struct resolved *o)
{
    struct cow_layer *l = staged_layer(r);

    return l && o->fd >= 0 && cow_stores(l, o->fd, &o->id);
}

/* What lower has a side of is changed in places that no watch covers: the files of a merged directory are
 * objects elsewhere, and what goes is a record. */
int staged_watch(const struct request *r, const struct resolved *o)
{
    struct cow_layer *l = staged_layer(r);

    if (!l || !cow_holds(l, o->fd) || cow_is_whole(l, o->fd, &o->id))
        return 0;
    return -EOPNOTSUPP;
}

int staged_name(const struct request *r, const struct resolved *o, struct cow_pos *ret)
{
    struct cow_layer *l = staged_layer(r);
    int e;

    *ret = (struct cow_pos)COW_POS_INIT;
    if (o->staged && o->name[0])
        return cow_pos_copy(&o->dir, ret) < 0 ? -ENOMEM : 1;
    if (!l || o->parent_fd < 0 || !o->name[0])
        return 0;
    e = cow_pos_of_fd(l, o->parent_fd, ret);
    if (e == 0 && ret->foreign) {
        cow_pos_fini(ret);
        return 0; /* another file system: what the grants say */
    }
    return e == 0 ? 1 : e == -EXDEV ? 0 : e;
}

int staged_reopen(const struct request *r, const struct resolved *o, uint64_t flags, mode_t mode)
{
    const struct sys_ident *id = &o->id;
    _cleanup_cow_pos_ struct cow_pos p = COW_POS_INIT;
    struct cow_layer *l = staged_layer(r);
    bool temporary = (flags & O_TMPFILE) == O_TMPFILE;
    int how = (int)(flags & ~(uint64_t)STAGED_MAKES) | O_CLOEXEC | O_NOCTTY, e;

    if (!l || !(S_ISREG(id->mode) || (S_ISDIR(id->mode) && temporary)))
        return -ENODATA;
    /* Its bytes are what the object has, for whoever only reads. */
    if (!temporary && (flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC) && cow_is_plain(l, id))
        return -ENODATA;
    if (!o->staged && !cow_holds(l, o->fd))
        return -ENODATA;
    if (!temporary && o->staged && o->in_upper && cow_is_plain(l, id))
        return cow_open_own(l, o->fd, how);
    if (!temporary && o->staged && !o->in_upper && o->name[0]) {
        e = cow_pos_copy(&o->dir, &p);
        return e < 0 ? e : cow_open_found(l, &p, o->name, o->fd, id, how);
    }
    if (!temporary)
        return cow_open_fd(l, o->fd, how);
    if (!S_ISDIR(id->mode))
        return -ENOTDIR;
    e = cow_pos_of_fd(l, o->fd, &p);
    return e < 0 ? e : cow_open(l, &p, "", (int)flags, mode);
}

int staged_change(const struct request *r, struct resolved *o, enum cow_need need)
{
    int fd = cow_change_fd(staged_layer(r), o->fd, need);

    if (fd < 0)
        return fd;
    util_close(o->fd);
    o->fd = fd;
    return 0;
}

/* ---- attributes ---- */

static int staged_look(const struct request *r, int fd, const struct sys_ident *id,
                       struct cow_stat *ret)
{
    struct cow_layer *l = staged_layer(r);

    if (!l || cow_is_plain(l, id) || !cow_holds(l, fd))
        return -ENODATA;
    return cow_stat_fd(l, fd, ret);
}

int staged_stat(const struct request *r, int fd, const struct sys_ident *id, struct stat *st)
{
    struct cow_stat c;
    int e = staged_look(r, fd, id, &c);

    if (e == 0)
        *st = c.st;
    if (e != -ENODATA)
        return e;
    return fstat(fd, st) < 0 ? -errno : 0;
}

static void statx_time(struct fs_statx *s, unsigned i, struct timespec t)
{
    s->time[i].sec = t.tv_sec;
    s->time[i].nsec = (uint32_t)t.tv_nsec;
}

int staged_show_statx(const struct request *r, int fd, const struct sys_ident *id, uint8_t *statx)
{
    struct cow_stat c;
    struct fs_statx s;
    int e = staged_look(r, fd, id, &c);

    if (e < 0)
        return e == -ENODATA ? 0 : e;
    memcpy(&s, statx, sizeof(s));
    s.nlink = (uint32_t)c.st.st_nlink;
    s.uid = c.st.st_uid;
    s.gid = c.st.st_gid;
    s.mode = (uint16_t)c.st.st_mode;
    s.ino = c.st.st_ino;
    s.size = (uint64_t)c.st.st_size;
    s.blocks = (uint64_t)c.st.st_blocks;
    s.dev_major = major(c.st.st_dev);
    s.dev_minor = minor(c.st.st_dev);
    statx_time(&s, 0, c.st.st_atim);
    if (s.mask & 0x800u) /* STATX_BTIME */
        statx_time(&s, 1, c.btime);
    statx_time(&s, 2, c.st.st_ctim);
    statx_time(&s, 3, c.st.st_mtim);
    memcpy(statx, &s, sizeof(s));
    return 0;
}
