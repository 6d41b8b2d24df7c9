/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors between the caller and us: duplicates taken by pidfd_getfd, injection by ADDFD. Runs
 * in receivers and workers. A descriptor number is hostile: it may be changed by another thread at
 * any time, so whatever is checked is checked on our duplicate and done on our duplicate.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "supervisor/internal.h"
#include "sys/seccomp.h"
#include "sys/uapi.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* 6.9: a thread's own descriptor table */
#endif

static int caller_pidfd(const struct request *r)
{
    pid_t tgid;
    int fd = sys_pidfd_open(r->tid, 0);

    if (fd >= 0 || (fd != -EINVAL && fd != -ENOENT))
        return fd;
    /* Not a group leader. Without PIDFD_THREAD the leader's table serves: a thread that unshared its
     * table then acts on the leader's descriptor, which it could reach anyway. */
    fd = sys_pidfd_open(r->tid, PIDFD_THREAD);
    if (fd >= 0)
        return fd;
    fd = request_status(r, &tgid, NULL);
    return fd < 0 ? fd : sys_pidfd_open(tgid, 0);
}

int request_fd(const struct request *r, int fd)
{
    _cleanup_close_ int pidfd = -1;
    int got;

    if (fd < 0)
        return -EBADF;
    pidfd = caller_pidfd(r);
    if (pidfd < 0)
        return pidfd;
    got = sys_pidfd_getfd(pidfd, fd, 0);
    if (got >= 0 && !request_alive(r)) { /* the pid may have been another's */
        util_close(got);
        return -ESRCH;
    }
    return got;
}

static int notif_addfd(const struct request *r, int fd, int at, uint32_t newfd_flags,
                       uint32_t flags)
{
    struct seccomp_notif_addfd a = {
        .id = r->id,
        .flags = flags,
        .srcfd = (uint32_t)fd,
        .newfd = (uint32_t)at,
        .newfd_flags = newfd_flags & O_CLOEXEC,
    };
    int n = ioctl(r->sup->listener_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a);

    return n < 0 ? -errno : n;
}

int request_addfd(const struct request *r, int fd, uint32_t flags)
{
    return notif_addfd(r, fd, 0, flags, 0);
}

int request_addfd_at(const struct request *r, int fd, int at, uint32_t flags)
{
    return notif_addfd(r, fd, at, flags, SECCOMP_ADDFD_FLAG_SETFD);
}

static int notif_send(const struct request *r, int64_t value, int error, uint32_t flags)
{
    struct seccomp_notif_resp resp = {.id = r->id, .val = value, .error = error, .flags = flags};

    return ioctl(r->sup->listener_fd, SECCOMP_IOCTL_NOTIF_SEND, &resp) < 0 ? -errno : 0;
}

/* One call installs and answers (5.14); older kernels need two. */
static void answer_inject(const struct request *r, struct verdict v)
{
    int n;

    if (r->sup->plan->kernel->addfd_send) {
        n = notif_addfd(r, v.fd, 0, v.fd_flags, SECCOMP_ADDFD_FLAG_SEND);
    } else {
        n = notif_addfd(r, v.fd, 0, v.fd_flags, 0);
        if (n >= 0)
            (void)notif_send(r, n, 0, 0);
    }
    util_close(v.fd);
    /* RF-01: the caller's own limit is the only expected reason. O_PATH cannot be injected (EBADF). */
    if (n < 0 && n != -ENOENT)
        (void)notif_send(r, 0, n == -EBADF ? -EACCES : n, 0);
    if (n >= 0)
        atomic_fetch_add_explicit(&r->sup->injected, 1, memory_order_relaxed);
}

int request_answer(const struct request *r, struct verdict v)
{
    struct supervisor *s = r->sup;

    switch (v.kind) {
    case VERDICT_VALUE: return notif_send(r, v.value, 0, 0);
    case VERDICT_ERRNO:
        return notif_send(r, 0, v.value > 0 && v.value < 4096 ? (int)-v.value : -EPERM, 0);
    case VERDICT_CONTINUE: /* the proof stands where the verdict was made */
        atomic_fetch_add_explicit(&s->continued, 1, memory_order_relaxed);
        return notif_send(r, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
    default: return -EINVAL;
    }
}

void supervisor_answer(const struct request *r, struct verdict v)
{
    switch (v.kind) {
    case VERDICT_INJECT: answer_inject(r, v); return;
    case VERDICT_LATER:
    case VERDICT_GONE: return;
    case VERDICT_KILL:
        supervisor_want_kill(r->sup);
        (void)notif_send(r, 0, -EPERM, 0);
        return;
    case VERDICT_PASS:
        v = verdict_errno(EPERM); /* fail closed: nobody took it */
        break;
    default: break;
    }
    (void)request_answer(r, v);
}
