/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File system calls without libc wrappers. Any thread; no state. Results of the kernel are trusted.
 */
#include "sys/fs.h"

#include <errno.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "sys/uapi.h"

/* STATX_TYPE INO BLOCKS */
#define USAGE_MASK (0x1u | 0x100u | 0x400u)
/* STATX_TYPE MODE NLINK UID INO, and STATX_MNT_ID of 5.8 */
#define IDENT_MASK (0x1u | 0x2u | 0x4u | 0x8u | 0x100u | 0x1000u)
#define BASIC_MASK 0x7ffu /* STATX_BASIC_STATS */

static int identify(int dirfd, const char *path, int flags, unsigned mask, struct sys_ident *ret,
                    struct fs_statx *s)
{
    long r;

    memset(s, 0, sizeof(*s));
    r = raw_call5(SYS_statx, dirfd, path, flags, mask, s);
    if (r < 0)
        return (int)r;
    *ret = (struct sys_ident){
        .dev = makedev(s->dev_major, s->dev_minor),
        .ino = s->ino,
        .mnt = s->mnt_id,
        .mode = s->mode,
        .nlink = s->nlink,
        .uid = s->uid,
        .rdev = makedev(s->rdev_major, s->rdev_minor),
    };
    return 0;
}

int sys_identify(int fd, struct sys_ident *ret)
{
    struct fs_statx s;

    return identify(fd, "", AT_EMPTY_PATH, IDENT_MASK, ret, &s);
}

int sys_identify_all(int fd, struct sys_ident *ret, struct fs_statx *ret_all)
{
    return identify(fd, "", AT_EMPTY_PATH, IDENT_MASK | BASIC_MASK, ret, ret_all);
}

int sys_identify_path(const char *path, struct sys_ident *ret, struct fs_statx *ret_all)
{
    return identify(AT_FDCWD, path, 0, IDENT_MASK | BASIC_MASK, ret, ret_all);
}

int sys_identify_at(int dirfd, const char *name, struct sys_ident *ret)
{
    struct fs_statx s;

    return identify(dirfd, name, AT_SYMLINK_NOFOLLOW, IDENT_MASK, ret, &s);
}

int sys_file_usage(const char *path, struct sys_usage *ret)
{
    struct fs_statx s = {0};
    int r = (int)raw_call5(SYS_statx, AT_FDCWD, path, AT_STATX_DONT_SYNC, USAGE_MASK, &s);

    if (r < 0)
        return r;
    *ret = (struct sys_usage){.dev = makedev(s.dev_major, s.dev_minor),
                              .ino = s.ino,
                              .mode = s.mode,
                              .bytes = s.blocks * 512};
    return 0;
}

int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};

    return (int)raw_call4(SYS_openat2, dirfd, path, &how, sizeof(how));
}

int sys_openat(int dirfd, const char *path, int flags, mode_t mode)
{
    return (int)raw_call4(SYS_openat, dirfd, path, flags, mode);
}

int sys_open_path(int dirfd, const char *path, int flags)
{
    return (int)raw_call4(SYS_openat, dirfd, path, O_PATH | O_CLOEXEC | flags, 0);
}

int sys_chmod_fd(int fd, mode_t mode)
{
    char path[32];
    long r = raw_call4(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH);

    if (r != -ENOSYS)
        return (int)r;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return (int)raw_call3(SYS_fchmodat, AT_FDCWD, path, mode);
}

int sys_access_fd(int fd, int mode, int at_flags)
{
    return (int)raw_call4(SYS_faccessat2, fd, "", mode, at_flags | AT_EMPTY_PATH);
}

int sys_statx_at(int dirfd, const char *path, int flags, unsigned mask, struct fs_statx *ret)
{
    return (int)raw_call5(SYS_statx, dirfd, path, flags, mask, ret);
}

int sys_statx_fd(int fd, unsigned at_flags, unsigned mask, void *buf)
{
    return (int)raw_call5(SYS_statx, fd, "", at_flags | AT_EMPTY_PATH, mask, buf);
}

int sys_null_path(int dirfd, unsigned at_flags)
{
    uint8_t buf[SYS_STATX_SIZE];
    long e = raw_call5(SYS_statx, dirfd == AT_FDCWD ? AT_FDCWD : 0, NULL, at_flags, 0, buf);

    return e == -EFAULT ? -EFAULT : 0;
}

static struct timespec stat_time(const struct fs_statx *s, unsigned i)
{
    return (struct timespec){.tv_sec = s->time[i].sec, .tv_nsec = s->time[i].nsec};
}

void sys_stat_of(const struct fs_statx *s, struct stat *ret)
{
    *ret = (struct stat){
        .st_dev = makedev(s->dev_major, s->dev_minor),
        .st_ino = s->ino,
        .st_mode = s->mode,
        .st_nlink = s->nlink,
        .st_uid = s->uid,
        .st_gid = s->gid,
        .st_rdev = makedev(s->rdev_major, s->rdev_minor),
        .st_size = (off_t)s->size,
        .st_blksize = (blksize_t)s->blksize,
        .st_blocks = (blkcnt_t)s->blocks,
        .st_atim = stat_time(s, 0),
        .st_ctim = stat_time(s, 2),
        .st_mtim = stat_time(s, 3),
    };
}

int sys_dup(int fd)
{
    return (int)raw_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
}

int sys_statfs_fd(int fd, void *buf)
{
    return (int)raw_call2(SYS_fstatfs, fd, buf);
}

void sys_statfs_set_read_only(void *buf)
{
    /* f_flags is the eleventh word: type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen,
     * frsize before it. */
    ((uint64_t *)buf)[10] |= 1; /* ST_RDONLY */
}

uint64_t sys_fs_magic(int fd)
{
    uint64_t buf[SYS_STATFS_SIZE / 8] = {0};

    return sys_statfs_fd(fd, buf) < 0 ? 0 : buf[0];
}

ssize_t sys_getdents64(int fd, void *buf, size_t n)
{
    return raw_call3(SYS_getdents64, fd, buf, n);
}

int sys_renameat2(int odfd, const char *old, int ndfd, const char *new, unsigned flags)
{
    return (int)raw_call5(SYS_renameat2, odfd, old, ndfd, new, flags);
}

int sys_file_getattr(const char *path, void *attr, size_t size)
{
    return (int)raw_call5(SYS_file_getattr, AT_FDCWD, path, attr, size, 0);
}

int sys_file_setattr(const char *path, const void *attr, size_t size)
{
    return (int)raw_call5(SYS_file_setattr, AT_FDCWD, path, attr, size, 0);
}

int sys_empty_path(enum sys_empty call, int fd)
{
    static const char name[] = "."; /* of no attribute anywhere */
    static const struct {
        uint64_t value;
        uint32_t size, flags;
    } get, replace = {.flags = XATTR_REPLACE};
    uint64_t attr[3]; /* FILE_ATTR_SIZE_VER0 */

    switch (call) {
    case SYS_EMPTY_XATTR_SET:
        return (int)raw_call6(SYS_setxattrat, fd, "", AT_EMPTY_PATH, name, &replace,
                              sizeof(replace));
    case SYS_EMPTY_XATTR_GET:
        return (int)raw_call6(SYS_getxattrat, fd, "", AT_EMPTY_PATH, name, &get, sizeof(get));
    case SYS_EMPTY_XATTR_LIST:
        return (int)raw_call5(SYS_listxattrat, fd, "", AT_EMPTY_PATH, NULL, 0);
    case SYS_EMPTY_XATTR_REMOVE:
        return (int)raw_call4(SYS_removexattrat, fd, "", AT_EMPTY_PATH, name);
    default: return (int)raw_call5(SYS_file_getattr, fd, "", attr, sizeof(attr), AT_EMPTY_PATH);
    }
}

bool sys_name_is_first(enum sys_empty call)
{
    switch (call) {
    case SYS_EMPTY_XATTR_SET: return setxattr("", "", NULL, 0, 0) < 0 && errno == ERANGE;
    case SYS_EMPTY_XATTR_GET: return getxattr("", "", NULL, 0) < 0 && errno == ERANGE;
    case SYS_EMPTY_XATTR_REMOVE: return removexattr("", "") < 0 && errno == ERANGE;
    default: return true;
    }
}

uint64_t sys_rlimit_of(pid_t pid, int resource)
{
    struct rlimit l;
    long r = raw_call4(SYS_prlimit64, pid, resource, 0, &l);

    return r < 0 ? (uint64_t)RLIM_INFINITY : (uint64_t)l.rlim_cur;
}
