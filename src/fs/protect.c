/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See protect.h. The settings are read once; what cannot be read is taken for on. Receiver threads;
 * descriptors are ours.
 */
#include "fs/protect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

/* *cache: 0, not read yet; 1, off; 2, on. */
static bool protect_is_on(const char *file, _Atomic int *cache)
{
    int s = atomic_load_explicit(cache, memory_order_relaxed);

    if (s == 0) {
        char c = '1';
        int fd = open(file, O_RDONLY | O_CLOEXEC);

        if (fd >= 0 && read(fd, &c, 1) != 1)
            c = '1';
        util_close(fd);
        s = c == '0' ? 1 : 2;
        atomic_store_explicit(cache, s, memory_order_relaxed);
    }
    return s == 2;
}

int protect_link(int dir_fd, const struct sys_ident *link)
{
    static _Atomic int links;
    struct sys_ident dir;
    int e;

    if (link->uid == geteuid() || !protect_is_on("/proc/sys/fs/protected_symlinks", &links))
        return 0;
    e = sys_identify(dir_fd, &dir);
    if (e < 0)
        return e;
    if ((dir.mode & (S_ISVTX | S_IWOTH)) != (S_ISVTX | S_IWOTH) || dir.uid == link->uid)
        return 0;
    return -EACCES;
}

int protect_create(int dir_fd, const struct sys_ident *id)
{
    static _Atomic int fifos, regular;
    struct sys_ident dir;
    int e;

    if (dir_fd < 0 || id->uid == geteuid() || !(S_ISREG(id->mode) || S_ISFIFO(id->mode)))
        return 0;
    e = sys_identify(dir_fd, &dir);
    if (e < 0)
        return e;
    if (!(dir.mode & S_ISVTX) || dir.uid == id->uid || !(dir.mode & (S_IWOTH | S_IWGRP)))
        return 0;
    if (S_ISFIFO(id->mode) ? !protect_is_on("/proc/sys/fs/protected_fifos", &fifos)
                           : !protect_is_on("/proc/sys/fs/protected_regular", &regular))
        return 0;
    return dir.mode & S_IWOTH ? -EACCES : 0;
}
