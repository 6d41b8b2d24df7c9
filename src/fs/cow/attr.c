/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes of objects in one form, and what they say about identity. Any thread.
 */
#include <sys/sysmacros.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

/* STATX_BASIC_STATS, STATX_BTIME, STATX_MNT_ID (5.8) */
#define ATTR_MASK (0x7ffu | 0x800u | 0x1000u)

#define NS 1000000000

static int attr_get(int dir_fd, const char *name, int flags, struct cow_attr *ret)
{
    struct fs_statx s = {0};
    int e = sys_statx_at(dir_fd, name, flags, ATTR_MASK, &s);

    if (e < 0)
        return e;
    *ret = (struct cow_attr){
        .dev = makedev(s.dev_major, s.dev_minor),
        .ino = s.ino,
        .mnt = s.mnt_id,
        .size = s.size,
        .blocks = s.blocks,
        .atime = s.time[0].sec * NS + s.time[0].nsec,
        .btime = s.mask & 0x800u ? s.time[1].sec * NS + s.time[1].nsec : 0,
        .ctime = s.time[2].sec * NS + s.time[2].nsec,
        .mtime = s.time[3].sec * NS + s.time[3].nsec,
        .mode = s.mode,
        .nlink = s.nlink,
        .uid = s.uid,
        .gid = s.gid,
        .blksize = s.blksize,
        .rdev = makedev(s.rdev_major, s.rdev_minor),
    };
    return 0;
}

int cow_attr_at(int dir_fd, const char *name, struct cow_attr *ret)
{
    return attr_get(dir_fd, name, AT_SYMLINK_NOFOLLOW, ret);
}

int cow_attr_fd(int fd, struct cow_attr *ret)
{
    return attr_get(fd, "", AT_EMPTY_PATH, ret);
}

int cow_attr_path(const char *path, struct cow_attr *ret)
{
    return attr_get(AT_FDCWD, path, 0, ret);
}

bool cow_attr_same(const struct cow_attr *a, const struct cow_attr *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->btime == b->btime &&
           (a->mode & S_IFMT) == (b->mode & S_IFMT);
}

bool cow_attr_unchanged(const struct cow_attr *then, const struct cow_attr *now)
{
    if (!cow_attr_same(then, now) || then->mtime != now->mtime)
        return false;
    /* The link count of a directory and its change time follow its subdirectories' names; the
     * modification time has told already. */
    return then->ctime == now->ctime && then->size == now->size && then->mode == now->mode &&
           then->uid == now->uid && then->gid == now->gid;
}

struct sys_ident cow_attr_ident(const struct cow_attr *a)
{
    return (struct sys_ident){.dev = a->dev,
                              .ino = a->ino,
                              .mnt = a->mnt,
                              .mode = a->mode,
                              .nlink = a->nlink,
                              .uid = a->uid,
                              .rdev = a->rdev};
}

struct timespec cow_time(int64_t ns)
{
    struct timespec t = {.tv_sec = ns / NS, .tv_nsec = ns % NS};

    if (t.tv_nsec < 0) {
        t.tv_nsec += NS;
        t.tv_sec--;
    }
    return t;
}
