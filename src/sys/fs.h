/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File system calls that the C libraries lack or wrap differently, one wrapper each: the kernel's
 * value or -errno. Any thread. Arguments are ours; strings may carry the child's bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sys/raw.h"

/* What identifies an object and decides how it may be opened. */
struct sys_ident {
    dev_t dev;
    ino_t ino;
    uint64_t mnt;  /* mount it was reached through (5.8) */
    uint32_t mode; /* S_IFMT and permissions */
    uint32_t nlink;
    uid_t uid;
    dev_t rdev;
};
/* Same object, whatever the mount. */
static inline bool sys_ident_same(const struct sys_ident *a, const struct sys_ident *b)
{
    return a->dev == b->dev && a->ino == b->ino;
}
/* Of an open descriptor (O_PATH is enough). */
int sys_identify(int fd, struct sys_ident *ret);
/* The same with all basic attributes (STATX_BASIC_STATS) of the same moment. */
struct fs_statx;
int sys_identify_all(int fd, struct sys_ident *ret, struct fs_statx *ret_all);
/* The same of a path, links followed, magic ones too. */
int sys_identify_path(const char *path, struct sys_ident *ret, struct fs_statx *ret_all);
/* Of a name in a directory, links not followed. */
int sys_identify_at(int dirfd, const char *name, struct sys_ident *ret);

/* What a file takes, without asking a remote or user space file system for news. Links followed. */
struct sys_usage {
    dev_t dev;
    ino_t ino;
    uint32_t mode;
    uint64_t bytes; /* allocated */
};
int sys_file_usage(const char *path, struct sys_usage *ret);

/* RESOLVE_* and open flags as in linux/openat2.h. */
int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
/* Of open(2)'s flags the two whose values the machines exchange: O_NOFOLLOW, and O_LARGEFILE, which the C
 * library hides. Which is which depends on the machine. */
#define SYS_O_EITHER (0100000 | 0400000)
/* Exactly these flags: libc's open() may add calls of its own. */
int sys_openat(int dirfd, const char *path, int flags, mode_t mode);
/* O_PATH|O_CLOEXEC plus `flags`. */
int sys_open_path(int dirfd, const char *path, int flags);
/* AT_EMPTY_PATH on a descriptor; falls back to /proc/self/fd before 6.6. */
int sys_chmod_fd(int fd, mode_t mode);
int sys_access_fd(int fd, int mode, int at_flags);
#define SYS_STATX_SIZE 256
/* struct statx of the kernel under our own name: older C libraries lack stx_mnt_id. */
struct fs_statx {
    uint32_t mask, blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, pad0;
    uint64_t ino, size, blocks, attributes_mask;
    struct {
        int64_t sec;
        uint32_t nsec;
        int32_t pad;
    } time[4];
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t mnt_id; /* 5.8 */
    uint64_t spare[13];
};
_Static_assert(sizeof(struct fs_statx) == SYS_STATX_SIZE, "struct statx");
_Static_assert(offsetof(struct fs_statx, mnt_id) == 144, "stx_mnt_id");
int sys_statx_at(int dirfd, const char *path, int flags, unsigned mask, struct fs_statx *ret);
int sys_statx_fd(int fd, unsigned at_flags, unsigned mask, void *buf);
/* What fstat(2) says of an object with these attributes. */
struct stat;
void sys_stat_of(const struct fs_statx *s, struct stat *ret);
/* A duplicate that is closed on exec, in one call: some libraries make two. */
int sys_dup(int fd);
#define SYS_STATFS_SIZE 120 /* struct statfs of the 64-bit machines */
int sys_statfs_fd(int fd, void *buf);
void sys_statfs_set_read_only(void *buf);
/* f_type of the file system, 0 when unknown. */
uint64_t sys_fs_magic(int fd);
ssize_t sys_getdents64(int fd, void *buf, size_t n);
int sys_renameat2(int odfd, const char *old, int ndfd, const char *new, unsigned flags);
/* By path, links followed: O_PATH descriptors are refused in the form with an empty path. */
int sys_file_getattr(const char *path, void *attr, size_t size);
int sys_file_setattr(const char *path, const void *attr, size_t size);
/* May stat(2)'s family have a null path here, with AT_EMPTY_PATH? With a descriptor since 6.11, with AT_FDCWD since
 * 6.13. 0 or -EFAULT. */
int sys_null_path(int dirfd, unsigned at_flags);
/* The call with an empty path and a name that no attribute has: what the kernel thinks of the descriptor. */
enum sys_empty {
    SYS_EMPTY_XATTR_SET,
    SYS_EMPTY_XATTR_GET,
    SYS_EMPTY_XATTR_LIST,
    SYS_EMPTY_XATTR_REMOVE,
    SYS_EMPTY_FILEATTR,
};
int sys_empty_path(enum sys_empty call, int fd);
/* Does this kernel say what is wrong with an attribute's name and value before it looks for the file? Setting,
 * getting and removing came to it in different versions. */
bool sys_name_is_first(enum sys_empty call);
/* Soft limit of another process, RLIM_INFINITY when it cannot be read. */
uint64_t sys_rlimit_of(pid_t pid, int resource);
