/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Procfs objects by file system type and place. Receiver threads. The place is the kernel's own
 * spelling of an open descriptor: a child cannot forge it.
 */
#include "fs/procfs.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/sysmacros.h>

#define PROC_PREFIX "/proc"
#define PROC_PREFIX_LEN 5

/* Device of the procfs at /proc, 0 before the first look, 1 when there is none. It stays while the
 * supervisor lives: the mount is busy with our own descriptors. */
static _Atomic uint64_t proc_dev;

static dev_t procfs_main_dev(void)
{
    struct sys_ident id;
    uint64_t dev = atomic_load_explicit(&proc_dev, memory_order_relaxed);

    if (dev)
        return (dev_t)dev;
    dev = 1;
    int fd = sys_open_path(AT_FDCWD, PROC_PREFIX, O_DIRECTORY);
    if (fd >= 0) {
        if (sys_fs_magic(fd) == PROC_SUPER_MAGIC && sys_identify(fd, &id) == 0)
            dev = (uint64_t)id.dev;
        util_close(fd);
    }
    atomic_store_explicit(&proc_dev, dev, memory_order_relaxed);
    return (dev_t)dev;
}

bool procfs_is(int fd, const struct sys_ident *id)
{
    if (major(id->dev) != 0)
        return false; /* on a block device; procfs has an anonymous one */
    if (id->dev == procfs_main_dev())
        return true;
    return sys_fs_magic(fd) == PROC_SUPER_MAGIC;
}

int procfs_place(int fd, const struct sys_ident *id, struct procfs_place *ret)
{
    ssize_t n = fd_location(fd, ret->buf, sizeof(ret->buf));
    const char *p;
    long pid = 0;

    if (n < 0)
        return (int)n;
    if (id->dev != procfs_main_dev() || strncmp(ret->buf, PROC_PREFIX, PROC_PREFIX_LEN) != 0 ||
        (ret->buf[PROC_PREFIX_LEN] != '/' && ret->buf[PROC_PREFIX_LEN] != '\0'))
        return -EACCES;
    p = ret->buf + PROC_PREFIX_LEN;
    p += *p == '/';
    ret->rest = p;
    while (*p >= '0' && *p <= '9' && pid < 100000000)
        pid = pid * 10 + (*p++ - '0');
    if (p == ret->rest || (*p != '/' && *p != '\0' && *p != ' ')) {
        ret->pid = 0;
        ret->leaf = ret->rest;
        return 0;
    }
    ret->pid = (pid_t)pid;
    ret->leaf = *p == '/' ? p + 1 : p;
    return 0;
}
