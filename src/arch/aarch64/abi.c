/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct stat of aarch64 as the kernel lays it out (asm-generic/stat.h). Compiled on every host;
 * pure, any thread. Its input is our own stat of a file.
 */
#include <string.h>

#include "arch/aarch64/aarch64.h"

struct aarch64_stat {
    uint64_t dev, ino;
    uint32_t mode, nlink, uid, gid;
    uint64_t rdev, pad1;
    int64_t size;
    int32_t blksize, pad2;
    int64_t blocks;
    int64_t atime;
    uint64_t atime_nsec;
    int64_t mtime;
    uint64_t mtime_nsec;
    int64_t ctime;
    uint64_t ctime_nsec;
    uint32_t unused[2];
};
_Static_assert(sizeof(struct aarch64_stat) == 128, "size");
_Static_assert(sizeof(struct aarch64_stat) <= ARCH_STAT_MAX, "bound");
_Static_assert(offsetof(struct aarch64_stat, mode) == 16, "mode");
_Static_assert(offsetof(struct aarch64_stat, nlink) == 20, "nlink");
_Static_assert(offsetof(struct aarch64_stat, rdev) == 32, "rdev");
_Static_assert(offsetof(struct aarch64_stat, size) == 48, "size");
_Static_assert(offsetof(struct aarch64_stat, blksize) == 56, "blksize");
_Static_assert(offsetof(struct aarch64_stat, blocks) == 64, "blocks");
_Static_assert(offsetof(struct aarch64_stat, atime) == 72, "atime");
_Static_assert(offsetof(struct aarch64_stat, ctime) == 104, "ctime");

size_t aarch64_encode_stat(const struct stat *st, void *out)
{
    struct aarch64_stat s = {
        .dev = st->st_dev,
        .ino = st->st_ino,
        .mode = st->st_mode,
        .nlink = (uint32_t)st->st_nlink,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .rdev = st->st_rdev,
        .size = st->st_size,
        .blksize = (int32_t)st->st_blksize,
        .blocks = st->st_blocks,
        .atime = st->st_atim.tv_sec,
        .atime_nsec = (uint64_t)st->st_atim.tv_nsec,
        .mtime = st->st_mtim.tv_sec,
        .mtime_nsec = (uint64_t)st->st_mtim.tv_nsec,
        .ctime = st->st_ctim.tv_sec,
        .ctime_nsec = (uint64_t)st->st_ctim.tv_nsec,
    };

    memcpy(out, &s, sizeof(s));
    return sizeof(s);
}
