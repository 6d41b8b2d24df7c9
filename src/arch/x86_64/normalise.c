/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Legacy calls of x86_64 in the canonical forms of call.h. Calls without a modern equal keep
 * their own form: poll, pause, alarm, time, ustat, uselib, arch_prctl ... Pure, runs in the
 * receivers; the arguments are hostile numbers and are only moved.
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>

#include "arch/generic/generic.h"
#include "arch/x86_64/x86_64.h"
#include "base/util.h"

#define A(n) REWRITE_A(n)
#define ROW(from, to, var, ...)                   \
    {                                             \
        CALL_##from, CALL_##to, VARIANT_##var, 0, \
        {                                         \
            __VA_ARGS__                           \
        }                                         \
    }
#define NOFOLLOW AT_SYMLINK_NOFOLLOW

/* The flags below have these values on every machine; those of O_DIRECTORY and its neighbours do
 * not. */
_Static_assert((O_CREAT | O_WRONLY | O_TRUNC) == 01101, "open flags of creat");

/* Sorted by call id. */
const struct rewrite x86_64_legacy[] = {
    ROW(open, openat, NONE, AT_FDCWD, A(0), A(1), A(2)),
    ROW(stat, newfstatat, NONE, AT_FDCWD, A(0), A(1), 0),
    ROW(lstat, newfstatat, NONE, AT_FDCWD, A(0), A(1), NOFOLLOW),
    ROW(access, faccessat2, NONE, AT_FDCWD, A(0), A(1), 0),
    ROW(pipe, pipe2, NONE, A(0), 0),
    ROW(select, pselect6, TIMEVAL, A(0), A(1), A(2), A(3), A(4), 0),
    ROW(dup2, dup3, LEGACY, A(0), A(1), 0),
    ROW(fork, clone, NONE, SIGCHLD),
    ROW(vfork, clone, NONE, CLONE_VM | CLONE_VFORK | SIGCHLD),
    ROW(getdents, getdents64, LEGACY, A(0), A(1), A(2)),
    ROW(rename, renameat2, NONE, AT_FDCWD, A(0), AT_FDCWD, A(1), 0),
    ROW(mkdir, mkdirat, NONE, AT_FDCWD, A(0), A(1)),
    ROW(rmdir, unlinkat, NONE, AT_FDCWD, A(0), AT_REMOVEDIR),
    ROW(creat, openat, NONE, AT_FDCWD, A(0), O_CREAT | O_WRONLY | O_TRUNC, A(1)),
    ROW(link, linkat, NONE, AT_FDCWD, A(0), AT_FDCWD, A(1), 0),
    ROW(unlink, unlinkat, NONE, AT_FDCWD, A(0), 0),
    ROW(symlink, symlinkat, NONE, A(0), AT_FDCWD, A(1)),
    ROW(readlink, readlinkat, NONE, AT_FDCWD, A(0), A(1), A(2)),
    ROW(chmod, fchmodat2, NONE, AT_FDCWD, A(0), A(1), 0),
    ROW(chown, fchownat, NONE, AT_FDCWD, A(0), A(1), A(2), 0),
    ROW(lchown, fchownat, NONE, AT_FDCWD, A(0), A(1), A(2), NOFOLLOW),
    ROW(getpgrp, getpgid, NONE, 0),
    ROW(utime, utimensat, UTIMBUF, AT_FDCWD, A(0), A(1), 0),
    ROW(mknod, mknodat, NONE, AT_FDCWD, A(0), A(1), A(2)),
    /* The size is ignored but must be positive: it stays readable as the second argument. */
    ROW(epoll_create, epoll_create1, LEGACY, 0, A(0)),
    ROW(epoll_wait, epoll_pwait, NONE, A(0), A(1), A(2), A(3), 0, 0),
    ROW(utimes, utimensat, TIMEVAL, AT_FDCWD, A(0), A(1), 0),
    ROW(inotify_init, inotify_init1, NONE, 0),
    ROW(futimesat, utimensat, TIMEVAL, A(0), A(1), A(2), 0),
    ROW(signalfd, signalfd4, NONE, A(0), A(1), A(2), 0),
    ROW(eventfd, eventfd2, NONE, A(0), 0),
};
const size_t x86_64_legacy_count = ARRAY_SIZE(x86_64_legacy);

void x86_64_normalise(struct call *c)
{
    if (!generic_rewrite(c, x86_64_legacy, x86_64_legacy_count))
        generic_normalise(c);
}
