/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the operations on behalf and the layer. Receiver threads; descriptors are ours, decided about by
 * identity. The domain of the receivers gives no right to write to lower: what is overlooked here ends
 * in EACCES, never in a change.
 */
#include "fs/staged.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "plan/root.h"

#define STAGED_MAKES (O_CREAT | O_EXCL | O_NOFOLLOW)

struct cow_layer *staged_layer(const struct request *r)
{
    const struct root *root = supervisor_plan(r->sup)->root;

    return root ? root->layer : NULL;
}

bool staged_holds(const struct request *r, int fd)
{
    struct cow_layer *l = staged_layer(r);

    return l && fd >= 0 && cow_holds(l, fd);
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
    if (!l || o->parent_fd < 0 || !o->name[0])
        return 0;
    e = cow_pos_of_fd(l, o->parent_fd, ret);
    if (e == 0 && ret->foreign) {
        cow_pos_fini(ret);
        return 0; /* another file system: what the grants say */
    }
    return e == 0 ? 1 : e == -EXDEV ? 0 : e;
}

int staged_reopen(const struct request *r, int fd, const struct sys_ident *id, uint64_t flags,
                  mode_t mode)
{
    _cleanup_cow_pos_ struct cow_pos p = COW_POS_INIT;
    struct cow_layer *l = staged_layer(r);
    bool temporary = (flags & O_TMPFILE) == O_TMPFILE;
    int e;

    if (!l || !(S_ISREG(id->mode) || (S_ISDIR(id->mode) && temporary)) || !cow_holds(l, fd))
        return -ENODATA;
    if (!temporary)
        return cow_open_fd(l, fd, (int)(flags & ~(uint64_t)STAGED_MAKES) | O_CLOEXEC | O_NOCTTY);
    if (!S_ISDIR(id->mode))
        return -ENOTDIR;
    e = cow_pos_of_fd(l, fd, &p);
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

static int staged_look(const struct request *r, int fd, struct cow_stat *ret)
{
    struct cow_layer *l = staged_layer(r);

    if (!l || cow_is_clean(l) || !cow_holds(l, fd))
        return -ENODATA;
    return cow_stat_fd(l, fd, ret);
}

int staged_stat(const struct request *r, int fd, struct stat *st)
{
    struct cow_stat c;
    int e = staged_look(r, fd, &c);

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

int staged_show_statx(const struct request *r, int fd, uint8_t *statx)
{
    struct cow_stat c;
    struct fs_statx s;
    int e = staged_look(r, fd, &c);

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
