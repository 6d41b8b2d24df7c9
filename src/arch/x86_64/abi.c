/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct stat of x86_64 as the kernel lays it out (asm/stat.h). Compiled on every host; pure, any
 * thread. Its input is our own stat of a file.
 */
#include <string.h>

#include "arch/x86_64/x86_64.h"

struct x86_64_stat {
    uint64_t dev, ino, nlink;
    uint32_t mode, uid, gid, pad0;
    uint64_t rdev;
    int64_t size, blksize, blocks;
    uint64_t atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec;
    int64_t unused[3];
};
_Static_assert(sizeof(struct x86_64_stat) == 144, "size");
_Static_assert(sizeof(struct x86_64_stat) <= ARCH_STAT_MAX, "bound");
_Static_assert(offsetof(struct x86_64_stat, nlink) == 16, "nlink");
_Static_assert(offsetof(struct x86_64_stat, mode) == 24, "mode");
_Static_assert(offsetof(struct x86_64_stat, rdev) == 40, "rdev");
_Static_assert(offsetof(struct x86_64_stat, size) == 48, "size");
_Static_assert(offsetof(struct x86_64_stat, blksize) == 56, "blksize");
_Static_assert(offsetof(struct x86_64_stat, blocks) == 64, "blocks");
_Static_assert(offsetof(struct x86_64_stat, atime) == 72, "atime");
_Static_assert(offsetof(struct x86_64_stat, ctime) == 104, "ctime");

size_t x86_64_encode_stat(const struct stat *st, void *out)
{
    struct x86_64_stat s = {
        .dev = st->st_dev,
        .ino = st->st_ino,
        .nlink = st->st_nlink,
        .mode = st->st_mode,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .rdev = st->st_rdev,
        .size = st->st_size,
        .blksize = st->st_blksize,
        .blocks = st->st_blocks,
        .atime = (uint64_t)st->st_atim.tv_sec,
        .atime_nsec = (uint64_t)st->st_atim.tv_nsec,
        .mtime = (uint64_t)st->st_mtim.tv_sec,
        .mtime_nsec = (uint64_t)st->st_mtim.tv_nsec,
        .ctime = (uint64_t)st->st_ctim.tv_sec,
        .ctime_nsec = (uint64_t)st->st_ctim.tv_nsec,
    };

    memcpy(out, &s, sizeof(s));
    return sizeof(s);
}
