/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of the raw child and the anchor, one wrapper each, returning the kernel's value or
 * -errno. Inline and free of libc state: see sys/raw.h. Arguments are our own, never the child's.
 */
#pragma once

#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/resource.h>
#include <time.h>

#include "sys/raw.h"
#include "sys/uapi.h"

/* The kernel's struct sigaction: the restorer field is part of it on x86_64 and arm64 alike, and
 * unused here because handlers are only ever SIG_DFL or SIG_IGN. */
struct raw_sigaction {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

static inline long raw_close(int fd)
{
    return raw_call1(__NR_close, fd);
}
static inline long raw_close_range(unsigned first, unsigned last, unsigned flags)
{
    return raw_call3(__NR_close_range, first, last, flags);
}
static inline long raw_dup3(int from, int to, int flags)
{
    return raw_call3(__NR_dup3, from, to, flags);
}
static inline long raw_openat(int dirfd, const char *path, int flags)
{
    return raw_call4(__NR_openat, dirfd, path, flags, 0);
}
static inline long raw_write(int fd, const void *p, size_t n)
{
    return raw_call3(__NR_write, fd, p, n);
}
static inline long raw_sendto(int fd, const void *p, size_t n, int flags)
{
    return raw_call6(__NR_sendto, fd, p, n, flags, 0, 0);
}
static inline long raw_recvfrom(int fd, void *p, size_t n, int flags)
{
    return raw_call6(__NR_recvfrom, fd, p, n, flags, 0, 0);
}
static inline long raw_chdir(const char *path)
{
    return raw_call1(__NR_chdir, path);
}
static inline long raw_fchdir(int fd)
{
    return raw_call1(__NR_fchdir, fd);
}
static inline long raw_getpid(void)
{
    return raw_call0(__NR_getpid);
}
static inline long raw_getppid(void)
{
    return raw_call0(__NR_getppid);
}
static inline long raw_setpgid(pid_t pid, pid_t pgid)
{
    return raw_call2(__NR_setpgid, pid, pgid);
}
static inline long raw_tgkill(pid_t tgid, pid_t tid, int sig)
{
    return raw_call3(__NR_tgkill, tgid, tid, sig);
}

static inline long raw_kill(pid_t pid, int sig)
{
    return raw_call2(__NR_kill, pid, sig);
}
static inline long raw_prctl(int op, unsigned long a, unsigned long b, unsigned long c,
                             unsigned long d)
{
    return raw_call5(__NR_prctl, op, a, b, c, d);
}
static inline long raw_ioctl(int fd, unsigned long request, void *arg)
{
    return raw_call3(__NR_ioctl, fd, request, arg);
}
static inline long raw_personality(unsigned long p)
{
    return raw_call1(__NR_personality, p);
}
static inline long raw_sched_setaffinity(size_t size, const void *mask)
{
    return raw_call3(__NR_sched_setaffinity, 0, size, mask);
}
static inline long raw_prlimit(int resource, const struct rlimit *new_limit, struct rlimit *old)
{
    return raw_call4(__NR_prlimit64, 0, resource, new_limit, old);
}
static inline long raw_unshare(unsigned long flags)
{
    return raw_call1(__NR_unshare, flags);
}
static inline long raw_setresuid(uid_t r, uid_t e, uid_t s)
{
    return raw_call3(__NR_setresuid, r, e, s);
}
static inline long raw_setresgid(gid_t r, gid_t e, gid_t s)
{
    return raw_call3(__NR_setresgid, r, e, s);
}
static inline long raw_capget(struct __user_cap_header_struct *h, struct __user_cap_data_struct *d)
{
    return raw_call2(__NR_capget, h, d);
}
static inline long raw_capset(struct __user_cap_header_struct *h,
                              const struct __user_cap_data_struct *d)
{
    return raw_call2(__NR_capset, h, d);
}
static inline long raw_landlock_restrict_self(int ruleset_fd, unsigned flags)
{
    return raw_call2(__NR_landlock_restrict_self, ruleset_fd, flags);
}
static inline long raw_seccomp_filter(unsigned flags, const void *fprog)
{
    return raw_call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, fprog);
}
/* Not FUTEX_PRIVATE: the waker may be the kernel's clear_child_tid, which uses the shared key. */
static inline long raw_futex_wait(uint32_t *word, uint32_t expected, const struct timespec *timeout)
{
    return raw_call4(__NR_futex, word, FUTEX_WAIT, expected, timeout);
}
static inline long raw_futex_wake(uint32_t *word, int n)
{
    return raw_call3(__NR_futex, word, FUTEX_WAKE, n);
}
static inline long raw_sigaction(int sig, const struct raw_sigaction *act)
{
    return raw_call4(__NR_rt_sigaction, sig, act, 0, 8);
}
static inline long raw_sigprocmask(int how, const uint64_t *set, uint64_t *old)
{
    return raw_call4(__NR_rt_sigprocmask, how, set, old, 8);
}
static inline long raw_signalfd(uint64_t mask, int flags)
{
    return raw_call4(__NR_signalfd4, -1, &mask, 8, flags);
}
static inline long raw_read(int fd, void *p, size_t n)
{
    return raw_call3(__NR_read, fd, p, n);
}
static inline long raw_ppoll(void *fds, unsigned n, const struct timespec *timeout)
{
    return raw_call5(__NR_ppoll, fds, n, timeout, 0, 0);
}
static inline long raw_wait4(pid_t pid, int *status, int options, struct rusage *ru)
{
    return raw_call4(__NR_wait4, pid, status, options, ru);
}
static inline long raw_getrusage(int who, struct rusage *ru)
{
    return raw_call2(__NR_getrusage, who, ru);
}
static inline long raw_execve(const char *path, char *const *argv, char *const *envp)
{
    return raw_call3(__NR_execve, path, argv, envp);
}
static inline long raw_getdents64(int fd, void *buf, size_t n)
{
    return raw_call3(__NR_getdents64, fd, buf, n);
}
static inline _Noreturn void raw_exit(int code)
{
    for (;;)
        raw_call1(__NR_exit_group, code);
}
static inline long raw_rewind(int fd)
{
    return raw_call3(__NR_lseek, fd, 0, 0);
}
static inline long raw_sigaction_get(int sig, struct raw_sigaction *old)
{
    return raw_call4(__NR_rt_sigaction, sig, 0, old, 8);
}
