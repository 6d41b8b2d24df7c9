/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thin wrappers, see seccomp.h. Called in the launching thread or in a probe's own child. No input
 * of the sandboxed command comes near them.
 */
#include "sys/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int result(long r)
{
    return r < 0 ? -errno : (int)r;
}

int sys_seccomp_filter(const struct sock_filter *insns, size_t len, unsigned long flags)
{
    struct sock_fprog prog = {.len = (unsigned short)len, .filter = (struct sock_filter *)insns};

    if (len == 0 || len > BPF_MAXINSNS)
        return -EINVAL;
    return result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog));
}

int sys_seccomp_action_avail(uint32_t action)
{
    return result(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
}

int sys_seccomp_flags_avail(unsigned long flags)
{
    /* Flags are checked before the program is read: EFAULT says that they passed. */
    return result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, NULL)) == -EFAULT;
}

int sys_pidfd_open(pid_t pid, unsigned flags)
{
    return result(syscall(SYS_pidfd_open, pid, flags));
}

int sys_pidfd_getfd(int pidfd, int fd, unsigned flags)
{
    return result(syscall(SYS_pidfd_getfd, pidfd, fd, flags));
}

int sys_probe_openat2(void)
{
    return result(syscall(SYS_openat2, -1, "", NULL, 0));
}

int sys_probe_close_range(void)
{
    return result(syscall(SYS_close_range, 1, 0, 0)); /* first > last: EINVAL */
}

int sys_probe_fchmodat2(void)
{
    return result(syscall(SYS_fchmodat2, -1, "", 0, ~0U)); /* unknown flags: EINVAL */
}

int sys_probe_setxattrat(void)
{
    return result(syscall(SYS_setxattrat, -1, "", ~0U, "", NULL, 0));
}

int sys_probe_file_getattr(void)
{
    return result(syscall(SYS_file_getattr, -1, "", NULL, 0, ~0U));
}
